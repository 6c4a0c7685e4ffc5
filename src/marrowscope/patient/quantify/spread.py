"""Variation of a rate between patients beyond the sampling of their cells, as an intra-patient correlation.

A patient's own rate is Beta with mean mu and concentration 1 / corr - 1. The successes among n cells are then
beta-binomial with variance n mu (1 - mu) (1 + (n - 1) corr) (Skellam, J R Stat Soc B 1948;10:257). The correlation is
estimated by the method of moments: squared deviations from the expectation, over their binomial variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]

MAX_CORRELATION = 0.5
UNKNOWN_CORRELATION = 0.1
"""Used with fewer than three informative patients: the largest spread seen for classifiers of this kind."""

_TYPICAL_CORRELATION = 0.05
_NORMAL_SHARE = 0.5
"""Degrees of freedom per patient. Rates near 0 or 1 are skewed; with a kurtosis of 5 instead of 3, a variance is known
as from half as many patients (the variance of a variance is proportional to the kurtosis minus 1)."""

_SMALLEST = 1e-4


def spread_of_patients(x: RealArray, n: RealArray, expected: RealArray, factor: RealArray | float = 1.0) -> RealArray:
    """Intra-patient correlation, clipped to 0-0.5, of ``x`` successes among ``n`` cells with ``expected`` successes.

    All are (patients,). The expectation was fitted to the same M patients, so M - 1 degrees of freedom are left.
    ``factor`` scales the squared deviations, one number or (d,) draws of it.
    """
    square, n, worth = _deviations(x, n, expected)
    scale = float((worth * (n - 1)).sum())
    excess = float((worth * square).sum()) * np.asarray(factor, dtype=np.float64) - float(worth.sum())
    return np.asarray(np.clip(excess / scale if scale > 0 else 0.0 * excess, 0.0, MAX_CORRELATION), dtype=np.float64)


def draw_spread(x: RealArray, n: RealArray, expected: RealArray, n_draws: int, rng: np.random.Generator) -> RealArray:
    """Draw the correlation (d,): a variance estimated with v degrees of freedom is scaled by v / chi-squared(v).

    This is its posterior for normal deviations (Box and Tiao, Bayesian Inference in Statistical Analysis, 1973, 2.3).
    A bootstrap over patients underestimates the correlation too often, because it may miss the few extreme patients.
    """
    _, n_used, worth = _deviations(x, n, expected)
    weight = worth * (n_used - 1)
    telling = float(weight.sum() ** 2 / (weight**2).sum()) if (weight > 0).any() else 0.0
    degrees = (telling - 1) * _NORMAL_SHARE
    if degrees < 1:
        return np.full(n_draws, UNKNOWN_CORRELATION)
    return spread_of_patients(x, n, expected, degrees / rng.chisquare(degrees, n_draws))


def draw_beta(mean: RealArray, correlation: RealArray, rng: np.random.Generator) -> RealArray:
    """Draw a new patient's rate around ``mean`` with the given intra-patient correlation; exactly the mean at 0."""
    mean = np.clip(mean, _SMALLEST, 1 - _SMALLEST)
    spread = np.broadcast_to(correlation, mean.shape) > _SMALLEST
    concentration = np.where(spread, 1 / np.where(spread, correlation, 1.0) - 1, 1.0)
    drawn = rng.beta(mean * concentration, (1 - mean) * concentration)
    return np.asarray(np.where(spread, drawn, mean), dtype=np.float64)


def _deviations(x: RealArray, n: RealArray, expected: RealArray) -> tuple[RealArray, RealArray, RealArray]:
    """Squared deviations over their binomial variance, numbers of cells, and the weight of each patient.

    n cells of a patient are worth n / (1 + (n - 1) corr) independent ones, so patients with many cells do not dominate.
    """
    used = n > 0
    n, x, expected = n[used], x[used], expected[used]
    free = max(len(n) - 1, 1)
    variance = np.maximum(expected * (1 - expected / n), _SMALLEST)
    return (x - expected) ** 2 / variance * len(n) / free, n, 1 / (1 + (n - 1) * _TYPICAL_CORRELATION)
