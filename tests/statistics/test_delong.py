"""DeLong's interval and test against a published result, scikit-learn's jackknife and the definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from marrowscope.statistics.delong import auc_difference, auc_interval, placements
from marrowscope.statistics.metrics import roc_auc

sklearn_metrics = pytest.importorskip("sklearn.metrics")

classes_and_scores = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=25).map(
    lambda rows: (np.array([row[0] for row in rows]), np.array([row[1] for row in rows], dtype=np.float64))
)


def written_out(truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Give the AUC of ``a`` and the covariance of both AUCs by comparing every pair, as DeLong et al. define them."""

    def wins(score: np.ndarray) -> np.ndarray:
        return np.array([[float(x > y) + 0.5 * (x == y) for y in score[~truth]] for x in score[truth]])

    of_a, of_b = wins(a), wins(b)
    covariance = 0.0
    for axis in (1, 0):
        covariance += float(np.cov(of_a.mean(axis=axis), of_b.mean(axis=axis))[0, 1]) / of_a.shape[1 - axis]
    return float(of_a.mean()), covariance


def test_auc_and_interval_are_those_published_for_ratings() -> None:
    """109 computed tomographies read on a scale of five: counts of Hanley and McNeil, Radiology 1982;143:29, table 1.

    Stata's manual documents `roctab` on them: area 0.8932, DeLong's standard error 0.0307, 0.83295 to 0.95339.
    """
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    truth = np.repeat([False, True], [sum(normal), sum(abnormal)])
    score = np.concatenate([np.repeat(np.arange(1.0, 6.0), counts) for counts in (normal, abnormal)])
    found = auc_interval(truth, score)
    assert len(truth) == 109
    assert (round(found.estimate, 4), round(found.lower, 5), round(found.upper, 5)) == (0.8932, 0.83295, 0.95339)
    assert round((found.upper - found.lower) / 2 / 1.959963984540054, 4) == 0.0307


def simulated(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw 113 patients, 41 of them ill, with two correlated scores; few decimals make ties."""
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.repeat([True, False], [41, 72]))
    shared = generator.normal(size=113)
    a, b = (gain * truth + shared + generator.normal(size=113) for gain in (0.9, 0.5))
    return truth, np.round(a, decimals), np.round(b, decimals)


def jackknife(truth: np.ndarray, score: np.ndarray) -> list[np.ndarray]:
    """Give the pseudovalues of each class: n AUC - (n - 1) AUC without that patient, by scikit-learn.

    The AUC is a U statistic of two samples, whose jackknife is DeLong's variance (Arvesen, Ann Math Stat 1969;40:2076).
    """
    whole = sklearn_metrics.roc_auc_score(truth, score)
    parts = []
    for rows in (np.flatnonzero(truth), np.flatnonzero(~truth)):
        without = [sklearn_metrics.roc_auc_score(np.delete(truth, row), np.delete(score, row)) for row in rows]
        parts.append(len(rows) * whole - (len(rows) - 1) * np.array(without))
    return parts


@pytest.mark.parametrize("decimals", [8, 0], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", [0, 1])
def test_interval_and_paired_test_are_those_of_the_jackknife(seed: int, decimals: int) -> None:
    truth, a, b = simulated(seed, decimals)
    pairs = zip(jackknife(truth, a), jackknife(truth, b), strict=True)
    covariance = np.sum([np.cov(*pair) / len(pair[0]) for pair in pairs], axis=0)
    difference = sklearn_metrics.roc_auc_score(truth, a) - sklearn_metrics.roc_auc_score(truth, b)
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found, one = auc_difference(truth, a, b), auc_interval(truth, a)
    assert (found.value.estimate, found.z) == pytest.approx((difference, difference / error), abs=1e-10)
    assert found.p == pytest.approx(2 * norm.sf(abs(difference / error)), abs=1e-10)
    expected = norm.interval(0.95, difference, error)
    assert (found.value.lower, found.value.upper) == pytest.approx(expected, abs=1e-10)
    assert one.upper - one.lower == pytest.approx(2 * norm.ppf(0.975) * math.sqrt(covariance[0, 0]), abs=1e-10)


@settings(deadline=None)
@given(classes_and_scores)
def test_midranks_give_what_all_pairs_give(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, score = rows
    if min(truth.sum(), (~truth).sum()) < 2:
        return
    other = np.roll(score, 1)
    auc, covariance = written_out(truth, score, other)
    a, b = placements(truth, score), placements(truth, other)
    assert a.auc == pytest.approx(auc)
    assert a.auc == pytest.approx(roc_auc(truth, score))
    assert a.negative.mean() == pytest.approx(auc)
    of_a, of_b = written_out(truth, score, score)[1], written_out(truth, other, other)[1]
    found = auc_difference(truth, score, other)
    assert found.value.estimate == pytest.approx(a.auc - b.auc)
    variance = max(0.0, of_a + of_b - 2 * covariance)
    if variance > 1e-9:
        assert found.z == pytest.approx((a.auc - b.auc) / math.sqrt(variance))
    interval = auc_interval(truth, score)
    half = 1.959963984540054 * math.sqrt(of_a)
    assert (interval.lower, interval.upper) == pytest.approx((max(0, auc - half), min(1, auc + half)))


def test_the_same_score_twice_does_not_differ() -> None:
    truth, score, _ = simulated(2, 1)
    found = auc_difference(truth, score, score)
    assert (found.value.estimate, found.z, found.p) == (0, 0, 1)


def test_reversed_order_reverses_the_sign_only() -> None:
    truth, a, b = simulated(3, 1)
    one, other = auc_difference(truth, a, b), auc_difference(truth, b, a)
    assert (one.z, one.p) == pytest.approx((-other.z, other.p))


def test_complete_separation_has_no_width() -> None:
    truth = np.array([False, False, True, True])
    found = auc_interval(truth, np.arange(4.0))
    assert (found.estimate, found.lower, found.upper) == (1, 1, 1)
    difference = auc_difference(truth, np.arange(4.0), -np.arange(4.0))
    assert difference.value.estimate == 1
    assert math.isnan(difference.z)
    assert math.isnan(difference.p)


@pytest.mark.parametrize("truth", [[], [True, True], [False]])
def test_one_class_has_no_auc(truth: list[bool]) -> None:
    found = auc_interval(np.array(truth, dtype=bool), np.arange(len(truth), dtype=np.float64))
    assert math.isnan(found.estimate)
    assert math.isnan(found.lower)


def test_a_class_of_one_has_an_auc_and_no_interval() -> None:
    truth = np.array([True, False, False])
    found = auc_interval(truth, np.array([2.0, 1.0, 3.0]))
    assert found.estimate == 0.5
    assert math.isnan(found.lower)
    difference = auc_difference(truth, np.array([2.0, 1.0, 3.0]), np.array([3.0, 1.0, 2.0]))
    assert difference.value.estimate == -0.5
    assert math.isnan(difference.p)
