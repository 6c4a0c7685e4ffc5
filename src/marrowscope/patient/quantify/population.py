"""Rates of a new patient, drawn from the population that the measured patients come from.

A patient's two rates (say, the shares of CBLC and of other cells that are called CBLC) are expit(theta), and theta is
bivariate normal over patients: a hierarchical bivariate logit-normal, as in the meta-analysis of diagnostic tests (Chu
and Cole, J Clin Epidemiol 2006;59:1331; Reitsma et al., ibid. 2005;58:982). Hyperparameters are drawn first, so that
few patients, or patients who differ, give wide draws:

1. For each rate alone, the likelihood of (mean, sd) is integrated on a grid of theta, exact for binomial counts; cells
   of the grid are drawn by their posterior. Priors: Jeffreys' for the median patient's rate, half-normal with sd 1 for
   the sd of theta (Gelman, Bayesian Anal 2006;1:515).
2. Correlations are drawn evenly from -1 to 1, and each draw is weighed by what the correlation adds to its likelihood:
   sampling with importance resampling (Rubin 1988). Given one rate's hyperparameters, a patient's own theta is taken as
   normal there, and only there.
3. A new patient's theta is drawn for each resampled draw.

Nothing is accepted or rejected by a step, so close counts give close draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

RealArray = NDArray[np.float64]

MOST_CELLS = 2000
"""Cells of one kind that a patient counts for: beyond, the patient's rate is known far better than patients agree."""

_THETA = np.linspace(-13.0, 13.0, 521)
_COARSE_MEANS, _COARSE_SDS = np.linspace(-11.0, 11.0, 45), np.geomspace(0.05, 4.0, 10)
_N_MEANS, _SDS = 31, np.geomspace(0.05, 4.0, 28)
_SD_SCALE = 1.0
_NEGLIGIBLE = 1e-6
_TINY = 1e-300
_MOST_CORRELATED = 0.995


@dataclass(frozen=True, slots=True)
class _Side:
    """One rate: hyperparameters (d,), and by draw and patient (d, m) mean and variance of standardized theta."""

    mean: RealArray
    sd: RealArray
    own_mean: RealArray
    own_variance: RealArray


def draw_pair(
    x: tuple[RealArray, RealArray], n: tuple[RealArray, RealArray], n_draws: int, rng: np.random.Generator
) -> tuple[RealArray, RealArray]:
    """Draw a new patient's two rates (d,) from successes ``x`` of ``n`` cells, each a pair of (patients,).

    A patient without a cell of one kind tells about the other rate alone. Without any cell, the prior is drawn.
    """
    first, second = (_draw_side(*_capped(x[k], n[k]), n_draws, rng) for k in (0, 1))
    correlation = rng.permutation(((np.arange(n_draws) + 0.5) / n_draws * 2 - 1) * _MOST_CORRELATED)
    worth = _added_by_correlation(first, second, correlation)
    chosen = _resampled(np.exp(worth - worth.max()), n_draws, rng)
    z = rng.standard_normal((2, n_draws))
    r = correlation[chosen]
    z[1] = r * z[0] + np.sqrt(1 - r**2) * z[1]
    return (
        expit(first.mean[chosen] + first.sd[chosen] * z[0]),
        expit(second.mean[chosen] + second.sd[chosen] * z[1]),
    )


def _capped(x: RealArray, n: RealArray) -> tuple[RealArray, RealArray]:
    """Keep patients with cells, their counts scaled down to the most that is worth counting."""
    used = n > 0
    scale = np.minimum(1.0, MOST_CELLS / np.maximum(n[used], 1.0))
    full_x, full_n = np.zeros(len(n)), np.zeros(len(n))
    full_x[used], full_n[used] = x[used] * scale, n[used] * scale
    return full_x, full_n


def _draw_side(x: RealArray, n: RealArray, n_draws: int, rng: np.random.Generator) -> _Side:
    """Draw one rate's hyperparameters by their posterior, jittered within their cell of the grid."""
    log_likelihood = x[:, None] * _THETA - n[:, None] * np.logaddexp(0.0, _THETA)
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True)).T
    coarse = _on_grid(_COARSE_MEANS, _COARSE_SDS, likelihood).mass
    likely = np.flatnonzero(coarse.reshape(-1, len(_COARSE_SDS)).sum(axis=1) > _NEGLIGIBLE * coarse.max())
    low, high = max(likely[0] - 1, 0), min(likely[-1] + 1, len(_COARSE_MEANS) - 1)
    means = np.linspace(_COARSE_MEANS[low], _COARSE_MEANS[high], _N_MEANS)
    grid = _on_grid(means, _SDS, likelihood)
    cell = _resampled(grid.mass, n_draws, rng)
    first, second = (grid.kernel @ (likelihood * _THETA[:, None] ** power) / grid.expected for power in (1, 2))
    own_mean = (first - grid.mean[:, None]) / grid.sd[:, None]
    own_variance = np.clip((second - first**2) / grid.sd[:, None] ** 2, 1e-6, 1.0)
    mean = grid.mean[cell] + rng.uniform(-0.5, 0.5, n_draws) * (means[1] - means[0])
    sd = grid.sd[cell] * (_SDS[1] / _SDS[0]) ** rng.uniform(-0.5, 0.5, n_draws)
    return _Side(mean, sd, own_mean[cell], own_variance[cell])


@dataclass(frozen=True, slots=True)
class _Grid:
    """Cells of hyperparameters (h,): their posterior mass, the largest 1, and what it is made of."""

    mean: RealArray
    sd: RealArray
    kernel: RealArray
    expected: RealArray
    mass: RealArray


def _on_grid(means: RealArray, sds: RealArray, likelihood: RealArray) -> _Grid:
    """Integrate the likelihood (theta, patients) over theta; the grid is even in mean and logarithm of the sd."""
    mean, sd = np.repeat(means, len(sds)), np.tile(sds, len(means))
    kernel = _kernel(tuple(means.tolist()), tuple(sds.tolist()))
    expected = np.maximum(kernel @ likelihood, _TINY)
    prior = 0.5 * (mean - 2 * np.logaddexp(0.0, mean)) - 0.5 * (sd / _SD_SCALE) ** 2 + np.log(sd)
    log_mass = np.log(expected).sum(axis=1) + prior
    return _Grid(mean, sd, kernel, expected, np.exp(log_mass - log_mass.max()))


@lru_cache(maxsize=8)
def _kernel(means: tuple[float, ...], sds: tuple[float, ...]) -> RealArray:
    """Shares (h, theta) of a normal of every mean and sd on the grid of theta; few grids are ever used (4 MB each)."""
    mean, sd = np.repeat(means, len(sds)), np.tile(sds, len(means))
    kernel: RealArray = np.exp(-0.5 * ((_THETA - mean[:, None]) / sd[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    kernel.flags.writeable = False
    return kernel


def _added_by_correlation(first: _Side, second: _Side, correlation: RealArray) -> RealArray:
    """Logarithm (d,) of the likelihood with the drawn correlation over that without any.

    For a patient with standardized thetas z ~ N(m, diag(v)) this is the log of E[N(z; 0, R) / N(z; 0, I)], in closed
    form: R is the matrix of the correlation, and P = diag(1 / v) + inverse(R) - I.
    """
    a = 1 / (1 - correlation[:, None] ** 2)
    m1, m2, v1, v2 = first.own_mean, second.own_mean, first.own_variance, second.own_variance
    p11, p22, p12 = 1 / v1 + a - 1, 1 / v2 + a - 1, -correlation[:, None] * a
    determinant = p11 * p22 - p12**2
    u1, u2 = m1 / v1, m2 / v2
    square = m1 * u1 + m2 * u2 - (p22 * u1**2 - 2 * p12 * u1 * u2 + p11 * u2**2) / determinant
    added = 0.5 * (np.log(a) - np.log(v1 * v2 * determinant) - square)
    return np.asarray(added.sum(axis=1), dtype=np.float64)


def _resampled(weights: RealArray, n_draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions drawn by weight, as evenly as possible (systematic resampling), in random order."""
    edges = np.cumsum(weights)
    drawn = np.searchsorted(edges, (np.arange(n_draws) + 0.5) / n_draws * edges[-1])
    return np.asarray(rng.permutation(np.minimum(drawn, len(weights) - 1)), dtype=np.int64)
