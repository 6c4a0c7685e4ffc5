"""Read a run's tables one patient at a time, so that memory does not grow with the number of patients.

The rows of a patient are contiguous in the table of cells, in input order, and are read as one slice. Rows that are not
contiguous are gathered from their slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from marrowscope.report.shown_rows import CELL_COLUMNS, ShownCell, ShownField, shown_cell, shown_field
from marrowscope.runs.manifest import Failure
from marrowscope.runs.parquet import read_table, scan_table
from marrowscope.runs.tables import patient_row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class PatientTables:
    """The tables of a finished run; RunError if one is absent, broken or of another schema version."""

    def __init__(self, run_dir: Path) -> None:
        patients = read_table(run_dir / "patients.parquet", "patients")
        fields = read_table(run_dir / "fields.parquet", "fields")
        if (run_dir / "regions.parquet").is_file():
            regions = read_table(run_dir / "regions.parquet", "regions").select("field_id", "^core_.*$")
            fields = fields.join(regions, on="field_id", how="left", maintain_order="left")
        self.rows = [patient_row(row) for row in patients.iter_rows(named=True)]
        failed = fields.filter(pl.col("status") != "ok").select("field_id", "error")
        self.failed = [Failure(field_id=name, error=error or "could not be read") for name, error in failed.iter_rows()]
        self._fields = {str(key[0]): frame for key, frame in fields.group_by("patient_id", maintain_order=True)}
        self._cells = scan_table(run_dir / "cells.parquet", "cells")
        self._slices = _slices(self._cells)

    def fields(self, patient_id: str) -> tuple[ShownField, ...]:
        """Return the fields of a patient, those of a slide with their core; empty for a patient without fields."""
        own = self._fields.get(patient_id)
        return () if own is None else tuple(map(shown_field, own.iter_rows(named=True)))

    def cells(self, patient_id: str) -> tuple[ShownCell, ...]:
        """Read the cells of a patient, including refused contours; empty for a patient without cells."""
        frames = [
            self._cells.slice(start, length).select(CELL_COLUMNS).collect()
            for start, length in self._slices.get(patient_id, ())
        ]
        return tuple(shown_cell(row) for frame in frames for row in frame.iter_rows(named=True))


def _slices(cells: pl.LazyFrame) -> Mapping[str, list[tuple[int, int]]]:
    """Return the slices of rows of each patient, as start and length."""
    runs = cells.select(pl.col("patient_id").rle()).collect().unnest("patient_id")
    found: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for length, patient_id in runs.select("len", "value").iter_rows():
        found.setdefault(patient_id, []).append((start, length))
        start += length
    return found
