"""How far patients lie apart in a rate, beyond the chance of their cells: an intra-patient correlation.

A patient's own rate is Beta with mean mu and concentration 1 / corr - 1, the successes among n cells then
beta-binomial with variance n mu (1 - mu) (1 + (n - 1) corr) (Skellam, J R Stat Soc B 1948;10:257). The correlation is
found by the method of moments: squared deviations from what is expected, over their binomial variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]

MAX_CORRELATION = 0.5
UNKNOWN_CORRELATION = 0.1
"""Where fewer than three patients tell: patients as far apart as classifiers of this kind were seen to lie at worst."""

_TYPICAL_CORRELATION = 0.05
_NORMAL_SHARE = 0.5
"""Degrees of freedom a patient is worth: rates near 0 or 1 lie skewed, and with a kurtosis of 5 in place of 3 a
variance is known as from half as many patients (its own variance goes with the kurtosis less 1)."""

_SMALLEST = 1e-4


def spread_of_patients(x: RealArray, n: RealArray, expected: RealArray, factor: RealArray | float = 1.0) -> RealArray:
    """Intra-patient correlation, cut to 0-0.5, of ``x`` successes among ``n`` cells where ``expected`` were to be seen.

    All are (patients,). The expectation was fitted to the same M patients: M - 1 degrees of freedom are left.
    ``factor`` scales the squared deviations, one number or (d,) draws of it.
    """
    square, n, worth = _deviations(x, n, expected)
    scale = float((worth * (n - 1)).sum())
    excess = float((worth * square).sum()) * np.asarray(factor, dtype=np.float64) - float(worth.sum())
    return np.asarray(np.clip(excess / scale if scale > 0 else 0.0 * excess, 0.0, MAX_CORRELATION), dtype=np.float64)


def draw_spread(x: RealArray, n: RealArray, expected: RealArray, n_draws: int, rng: np.random.Generator) -> RealArray:
    """Draw the correlation (d,): a variance seen with v degrees of freedom is known up to v / chi-squared(v).

    That is its posterior for normal deviations (Box and Tiao, Bayesian Inference in Statistical Analysis, 1973, 2.3).
    A bootstrap of the patients gives too small correlations too often: it draws the few far patients, or does not.
    """
    _, n_used, worth = _deviations(x, n, expected)
    weight = worth * (n_used - 1)
    telling = float(weight.sum() ** 2 / (weight**2).sum()) if (weight > 0).any() else 0.0
    degrees = (telling - 1) * _NORMAL_SHARE
    if degrees < 1:
        return np.full(n_draws, UNKNOWN_CORRELATION)
    return spread_of_patients(x, n, expected, degrees / rng.chisquare(degrees, n_draws))


def draw_beta(mean: RealArray, correlation: RealArray, rng: np.random.Generator) -> RealArray:
    """Draw a new patient's rate around ``mean`` with the given intra-patient correlation; the mean itself at 0."""
    mean = np.clip(mean, _SMALLEST, 1 - _SMALLEST)
    spread = np.broadcast_to(correlation, mean.shape) > _SMALLEST
    concentration = np.where(spread, 1 / np.where(spread, correlation, 1.0) - 1, 1.0)
    drawn = rng.beta(mean * concentration, (1 - mean) * concentration)
    return np.asarray(np.where(spread, drawn, mean), dtype=np.float64)


def _deviations(x: RealArray, n: RealArray, expected: RealArray) -> tuple[RealArray, RealArray, RealArray]:
    """Squared deviations over their binomial variance, numbers of cells, and what each patient is worth.

    A patient of n cells tells as much as n / (1 + (n - 1) corr) of them: large patients do not drown the others.
    """
    used = n > 0
    n, x, expected = n[used], x[used], expected[used]
    free = max(len(n) - 1, 1)
    variance = np.maximum(expected * (1 - expected / n), _SMALLEST)
    return (x - expected) ** 2 / variance * len(n) / free, n, 1 / (1 + (n - 1) * _TYPICAL_CORRELATION)
