"""The inputs of `predict`: a cohort, one patient's folder, a folder of patient folders, or single images.

An image is a photograph or a slide. Nothing is decoded here: a file that turns out not to be an image is recorded
when it is read. Whatever is in the given folders but not predicted (a row of patients.csv without a patient_id, images
of no patient, images one folder too deep) has a fault and is counted.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.listing import Entry, Role, by_product_faults, judge_file, list_folder
from marrowscope.cohort.patients import PATIENTS_NAME, find_folders, read_patients
from marrowscope.cohort.spelling import same_letters, show
from marrowscope.cohort.stated import NOTHING_STATED, Stated
from marrowscope.errors import CohortError, InputError
from marrowscope.imaging import IMAGE_SUFFIXES, SLIDE_SUFFIXES, is_printable, printable
from marrowscope.records import Fault, InputImage, Patient
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Inputs:
    """Patients in the given order, their images ordered by name, and the faults of the input.

    ``n_left_out`` counts the images and the rows of patients.csv that are not predicted; each has a fault.
    """

    patients: tuple[Patient, ...]
    images: tuple[InputImage, ...]
    faults: tuple[Fault, ...] = ()
    n_left_out: int = 0


def collect_inputs(paths: Sequence[Path], *, stated: Stated = NOTHING_STATED) -> Inputs:
    """List the patients and images in ``paths``.

    A folder with patients.csv is a cohort; a folder with images is one patient named after the folder; a folder of
    such folders is several patients; an image file or a slide belongs to the patient named after its folder. A patient
    whose folder is in a cohort is described by the cohort's patients.csv; of the others only ``stated`` is known.
    Raises InputError for a path that does not exist or contains no image, for two patients or two images with the same
    name, and where something is stated and there is nobody to state it of.
    """
    patients: dict[str, Patient] = {}
    images: list[InputImage] = []
    faults: list[Fault] = []
    n_left_out = 0
    loose: dict[Path, list[Path]] = {}
    listings: dict[Path, list[Entry]] = {}
    for path in paths:
        _refuse_unprintable(path.resolve())
        if path.is_file():
            entry = _judge_given(path)
            if entry.is_input:
                loose.setdefault(path.resolve().parent, []).append(path)
            else:
                listings[path] = [entry]
        elif path.is_dir():
            owners, listings[path], said, n_bad_rows = _owners(path, stated)
            faults += said
            n_left_out += n_bad_rows
            for patient, folder, files in owners:
                _add_patient(patients, patient, folder)
                images += _images_of(patient, files)
        else:
            message = f"{path}: not found, expected a cohort, a patient folder or an image; check the path"
            raise InputError(message)
    for folder, files in loose.items():
        patient = _patient_of_folder(folder, stated)
        _add_patient(patients, patient, folder)
        images += _images_of(patient, files)
    taken = {image.path for image in images}
    images, twice = _with_unique_names(images)
    faults += twice
    n_left_out += len(twice)
    for path, listing in listings.items():
        left_out = _left_out(path, listing, taken)
        faults += [fault for fault, _ in left_out]
        n_left_out += sum(n for _, n in left_out)
    _refuse_empty(images, paths, faults, [entry for listing in listings.values() for entry in listing])
    stated.refuse_of_nobody(patients.values())
    faults += _look_alikes(images, patients)
    return Inputs(tuple(patients.values()), tuple(images), tuple(faults), n_left_out)


def _owners(path: Path, stated: Stated) -> tuple[list[tuple[Patient, Path, list[Path]]], list[Entry], list[Fault], int]:
    """Return the patients of a folder, each with its folder and images; all it contains; faults; rows of nobody."""
    if not (path / PATIENTS_NAME).is_file():
        listing = list_folder(path)
        folders = _images_by_folder(listing)
        own = [path] if path in folders else [folder for folder in folders if folder.parent == path]
        found = [(_patient_of_folder(folder.resolve(), stated), folder, folders[folder]) for folder in own]
        return found, listing, [], 0
    table = read_patients(path)
    listing = list_folder(path, [patient.patient_id for patient in table.patients])
    folders = _images_by_folder(listing)
    folder_of, spelled = find_folders(table.patients, [folder.name for folder in folders if folder.parent == path])
    found = [
        (patient, path, folders[path / folder_of.get(patient.patient_id, patient.patient_id)])
        for patient in table.patients
    ]
    return found, listing, [*table.faults, *spelled], table.tally.n_rejected


def _patient_of_folder(folder: Path, stated: Stated) -> Patient:
    """Return the patient that the patients.csv next to ``folder`` names for it, else one who is as ``stated``.

    A broken patients.csv is ignored here, since the user did not give it as input.
    """
    known: Sequence[Patient] = ()
    if (folder.parent / PATIENTS_NAME).is_file():
        with contextlib.suppress(CohortError):
            known = read_patients(folder.parent).patients
    folder_of, _ = find_folders(known, [item.name for item in folder.parent.iterdir()] if known else [])
    described = (patient for patient in known if folder_of.get(patient.patient_id) == folder.name)
    return next(described, None) or stated.patient(folder.name)


def _left_out(path: Path, listing: Sequence[Entry], taken: Collection[Path]) -> list[tuple[Fault, int]]:
    """Describe what a listing of ``path`` contains and no patient predicts, with the number of files."""
    overlooked = Counter(entry.path.parent for entry in listing if entry.is_input and entry.path not in taken)
    unread = [(entry.fault, int(entry.is_left_out)) for entry in listing if entry.fault is not None]
    nobody = [(_not_predicted(folder, n, path), n) for folder, n in overlooked.items()]
    return [*nobody, *unread, *by_product_faults(listing, path)]


def _images_by_folder(listing: Iterable[Entry]) -> defaultdict[Path, list[Path]]:
    """Return the photographs and slides of a listing by their folder, in order."""
    found: defaultdict[Path, list[Path]] = defaultdict(list)
    for entry in listing:
        if entry.is_input:
            found[entry.path.parent].append(entry.path)
    return found


def _refuse_unprintable(path: Path) -> None:
    """Refuse a path whose folders give patients a name that no table can hold."""
    if not is_printable(path):
        message = (
            f"{printable(path)}: found a name that is not UTF-8, expected Unicode letters; rename the folder or file"
        )
        raise InputError(message)


def _judge_given(path: Path) -> Entry:
    """Judge a file given by name. Raises InputError for one that does not even claim to be an image."""
    entry = judge_file(path)
    if entry.fault is not None:
        raise InputError(entry.fault.sentence())
    if not entry.is_input and not entry.is_left_out:
        message = (
            f"{path}: found a file that is not an image, expected one ending in {_suffixes()}; choose another file"
        )
        raise InputError(message)
    return entry


def _not_predicted(folder: Path, n: int, given: Path) -> Fault:
    """Return the fault for ``n`` images in ``folder`` that belong to no patient of the folder ``given``."""
    if (given / PATIENTS_NAME).is_file() and folder in (given, *given.iterdir()):
        found, expected = (
            f"{count_of(n, 'image')} of no patient in {PATIENTS_NAME}",
            "a folder named after a patient_id",
        )
        action = f"they are not predicted; add the patient to {PATIENTS_NAME}"
        return Fault("images_without_patient", str(folder), found, expected, action)
    found, expected = f"{count_of(n, 'image')} in a subfolder", "images directly in a patient's folder"
    action = "they are not predicted; move them up or give their folder as an input too"
    return Fault("images_in_subfolder", str(folder), found, expected, action)


def _images_of(patient: Patient, paths: Iterable[Path]) -> list[InputImage]:
    return [
        InputImage(f"{patient.patient_id}/{path.stem}", patient.patient_id, path, patient.um_per_px) for path in paths
    ]


def _add_patient(patients: dict[str, Patient], patient: Patient, where: Path) -> None:
    if patient.patient_id in patients:
        message = f"{where}: found patient {patient.patient_id!r} twice, expected each patient once; rename one folder"
        raise InputError(message)
    patients[patient.patient_id] = patient


def _refuse_empty(
    images: Sequence[InputImage], paths: Sequence[Path], faults: Sequence[Fault], listing: Sequence[Entry]
) -> None:
    if images:
        return
    shown = ", ".join(str(path) for path in paths)
    others = [entry.path for entry in listing if entry.role is Role.OTHER]
    more = ", ..." if len(others) > 1 else ""
    such = f" but {count_of(len(others), 'other file')} ({printable(others[0])}{more})" if others else ""
    message = f"{shown}: found no image{such}, expected files ending in {_suffixes()}; check the folder"
    if faults:
        message = f"{message} ({faults[0].sentence()})"
        raise CohortError(message, faults)
    raise InputError(message)


def _suffixes() -> str:
    return f"{', '.join(sorted(IMAGE_SUFFIXES))}, or slides ending in {', '.join(sorted(SLIDE_SUFFIXES))}"


def _with_unique_names(images: Iterable[InputImage]) -> tuple[list[InputImage], list[Fault]]:
    """Leave out each image whose name differs from an earlier one of the patient only in the suffix, as a cohort does.

    Both would have one field_id. Returns the others, and a fault for each that is left out.
    """
    kept: dict[str, InputImage] = {}
    faults = []
    for image in images:
        first = kept.setdefault(image.field_id, image)
        if first is not image:
            found, expected = f"the same name {image.field_id!r} as {first.path}", "a unique name for each image"
            action = "it is not predicted; rename one of them"
            if first.path.resolve() == image.path.resolve():
                found, expected, action = "the file given twice", "each file once", "it is predicted once; name it once"
            faults.append(Fault("same_name", str(image.path), found, expected, action))
    return list(kept.values()), faults


def _look_alikes(images: Sequence[InputImage], patients: Collection[str]) -> list[Fault]:
    """Return the faults of patients, and of one patient's images, whose names differ only in case or Unicode form."""
    faults = []
    for names, kind in ((list(patients), "patients"), ([image.field_id for image in images], "images")):
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[same_letters(name)].append(name)
        for group in groups.values():
            if len(group) > 1:
                found = f"{kind} {' and '.join(map(show, group))}, which look alike"
                action = "they are predicted as different ones; rename one, or remove it where they are the same"
                faults.append(Fault("two_spellings", group[0], found, "names that differ in their letters", action))
    return faults
