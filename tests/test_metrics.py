from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope import metrics

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
    [([0], [0, 1], "1 true labels beside 2"), ([2], [0], "expected 0..1"), ([0], [-2], "only as a prediction")],
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
