"""A set of single-cell photographs: list every picture with its label, its code and its patient.

The set is a folder, in which one folder of each picture's path, or the beginning of its name, is the label; or a CSV
file with the columns ``image`` and ``label``, and optionally ``patient`` and ``reader``. Steps: list the pictures;
translate each label; give each picture a patient. Invariant: every picture found is in the list once, with a code or
with the reason why it is left out. An unknown label is refused before any picture is opened.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.listing import Role, list_folder
from marrowscope.config import one_line
from marrowscope.errors import InputError, VocabularyError
from marrowscope.imaging import printable
from marrowscope.imaging.names import path_below
from marrowscope.vocabulary import nearest
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from marrowscope.vocabulary import LabelMapping, Vocabulary

FOLDER, FILE_NAME = "folder", "file-name"
LABEL_PLACES = (FOLDER, FILE_NAME)
"""Where a picture's label stands: in a folder of its path, or at the beginning of its name (``SNE_1234.jpg``)."""

CELLS_PER_PATIENT = 120
_COLUMNS = ("image", "label")
_AFTER_PREFIX = re.compile(r"[_\-. ]")


@dataclass(frozen=True, slots=True)
class CellPicture:
    """One photograph of one cell. ``where`` is its path below the set; ``reason`` is empty for a usable picture."""

    path: Path
    where: str
    label: str
    code: str = ""
    patient: str = ""
    reader: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PatientRule:
    """Where a picture's patient stands. With none of the rules, pictures are dealt into pseudo-patients.

    ``folder`` is a level below the set's folder, from 1. ``pattern`` is searched in the path below it; its first group
    is the patient. A CSV file's column ``patient`` needs no rule.
    """

    folder: int | None = None
    pattern: str | None = None
    cells_per_patient: int = CELLS_PER_PATIENT


def list_pictures(
    source: Path,
    vocabulary: Vocabulary,
    mapping: LabelMapping | None = None,
    *,
    labels_from: str = FOLDER,
    patients: PatientRule | None = None,
) -> tuple[list[CellPicture], bool]:
    """List the pictures of the set ``source``, sorted by path; say whether the patients are pseudo-patients.

    Without a mapping, labels are raw codes. Raises InputError for a set without pictures, a table that cannot be read
    or a rule that gives a picture no patient, VocabularyError for an unknown label, with the nearest known one.
    """
    known = vocabulary.codes if mapping is None else mapping.labels
    pictures = _of_folder(source, known, labels_from) if source.is_dir() else _of_table(source)
    if not pictures:
        message = f"{source}: found no picture, expected photographs of single cells; check the path"
        raise InputError(message)
    if any(picture.label not in known for picture in pictures):
        scheme = f"code of vocabulary {vocabulary.name}" if mapping is None else f"label of mapping {mapping.name}"
        raise VocabularyError(_unknown_message(pictures, source, known, scheme, labels_from=labels_from))
    coded = [_with_code(picture, mapping) for picture in pictures]
    return _with_patients(_one_reading(coded), source, patients or PatientRule())


def _of_folder(root: Path, known: Collection[str], labels_from: str) -> list[CellPicture]:
    """List the pictures below a folder; what is left out in any folder of photographs is left out here too."""
    pictures = []
    entries = [entry for entry in list_folder(root) if entry.is_input or entry.is_left_out]
    levels = Counter(
        level for entry in entries for level, name in enumerate(_folders(entry.path, root)) if name in known
    )
    usual_level = max(levels, key=levels.__getitem__, default=None)
    for entry in entries:
        where = entry.path.relative_to(root)
        label = _prefix(entry.path.stem) if labels_from == FILE_NAME else _folder_label(where, known, usual_level)
        reason = entry.reason if entry.role is Role.UNREAD else "" if entry.role is Role.IMAGE else entry.role.value
        pictures.append(CellPicture(entry.path, printable(where.as_posix()), label, reason=reason))
    return pictures


def _folders(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parent.parts


def _folder_label(where: Path, known: Collection[str], usual_level: int | None) -> str:
    """Return the folder of a path that is a known label; the likeliest one where none is, "" where there is none.

    The likeliest one stands at the ``usual_level`` of those that are known, or resembles one, or is the first.
    """
    folders = where.parent.parts
    found = [name for name in folders if name in known]
    if len(set(found)) > 1:
        message = (
            f"{where}: found the labels {' and '.join(map(repr, found))} in one path, expected one; rename a folder"
        )
        raise InputError(message)
    if found:
        return found[0]
    at_usual = () if usual_level is None else folders[usual_level : usual_level + 1]
    close = [name for name in folders if nearest(name, known)]
    return next(iter([*at_usual, *close, *folders]), "")


def _prefix(stem: str) -> str:
    return _AFTER_PREFIX.split(stem, maxsplit=1)[0]


def _of_table(path: Path) -> list[CellPicture]:
    """Read a CSV file of pictures, whose paths are relative to its folder; a row is a picture."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: found no readable table ({error}), expected a folder or a CSV file in UTF-8; check the path"
        raise InputError(message) from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if any(header.count(name) != 1 for name in _COLUMNS):
        found = ", ".join(map(one_line, header)) or "(none)"
        message = f"{path}: found columns {found}, expected image and label, each once; correct the first line"
        raise InputError(message)
    pictures = []
    for number, cells in enumerate(rows[1:], start=2):
        where = f"{path}, row {number}"
        if len(cells) != len(header):
            found = count_of(len(cells), "cell")
            message = f"{where}: found {found}, expected {len(header)} as in the header; correct the row"
            raise InputError(message)
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        pictures.append(_of_row(row, path.parent, where))
    return sorted(pictures, key=lambda picture: (picture.where, picture.reader))


def _of_row(row: dict[str, str], folder: Path, where: str) -> CellPicture:
    name = row["image"].replace("\\", "/")
    path, reason = folder, ""
    try:
        path = path_below(folder, name, where=where, links=True)
        reason = "" if path.is_file() else "no_such_file"
    except InputError:
        reason = "bad_path"
    other = {"patient": row.get("patient", ""), "reader": row.get("reader", "")}
    return CellPicture(path, printable(one_line(name)), row["label"], reason=reason, **other)


def _unknown_message(
    pictures: Sequence[CellPicture], source: Path, known: Collection[str], scheme: str, *, labels_from: str
) -> str:
    """Name the commonest unknown label in one sentence, with a picture that has it and the nearest known label."""
    unknown = [picture for picture in pictures if picture.label not in known]
    label, n = Counter(picture.label for picture in unknown).most_common(1)[0]
    first = next(picture for picture in unknown if picture.label == label)
    candidate = nearest(label, known) if label else None
    hint = f"the nearest is {candidate!r}" if candidate else f"known are {', '.join(known)}"
    action = "rename the class, add it to a mapping file (--mapping), or give it a drop with the reason there"
    if labels_from == FOLDER and all(_prefix(Path(picture.where).stem) in known for picture in unknown):
        action = f"its file names begin with known labels: try --labels-from {FILE_NAME}"
    elif labels_from == FOLDER and source.is_dir() and source.name in known:
        action = f"{source.name!r} is the name of the folder itself: give the folder above it"
    elif not label:
        places = f"put each picture in a folder named by its class, or try --labels-from {FILE_NAME}"
        action = places if source.is_dir() else "fill in the column label"
    more = len({picture.label for picture in unknown}) - 1
    others = f" and {more} other unknown label{'s' if more > 1 else ''}" if more else ""
    return (
        f"{source}: found {f'label {label!r}' if label else 'no label'} ({count_of(n, 'picture')}, such as "
        f"{first.where}){others}, "
        f"expected a {scheme} ({hint}); {action}"
    )


def _with_code(picture: CellPicture, mapping: LabelMapping | None) -> CellPicture:
    code = picture.label if mapping is None else mapping.translate(picture.label, picture.where)
    return replace(picture, code=code or "", reason=picture.reason or ("" if code else "dropped_by_mapping"))


def _one_reading(pictures: list[CellPicture]) -> list[CellPicture]:
    """Leave out repeated readings of a picture: all where they give different codes, else all but the first."""
    readings: defaultdict[Path, list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        if not picture.reason:
            readings[picture.path].append(index)
    for indices in readings.values():
        agree = len({pictures[index].code for index in indices}) == 1
        for index in indices[1:] if agree else indices:
            reason = "same_picture_again" if agree else "readers_disagree"
            pictures[index] = replace(pictures[index], reason=reason)
    return pictures


def _with_patients(pictures: list[CellPicture], source: Path, rule: PatientRule) -> tuple[list[CellPicture], bool]:
    """Give each usable picture its patient, by the rule, by the table, or by dealing them out."""
    usable = [picture for picture in pictures if not picture.reason]
    of_table = any(picture.patient for picture in usable)
    if rule.folder is None and rule.pattern is None and not of_table:
        dealt = _dealt(usable, rule.cells_per_patient)
        return [replace(picture, patient=dealt.get(picture.where, "")) for picture in pictures], True
    find = _patient_finder(rule) if rule.folder is not None or rule.pattern is not None else None
    named = [picture if find is None else replace(picture, patient=find(picture.where)) for picture in pictures]
    nameless = [picture for picture in named if not (picture.reason or picture.patient)]
    if nameless:
        message = (
            f"{source}: found no patient for {len(nameless)} of {count_of(len(usable), 'picture')}, such as "
            f"{nameless[0].where}, expected one for each; correct --patient-folder, --patient-pattern or the column "
            "patient"
        )
        raise InputError(message)
    return named, False


def _patient_finder(rule: PatientRule) -> Callable[[str], str]:
    """Return the function from a path below the set to the patient in it, "" where there is none."""
    if rule.pattern is None:
        level = (rule.folder or 1) - 1
        return lambda where: (where.split("/")[:-1][level : level + 1] or [""])[0]
    try:
        pattern = re.compile(rule.pattern)
    except re.error as error:
        message = f"--patient-pattern: found {rule.pattern!r}, expected a regular expression ({error}); correct it"
        raise InputError(message) from error
    if pattern.groups < 1:
        message = f"--patient-pattern: found {rule.pattern!r}, expected a group ( ) around the patient; add it"
        raise InputError(message)

    def find(where: str) -> str:
        match = pattern.search(where)
        return (match[1] or "") if match else ""

    return find


def _dealt(pictures: Iterable[CellPicture], cells_per_patient: int) -> dict[str, str]:
    """Deal pictures into pseudo-patients of about equal size, whatever their order: by the hash of their path."""
    order = sorted((picture.where for picture in pictures), key=lambda where: sha256(where.encode()).digest())
    n_patients = max(1, round(len(order) / cells_per_patient))
    return {where: f"pseudo-{index % n_patients + 1:03d}" for index, where in enumerate(order)}
