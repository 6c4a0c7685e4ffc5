"""Corrections against closed forms, against each other, and against QuaPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.earlier_corrections import adjusted_ratio, composition, expected_maximum, undo_detection


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.5, 1), st.floats(0, 0.3), st.floats(0.3, 1), st.floats(0.3, 1))
def test_what_error_and_detection_do_is_undone(r: float, tpr: float, fpr: float, a: float, b: float) -> None:
    found = r * a / (r * a + (1 - r) * b)
    observed = found * tpr + (1 - found) * fpr
    assert float(undo_detection(adjusted_ratio(observed, tpr, fpr), a, b)) == pytest.approx(r, abs=1e-9)


def test_ratio_is_cut_to_its_range_and_undefined_without_contrast() -> None:
    assert adjusted_ratio(np.array([0.01, 0.99]), 0.9, 0.05).tolist() == [0.0, 1.0]
    assert np.isnan(adjusted_ratio(0.5, 0.4, 0.4))
    assert np.isnan(adjusted_ratio(0.5, 0.2, 0.4))


def scores(rng: np.random.Generator, share: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors (n, 2) under equal priors of two normal classes, and which cells are of the second."""
    second = rng.uniform(size=n) < share
    z = rng.normal(np.where(second, 1.0, -1.0), 1.0)
    p = 1 / (1 + np.exp(-2 * z))
    return np.stack([1 - p, p], axis=1), second


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_expected_maximum_finds_the_share_of_calibrated_probabilities(share: float) -> None:
    p, second = scores(np.random.default_rng(0), share, 40_000)
    assert expected_maximum(p, np.array([0.5, 0.5]))[1] == pytest.approx(second.mean(), abs=0.01)


def test_expected_maximum_takes_the_prior_the_probabilities_imply() -> None:
    p, second = scores(np.random.default_rng(1), 0.4, 40_000)
    prior = np.array([0.8, 0.2])
    turned = p * prior / (p * prior).sum(axis=1, keepdims=True)
    assert expected_maximum(turned, prior)[1] == pytest.approx(second.mean(), abs=0.01)
    assert abs(expected_maximum(turned, np.array([0.5, 0.5]))[1] - second.mean()) > 0.1


def test_expected_maximum_is_the_likeliest_share() -> None:
    p, _ = scores(np.random.default_rng(2), 0.15, 500)
    found = expected_maximum(p, np.array([0.5, 0.5]))[1]
    trial = np.linspace(0.001, 0.999, 999)
    likelihood = np.log(p[:, 1:] * trial + p[:, :1] * (1 - trial)).sum(axis=0)
    best = trial[int(np.argmax(likelihood))]
    assert found == pytest.approx(best, abs=2e-3)


def test_class_without_a_prior_stays_without_a_share_and_no_cells_say_nothing() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    assert expected_maximum(p, np.array([0.5, 0.5, 0.0]))[2] == 0.0
    assert np.isnan(expected_maximum(np.empty((0, 2)), np.array([0.5, 0.5]))).all()


def test_composition_is_found_again_from_exact_calls() -> None:
    rates = np.array([[0.8, 0.1, 0.2], [0.1, 0.8, 0.2], [0.1, 0.1, 0.6]])
    shares = np.array([0.2, 0.5, 0.3])
    assert composition(300 * rates @ shares, rates) == pytest.approx(shares, abs=2e-3)


def test_composition_never_gives_a_negative_share_nor_one_to_an_unknown_kind() -> None:
    rates = np.array([[0.9, 0.1, np.nan], [0.1, 0.9, np.nan]])
    found = composition(np.array([50.0, 0.0]), rates)
    assert found.tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-3)
    assert found[2] == 0.0


def test_without_a_cell_every_kind_has_the_same_share() -> None:
    assert composition(np.zeros(2), np.array([[0.9, 0.1], [0.1, 0.9]])).tolist() == [0.5, 0.5]


def test_composition_is_the_likeliest_mixture() -> None:
    rates, called = np.array([[0.7, 0.2], [0.3, 0.8]]), np.array([30.0, 70.0])
    trial = np.linspace(0.001, 0.999, 999)
    p = rates[:, :1] * trial + rates[:, 1:] * (1 - trial)
    best = trial[int(np.argmax((called[:, None] * np.log(p)).sum(axis=0)))]
    assert composition(called, rates)[0] == pytest.approx(best, abs=2e-3)


def test_corrections_agree_with_quapy() -> None:
    quapy = pytest.importorskip("quapy", reason="QuaPy, the oracle, is not installed")
    from quapy.method.aggregative import ACC, EMQ, PACC
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A classifier whose probabilities are its input."""

        classes_ = np.array([0, 1])

        def __sklearn_is_fitted__(self) -> bool:
            """Say that there is nothing to learn."""
            return True

        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            """Learn nothing."""
            del x, y
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            """Give the input."""
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            """Give the larger one."""
            return np.asarray(x[:, 1] > 0.5).astype(int)

    rng = np.random.default_rng(3)
    known, truth = scores(rng, 0.5, 2000)
    new, _ = scores(rng, 0.2, 500)
    labels = truth.astype(int)
    hard, soft = known[:, 1] > 0.5, known[:, 1]
    assert quapy.__version__
    for method, values, observed in (
        (ACC, hard, (new[:, 1] > 0.5).mean()),
        (PACC, soft, new[:, 1].mean()),
    ):
        oracle = method(Given(), fit_classifier=False, val_split=None)
        oracle.aggregation_fit(hard.astype(int) if method is ACC else known, labels)
        expected = oracle.aggregate((new[:, 1] > 0.5).astype(int) if method is ACC else new)[1]
        ours = float(adjusted_ratio(observed, values[truth].mean(), values[~truth].mean()))
        assert ours == pytest.approx(expected, abs=1e-3)
    expected = EMQ.EM(np.array([0.5, 0.5]), new, 1e-8)[0][1]
    assert expected_maximum(new, np.array([0.5, 0.5]))[1] == pytest.approx(expected, abs=1e-3)
