"""The runs that a station reviews: their patients, fields and frozen cells, read as records and never changed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.report.patient_tables import PatientTables
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.review.patient_state import FrozenCell
from marrowscope.runs.table_hashes import hash_tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from marrowscope.report.shown_rows import ShownCell, ShownField
    from marrowscope.runs.manifest import Manifest
    from marrowscope.runs.schemas import PatientRow

_MOST_PATIENTS = 64
"""Patients whose cells stay in memory; 10,000 cells take about 30 MB."""


@dataclass(frozen=True, slots=True)
class ReviewedRun:
    """One run: where it lies, what it states, and the hashes of its tables."""

    folder: Path
    manifest: Manifest
    tables: PatientTables
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class PatientCells:
    """A patient's fields, kept cells, and the contours that a quality rule refused."""

    fields: dict[str, ShownField]
    frozen: tuple[FrozenCell, ...]
    refused: tuple[ShownCell, ...]


class TwoRunsError(ReviewError):
    """A patient stands in two runs of one station."""

    def __init__(self, message: str, patient_id: str) -> None:
        """Keep the patient with the message."""
        super().__init__(message)
        self.patient_id = patient_id


class RunCells:
    """The patients of one or several runs; a patient stands in one of them."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Open runs; RunError for one that is not finished or was changed, TwoRunsError for a patient in two."""
        self.runs: list[ReviewedRun] = []
        self._run_of: dict[str, ReviewedRun] = {}
        self.rows: dict[str, PatientRow] = {}
        self._held: OrderedDict[str, PatientCells] = OrderedDict()
        self._reading = Lock()
        for folder in folders:
            self.add(self.opened(folder))

    def opened(self, folder: Path) -> ReviewedRun:
        """Open one more run, to be added or not; TwoRunsError for a patient that another run has."""
        run = _open(folder)
        for row in run.tables.rows:
            if (other := self._run_of.get(row.patient_id)) is not None:
                message = (
                    f"patient {row.patient_id!r}: found in {other.folder} and in {run.folder}, expected each patient "
                    "in one run; start a station for each run"
                )
                raise TwoRunsError(message, row.patient_id)
        return run

    def add(self, run: ReviewedRun) -> None:
        """Take in the patients of a run that was opened here."""
        self.runs.append(run)
        self._run_of |= {row.patient_id: run for row in run.tables.rows}
        self.rows = {**self.rows, **{row.patient_id: row for row in run.tables.rows}}  # others may go through the old

    def run_of(self, patient_id: str) -> ReviewedRun:
        """Return the run of a patient. Raises KeyError for one that is in none."""
        return self._run_of[patient_id]

    def has_slides(self, patient_id: str) -> bool:
        """Whether a field of a patient is a region of a slide; no cell is read for it. Raises KeyError for none."""
        return patient_id in self._run_of[patient_id].tables.with_slides

    def cells(self, patient_id: str) -> PatientCells:
        """Read the fields and cells of a patient; the last ones read stay in memory. Raises KeyError for none."""
        with self._reading:
            held = self._held.get(patient_id)
            if held is None:
                held = read_patient(self._run_of[patient_id], patient_id)
                self._held[patient_id] = held
                if len(self._held) > _MOST_PATIENTS:
                    self._held.popitem(last=False)
            self._held.move_to_end(patient_id)
        return held


def _open(folder: Path) -> ReviewedRun:
    manifest = reportable_manifest(folder)
    return ReviewedRun(folder, manifest, PatientTables(folder), manifest.tables or hash_tables(folder))


def read_patient(run: ReviewedRun, patient_id: str) -> PatientCells:
    """Read the fields and cells of a patient of ``run``."""
    cells = run.tables.cells(patient_id)
    return PatientCells(
        fields={field.field_id: field for field in run.tables.fields(patient_id)},
        frozen=tuple(_frozen(cell) for cell in cells if cell.reject_reason is None),
        refused=tuple(cell for cell in cells if cell.reject_reason is not None),
    )


def _frozen(cell: ShownCell) -> FrozenCell:
    return FrozenCell(
        cell_id=cell.cell_id,
        field_id=cell.field_id,
        contour_xy=tuple(cell.contour_xy.ravel().tolist()),
        category=cell.category or "",
        certainty=max(cell.p_category, default=0.0),
        p_cblc=cell.p_cblc,
        is_cblc=cell.is_cblc,
        is_countable=cell.is_countable,
        area_um2=cell.area_um2,
    )
