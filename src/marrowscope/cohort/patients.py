"""patients.csv: one row per patient, with patient_id, center, diagnosis and optionally specimen, age_group, um_per_px.

A row without center or diagnosis keeps its patient with the value ``unknown`` and gets a fault, so that one missing
value does not hide further faults. Other columns are kept as they are.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.spelling import alike, closeness, likeness, match_folders, show
from marrowscope.cohort.tally import Tally
from marrowscope.config import one_line
from marrowscope.errors import CohortError
from marrowscope.imaging.names import is_folder_name
from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX
from marrowscope.records import SPECIMENS, UNKNOWN, Fault, Patient
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PATIENTS_NAME = "patients.csv"
_REQUIRED_COLUMNS = ("patient_id", "center", "diagnosis")
_OPTIONAL_COLUMNS = ("specimen", "age_group", "um_per_px")
_KNOWN_SPECIMENS = (*SPECIMENS, UNKNOWN)
"""What a cell may say; an empty one, or a table without the column, is unknown: nobody stated it."""
_MAX_SHOWN = 80
_SHOWN_LINES = 5


@dataclass(frozen=True, slots=True)
class PatientsTable:
    """The usable rows in file order, the faults, and the numbers of rows in and out."""

    patients: tuple[Patient, ...]
    faults: tuple[Fault, ...]
    tally: Tally


def read_patients(root: Path) -> PatientsTable:
    """Read ``root``/patients.csv (comma, semicolon or tab; UTF-8) and find every fault at once.

    Raises CohortError if the file does not exist, is not a UTF-8 table, or has no column patient_id.
    """
    path = root / PATIENTS_NAME
    header, rows = _read_rows(path)
    faults = [
        Fault("missing_column", PATIENTS_NAME, f"columns {', '.join(header)}", f"a column {name}", "add the column")
        for name in _REQUIRED_COLUMNS
        if name not in header
    ]
    patients: dict[str, Patient] = {}
    lines: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    rejected: Counter[str] = Counter()
    for line, cells in rows:
        where = f"{PATIENTS_NAME}, line {line}"
        if len(cells) != len(header):
            found, expected = count_of(len(cells), "cell"), f"{len(header)} as in the header"
            faults.append(Fault("broken_row", where, found, expected, "correct the row"))
            rejected["broken_row"] += 1
            continue
        row = dict(zip(header, cells, strict=True))
        reason = _check_patient_id(row["patient_id"], where, patients, faults)
        if reason:
            rejected[reason] += 1
            continue
        patients[row["patient_id"]] = _read_patient(row, where, faults)
        for column in _REQUIRED_COLUMNS:
            if value := row.get(column):
                lines[column, value].append(line)
    faults += _spelled_twice(lines)
    tally = Tally(len(rows), len(patients), dict(rejected))
    return PatientsTable(tuple(patients.values()), tuple(faults), tally)


def find_folders(patients: Iterable[Patient], folders: Iterable[str]) -> tuple[dict[str, str], list[Fault]]:
    """Return the name of each patient's folder among ``folders``, and a fault for each that is spelled otherwise.

    A folder that differs from patient_id in case or Unicode form alone is taken where it is the only one, and the
    fault loses no data.
    """
    found = match_folders([patient.patient_id for patient in patients], folders)
    action = f"it is used for this patient; spell it in {PATIENTS_NAME} as the folder is named"
    faults = [
        Fault(
            "folder_spelling", patient_id, f"the folder {show(folder)}", f"{show(patient_id)}", action, loses_data=False
        )
        for patient_id, folder in found.items()
        if folder != patient_id
    ]
    return found, faults


def _spelled_twice(lines: Mapping[tuple[str, str], list[int]]) -> list[Fault]:
    """Describe a fault for each center, diagnosis or patient that stands in the table under several spellings."""
    faults = []
    for column in _REQUIRED_COLUMNS:
        for group in alike(name for kind, name in lines if kind == column):
            shown = [f"{show(name)} ({_some_lines(lines[column, name])})" for name in group]
            found = f"{column} {' and '.join(shown)}, which look alike"
            word = "patient" if column == "patient_id" else column
            action = f"write it the same way in each row, or give another {word} another name"
            faults.append(Fault("two_spellings", PATIENTS_NAME, found, f"one spelling per {word}", action))
        names = {likeness(name): name for kind, name in lines if kind == column}
        for group in alike(names.values(), closeness):
            shown = [f"{show(name)} ({_some_lines(lines[column, name])})" for name in group]
            found, expected = f"{column} {' and '.join(shown)}", "different names, or one spelling"
            action = "they are read as different ones; if they are one, write it the same way in each row"
            faults.append(Fault("near_spellings", PATIENTS_NAME, found, expected, action, loses_data=False))
    return faults


def _some_lines(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    more = f" and {len(lines) - _SHOWN_LINES} more" if len(lines) > _SHOWN_LINES else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header, and (line number, stripped cells) of each row that is not blank."""
    if not path.is_file():
        found = "found a file" if path.parent.is_file() else f"found no {PATIENTS_NAME}"
        message = (
            f"{path.parent}: {found}, expected a cohort folder with {PATIENTS_NAME} "
            f"({', '.join(_REQUIRED_COLUMNS)}) and one folder per patient; add the file or choose another folder"
        )
        raise CohortError(message)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: not a readable UTF-8 table ({error}); save it as CSV in UTF-8"
        raise CohortError(message) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        message = f"{path}: not a readable table ({error}); save it as CSV in UTF-8"
        raise CohortError(message) from error
    header = rows[0][1] if rows else []
    if "patient_id" not in header or len(set(header)) != len(header):
        message = (
            f"{path}: found columns {', '.join(map(one_line, header)) or '(none)'}, "
            f"expected {', '.join(_REQUIRED_COLUMNS)}, "
            "each once; correct the first line"
        )
        raise CohortError(message)
    return header, rows[1:]


def _check_patient_id(patient_id: str, where: str, known: dict[str, Patient], faults: list[Fault]) -> str | None:
    """Return why a row cannot name a patient (and add its fault), or None."""
    if not patient_id:
        faults.append(Fault("empty_cell", where, "no patient_id", "the name of the patient's folder", "fill the cell"))
        return "empty_cell"
    if patient_id in known:
        found = f"patient_id {patient_id!r} a second time"
        faults.append(Fault("duplicate_patient", where, found, "each patient once", "remove or rename the row"))
        return "duplicate_patient"
    if not is_folder_name(patient_id):
        found = f"patient_id {patient_id[:_MAX_SHOWN]!r}" + (", cut here" if len(patient_id) > _MAX_SHOWN else "")
        faults.append(Fault("bad_patient_id", where, found, "a valid folder name", "rename the patient"))
        return "bad_patient_id"
    return None


def _read_patient(row: dict[str, str], where: str, faults: list[Fault]) -> Patient:
    for name in _REQUIRED_COLUMNS[1:]:
        if row.get(name) == "":
            found = f"an empty {name} for patient {row['patient_id']}"
            faults.append(Fault("empty_cell", where, found, f"the {name}", "fill the cell"))
        elif not row.get(name, "").isprintable():
            found = f"{name} {row[name]!a}"
            faults.append(Fault("unprintable_cell", where, found, "letters that can be printed", "correct the cell"))
    specimen = row.get("specimen", "").casefold() or UNKNOWN
    if specimen not in _KNOWN_SPECIMENS:
        faults.append(
            Fault(
                "bad_specimen",
                where,
                f"specimen {row['specimen']!r}",
                f"{', '.join(SPECIMENS)} or {UNKNOWN}",
                "correct the cell; until then it counts as not marrow, so no marrow reference range is printed",
                loses_data=False,
            )
        )
    return Patient(
        patient_id=row["patient_id"],
        center=row.get("center") or UNKNOWN,
        diagnosis=row.get("diagnosis") or UNKNOWN,
        specimen=specimen,
        age_group=row.get("age_group") or None,
        um_per_px=_read_scale(row.get("um_per_px", ""), where, faults),
        extra={key: value for key, value in row.items() if key not in _REQUIRED_COLUMNS + _OPTIONAL_COLUMNS},
    )


def _read_scale(text: str, where: str, faults: list[Fault]) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    low, high = PLAUSIBLE_UM_PER_PX
    if not low <= value <= high:
        expected = f"micrometers per pixel between {low} and {high}"
        faults.append(Fault("bad_um_per_px", where, f"um_per_px {text!r}", expected, "correct the cell"))
        return None
    return value
