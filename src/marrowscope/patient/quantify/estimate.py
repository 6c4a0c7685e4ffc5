"""A patient's corrected ratio with its confidence interval, from counts alone.

1. p is the share of countable cells called CBLC; the contribution of cells that should not be counted is removed
   (``impurity``).
2. r = (p - fpr) / (tpr - fpr), then adjusted for detection (``correct``). Of six corrections, this one had the smallest
   errors overall: sharp and blurred images, known and new centers, few and many patients (docs/quantify.md).
3. The interval samples the unknowns: p from a Beta with the effective number of cells n / d, the patient's own rates
   around their mean, the mean from a bootstrap over the patients the rates were measured on. The limits are quantiles.

Invariant: lower <= ratio <= upper, all within 0-1; the same counts and rates always give the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.patient.quantify.correct import MIN_CONTRAST, adjusted_ratio, undo_detection
from marrowscope.patient.quantify.rates import ErrorRates, RateDraws, draw_rates
from marrowscope.patient.quantify.spread import draw_beta
from marrowscope.statistics.clusters import design_effect

RealArray = NDArray[np.float64]

METHOD = "adjusted count"
N_DRAWS = 4000

_SMALLEST_RECALL = 0.05
_LIMITS = (0.025, 0.975)
_SEED = 20


@dataclass(frozen=True, slots=True)
class PatientCounts:
    """One patient's countable cells per field (K,): those called CBLC, and all."""

    cblc_by_field: RealArray
    countable_by_field: RealArray


def count_fields(countable: pl.DataFrame, called: str) -> PatientCounts:
    """Count one patient's countable cells per field; ``called`` is the name of the column of CBLC calls."""
    by_field = countable.group_by("field_id", maintain_order=True).agg(
        pl.col(called).sum().alias("x"), pl.len().alias("n")
    )
    return PatientCounts(by_field["x"].to_numpy().astype(np.float64), by_field["n"].to_numpy().astype(np.float64))


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """A corrected ratio (0-1) with its limits, the sampled ratios behind them, and a note.

    ``note`` is one of ``tables.CORRECTION_NOTES`` or None. Without a correction (rates too close), the ratio is NaN.
    """

    ratio: float
    lower: float
    upper: float
    effect: float
    note: str | None
    draws: RealArray

    def confidence_above(self, threshold: float) -> float:
        """Share of the sampled ratios above ``threshold``; NaN without a correction."""
        return float((self.draws > threshold).mean()) if len(self.draws) else float("nan")


def estimate_ratio(counts: PatientCounts, rates: ErrorRates) -> RatioEstimate:
    """Correct one patient's ratio. Raises ValueError for a patient without countable cells."""
    x, n = float(counts.cblc_by_field.sum()), float(counts.countable_by_field.sum())
    if n <= 0:
        message = "found no countable cell, expected at least one: such a patient has no ratio"
        raise ValueError(message)
    effect = float(design_effect(counts.cblc_by_field, counts.countable_by_field, rates.correlation))
    tpr, fpr = rates.call_rate(cblc=True), rates.call_rate(cblc=False)
    if not tpr - fpr >= MIN_CONTRAST:  # also NaN, if a side was never seen
        return RatioEstimate(np.nan, np.nan, np.nan, effect, "rates_too_close", np.empty(0))
    ratio = point_ratio(x / n, rates)
    draws = draw_ratios(np.array([x / n]), np.array([n / effect]), _draws(rates), seed=_SEED)[0]
    lower, upper = np.quantile(draws, _LIMITS)
    note = "none_called" if x == 0 else "within_false_positive_rate" if ratio == 0 else None
    return RatioEstimate(
        ratio=ratio,
        lower=0.0 if x == 0 else float(min(lower, ratio)),
        upper=float(max(upper, ratio)),
        effect=effect,
        note=note,
        draws=draws,
    )


def point_ratio(p: float, rates: ErrorRates) -> float:
    """Compute the corrected ratio (0-1) from the share ``p`` of countable cells that are called CBLC."""
    pure = rates.impurity.purified(p)
    found = adjusted_ratio(pure, rates.call_rate(cblc=True), rates.call_rate(cblc=False))
    return float(undo_detection(found, *(max(rates.recall(cblc=cblc), _SMALLEST_RECALL) for cblc in (True, False))))


def draw_ratios(p: RealArray, effective: RealArray, draws: RateDraws, *, seed: int) -> RealArray:
    """Draw true ratios (patients, d) of patients with observed shares ``p`` of ``effective`` independent cells.

    Each draw combines the patient's sampling error with one draw of the parameters.
    """
    rng = np.random.default_rng(seed)
    size = (len(p), len(draws.tpr.mean))
    a, b = p * effective + 0.5, (1 - p) * effective + 0.5
    share = draws.impurity.purified(rng.beta(a[:, None], b[:, None], size=size), rng)
    tpr, fpr, recall_cblc, recall_other = (
        draw_beta(np.broadcast_to(rate.mean, size), rate.correlation, rng)
        for rate in (draws.tpr, draws.fpr, draws.recall_cblc, draws.recall_other)
    )
    # An uninformative pair of drawn rates leaves the ratio unknown: any value is equally likely.
    found = adjusted_ratio(share, tpr, fpr)
    open_ended = np.isnan(found)
    if open_ended.any():
        found[open_ended] = rng.uniform(size=int(open_ended.sum()))
    return undo_detection(found, np.maximum(recall_cblc, _SMALLEST_RECALL), np.maximum(recall_other, _SMALLEST_RECALL))


@lru_cache(maxsize=8)
def _draws(rates: ErrorRates) -> RateDraws:
    return draw_rates(rates, N_DRAWS, _SEED)
