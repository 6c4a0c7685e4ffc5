"""Error rates of a classifier, and their variation between patients, measured on held-out patients.

For each patient, the cells an expert outlined are compared with those counted (found, kept by the quality rules, called
countable), and these with the ones called CBLC. This is done by kind of cell, a category split by CBLC, to show where
the errors are. The correction pools all CBLC, and all other cells. A patient's mixture of kinds differs from the
cohort's, which is one reason for the variation between patients (``spread``). Only counts are stored, no names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from marrowscope.config import StageConfig
from marrowscope.patient.quantify.impurity import Impurity, ImpurityDraws
from marrowscope.patient.quantify.spread import draw_spread
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
    def impurity(self) -> Impurity:
        """Cells that were counted but should not be."""
        wrongly = np.asarray(self.wrongly_counted, dtype=np.float64)
        return Impurity(
            _real(self.counted).sum(axis=1) + wrongly,
            wrongly,
            np.asarray(self.wrong_calls, dtype=np.float64),
            self.is_cblc,
        )


@dataclass(frozen=True, slots=True)
class RateDraw:
    """Draws (d,) of a rate's mean, and of its spread over patients."""

    mean: RealArray
    correlation: RealArray


@dataclass(frozen=True, slots=True)
class RateDraws:
    """Draws of all parameters of the correction."""

    tpr: RateDraw
    fpr: RateDraw
    recall_cblc: RateDraw
    recall_other: RateDraw
    impurity: ImpurityDraws


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
    wrongly, wrong_calls = np.zeros(len(patients), dtype=np.int64), np.zeros(len(kinds), dtype=np.int64)
    for row in cells.select(TRUTH_COLUMNS).iter_rows(named=True):
        kind = code_kind.get(row["code"])
        if kind is None:
            if row["counted"]:
                wrongly[row_of[row["patient_id"]]] += 1
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
    )


def _kind(label: ExpertLabel, kinds: Collection[Kind]) -> Kind:
    """Kind of a label that decides CBLC and countable; a set may hold categories that are no kind with its facts."""
    names = label.categories if label.mainly is None else (label.mainly, *label.categories)
    return next(kind for name in names if (kind := Kind(name, bool(label.cblc))) in kinds)


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> RateDraws:
    """Draw the parameters ``n_draws`` times; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)

    def draw(x: str, n: str, *, cblc: bool) -> RateDraw:
        return _draw_rate(rates.by_patient(x, cblc=cblc), rates.by_patient(n, cblc=cblc), n_draws, rng)

    return RateDraws(
        tpr=draw("called", "counted", cblc=True),
        fpr=draw("called", "counted", cblc=False),
        recall_cblc=draw("counted", "annotated", cblc=True),
        recall_other=draw("counted", "annotated", cblc=False),
        impurity=rates.impurity.draw(n_draws, rng),
    )


def _draw_rate(x: RealArray, n: RealArray, n_draws: int, rng: np.random.Generator) -> RateDraw:
    """Draw the mean by a Bayesian bootstrap over patients (Rubin, Ann Stat 1981;9:130), and the spread (``spread``)."""
    weights = rng.dirichlet(np.ones(len(n)), size=n_draws)
    mean = (weights @ x) / np.maximum(weights @ n, 1e-4)
    return RateDraw(mean, draw_spread(x, n, n * x.sum() / max(n.sum(), 1.0), n_draws, rng))


def _ratio(x: RealArray, n: RealArray) -> float:
    return float(x.sum() / n.sum()) if n.sum() else float("nan")
