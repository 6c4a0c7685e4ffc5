"""What `predict` is pointed at: a cohort, one patient's folder, a folder of patient folders, or loose images.

Nothing is decoded here: a file that turns out to be no image is recorded where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.patients import PATIENTS_NAME, UNKNOWN, read_patients
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import IMAGE_SUFFIXES, is_image_path
from marrowscope.records import Fault, Patient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image file to be predicted; ``um_per_px`` is what patients.csv says, None where it says nothing."""

    field_id: str
    patient_id: str
    path: Path
    um_per_px: float | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Patients in the order given, their images in the order of their names, and the faults of patients.csv."""

    patients: tuple[Patient, ...]
    images: tuple[InputImage, ...]
    faults: tuple[Fault, ...] = ()


def collect_inputs(paths: Sequence[Path], *, center: str | None = None) -> Inputs:
    """List the patients and images behind ``paths``.

    A folder with patients.csv is a cohort; a folder with images is one patient named after the folder; a folder of
    such folders is several patients; an image file belongs to the patient named after its folder. ``center`` is
    given to patients without a patients.csv. Raises InputError for a path that does not exist or holds no image, and
    for two patients or two images of one name.
    """
    patients: dict[str, Patient] = {}
    images: list[InputImage] = []
    faults: list[Fault] = []
    loose: dict[str, list[Path]] = {}
    for path in paths:
        if path.is_file():
            loose.setdefault(path.resolve().parent.name or UNKNOWN, []).append(path)
        elif (path / PATIENTS_NAME).is_file():
            table = read_patients(path)
            faults += table.faults
            for patient in table.patients:
                _add_patient(patients, patient, path)
                images += _images_of(patient, _image_paths(path / patient.patient_id))
        elif path.is_dir():
            for folder in _patient_folders(path):
                patient = Patient(patient_id=folder.resolve().name, center=center or UNKNOWN, diagnosis=UNKNOWN)
                _add_patient(patients, patient, folder)
                images += _images_of(patient, _image_paths(folder))
        else:
            message = f"{path}: not found, expected a cohort, a patient's folder or an image; check the path"
            raise InputError(message)
    for patient_id, files in loose.items():
        patient = Patient(patient_id=patient_id, center=center or UNKNOWN, diagnosis=UNKNOWN)
        _add_patient(patients, patient, files[0].parent)
        images += _images_of(patient, files)
    _refuse_empty(images, paths, faults)
    _refuse_equal_names(images)
    return Inputs(patients=tuple(patients.values()), images=tuple(images), faults=tuple(faults))


def _patient_folders(path: Path) -> list[Path]:
    """Give ``path`` itself when it holds images, else its sub-folders that do."""
    if _image_paths(path):
        return [path]
    return [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _image_paths(folder)]


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and is_image_path(path))


def _images_of(patient: Patient, paths: Iterable[Path]) -> list[InputImage]:
    return [
        InputImage(f"{patient.patient_id}/{path.stem}", patient.patient_id, path, patient.um_per_px) for path in paths
    ]


def _add_patient(patients: dict[str, Patient], patient: Patient, where: Path) -> None:
    if patient.patient_id in patients:
        message = f"{where}: found patient {patient.patient_id!r} a second time, expected each once; rename one folder"
        raise InputError(message)
    patients[patient.patient_id] = patient


def _refuse_empty(images: Sequence[InputImage], paths: Sequence[Path], faults: Sequence[Fault]) -> None:
    if images:
        return
    shown = ", ".join(str(path) for path in paths)
    message = f"{shown}: found no image, expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}; check the folder"
    if faults:
        message = f"{message} ({faults[0].sentence()})"
        raise CohortError(message, faults)
    raise InputError(message)


def _refuse_equal_names(images: Sequence[InputImage]) -> None:
    seen: dict[str, Path] = {}
    for image in images:
        if image.field_id in seen:
            message = (
                f"{image.path}: found the name {image.field_id!r} taken by {seen[image.field_id]}, expected each image "
                "of a patient to have its own name; rename one"
            )
            raise InputError(message)
        seen[image.field_id] = image.path
