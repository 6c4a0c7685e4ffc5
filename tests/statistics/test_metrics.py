from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.statistics import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

N_CLASSES = 5
labels = st.lists(
    st.tuples(st.integers(0, N_CLASSES - 1), st.integers(-1, N_CLASSES - 1)), min_size=1, max_size=60
).map(lambda pairs: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])))


@settings(deadline=None)
@given(labels)
def test_f1_figures_agree_with_scikit_learn_misses_included(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    confusion = metrics.confusion_matrix(truth, predicted, N_CLASSES)
    everything = list(range(N_CLASSES))
    keywords = {"labels": everything, "zero_division": 0.0}
    assert metrics.weighted_f1(confusion) == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, average="weighted", **keywords)
    )
    present = sorted(set(truth.tolist()))
    assert list(metrics.present_classes(confusion)) == present
    assert metrics.macro_f1(confusion) == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, average="macro", labels=present, zero_division=0.0)
    )
    precision, recall, f1, n = sklearn_metrics.precision_recall_fscore_support(truth, predicted, **keywords)
    for k, score in enumerate(metrics.class_scores(confusion)):
        assert (score.n, score.precision, score.recall, score.f1) == pytest.approx(
            (n[k], precision[k], recall[k], f1[k])
        )


def test_confusion_has_true_rows_and_a_last_column_of_misses() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([1, -1, 1]), 2)
    assert confusion.tolist() == [[0, 1, 1], [0, 1, 0]]


def test_positive_f1_by_hand_and_undefined_without_a_positive() -> None:
    confusion = metrics.confusion_matrix(np.array([1, 1, 1, 0]), np.array([1, 1, 0, 1]), 2)
    assert metrics.positive_f1(confusion) == pytest.approx(2 * 2 / (3 + 3))
    assert math.isnan(metrics.positive_f1(metrics.confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2)))


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0], [0, 1], "found 1 true and 2 predicted"),
        ([2], [0], "expected 0..1"),
        ([0], [-2], "only as a prediction"),
    ],
)
def test_confusion_refuses_labels_that_do_not_fit(truth: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(np.array(truth), np.array(predicted), 2)


def test_every_figure_of_no_cells_is_nan() -> None:
    nothing = np.array([], dtype=np.int64)
    confusion = metrics.confusion_matrix(nothing, nothing, 3)
    empty = np.array([], dtype=np.float64)
    figures = [
        metrics.weighted_f1(confusion),
        metrics.macro_f1(confusion),
        metrics.positive_f1(metrics.confusion_matrix(nothing, nothing, 2)),
        metrics.roc_auc(empty.astype(bool), empty),
        metrics.mean_absolute_error(empty, empty),
        metrics.bias(empty, empty),
        metrics.concordance(empty, empty),
        metrics.share(0, 0),
    ]
    assert all(math.isnan(figure) for figure in figures)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=80))
def test_auc_agrees_with_scikit_learn_ties_included(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([row[0] for row in rows])
    score = np.array([row[1] / 8 for row in rows])
    value = metrics.roc_auc(truth, score)
    if truth.all() or not truth.any():
        assert math.isnan(value)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert value == pytest.approx(sklearn_metrics.roc_auc_score(truth, score))


def test_concordance_falls_with_shift_where_correlation_does_not() -> None:
    truth = np.array([0.1, 0.3, 0.5, 0.9])
    assert metrics.concordance(truth, truth) == pytest.approx(1)
    shifted = truth + 0.2
    # Lin by hand: 2 s_xy / (s_x^2 + s_y^2 + d^2) with s_xy = s_x^2 = s_y^2.
    assert metrics.concordance(truth, shifted) == pytest.approx(2 * truth.var() / (2 * truth.var() + 0.04))
    assert metrics.concordance(truth, -truth) < 0
    assert math.isnan(metrics.concordance(np.array([0.2, 0.2]), np.array([0.2, 0.2])))


def test_bias_has_the_sign_of_the_estimate() -> None:
    truth, estimate = np.array([0.2, 0.4]), np.array([0.3, 0.2])
    assert metrics.bias(truth, estimate) == pytest.approx(-0.05)
    assert metrics.mean_absolute_error(truth, estimate) == pytest.approx(0.15)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60))
def test_roc_curve_agrees_with_scikit_learn_ties_included(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([row[0] for row in rows])
    score = np.array([row[1] / 8 for row in rows])
    curve = metrics.roc_curve(truth, score)
    if truth.all() or not truth.any():
        assert len(curve.threshold) == 0
        return
    false_positive, true_positive, threshold = sklearn_metrics.roc_curve(truth, score, drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(false_positive)
    assert curve.true_positive_rate == pytest.approx(true_positive)
    assert curve.threshold == pytest.approx(threshold)
    area = sklearn_metrics.auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(metrics.roc_auc(truth, score))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40))
def test_weighed_pairs_are_those_of_repeated_rows(rows: list[tuple[bool, int, int]]) -> None:
    truth, score, times = (np.array(column) for column in zip(*rows, strict=True))
    weight = np.stack([times, np.ones(len(rows))]).astype(np.float64)
    found = metrics.shares(*metrics.won_pairs(truth, score.astype(np.float64), weight))
    repeated = np.repeat(np.arange(len(rows)), times)
    expected = [metrics.roc_auc(truth[repeated], score[repeated]), metrics.roc_auc(truth, score)]
    assert found == pytest.approx(expected, nan_ok=True)


def test_no_rows_have_no_pairs() -> None:
    won, pairs = metrics.won_pairs(np.zeros(0, bool), np.zeros(0), np.zeros((3, 0)))
    assert won.tolist() == pairs.tolist() == [0, 0, 0]


@pytest.mark.parametrize("n_bins", [1, 4, 10])
def test_bins_of_equal_mass_are_those_of_scikit_learn(n_bins: int) -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(5)
    probability = generator.permutation(np.linspace(0.01, 0.99, 240))
    outcome = generator.random(240) < probability**2
    bins = metrics.equal_mass_bins(probability, n_bins)
    weights = (np.ones(240), probability, outcome.astype(float))
    n, sum_p, sum_y = (np.bincount(bins, weights=w).astype(np.float64) for w in weights)
    assert n.tolist() == [240 / n_bins] * n_bins
    share, mean_p = calibration.calibration_curve(outcome, probability, n_bins=n_bins, strategy="quantile")
    assert sum_y / n == pytest.approx(share)
    assert sum_p / n == pytest.approx(mean_p)
    error = metrics.expected_calibration_error(n, sum_p, sum_y)
    assert error == pytest.approx(np.abs(share - mean_p).mean())
    assert error > 0.1  # p^2 is no calibrated p


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 12))
def test_equal_probabilities_share_a_bin_and_bins_rise(values: list[int], n_bins: int) -> None:
    probability = np.array(values, dtype=np.float64) / 6
    bins = metrics.equal_mass_bins(probability, n_bins)
    assert len(bins) == len(values)
    assert set(bins.tolist()) == set(range(len(set(bins.tolist()))))
    assert len(set(bins.tolist())) <= n_bins
    order = np.argsort(probability, kind="stable")
    assert np.all(np.diff(bins[order]) >= 0)
    for value in set(values):
        assert len(set(bins[probability == value / 6].tolist())) == 1


def test_calibration_error_of_nothing_is_not_defined() -> None:
    assert math.isnan(metrics.expected_calibration_error(np.zeros(3), np.zeros(3), np.zeros(3)))


def average_precision_by_hand(hit: list[bool], n_truth: int) -> float:
    """Walk the list, then ask at each level for the best precision among the points that reach it."""
    points = [(sum(hit[:k]) / n_truth, sum(hit[:k]) / k) for k in range(1, len(hit) + 1)]
    levels = [step / 100 for step in range(101)]
    return sum(max((p for r, p in points if r >= level - 1e-9), default=0.0) for level in levels) / 101


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=25), st.integers(0, 6))
def test_average_precision_agrees_with_walking_the_list(hit: list[bool], n_missed: int) -> None:
    n_truth = sum(hit) + n_missed
    (found,) = metrics.average_precision(np.array(hit, dtype=bool), np.array([n_truth]), np.ones((1, len(hit))))
    if n_truth == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(average_precision_by_hand(hit, n_truth))


def test_average_precision_under_weights_is_that_of_repeated_rows() -> None:
    generator = np.random.default_rng(2)
    hit = generator.random(30) < 0.6
    weight = generator.integers(0, 4, size=(5, 30))
    n_truth = (weight * hit).sum(axis=1) + 3
    found = metrics.average_precision(hit, n_truth.astype(np.float64), weight.astype(np.float64))
    expected = [
        average_precision_by_hand(np.repeat(hit, row).tolist(), int(n)) for row, n in zip(weight, n_truth, strict=True)
    ]
    assert found == pytest.approx(expected)
