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

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from marrowscope.vocabulary import Vocabulary

RealArray = NDArray[np.float64]
Table = tuple[tuple[int, ...], ...]

SHRINKAGE_CELLS = 10.0
"""Cells of the pooled rate that a kind's own rate is mixed with: a kind of three cells has no rate of its own."""

MAX_CORRELATION = 0.5
_SMALLEST_RATE = 1e-4
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


def pooled_rates(rates: ErrorRates, weights: RealArray | None = None) -> RealArray:
    """Rate (..., k) at which each kind is called CBLC, kinds of few cells mixed with the rate of all like them.

    ``weights`` (..., patients) are those of a draw; all 1 by default. Without a CBLC (or another) cell the rate is NaN.
    """
    weights = np.ones(rates.n_patients) if weights is None else weights
    called, counted = (weights @ np.asarray(table, dtype=np.float64) for table in (rates.called, rates.counted))
    found = np.empty_like(counted)
    for side in (rates.is_cblc, ~rates.is_cblc):
        n, x = counted[..., side], called[..., side]
        with np.errstate(divide="ignore", invalid="ignore"):
            pooled = x.sum(axis=-1, keepdims=True) / n.sum(axis=-1, keepdims=True)
        found[..., side] = (x + SHRINKAGE_CELLS * pooled) / (n + SHRINKAGE_CELLS)
    return found


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> RateDraws:
    """Draw the parameters ``n_draws`` times; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(rates.n_patients), size=n_draws) * rates.n_patients
    by_kind = pooled_rates(rates, weights)
    counted, called, annotated = (
        np.asarray(table, dtype=np.float64) for table in (rates.counted, rates.called, rates.annotated)
    )
    correlations, recalls, recall_correlations = [], [], []
    for side in (rates.is_cblc, ~rates.is_cblc):
        n, x = counted[:, side], called[:, side].sum(axis=1)
        expected = by_kind[:, side] @ n.T  # (draws, patients)
        correlations.append(_correlation(x, n.sum(axis=1), expected, weights))
        outlined, found = annotated[:, side].sum(axis=1), n.sum(axis=1)
        recall = (weights @ found) / np.maximum(weights @ outlined, _SMALLEST_RATE)
        recalls.append(recall)
        recall_correlations.append(_correlation(found, outlined, recall[:, None] * outlined, weights))
    return RateDraws(by_kind, *correlations, *recalls, *recall_correlations)


def _correlation(x: RealArray, n: RealArray, expected: RealArray, weights: RealArray) -> RealArray:
    """Intra-patient correlation (d,) beyond binomial chance, by the method of moments, cut to 0-0.5.

    ``x`` and ``n`` (patients,), ``expected`` number of successes and ``weights`` (d, patients). The mean was fitted on
    the same patients: the squares are scaled by M / (M - 1).
    """
    used = n > 0
    n_patients = max(int(used.sum()), 2)
    n, x, expected, weights = n[used], x[used], expected[:, used], weights[:, used]
    variance = expected * (1 - expected / n)
    excess = weights * ((x - expected) ** 2 * n_patients / (n_patients - 1) - variance)
    scale = (weights * (n - 1) * variance).sum(axis=1)
    found = np.divide(excess.sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0)
    return np.asarray(np.clip(found, 0.0, MAX_CORRELATION), dtype=np.float64)


def draw_beta(mean: RealArray, correlation: RealArray, rng: np.random.Generator) -> RealArray:
    """Draw a new patient's rate around ``mean`` with the given intra-patient correlation; the mean itself at 0."""
    mean = np.clip(mean, _SMALLEST_RATE, 1 - _SMALLEST_RATE)
    spread = np.broadcast_to(correlation, mean.shape) > _SMALLEST_RATE
    concentration = np.where(spread, 1 / np.where(spread, correlation, 1.0) - 1, 1.0)
    drawn = rng.beta(np.maximum(mean * concentration, 1e-6), np.maximum((1 - mean) * concentration, 1e-6))
    return np.asarray(np.where(spread, drawn, mean), dtype=np.float64)
