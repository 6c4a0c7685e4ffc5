"""Error rates of a classifier, and their variation between patients, measured on held-out patients.

For each patient, the cells an expert outlined are compared with those counted (found, kept by the quality rules, called
countable), and these with the ones called CBLC. This is done by kind of cell, a category split by CBLC, to show where
the errors are. The correction pools all CBLC, and all other cells. A patient's mixture of kinds differs from the
cohort's, which is one reason for the variation between patients. A new patient's rates are drawn from that of the
measured ones (``population``). Only counts are stored, no names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from marrowscope.config import StageConfig
from marrowscope.patient.quantify.population import draw_pair
from marrowscope.patient.quantify.posterior import NewPatient
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from marrowscope.vocabulary import ExpertLabel, Vocabulary

RealArray = NDArray[np.float64]
Table = tuple[tuple[int, ...], ...]

_MAX_CELLS = 10**12
TRUTH_COLUMNS = ("patient_id", "field_id", "code", "counted", "called_category", "called_cblc")


class Kind(NamedTuple):
    """A category split by CBLC; only kinds in the ratio's denominator."""

    category: str
    cblc: bool


def kinds_of(vocabulary: Vocabulary) -> tuple[Kind, ...]:
    """Return every (category, cblc) that a countable code has, in the vocabulary's order of categories."""
    found = {Kind(code.category, code.cblc) for code in vocabulary.codes.values() if code.countable}
    return tuple(sorted(found, key=lambda kind: (vocabulary.categories.index(kind.category), kind.cblc)))


class ErrorRates(StageConfig):
    """Counts on held-out patients; rows are patients, columns are kinds."""

    kinds: tuple[Kind, ...]
    annotated: Table = Field(description="cells outlined by an expert, by patient and kind")
    counted: Table = Field(
        description="annotated cells that were found, kept by the quality rules and called countable"
    )
    called: Table = Field(description="counted cells that were called CBLC")
    wrongly_counted: tuple[int, ...] = Field(description="cells that are not countable but were counted, by patient")
    wrong_calls: tuple[int, ...] = Field(description="calls of those cells, by kind")
    wrongly_called: tuple[int, ...] | None = Field(
        default=None, description="of wrongly_counted, those called CBLC, by patient; older files have the sum alone"
    )
    correlation: float = Field(ge=0, le=1, description="intraclass correlation of CBLC calls within a field")

    @model_validator(mode="after")
    def _add_up(self) -> ErrorRates:
        shape = [len(self.kinds)] * len(self.annotated)
        tables = (self.called, self.counted, self.annotated)
        if any([len(row) for row in table] != shape for table in tables):
            message = "annotated, counted and called have not the same patients as rows and the kinds as columns"
            raise ValueError(message)
        if len(self.wrongly_counted) != len(shape) or len(self.wrong_calls) != len(self.kinds):
            message = "wrongly_counted has not one number per patient, or wrong_calls not one per kind"
            raise ValueError(message)
        cells = zip(*([number for row in table for number in row] for table in tables), strict=True)
        if not all(0 <= called <= counted <= annotated <= _MAX_CELLS for called, counted, annotated in cells):
            message = "there are more called than counted cells, more counted than annotated ones, or less than none"
            raise ValueError(message)
        if not all(0 <= number <= _MAX_CELLS for number in (*self.wrongly_counted, *self.wrong_calls)):
            message = "wrongly_counted or wrong_calls has less than no cells"
            raise ValueError(message)
        called = self.wrongly_called
        if called is not None and (
            len(called) != len(self.wrongly_counted)
            or any(not 0 <= x <= n for x, n in zip(called, self.wrongly_counted, strict=True))
        ):
            message = "wrongly_called has not one number per patient, each at most that of wrongly_counted"
            raise ValueError(message)
        return self

    def by_kind(self) -> list[tuple[Kind, int, int, int]]:
        """Return each kind that has cells, with its annotated, counted and called cells over all patients."""
        sums = (_real(table).sum(axis=0).astype(int) for table in (self.annotated, self.counted, self.called))
        rows = zip(self.kinds, *(column.tolist() for column in sums), strict=True)
        return [row for row in rows if row[1]]

    @property
    def is_cblc(self) -> NDArray[np.bool_]:
        """Which kinds are CBLC, (k,)."""
        return np.array([kind.cblc for kind in self.kinds], dtype=bool)

    def by_patient(self, name: str, *, cblc: bool) -> RealArray:
        """Cells (patients,) of a table (``annotated``, ``counted``, ``called``): CBLC, or all others."""
        return np.asarray(_real(getattr(self, name))[:, self.is_cblc == cblc].sum(axis=1), dtype=np.float64)

    def call_rate(self, *, cblc: bool) -> float:
        """How often a counted cell is called CBLC: true or false positive rate; NaN without such a cell."""
        return _ratio(self.by_patient("called", cblc=cblc), self.by_patient("counted", cblc=cblc))

    def recall(self, *, cblc: bool) -> float:
        """How often an outlined cell is counted; NaN without such a cell."""
        return _ratio(self.by_patient("counted", cblc=cblc), self.by_patient("annotated", cblc=cblc))

    @property
    def ratios(self) -> RealArray:
        """The annotated ratio of each patient with a countable cell."""
        cblc, other = (self.by_patient("annotated", cblc=cblc) for cblc in (True, False))
        some = cblc + other > 0
        return np.asarray(cblc[some] / (cblc + other)[some], dtype=np.float64)

    def spurious_calls(self) -> tuple[RealArray, RealArray]:
        """Cells (patients,) counted in error that are called CBLC, and all; an older file's sums stand as one row."""
        n = np.asarray(self.wrongly_counted, dtype=np.float64)
        if self.wrongly_called is not None:
            return np.asarray(self.wrongly_called, dtype=np.float64), n
        x = np.asarray(self.wrong_calls, dtype=np.float64)
        together = np.zeros((2, len(n)))
        together[:, :1] = [[x[self.is_cblc].sum()], [x.sum()]]
        return together[0], together[1]


def _real(table: Table) -> RealArray:
    return np.asarray(table, dtype=np.float64)


def fit_error_rates(cells: pl.DataFrame, vocabulary: Vocabulary, correlation: float) -> ErrorRates:
    """Count ``cells``: a row per expert cell, the columns of ``TRUTH_COLUMNS``.

    ``counted`` is true if the cell was found, kept and called countable; ``called_category`` and ``called_cblc`` are
    its call, null if it was not found. Cells whose code is not countable have no kind; if they were counted, they are
    impurities. A coarse label counts where it decides CBLC and countable: in the kind of its main category, else of the
    first of its set that is a kind. Cells that it leaves undecided are left out. Raises ValueError without counted
    cells.
    """
    kinds = kinds_of(vocabulary)
    place = {kind: index for index, kind in enumerate(kinds)}
    labels = {text: vocabulary.read_label(text) for text in cells["code"].unique().to_list()}
    undecided = {text for text, label in labels.items() if label.countable is None or label.cblc is None}
    code_kind = {
        text: place[_kind(label, place)] for text, label in labels.items() if label.countable and text not in undecided
    }
    cells = cells.filter(~pl.col("code").is_in(undecided))
    patients = cells["patient_id"].unique().sort().to_list()
    row_of = {patient: row for row, patient in enumerate(patients)}
    annotated, counted, called = (np.zeros((len(patients), len(kinds)), dtype=np.int64) for _ in range(3))
    wrongly, wrongly_called = (np.zeros(len(patients), dtype=np.int64) for _ in range(2))
    wrong_calls = np.zeros(len(kinds), dtype=np.int64)
    for row in cells.select(TRUTH_COLUMNS).iter_rows(named=True):
        kind = code_kind.get(row["code"])
        if kind is None:
            if row["counted"]:
                wrongly[row_of[row["patient_id"]]] += 1
                wrongly_called[row_of[row["patient_id"]]] += bool(row["called_cblc"])
                wrong_calls[place[Kind(row["called_category"], bool(row["called_cblc"]))]] += 1
            continue
        here = row_of[row["patient_id"]], kind
        annotated[here] += 1
        if row["counted"]:
            counted[here] += 1
            called[here] += bool(row["called_cblc"])
    if not counted.sum():
        message = (
            f"found {count_of(len(cells), 'cell')}, none of them counted, expected cells that the classifier found"
        )
        raise ValueError(message)
    tables = (tuple(map(tuple, table.tolist())) for table in (annotated, counted, called))
    return ErrorRates(
        **dict(zip(("annotated", "counted", "called"), tables, strict=True)),
        kinds=kinds,
        correlation=correlation,
        wrongly_counted=tuple(wrongly.tolist()),
        wrong_calls=tuple(wrong_calls.tolist()),
        wrongly_called=tuple(wrongly_called.tolist()),
    )


def _kind(label: ExpertLabel, kinds: Collection[Kind]) -> Kind:
    """Kind of a label that decides CBLC and countable; a set may hold categories that are no kind with its facts."""
    names = label.categories if label.mainly is None else (label.mainly, *label.categories)
    return next(kind for name in names if (kind := Kind(name, bool(label.cblc))) in kinds)


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> NewPatient:
    """Draw a new patient's rates ``n_draws`` times; the same seed gives the same draws.

    Pairs that may go together are drawn together: both shares called CBLC, both recalls, and how many cells are counted
    in error with the share of these that is called.
    """
    rng = np.random.default_rng(seed)
    annotated, counted, called = (
        (rates.by_patient(name, cblc=True), rates.by_patient(name, cblc=False))
        for name in ("annotated", "counted", "called")
    )
    called_cblc, called_other = draw_pair(called, counted, n_draws, rng)
    found_cblc, found_other = draw_pair(counted, annotated, n_draws, rng)
    wrongly = np.asarray(rates.wrongly_counted, dtype=np.float64)
    spurious_called, spurious = rates.spurious_calls()
    part, called_spurious = draw_pair(
        (wrongly, spurious_called), (annotated[0] + annotated[1] + wrongly, spurious), n_draws, rng
    )
    return NewPatient(
        found_cblc=found_cblc,
        found_other=found_other,
        called_cblc=called_cblc,
        called_other=called_other,
        spurious=part / (1 - part),
        called_spurious=called_spurious,
    )


def _ratio(x: RealArray, n: RealArray) -> float:
    return float(x.sum() / n.sum()) if n.sum() else float("nan")
