"""Obuchowski's variance: DeLong's for clusters of one, the formula written out, and right over simulated patients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from marrowscope.statistics.clustered_auc import clustered_auc_interval
from marrowscope.statistics.delong import auc_interval


def simulated(generator: np.random.Generator, n_patients: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw cells whose scores share a patient's offset; every patient has another share of positive cells."""
    sizes = generator.integers(5, 25, n_patients)
    cluster = np.repeat(np.arange(n_patients), sizes)
    truth = generator.random(len(cluster)) < generator.beta(1, 2, n_patients)[cluster]
    score = truth * 1.0 + generator.normal(0, 1, n_patients)[cluster] + generator.normal(0, 1, len(cluster))
    return truth, score, cluster


def written_out(truth: np.ndarray, score: np.ndarray, cluster: np.ndarray) -> float:
    """Give the variance by the sums of Obuchowski 1997, comparing every pair of cells."""
    wins = np.array([[float(x > y) + 0.5 * (x == y) for y in score[~truth]] for x in score[truth]])
    auc, of_positive, of_negative = wins.mean(), wins.mean(axis=1), wins.mean(axis=0)
    names = sorted(set(cluster.tolist()))
    off_positive = [(of_positive[cluster[truth] == name] - auc).sum() for name in names]
    off_negative = [(of_negative[cluster[~truth] == name] - auc).sum() for name in names]
    with_positive = sum(bool((cluster[truth] == name).any()) for name in names)
    with_negative = sum(bool((cluster[~truth] == name).any()) for name in names)
    m, n, k = int(truth.sum()), int((~truth).sum()), len(names)
    s10 = with_positive / ((with_positive - 1) * m) * sum(off**2 for off in off_positive)
    s01 = with_negative / ((with_negative - 1) * n) * sum(off**2 for off in off_negative)
    s11 = k / (k - 1) * sum(a * b for a, b in zip(off_positive, off_negative, strict=True))
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


def test_one_cell_per_patient_is_delong() -> None:
    truth, score, _ = simulated(np.random.default_rng(5))
    one, other = clustered_auc_interval(truth, score, np.arange(len(truth))), auc_interval(truth, score)
    assert (one.estimate, one.lower, one.upper) == pytest.approx((other.estimate, other.lower, other.upper))


@pytest.mark.parametrize("seed", range(4))
def test_variance_is_that_of_the_paper(seed: int) -> None:
    truth, score, cluster = simulated(np.random.default_rng(seed), n_patients=8)
    found = clustered_auc_interval(truth, np.round(score), cluster)
    half = 1.959963984540054 * math.sqrt(written_out(truth, np.round(score), cluster))
    assert (found.lower, found.upper) == pytest.approx((max(0, found.estimate - half), min(1, found.estimate + half)))


def test_limits_are_as_wide_as_the_estimates_spread() -> None:
    """Over 200 simulated studies the mean variance is that of the estimates; taking cells as patients is not."""
    generator = np.random.default_rng(7)
    estimates, clustered, naive = [], [], []
    for _ in range(200):
        truth, score, cluster = simulated(generator)
        found, plain = clustered_auc_interval(truth, score, cluster), auc_interval(truth, score)
        estimates.append(found.estimate)
        clustered.append(((found.upper - found.lower) / 3.92) ** 2)
        naive.append(((plain.upper - plain.lower) / 3.92) ** 2)
    spread = np.var(estimates, ddof=1)
    assert np.mean(clustered) == pytest.approx(spread, rel=0.3)
    assert np.mean(naive) < spread / 2


def test_names_of_patients_do_not_matter() -> None:
    truth, score, cluster = simulated(np.random.default_rng(1))
    one, other = clustered_auc_interval(truth, score, cluster), clustered_auc_interval(truth, score, 100 - 3 * cluster)
    assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper))


def test_a_class_of_one_patient_has_no_interval() -> None:
    truth = np.array([True, True, False, False])
    found = clustered_auc_interval(truth, np.array([3.0, 1.0, 2.0, 0.0]), np.array([0, 0, 1, 2]))
    assert found.estimate == 0.75
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)


def test_one_class_has_no_auc() -> None:
    found = clustered_auc_interval(np.ones(3, dtype=bool), np.arange(3.0), np.arange(3))
    assert math.isnan(found.estimate)
    empty = clustered_auc_interval(np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=np.int64))
    assert math.isnan(empty.estimate)
