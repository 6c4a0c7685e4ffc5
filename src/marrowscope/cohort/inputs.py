"""The inputs of `predict`: a cohort, one patient's folder, a folder of patient folders, or single images.

An image is a photograph or a slide. Nothing is decoded here: a file that turns out not to be an image is recorded
when it is read. Whatever is in the given folders but not predicted (a row of patients.csv without a patient_id, images
of no patient, images one folder too deep) has a fault and is counted.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.companions import drop_companions
from marrowscope.cohort.patients import PATIENTS_NAME, read_patients
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import (
    IMAGE_SUFFIXES,
    SLIDE_SUFFIXES,
    is_image_path,
    is_printable,
    is_slide_path,
    printable,
    unread_fault,
)
from marrowscope.records import UNKNOWN, Fault, InputImage, Patient

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_HIDDEN = (".", "__", "@")
"""What systems and file servers put beside images: ``.DS_Store``, ``__MACOSX``, ``@eaDir``."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Patients in the given order, their images ordered by name, and the faults of the input.

    ``n_left_out`` counts the images and the rows of patients.csv that are not predicted; each has a fault.
    """

    patients: tuple[Patient, ...]
    images: tuple[InputImage, ...]
    faults: tuple[Fault, ...] = ()
    n_left_out: int = 0


def collect_inputs(paths: Sequence[Path], *, center: str | None = None) -> Inputs:
    """List the patients and images in ``paths``.

    A folder with patients.csv is a cohort; a folder with images is one patient named after the folder; a folder of
    such folders is several patients; an image file or a slide belongs to the patient named after its folder. A patient
    whose folder is in a cohort is described by the cohort's patients.csv; the others get ``center``. Raises InputError
    for a path that does not exist or contains no image, and for two patients or two images with the same name.
    """
    patients: dict[str, Patient] = {}
    images: list[InputImage] = []
    faults: list[Fault] = []
    n_left_out = 0
    loose: dict[Path, list[Path]] = {}
    for path in paths:
        _refuse_unprintable(path.resolve())
        if path.is_file():
            _refuse_other_file(path)
            loose.setdefault(path.resolve().parent, []).append(path)
        elif (path / PATIENTS_NAME).is_file():
            table = read_patients(path)
            faults += table.faults
            n_left_out += table.tally.n_rejected
            for patient in table.patients:
                _add_patient(patients, patient, path)
                images += _images_of(patient, _image_paths(path / patient.patient_id))
        elif path.is_dir():
            for folder in _patient_folders(path):
                patient = _patient_of_folder(folder.resolve(), center)
                _add_patient(patients, patient, folder)
                images += _images_of(patient, _image_paths(folder))
        else:
            message = f"{path}: not found, expected a cohort, a patient folder or an image; check the path"
            raise InputError(message)
    for folder, files in loose.items():
        patient = _patient_of_folder(folder, center)
        _add_patient(patients, patient, folder)
        images += _images_of(patient, files)
    taken = {image.path for image in images}
    for path in filter(Path.is_dir, paths):
        for folder, n in _overlooked(path, taken).items():
            faults.append(_not_predicted(folder, n, path))
            n_left_out += n
        unread = _unread(path)
        faults += unread
        n_left_out += len(unread)
    _refuse_empty(images, paths, faults)
    _refuse_equal_names(images)
    return Inputs(tuple(patients.values()), tuple(images), tuple(faults), n_left_out)


def _patient_of_folder(folder: Path, center: str | None) -> Patient:
    """Return the patient that the patients.csv next to ``folder`` names for it, else one with only a name.

    A broken patients.csv is ignored here, since the user did not give it as input.
    """
    known: Iterable[Patient] = ()
    if (folder.parent / PATIENTS_NAME).is_file():
        with contextlib.suppress(CohortError):
            known = read_patients(folder.parent).patients
    stranger = Patient(patient_id=folder.name or UNKNOWN, center=center or UNKNOWN, diagnosis=UNKNOWN)
    return next((patient for patient in known if patient.patient_id == folder.name), stranger)


def _overlooked(path: Path, taken: Collection[Path]) -> Counter[Path]:
    """Count the images below the folder ``path`` that are not predicted, by folder; hidden ones do not count."""
    found = (
        image
        for image in drop_companions(filter(_is_input, sorted(path.rglob("*"))))
        if image not in taken
        and image.is_file()
        and not any(part.startswith(_HIDDEN) for part in image.relative_to(path).parts)
    )
    return Counter(image.parent for image in found)


def _unread(path: Path) -> list[Fault]:
    """List the pictures below the folder ``path`` that are not read: of another format, or of an unreadable name."""
    visible = (
        file
        for file in sorted(path.rglob("*"))
        if not any(part.startswith(_HIDDEN) for part in file.relative_to(path).parts)
    )
    return [fault for file in visible if file.is_file() and (fault := unread_fault(file, str(file)))]


def _is_input(path: Path) -> bool:
    return is_image_path(path) or (is_slide_path(path) and is_printable(path) and not path.name.startswith("."))


def _refuse_unprintable(path: Path) -> None:
    """Refuse a path whose folders give patients a name that no table can hold."""
    if not is_printable(path):
        message = (
            f"{printable(path)}: found a name that is not UTF-8, expected Unicode letters; rename the folder or file"
        )
        raise InputError(message)


def _refuse_other_file(path: Path) -> None:
    """Refuse a given file that is not an image or a slide, or of a format that is not read."""
    if (fault := unread_fault(path, str(path))) is not None:
        raise InputError(fault.sentence())
    if not _is_input(path):
        message = (
            f"{path}: found a file that is not an image, expected one ending in {_suffixes()}; choose another file"
        )
        raise InputError(message)


def _not_predicted(folder: Path, n: int, given: Path) -> Fault:
    """Return the fault for ``n`` images in ``folder`` that belong to no patient of the folder ``given``."""
    if (given / PATIENTS_NAME).is_file() and folder in (given, *given.iterdir()):
        found, expected = f"{n} images of no patient in {PATIENTS_NAME}", "a folder named after a patient_id"
        action = f"they are not predicted; add the patient to {PATIENTS_NAME}"
        return Fault("images_without_patient", str(folder), found, expected, action)
    found, expected = f"{n} images in a subfolder", "images directly in a patient's folder"
    action = "they are not predicted; move them up or give their folder as an input too"
    return Fault("images_in_subfolder", str(folder), found, expected, action)


def _patient_folders(path: Path) -> list[Path]:
    """Return ``path`` itself if it contains images, else those of its subfolders that do."""
    if _image_paths(path):
        return [path]
    return [
        folder
        for folder in sorted(path.iterdir())
        if not folder.name.startswith(_HIDDEN) and folder.is_dir() and _image_paths(folder)
    ]


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return drop_companions(sorted(path for path in folder.iterdir() if _is_input(path) and path.is_file()))


def _images_of(patient: Patient, paths: Iterable[Path]) -> list[InputImage]:
    return [
        InputImage(f"{patient.patient_id}/{path.stem}", patient.patient_id, path, patient.um_per_px) for path in paths
    ]


def _add_patient(patients: dict[str, Patient], patient: Patient, where: Path) -> None:
    if patient.patient_id in patients:
        message = f"{where}: found patient {patient.patient_id!r} twice, expected each patient once; rename one folder"
        raise InputError(message)
    patients[patient.patient_id] = patient


def _refuse_empty(images: Sequence[InputImage], paths: Sequence[Path], faults: Sequence[Fault]) -> None:
    if images:
        return
    shown = ", ".join(str(path) for path in paths)
    message = f"{shown}: found no image, expected files ending in {_suffixes()}; check the folder"
    if faults:
        message = f"{message} ({faults[0].sentence()})"
        raise CohortError(message, faults)
    raise InputError(message)


def _suffixes() -> str:
    return f"{', '.join(sorted(IMAGE_SUFFIXES))}, or slides ending in {', '.join(sorted(SLIDE_SUFFIXES))}"


def _refuse_equal_names(images: Sequence[InputImage]) -> None:
    seen: dict[str, Path] = {}
    for image in images:
        if image.field_id in seen:
            message = (
                f"{image.path}: found the same name {image.field_id!r} as {seen[image.field_id]}, expected a unique "
                "name for each image of a patient; rename one"
            )
            raise InputError(message)
        seen[image.field_id] = image.path
