"""DeLong's interval and test against published results of R's pROC, and against the definition written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.statistics.delong import auc_difference, auc_interval, placements
from marrowscope.statistics.metrics import roc_auc
from tests.statistics.asah import NDKA, POOR_OUTCOME, S100B, WFNS

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


def test_the_data_are_those_of_the_publication() -> None:
    assert (len(POOR_OUTCOME), int(POOR_OUTCOME.sum())) == (113, 41)


def test_auc_and_interval_are_those_of_proc() -> None:
    """R's pROC documents 0.7314 (0.6301-0.8326) for S100B and tests NDKA to 15 digits."""
    s100b, ndka = auc_interval(POOR_OUTCOME, S100B), auc_interval(POOR_OUTCOME, NDKA)
    assert [round(x, 4) for x in (s100b.lower, s100b.estimate, s100b.upper)] == [0.6301, 0.7314, 0.8326]
    assert (ndka.lower, ndka.estimate, ndka.upper) == pytest.approx(
        (0.501244999271703, 0.611957994579946, 0.722670989888189), abs=1e-12
    )


@pytest.mark.parametrize(
    ("a", "b", "published"),
    [
        (WFNS, S100B, (2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478)),
        (WFNS, NDKA, (2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566)),
        (NDKA, S100B, (-1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094)),
    ],
    ids=["wfns-s100b", "wfns-ndka", "ndka-s100b"],
)
def test_paired_test_is_that_of_proc(a: np.ndarray, b: np.ndarray, published: tuple[float, ...]) -> None:
    """Published: z, p, and the limits of the difference."""
    found = auc_difference(POOR_OUTCOME, a, b)
    assert (found.z, found.p, found.value.lower, found.value.upper) == pytest.approx(published, abs=1e-10)


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
    found = auc_difference(POOR_OUTCOME, WFNS, WFNS)
    assert (found.value.estimate, found.z, found.p) == (0, 0, 1)


def test_reversed_order_reverses_the_sign_only() -> None:
    one, other = auc_difference(POOR_OUTCOME, WFNS, NDKA), auc_difference(POOR_OUTCOME, NDKA, WFNS)
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
