"""How a classifier errs, and how differently from patient to patient: measured on patients it never saw.

A kind of cell is a category split by whether it is CBLC (``vocabulary`` names those that count). For each patient the
cells of every kind that an expert outlined are held against those that are counted (found, kept by the quality rules,
called countable), and those against the ones called CBLC. Two things follow for either step: the rate of each kind
(``kinds``), and how far a patient's own rates lie from what the mixture of kinds makes one expect (``spread``).

No patient's name is kept, only counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.quantify.impurity import Impurity, ImpurityDraws
from marrowscope.quantify.kinds import KindCounts, KindDraws

if TYPE_CHECKING:
    import polars as pl

    from marrowscope.vocabulary import Vocabulary

RealArray = NDArray[np.float64]
Table = tuple[tuple[int, ...], ...]

COMMON_CELLS = 20.0
"""Cells that the column common to all kinds weighs beside a kind's own calls."""

CALL_CORRELATION = 0.1
"""Assumed correlation of the categories called in one patient: n cells of a kind are worth n / (1 + (n - 1) 0.1)."""

TRUTH_COLUMNS = ("patient_id", "field_id", "code", "counted", "called_category", "called_cblc")


class Kind(NamedTuple):
    """A category split by CBLC; only kinds that stand in the ratio's denominator."""

    category: str
    cblc: bool


def kinds_of(vocabulary: Vocabulary) -> tuple[Kind, ...]:
    """Give every (category, cblc) that a countable code has, in the vocabulary's order of categories."""
    found = {Kind(code.category, code.cblc) for code in vocabulary.codes.values() if code.countable}
    return tuple(sorted(found, key=lambda kind: (vocabulary.categories.index(kind.category), kind.cblc)))


class ErrorRates(StageConfig):
    """Counts on patients the classifier never saw; rows are patients, columns kinds."""

    kinds: tuple[Kind, ...]
    annotated: Table = Field(description="cells an expert outlined, by patient and kind")
    counted: Table = Field(description="of those, found, kept by the quality rules and called countable")
    called: Table = Field(description="of those counted, called CBLC")
    confusion: Table = Field(description="counted cells of all patients, by called kind (rows) and true kind (columns)")
    wrongly_counted: tuple[int, ...] = Field(description="not countable cells, counted all the same, by patient")
    wrong_calls: tuple[int, ...] = Field(description="called kinds of those cells")
    correlation: float = Field(ge=0, le=1, description="intra-class correlation of CBLC calls within a field")

    @property
    def n_patients(self) -> int:
        """Patients the rates were measured on."""
        return len(self.counted)

    @property
    def is_cblc(self) -> NDArray[np.bool_]:
        """Which kinds are CBLC, (k,)."""
        return np.array([kind.cblc for kind in self.kinds], dtype=bool)

    @property
    def recalls(self) -> KindCounts:
        """Counted among annotated cells."""
        return KindCounts(_real(self.counted), _real(self.annotated), self.is_cblc)

    @property
    def calls(self) -> KindCounts:
        """Called CBLC among counted cells."""
        return KindCounts(_real(self.called), _real(self.counted), self.is_cblc)

    @property
    def impurity(self) -> Impurity:
        """Cells counted that should not be."""
        wrongly = np.asarray(self.wrongly_counted, dtype=np.float64)
        return Impurity(
            _real(self.counted).sum(axis=1) + wrongly,
            wrongly,
            np.asarray(self.wrong_calls, dtype=np.float64),
            self.is_cblc,
        )

    def call_shares(self) -> RealArray:
        """How often each kind (columns) gets each call (rows), (k, k); columns sum to 1.

        A kind seen on few patients takes part of the column that all kinds have in common: right as often as all are,
        wrong calls spread as all wrong calls are. Its own column weighs as its effective number of cells, the common
        one as ``COMMON_CELLS``: one patient whose monocytes look alike must not teach that every monocyte is a blast.
        """
        confusion, counted = _real(self.confusion), _real(self.counted)
        total = confusion.sum()
        right = float(np.trace(confusion) / total) if total else 1.0
        wrong = confusion - np.diag(np.diag(confusion))
        spread = wrong.sum(axis=1) + 1.0
        common = np.repeat(spread[:, None], len(spread), axis=1)
        np.fill_diagonal(common, 0.0)
        common = (1 - right) * common / common.sum(axis=0) + right * np.eye(len(spread))
        cells = (counted / (1 + np.maximum(counted - 1, 0) * CALL_CORRELATION)).sum(axis=0)
        n = confusion.sum(axis=0)
        cells = np.where(n > 0, cells, 0.0)
        own = confusion / np.maximum(n, 1.0)
        return np.asarray((own * cells + COMMON_CELLS * common) / (cells + COMMON_CELLS), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class RateDraws:
    """Draws of three rates: that a cell is counted, that a counted one is called CBLC, and that it should not be."""

    recalls: KindDraws
    calls: KindDraws
    impurity: ImpurityDraws


def _real(table: Table) -> RealArray:
    return np.asarray(table, dtype=np.float64)


def fit_error_rates(cells: pl.DataFrame, vocabulary: Vocabulary, correlation: float) -> ErrorRates:
    """Count ``cells``: a row per expert cell, the columns of ``TRUTH_COLUMNS``.

    ``counted`` says that the cell was found, kept and called countable; ``called_category`` and ``called_cblc`` are its
    call, null where it was not found. Cells whose code is not countable are no cells of a kind: those that were counted
    all the same are impurities. Raises ValueError without a counted cell.
    """
    kinds = kinds_of(vocabulary)
    place = {kind: index for index, kind in enumerate(kinds)}
    code_kind = {
        name: place[Kind(code.category, code.cblc)] for name, code in vocabulary.codes.items() if code.countable
    }
    patients = cells["patient_id"].unique().sort().to_list()
    row_of = {patient: row for row, patient in enumerate(patients)}
    annotated, counted, called = (np.zeros((len(patients), len(kinds)), dtype=np.int64) for _ in range(3))
    confusion = np.zeros((len(kinds), len(kinds)), dtype=np.int64)
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
            confusion[place[Kind(row["called_category"], bool(row["called_cblc"]))], kind] += 1
    if not counted.sum():
        message = f"found {len(cells)} cells and none of them counted, expected cells that the classifier found"
        raise ValueError(message)
    tables = (tuple(map(tuple, table.tolist())) for table in (annotated, counted, called, confusion))
    return ErrorRates(
        **dict(zip(("annotated", "counted", "called", "confusion"), tables, strict=True)),
        kinds=kinds,
        correlation=correlation,
        wrongly_counted=tuple(wrongly.tolist()),
        wrong_calls=tuple(wrong_calls.tolist()),
    )


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> RateDraws:
    """Draw the parameters ``n_draws`` times; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    return RateDraws(
        recalls=rates.recalls.draw(n_draws, rng),
        calls=rates.calls.draw(n_draws, rng),
        impurity=rates.impurity.draw(n_draws, rng),
    )
