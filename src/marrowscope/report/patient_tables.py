"""Read a run's tables one patient at a time, so that memory does not grow with the number of patients.

The rows of a patient are contiguous in the table of cells, in input order, and are read as one slice. Rows that are not
contiguous are gathered from their slices.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.errors import RunError
from marrowscope.geometry import MAX_COORDINATE_PX, are_pixels
from marrowscope.report.problems import PatientProblem, attempt
from marrowscope.report.shown_rows import CELL_COLUMNS, ShownCell, ShownField, shown_cell, shown_field
from marrowscope.runs.manifest import Failure
from marrowscope.runs.parquet import collected, read_table, scan_table
from marrowscope.runs.schemas import FIELDS, field_row, patient_row
from marrowscope.vocabulary import load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from marrowscope.runs.schemas import PatientRow


def read_patients(patients: pl.DataFrame) -> tuple[list[PatientRow], list[PatientProblem]]:
    """Read the rows of the patients table as records, and the problems of those that do not fit.

    Two rows of one patient are a problem too: nobody can say which of them is the patient.
    """
    rows: list[PatientRow] = []
    problems: list[PatientProblem] = []
    n_of = Counter(patients["patient_id"])
    for values in patients.iter_rows(named=True):
        patient_id = str(values["patient_id"])
        if (n := n_of[patient_id]) > 1:
            reason = (
                f"patients table: found {count_of(n, 'row')} of this patient, expected one; run `marrowscope predict` "
                "again"
            )
            read: PatientRow | PatientProblem = PatientProblem(patient_id, "not_written", reason)
        else:
            read = attempt(patient_id, partial(patient_row, values))
        if not isinstance(read, PatientProblem):
            rows.append(read)
        elif read not in problems:
            problems.append(read)
    return rows, problems


class PatientTables:
    """The tables of a finished run; RunError where one is absent, broken or of another schema version.

    ``problems`` are the patients whose row cannot be read; they are not in ``rows``. ``with_slides`` are the patients
    with a field that is a region of a slide.
    """

    def __init__(self, run_dir: Path) -> None:
        patients = read_table(run_dir / "patients.parquet", "patients")
        fields = read_table(run_dir / "fields.parquet", "fields").with_columns(pl.col(pl.Float64).fill_nan(None))
        if (run_dir / "regions.parquet").is_file():
            regions = read_table(run_dir / "regions.parquet", "regions").select("field_id", "^core_.*$")
            fields = fields.join(regions, on="field_id", how="left", maintain_order="left")
        self.rows, self.problems = read_patients(patients)
        failed = fields.filter(pl.col("status") != "ok").select("field_id", "error")
        self.failed = [Failure(field_id=name, error=error or "could not be read") for name, error in failed.iter_rows()]
        self._fields, self._field_slices = fields, _slices(fields["patient_id"].rle())
        self.with_slides = frozenset(fields.filter(pl.col("region_x_px").is_not_null())["patient_id"])
        self._path = run_dir / "cells.parquet"
        self._cells = scan_table(self._path, "cells")
        self._slices = _slices(collected(self._cells.select(pl.col("patient_id").rle()), self._path)["patient_id"])

    @property
    def patient_ids(self) -> list[str]:
        """Ids of all patients, those whose row cannot be read last."""
        return [row.patient_id for row in self.rows] + [problem.patient_id for problem in self.problems]

    def fields(self, patient_id: str) -> tuple[ShownField, ...]:
        """Return the fields of a patient, those of a slide with their core; empty for a patient without fields."""
        rows = [row for own in self._own_fields(patient_id) for row in own.iter_rows(named=True)]
        for row in rows:
            field_row({name: row[name] for name in FIELDS})
        return tuple(map(shown_field, rows))

    def cells(self, patient_id: str) -> tuple[ShownCell, ...]:
        """Read the cells of a patient, refused contours included; empty for a patient without one.

        Raises RunError where a row does not fit, or a cell lies in no field of the patient: it would be in no picture.
        """
        frames = [
            collected(self._cells.slice(start, length).select(CELL_COLUMNS), self._path)
            for start, length in self._slices.get(patient_id, ())
        ]
        cells = tuple(shown_cell(row) for frame in frames for row in frame.iter_rows(named=True))
        n_categories = len(load_vocabulary().categories)
        if wrong := next((cell for cell in cells if len(cell.p_category) not in {0, n_categories}), None):
            message = (
                f"cells table, cell {wrong.cell_id!r}: found "
                f"{count_of(len(wrong.p_category), 'probability', 'probabilities')} of categories, "
                f"expected {n_categories}; run `marrowscope predict` again"
            )
            raise RunError(message)
        if far := next((cell for cell in cells if not are_pixels(cell.contour_xy)), None):
            message = (
                f"cells table, cell {far.cell_id!r}: found an outline with coordinates that are no pixels of an image, "
                f"expected finite ones up to {MAX_COORDINATE_PX:,}; run `marrowscope predict` again"
            )
            raise RunError(message)  # OpenCV ends the process over coordinates that do not fit its floats
        known = {name for own in self._own_fields(patient_id) for name in own["field_id"]}
        if lost := sorted({cell.field_id for cell in cells} - known):
            message = (
                f"cells table: found cells of field {lost[0]!r}, which this patient does not have in the fields "
                "table, expected every cell in a field; run `marrowscope predict` again"
            )
            raise RunError(message)
        return cells

    def _own_fields(self, patient_id: str) -> list[pl.DataFrame]:
        """Return the rows of a patient in the table of fields, as slices that share its memory."""
        return [self._fields.slice(start, length) for start, length in self._field_slices.get(patient_id, ())]


def _slices(runs: pl.Series) -> Mapping[str, list[tuple[int, int]]]:
    """Return the slices of rows of each patient, as start and length, from the run lengths of a patient_id column."""
    found: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for length, patient_id in runs.struct.unnest().select("len", "value").iter_rows():
        found.setdefault(patient_id, []).append((start, length))
        start += length
    return found
