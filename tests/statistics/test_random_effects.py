"""Random effects against what R's metafor documents for the BCG trials, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from marrowscope.statistics.random_effects import restricted_likelihood_tau2, summarize_centers

BCG = np.array(
    [
        (4, 119, 11, 128),
        (6, 300, 29, 274),
        (3, 228, 11, 209),
        (62, 13536, 248, 12619),
        (33, 5036, 47, 5761),
        (180, 1361, 372, 1079),
        (8, 2537, 10, 619),
        (505, 87886, 499, 87892),
        (29, 7470, 45, 7232),
        (17, 1699, 65, 1600),
        (186, 50448, 141, 27197),
        (5, 2493, 3, 2338),
        (27, 16886, 29, 17825),
    ],
    dtype=np.float64,
)
"""Tuberculosis yes and no, vaccinated and not, of 13 trials (Colditz et al., JAMA 1994;271:698)."""


def log_relative_risks() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_summary_is_that_of_metafor() -> None:
    """rma(yi, vi, test="knha") as printed in metafor's documentation, and its prediction interval on the risk scale."""
    found = summarize_centers(*log_relative_risks())
    assert (round(found.mean.estimate, 4), round(found.tau2, 4)) == (-0.7145, 0.3132)
    assert (round(found.mean.lower, 4), round(found.mean.upper, 4)) == (-1.1084, -0.3206)
    assert (round(100 * found.i2, 2), round(found.q, 4), found.n_centers) == (92.22, 152.2330, 13)
    assert found.p < 0.0001
    assert [round(math.exp(x), 2) for x in (found.prediction_lower, found.prediction_upper)] == [0.14, 1.76]


def restricted_log_likelihood(tau2: float, y: np.ndarray, v: np.ndarray) -> float:
    weight = 1 / (v + tau2)
    mean = (weight * y).sum() / weight.sum()
    return float(0.5 * np.log(weight).sum() - 0.5 * np.log(weight.sum()) - 0.5 * (weight * (y - mean) ** 2).sum())


@pytest.mark.parametrize("seed", range(5))
def test_tau2_is_where_the_restricted_likelihood_is_highest(seed: int) -> None:
    generator = np.random.default_rng(seed)
    v = generator.uniform(0.01, 0.2, 6)
    y = generator.normal(0, np.sqrt(v + 0.1 * seed))
    grid = np.linspace(0, 3, 3001)
    best = grid[np.argmax([restricted_log_likelihood(x, y, v) for x in grid])]
    assert restricted_likelihood_tau2(y, v) == pytest.approx(best, abs=0.001)


def test_equal_centers_have_no_heterogeneity_and_still_the_errors_of_their_patients() -> None:
    found = summarize_centers(np.full(5, 0.8), np.full(5, 0.01))
    assert (found.tau2, found.i2) == (0, 0)
    assert found.q == pytest.approx(0)
    half = student.ppf(0.975, 4) * math.sqrt(0.01 / 5)
    assert (found.mean.lower, found.mean.upper) == pytest.approx((0.8 - half, 0.8 + half))
    assert (found.prediction_lower, found.prediction_upper) == pytest.approx((0.8 - half, 0.8 + half))


def test_intervals_hold_the_mean_and_the_next_center() -> None:
    """In 400 simulated studies of six centers, both intervals hold about as often as they say."""
    generator = np.random.default_rng(3)
    held = held_next = 0
    for _ in range(400):
        v = generator.uniform(0.05, 0.3, 6)
        y = generator.normal(1.0, np.sqrt(0.4 + v))
        found = summarize_centers(y, v)
        held += found.mean.lower <= 1 <= found.mean.upper
        held_next += found.prediction_lower <= generator.normal(1.0, math.sqrt(0.4)) <= found.prediction_upper
    assert 0.92 <= held / 400 <= 0.98
    assert 0.90 <= held_next / 400 <= 0.99


@pytest.mark.parametrize(
    ("y", "v"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 0.0]), ([1.0, math.nan], [1.0, 1.0]), ([], [])]
)
def test_what_cannot_be_summarized_is_refused(y: list[float], v: list[float]) -> None:
    with pytest.raises(ValueError, match=f"found {len(y)} centers with variances"):
        summarize_centers(np.array(y), np.array(v))
