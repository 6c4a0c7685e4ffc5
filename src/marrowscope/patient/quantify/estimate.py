"""A patient's corrected ratio with its interval, from counts alone.

1. y of n countable cells are called CBLC; cells of one field are alike, so n cells are worth n / deff.
2. The posterior of the true ratio (``posterior``), with a new patient's rates drawn from the population of the measured
   ones (``population``), and their ratios as a prior.
3. The ratio is the posterior median, the interval that of the highest density. Its errors beside those of the adjusted
   count and of counting stand in docs/log/quantification.md.

Invariant: lower <= ratio <= upper, all within 0-1; the same counts and rates always give the same results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.patient.quantify.posterior import Curve, Posterior, posterior, prior_of_ratios, within_false_positives
from marrowscope.patient.quantify.rates import ErrorRates, draw_rates
from marrowscope.statistics.clusters import design_effect

RealArray = NDArray[np.float64]

METHOD = "posterior"
MIN_CONTRAST = 0.3
"""Smallest tpr - fpr that allows a correction: below it, noise in the calls is amplified more than threefold."""

N_DRAWS = 4000

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
    """A corrected ratio (0-1) with its limits, the posterior behind them, and a note.

    ``note`` is one of ``runs.schemas.CORRECTION_NOTES`` or None. Without a correction (rates too close), the
    ratio is NaN and there is no posterior.
    """

    ratio: float
    lower: float
    upper: float
    effect: float
    note: str | None
    posterior: Posterior | None

    def confidence_above(self, threshold: float) -> float:
        """Probability that the true ratio exceeds ``threshold``; NaN without a correction."""
        return self.posterior.above(threshold) if self.posterior is not None else float("nan")


def estimate_ratio(counts: PatientCounts, rates: ErrorRates) -> RatioEstimate:
    """Correct one patient's ratio. Raises ValueError for a patient without countable cells."""
    x, n = float(counts.cblc_by_field.sum()), float(counts.countable_by_field.sum())
    if n <= 0:
        message = "found no countable cell, expected at least one: such a patient has no ratio"
        raise ValueError(message)
    effect = float(design_effect(counts.cblc_by_field, counts.countable_by_field, rates.correlation))
    prepared = prepare_rates(rates)
    if prepared is None:
        return RatioEstimate(np.nan, np.nan, np.nan, effect, "rates_too_close", None)
    return ratio_of(x, n, effect, prepared)


@dataclass(frozen=True, slots=True)
class PreparedRates:
    """What rates give once for all patients: the curve of their draws, and the prior."""

    curve: Curve
    prior: RealArray


@lru_cache(maxsize=8)
def prepare_rates(rates: ErrorRates) -> PreparedRates | None:
    """Draw a new patient's rates; None where CBLC and other cells are called too much alike, or one was never seen."""
    if not rates.call_rate(cblc=True) - rates.call_rate(cblc=False) >= MIN_CONTRAST:  # also NaN
        return None
    return PreparedRates(Curve.of(draw_rates(rates, N_DRAWS, _SEED)), prior_of_ratios(rates.ratios))


def ratio_of(x: float, n: float, effect: float, prepared: PreparedRates) -> RatioEstimate:
    """Correct ``x`` of ``n`` cells called CBLC with a design ``effect``; 0 with an upper limit where none is called."""
    found = posterior(x / effect, n / effect, prepared.prior, prepared.curve)
    ratio, (lower, upper) = found.median, found.highest_density()
    if x == 0:
        return RatioEstimate(0.0, 0.0, upper, effect, "none_called", found)
    if within_false_positives(x / effect, n / effect, prepared.curve):
        return RatioEstimate(ratio, 0.0, upper, effect, "within_false_positive_rate", found)
    return RatioEstimate(ratio, lower, upper, effect, None, found)
