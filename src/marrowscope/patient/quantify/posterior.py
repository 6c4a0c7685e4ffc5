"""Posterior of a patient's true ratio, given how many counted cells were called CBLC.

With pi the true ratio, a counted cell is called CBLC with probability

    q(pi) = (pi a s + (1 - pi) b f + r g) / (pi a + (1 - pi) b + r)

for a, b = share of CBLC and of other countable cells that are counted; s, f = share of each that is called CBLC; r =
cells counted in error per countable cell, g = share of these that is called CBLC. Of n counted cells y were called, and
cells of one field are alike: n cells are worth n / deff. The posterior is proportional to

    p(pi) * mean over d of q_d(pi) ** (y / deff) * (1 - q_d(pi)) ** ((n - y) / deff)

where each d is one draw of a new patient's rates. It lives on a grid of pi that is denser toward 0 and 1.

Invariants: lower <= median <= upper, all within 0-1; equal counts, rates and prior give equal figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, xlogy

RealArray = NDArray[np.float64]

UNIFORM_SHARE = 0.3
"""Share of the prior that is even over 0-1, so that no ratio is ruled out by the patients seen so far."""

MASS = 0.95

_N_GRID = 256
_LEAST_BANDWIDTH = 0.1
"""With less, a center of like patients rules out one who is not: coverage 91% of patients into a center of controls
at 0.03, 95% at 0.1, at equal widths."""
_TINY = 1e-12
_AT_ZERO = 0.025
"""0 is excluded only where a smaller share of patients without CBLC has as many calls: the lower tail of 95%."""


def _make_grid() -> tuple[RealArray, RealArray]:
    edges = np.sin(np.linspace(0.0, np.pi / 2, _N_GRID + 1)) ** 2
    return edges, (edges[1:] + edges[:-1]) / 2


EDGES, CENTERS = _make_grid()
"""Edges (g + 1,) and centers (g,) of the cells of pi."""

_N_BINS = 1024
Q_BINS = np.sin(np.linspace(0.0, np.pi / 2, _N_BINS)) ** 2
"""Values of q (bins,) between which draws are interpolated: steps of a third of the sampling error of 12,000 cells."""


@dataclass(frozen=True, slots=True)
class NewPatient:
    """Draws (d,) of a new patient's rates, named as in the formula."""

    found_cblc: RealArray
    found_other: RealArray
    called_cblc: RealArray
    called_other: RealArray
    spurious: RealArray
    called_spurious: RealArray


@dataclass(frozen=True, slots=True)
class Posterior:
    """Cumulative probability (g + 1,) at EDGES."""

    cumulative: RealArray

    @property
    def median(self) -> float:
        """The ratio that is as probably exceeded as not."""
        return float(np.interp(0.5, self.cumulative, EDGES))

    def above(self, threshold: float) -> float:
        """Probability that the true ratio exceeds ``threshold``."""
        return float(1 - np.interp(threshold, EDGES, self.cumulative))

    def highest_density(self, mass: float = MASS) -> tuple[float, float]:
        """Return the shortest interval that holds ``mass``: that of the highest density, if there is one peak."""
        starts = np.minimum(self.cumulative, 1 - mass)
        lower = np.interp(starts, self.cumulative, EDGES)
        at_zero = self.cumulative <= _TINY
        lower[at_zero] = EDGES[at_zero]
        upper = np.interp(starts + mass, self.cumulative, EDGES)
        best = int(np.argmin(upper - lower))
        return float(lower[best]), float(upper[best])


def called_share(ratio: RealArray | float, rates: NewPatient) -> RealArray:
    """Return q: the share of counted cells called CBLC, for ratios (g,) and drawn rates (d,), as (g, d)."""
    pi = np.atleast_1d(np.asarray(ratio, dtype=np.float64))[:, None]
    cblc, other = pi * rates.found_cblc, (1 - pi) * rates.found_other
    called = cblc * rates.called_cblc + other * rates.called_other + rates.spurious * rates.called_spurious
    return np.asarray(called / np.maximum(cblc + other + rates.spurious, _TINY), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Curve:
    """How the drawn rates spread q: made once, for any number of patients.

    ``weights`` (g, b) has a row for each cell of the grid: the share of draws whose q lies at each of the values ``q``
    (b,), those of Q_BINS that any draw reaches; a draw between two of them is split by its distance. ``at_zero`` (d,)
    is q at a ratio of 0.
    """

    q: RealArray
    weights: RealArray
    at_zero: RealArray

    @classmethod
    def of(cls, rates: NewPatient) -> Curve:
        """Compute the curve of drawn rates."""
        weights = np.stack([_binned(called_share(ratio, rates)[0]) for ratio in CENTERS])
        used = weights.any(axis=0)
        return cls(Q_BINS[used], np.ascontiguousarray(weights[:, used]), called_share(0.0, rates)[0])


def _binned(q: RealArray) -> RealArray:
    """Spread draws (d,) over Q_BINS, even on the scale where a share's sampling error is the same everywhere."""
    place = np.arcsin(np.sqrt(np.clip(q, 0.0, 1.0))) / (np.pi / 2) * (_N_BINS - 1)
    low = np.minimum(place.astype(np.int64), _N_BINS - 2)
    part = place - low
    both = np.bincount(low, 1 - part, _N_BINS) + np.bincount(low + 1, part, _N_BINS)
    return np.asarray(both / len(q), dtype=np.float64)


def prior_of_ratios(others: RealArray) -> RealArray:
    """Return the prior's mass (g,) of the grid's cells, from the ratios of other patients of the center.

    A normal kernel, reflected at 0 and 1, with Silverman's bandwidth (Density Estimation, 1986, 3.31), plus an even
    part. Without other patients it is all even.
    """
    even = np.diff(EDGES)
    others = np.asarray(others, dtype=np.float64)
    if not len(others):
        return even
    low, high = np.quantile(others, [0.25, 0.75])
    spreads = [float(others.std()), float(high - low) / 1.34]
    bandwidth = max(0.9 * min(spreads) * len(others) ** -0.2, _LEAST_BANDWIDTH)
    mirrored = np.concatenate([others, -others, 2 - others])
    density = np.exp(-0.5 * ((CENTERS[:, None] - mirrored) / bandwidth) ** 2).sum(axis=1) * even
    return np.asarray(UNIFORM_SHARE * even + (1 - UNIFORM_SHARE) * density / density.sum(), dtype=np.float64)


def posterior(y: float, n: float, prior: RealArray, curve: Curve) -> Posterior:
    """Return the posterior for ``y`` of ``n`` cells called CBLC, both over the design effect already."""
    log_likelihood = xlogy(y, curve.q) + xlogy(n - y, 1 - curve.q)
    highest = log_likelihood.max()
    if not np.isfinite(highest):  # q is exactly 0 or 1 in every draw, and the calls contradict it: nothing is learned
        return Posterior(_cumulative(prior))
    mass = curve.weights @ np.exp(log_likelihood - highest) * prior
    return Posterior(_cumulative(mass))


def _cumulative(mass: RealArray) -> RealArray:
    """Add up ``mass`` (g,) to exactly 1 at the end: over another sum of it, the last value can be larger."""
    sums = np.concatenate([[0.0], np.cumsum(mass)])
    return np.asarray(sums / sums[-1], dtype=np.float64)


def within_false_positives(y: float, n: float, curve: Curve) -> bool:
    """Whether patients without CBLC have as many calls often enough; both counts over the design effect already.

    The tail of a binomial with q cells of n is the incomplete beta function I(q; y, n - y + 1).
    """
    return y <= 0 or bool(betainc(y, n - y + 1, curve.at_zero).mean() >= _AT_ZERO)
