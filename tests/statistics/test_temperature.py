from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.statistics.temperature import (
    MIN_CELLS,
    apply_temperature,
    binary_event,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    nested_calibration,
    reliability_table,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SKEWED = np.array([0.7, 0.25, 0.05])
UNIFORM = np.full(3, 1 / 3)


def world(
    temperature: float, *, n: int = 20_000, implied: NDArray[np.float64] = UNIFORM, wanted: NDArray[np.float64] = SKEWED
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw cells whose exact log-likelihoods are known, and give logits ``temperature`` times too sure of them."""
    random = np.random.default_rng(7)
    labels = random.choice(len(wanted), size=n, p=wanted)
    features = random.normal(0, 1, (n, len(wanted)))
    features[np.arange(n), labels] += 1.5  # unit normals shifted by 1.5: log-likelihood ratios are 1.5 * feature
    return temperature * 1.5 * features + np.log(np.where(implied > 0, implied, 1)), labels


def grid_loss(
    logits: NDArray[np.float64], labels: NDArray[np.int64], implied: NDArray[np.float64], temperature: float
) -> float:
    scores = (logits - np.log(implied)) / temperature + np.log(SKEWED)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return float(-np.log(p[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("implied", [UNIFORM, SKEWED])
def test_the_temperature_of_known_likelihoods_is_recovered(truth: float, implied: NDArray[np.float64]) -> None:
    fit = fit_temperature(*world(truth, implied=implied), implied, SKEWED)
    assert fit.value == pytest.approx(truth, rel=0.03)
    assert fit.nll_after <= fit.nll_before
    assert (fit.n_cells, fit.n_left_out, fit.reason) == (20_000, 0, "")


def test_a_brute_force_grid_finds_the_same_temperature() -> None:
    logits, labels = world(1.7, n=400)
    grid = np.exp(np.linspace(math.log(0.05), math.log(20), 6001))
    losses = [grid_loss(logits, labels, UNIFORM, temperature) for temperature in grid]
    fit = fit_temperature(logits, labels, UNIFORM, SKEWED)
    assert fit.value == pytest.approx(grid[int(np.argmin(losses))], rel=1e-3)
    assert fit.nll_after == pytest.approx(min(losses), abs=1e-6)
    assert fit.nll_before == pytest.approx(grid_loss(logits, labels, UNIFORM, 1.0))


def test_the_prior_stays_what_is_wanted_at_every_temperature() -> None:
    """A cell that says nothing (z = log q) has the wanted shares; scaling the logits whole would bend them."""
    for temperature in (0.3, 1.0, 4.0):
        found = apply_temperature(np.log(UNIFORM)[None], UNIFORM, SKEWED, temperature)[0]
        np.testing.assert_allclose(found, SKEWED)
        found = apply_temperature(np.log(SKEWED)[None], SKEWED, SKEWED, temperature)[0]
        np.testing.assert_allclose(found, SKEWED)


def test_the_mean_probability_of_calibrated_cells_is_the_prior() -> None:
    logits, _ = world(3.0, n=100_000)
    calibrated = apply_temperature(logits, UNIFORM, SKEWED, 3.0).mean(axis=0)
    np.testing.assert_allclose(calibrated, SKEWED, atol=0.004)
    assert np.abs(apply_temperature(logits, UNIFORM, SKEWED, 1.0).mean(axis=0) - SKEWED).max() > 0.02


def test_a_temperature_fitted_for_one_prior_holds_for_another() -> None:
    balanced = fit_temperature(*world(2.0, wanted=UNIFORM), UNIFORM, UNIFORM)
    skewed = fit_temperature(*world(2.0, wanted=SKEWED), UNIFORM, SKEWED)
    assert balanced.value == pytest.approx(skewed.value, rel=0.05)


def test_networks_of_different_priors_are_pooled_row_by_row() -> None:
    first, labels = world(2.0, implied=UNIFORM)
    second, _ = world(2.0, implied=SKEWED)
    rows = np.concatenate([np.tile(UNIFORM, (len(first), 1)), np.tile(SKEWED, (len(second), 1))])
    pooled = fit_temperature(np.vstack([first, second]), np.tile(labels, 2), rows, SKEWED)
    assert pooled.value == pytest.approx(fit_temperature(first, labels, UNIFORM, SKEWED).value, rel=1e-4)
    ignored = fit_temperature(np.vstack([first, second]), np.tile(labels, 2), UNIFORM, SKEWED)
    assert abs(ignored.value - pooled.value) > 0.02


def test_a_class_never_trained_is_masked_and_its_cells_are_left_out() -> None:
    logits, labels = world(2.0)
    labels[:3] = -1
    four = np.hstack([logits, np.full((len(logits), 1), 50.0)])  # whatever an untrained logit says
    implied, wanted = np.append(UNIFORM, 0), np.append(SKEWED, 0)
    labels_with_unknown = labels.copy()
    labels_with_unknown[3:10] = 3
    fit = fit_temperature(four, labels_with_unknown, implied, wanted)
    assert (fit.n_cells, fit.n_left_out) == (19_990, 10)
    assert fit.value == pytest.approx(fit_temperature(logits[10:], labels[10:], UNIFORM, SKEWED).value, rel=1e-4)
    probabilities = apply_temperature(four, implied, wanted, fit.value)
    assert (probabilities[:, 3] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_weights_count_as_repetition() -> None:
    logits, labels = world(2.0, n=300)
    weights = np.where(labels == 0, 3.0, 1.0)
    repeated = np.repeat(np.arange(300), weights.astype(int))
    weighted = fit_temperature(logits, labels, UNIFORM, SKEWED, weights=weights)
    assert weighted.value == pytest.approx(
        fit_temperature(logits[repeated], labels[repeated], UNIFORM, SKEWED).value, rel=1e-4
    )


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros(0, dtype=np.int64), "0 labeled cells, fewer than 50"),
        (np.arange(MIN_CELLS - 1) % 3, "49 labeled cells, fewer than 50"),
        (np.full(500, -1), "0 labeled cells, fewer than 50"),
        (np.ones(500, dtype=np.int64), "only one class among 500 cells"),
    ],
)
def test_too_little_to_fit_gives_one_and_the_reason(labels: NDArray[np.int64], reason: str) -> None:
    fit = fit_temperature(np.zeros((len(labels), 3)), labels, UNIFORM, SKEWED)
    assert (fit.value, fit.reason) == (1.0, reason)
    assert fit.nll_before == fit.nll_after or (math.isnan(fit.nll_before) and not fit.n_cells)


def test_cells_without_an_error_and_logits_without_a_meaning_end_at_the_limits() -> None:
    labels = np.arange(300) % 3
    perfect = fit_temperature(np.eye(3)[labels], labels, UNIFORM, UNIFORM)
    assert perfect.value == pytest.approx(0.05, rel=0.01)
    assert "told apart without an error" in perfect.reason
    wrong = fit_temperature(-5 * np.eye(3)[labels], labels, UNIFORM, UNIFORM)
    assert wrong.value == pytest.approx(20, rel=0.01)
    assert "tell nothing" in wrong.reason


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found logits \(4, 3\) and labels \(5,\) up to 0, expected"):
        fit_temperature(np.zeros((4, 3)), np.zeros(5, dtype=np.int64), UNIFORM, SKEWED)


def test_the_calibration_error_equals_a_sum_by_hand() -> None:
    p = np.array([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9])
    true = np.array([False, False, False, True, True, True, True, False])
    table = reliability_table(p, true, bins=2)
    assert [(row.n, row.share_true) for row in table] == [(4, 0.25), (4, 0.75)]
    assert [row.mean_probability for row in table] == pytest.approx([0.15, 0.85])
    assert expected_calibration_error(p, true, bins=2) == pytest.approx(0.10)


def test_equal_probabilities_stand_in_one_bin_and_the_order_decides_nothing() -> None:
    random = np.random.default_rng(3)
    p = np.round(random.uniform(size=2000) ** 3, 1)
    true = random.uniform(size=2000) < p
    table = reliability_table(p, true)
    assert sum(row.n for row in table) == 2000
    assert all(before.upper < after.lower for before, after in itertools.pairwise(table))
    order = random.permutation(2000)
    for row, shuffled in zip(table, reliability_table(p[order], true[order]), strict=True):
        assert (row.n, row.share_true, row.lower) == (shuffled.n, shuffled.share_true, shuffled.lower)
    constant = reliability_table(np.full(30, 0.4), np.arange(30) < 12)
    assert [(row.n, row.share_true) for row in constant] == [(30, 0.4)]
    saturated = reliability_table(np.repeat([0.0, 1.0], 50), np.arange(100) % 2 == 0)
    assert [(row.n, row.mean_probability) for row in saturated] == [(50, 0.0), (50, 1.0)]


def test_bins_hold_about_as_many_cells_each() -> None:
    table = reliability_table(np.random.default_rng(1).uniform(size=3000), np.zeros(3000, dtype=bool), bins=15)
    assert len(table) == 15
    assert {row.n for row in table} <= {199, 200, 201}


def test_temperature_takes_the_calibration_error_of_overconfident_logits_away() -> None:
    logits, labels = world(3.0)
    errors = [
        expected_calibration_error(*binary_event(apply_temperature(logits, UNIFORM, SKEWED, temperature), labels))
        for temperature in (1.0, 3.0)
    ]
    assert errors[0] > 0.05
    assert errors[1] < 0.015


def test_two_classes_are_asked_for_the_second_one_and_more_for_the_top_one() -> None:
    p, true = binary_event(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]))
    assert (p.tolist(), true.tolist()) == ([0.1, 0.7], [False, False])
    p, true = binary_event(np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]), np.array([1, 2]))
    assert (p.tolist(), true.tolist()) == ([0.5, 0.6], [False, True])


def test_no_cells_have_no_figures() -> None:
    none, never = np.zeros(0), np.zeros(0, dtype=bool)
    assert reliability_table(none, never) == ()
    assert math.isnan(expected_calibration_error(none, never))
    assert math.isnan(negative_log_likelihood(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)))
    assert negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])) == math.inf


def test_no_fold_calibrates_itself() -> None:
    """Other labels in fold 0 change every temperature but its own, and none of its own probabilities."""
    logits, labels = world(2.0, n=3000)
    folds = np.arange(3000) % 3
    priors = np.tile(UNIFORM, (3000, 1)), np.tile(SKEWED, (3000, 1))
    record, before, after = nested_calibration(logits, labels, folds, *priors)
    shuffled = np.where(folds == 0, np.random.default_rng(5).permutation(labels), labels)
    other, _, other_after = nested_calibration(logits, shuffled, folds, *priors)
    assert other.nested_temperatures["0"] == record.nested_temperatures["0"]
    np.testing.assert_array_equal(other_after[folds == 0], after[folds == 0])
    for fold in ("1", "2"):
        assert other.nested_temperatures[fold] > 1.2 * record.nested_temperatures[fold]
    assert other.temperature > 1.2 * record.temperature == pytest.approx(1.2 * 2.0, rel=0.1)
    np.testing.assert_allclose(before, apply_temperature(logits, UNIFORM, SKEWED))


def test_the_nested_figures_are_those_of_the_nested_probabilities() -> None:
    logits, labels = world(3.0, n=3000)
    labels[:5] = -1
    folds = np.arange(3000) % 2
    record, before, after = nested_calibration(
        logits, labels, folds, np.tile(UNIFORM, (3000, 1)), np.tile(SKEWED, (3000, 1))
    )
    assert (record.n_cells, record.n_left_out) == (2995, 5)
    assert record.nll_before == pytest.approx(negative_log_likelihood(before[5:], labels[5:]))
    assert record.nll_after == pytest.approx(negative_log_likelihood(after[5:], labels[5:]))
    assert record.ece_after == pytest.approx(expected_calibration_error(*binary_event(after[5:], labels[5:])))
    assert record.ece_before is not None
    assert record.ece_after is not None
    assert record.ece_after < record.ece_before / 2


def test_folds_without_a_labeled_cell_have_no_figures() -> None:
    nothing = np.full(20, -1)
    record, *_ = nested_calibration(
        np.zeros((20, 3)), nothing, np.arange(20) % 2, np.tile(UNIFORM, (20, 1)), np.tile(SKEWED, (20, 1))
    )
    assert (record.temperature, record.n_cells, record.nll_before, record.ece_after) == (1.0, 0, None, None)
