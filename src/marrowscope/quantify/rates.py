"""How a classifier errs, and how differently from patient to patient: measured on patients it never saw.

A kind of cell is a category split by whether it is CBLC (``vocabulary`` names those that count). For each patient the
cells of every kind that are counted (found, kept by the quality rules, called countable) are held against those called
CBLC. Two things follow: the rate rho of each kind, and how far a patient's own rates lie from what the mixture of
kinds makes one expect. The second is a beta-binomial (Skellam, J R Stat Soc B 1948;10:257) whose intra-patient
correlation is found by the method of moments; a new patient's rate is Beta with mean mu and concentration 1 / corr - 1.

Parameter uncertainty is the Bayesian bootstrap over patients (Rubin, Ann Stat 1981;9:130): every draw weighs the
patients anew, and gives rates and correlations of its own. No patient's name is kept, only counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.quantify.spread import draw_spread, spread_of_patients

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from marrowscope.vocabulary import Vocabulary

RealArray = NDArray[np.float64]
Table = tuple[tuple[int, ...], ...]

SHRINKAGE_CELLS = 10.0
"""Cells of the pooled rate that a kind's own rate is mixed with: a kind of three cells has no rate of its own."""

_SMALLEST = 1e-4
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
    correlation: float = Field(ge=0, le=1, description="intra-class correlation of CBLC calls within a field")

    @property
    def n_patients(self) -> int:
        """Patients the rates were measured on."""
        return len(self.counted)

    @property
    def is_cblc(self) -> NDArray[np.bool_]:
        """Which kinds are CBLC, (k,)."""
        return np.array([kind.cblc for kind in self.kinds], dtype=bool)

    def without(self, patients: Sequence[int]) -> ErrorRates:
        """Give the rates of all patients but those in these rows; the confusion stays that of all."""
        kept = [row for row in range(self.n_patients) if row not in set(patients)]
        chosen = {name: tuple(getattr(self, name)[row] for row in kept) for name in ("annotated", "counted", "called")}
        return self.model_copy(update=chosen)


@dataclass(frozen=True, slots=True)
class RateDraws:
    """Draws (d,) of the parameters behind a new patient's rates; ``rates`` is (d, k), one a kind.

    Correlations say how far patients lie apart: of the rate of CBLC, of the rate of the others, and of both recalls.
    """

    rates: RealArray
    correlation_cblc: RealArray
    correlation_other: RealArray
    recall_cblc: RealArray
    recall_other: RealArray
    recall_correlation_cblc: RealArray
    recall_correlation_other: RealArray


def fit_error_rates(cells: pl.DataFrame, vocabulary: Vocabulary, correlation: float) -> ErrorRates:
    """Count ``cells``: a row per expert cell, the columns of ``TRUTH_COLUMNS``.

    ``counted`` says that the cell was found, kept and called countable; ``called_category`` and ``called_cblc`` are its
    call, null where it was not found. Cells whose code is not countable enter no rate. Raises ValueError without cells.
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
    for row in cells.select(TRUTH_COLUMNS).iter_rows(named=True):
        kind = code_kind.get(row["code"])
        if kind is None:
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
    return ErrorRates(**dict(zip(("annotated", "counted", "called", "confusion"), tables, strict=True)),
                      kinds=kinds, correlation=correlation)  # fmt: skip


def rates_by_kind(rates: ErrorRates) -> RealArray:
    """Rate (k,) at which each kind is called CBLC; a kind of few cells or patients takes the rate of all like it.

    A kind's own rate weighs as its effective number of cells, the pooled one as ``SHRINKAGE_CELLS``. NaN without a cell
    of the side.
    """
    a, b = _beta_of_kinds(rates, [_side_rate(rates, side) for side in (True, False)])
    return np.asarray(a / (a + b), dtype=np.float64)


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> RateDraws:
    """Draw the parameters ``n_draws`` times; the same seed gives the same draws.

    Pooled rates and recalls come from the bootstrap. A kind's rate is drawn from the Beta that its effective number of
    cells allows: the bootstrap cannot see how unsure the rate of a kind of two patients is. Nor can it see how unsure
    the spread of patients is: see ``spread``.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(rates.n_patients), size=n_draws) * rates.n_patients
    counted, called, annotated = (
        np.asarray(table, dtype=np.float64) for table in (rates.counted, rates.called, rates.annotated)
    )
    by_kind, effective = rates_by_kind(rates), _effective_cells(rates)
    pooled, correlations, recalls, recall_correlations = [], [], [], []
    for side in (rates.is_cblc, ~rates.is_cblc):
        outlined, found, x = (table[:, side].sum(axis=1) for table in (annotated, counted, called))
        fitted = float((effective[side] / (effective[side] + SHRINKAGE_CELLS)).sum())
        correlations.append(draw_spread(x, found, counted[:, side] @ by_kind[side], n_draws, rng, fitted=fitted))
        usual = outlined * found.sum() / max(outlined.sum(), 1.0)
        recall_correlations.append(draw_spread(found, outlined, usual, n_draws, rng))
        recalls.append((weights @ found) / np.maximum(weights @ outlined, _SMALLEST))
        pooled.append((weights @ x) / np.maximum(weights @ found, _SMALLEST))
    a, b = _beta_of_kinds(rates, [values[:, None] for values in pooled])
    drawn = rng.beta(np.maximum(a, _SMALLEST), np.maximum(b, _SMALLEST))
    return RateDraws(drawn, *correlations, *recalls, *recall_correlations)


def _side_rate(rates: ErrorRates, cblc: bool) -> RealArray:  # noqa: FBT001  one of two sides
    side = rates.is_cblc == cblc
    called, counted = (np.asarray(table, dtype=np.float64)[:, side].sum() for table in (rates.called, rates.counted))
    return np.asarray(called / counted if counted else np.nan)


def _beta_of_kinds(rates: ErrorRates, pooled: Sequence[RealArray]) -> tuple[RealArray, RealArray]:
    """Parameters (..., k) of the Beta of each kind's rate: its effective calls, and cells of the pooled rate.

    ``pooled`` is the rate of all CBLC and that of all others, (..., 1) or a number.
    """
    effective = _effective_cells(rates)
    own = _own_rates(rates)
    prior = np.where(rates.is_cblc, *(np.asarray(value) for value in pooled))
    return own * effective + SHRINKAGE_CELLS * prior, (1 - own) * effective + SHRINKAGE_CELLS * (1 - prior)


def _own_rates(rates: ErrorRates) -> RealArray:
    counted, called = (np.asarray(table, dtype=np.float64).sum(axis=0) for table in (rates.counted, rates.called))
    own: RealArray = np.divide(called, counted, out=np.zeros(len(rates.kinds)), where=counted > 0)
    return own


def _effective_cells(rates: ErrorRates) -> RealArray:
    """Give how many independent cells those of each kind are worth (k,).

    A patient's cells of a kind share the patient's own deviation: n of them are worth n / (1 + (n - 1) corr).
    """
    counted, called = (np.asarray(table, dtype=np.float64) for table in (rates.counted, rates.called))
    own = _own_rates(rates)
    effective = np.zeros(len(rates.kinds))
    for side in (rates.is_cblc, ~rates.is_cblc):
        n = counted[:, side]
        correlation = float(spread_of_patients(called[:, side].sum(axis=1), n.sum(axis=1), n @ own[side]))
        effective[side] = (n / (1 + np.maximum(n - 1, 0) * correlation)).sum(axis=0)
    return effective
