"""Recalibration against a general optimizer, a sandwich written out, and probabilities whose distortion is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student

from marrowscope.statistics.recalibration import SMALLEST_PROBABILITY, recalibrate


def simulated(
    generator: np.random.Generator, *, slope: float = 1.0, shift: float = 0.0, n_patients: int = 40, spread: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw cells whose true logit is shift + slope * stated logit, plus what the patient adds."""
    cluster = np.repeat(np.arange(n_patients), generator.integers(10, 60, n_patients))
    stated = generator.normal(-1, 2, len(cluster))
    truth = expit(shift + slope * stated + generator.normal(0, spread, n_patients)[cluster])
    return generator.random(len(cluster)) < truth, expit(stated), cluster


def written_out(y: np.ndarray, design: np.ndarray, offset: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Give estimates, lower and upper limits (3, k) with an optimizer and loops over patients."""
    design = design.reshape(len(y), -1)

    def loss(beta: np.ndarray) -> float:
        linear = offset + design @ beta
        return float((np.logaddexp(0, linear) - y * linear).sum())

    beta = minimize(loss, np.zeros(design.shape[1]), method="BFGS", options={"gtol": 1e-9}).x
    fitted = expit(offset + design @ beta)
    bread = np.linalg.inv(sum(p * (1 - p) * np.outer(x, x) for p, x in zip(fitted, design, strict=True)))
    meat = np.zeros((design.shape[1], design.shape[1]))
    names = sorted(set(cluster.tolist()))
    for name in names:
        score = sum((y[i] - fitted[i]) * design[i] for i in np.flatnonzero(cluster == name))
        meat += np.outer(score, score)
    half = student.ppf(0.975, len(names) - 1) * np.sqrt(np.diag(bread @ meat @ bread) * len(names) / (len(names) - 1))
    return np.stack([beta, beta - half, beta + half])


@pytest.mark.parametrize("seed", range(3))
def test_estimates_and_limits_are_those_written_out(seed: int) -> None:
    y, p, cluster = simulated(np.random.default_rng(seed), slope=0.7, shift=0.4, n_patients=12)
    logit = np.log(p / (1 - p))
    found = recalibrate(y, p, cluster)
    both = written_out(y.astype(float), np.stack([np.ones(len(y)), logit], axis=1), np.zeros(len(y)), cluster)
    for interval, column in ((found.intercept, both[:, 0]), (found.slope, both[:, 1])):
        assert (interval.estimate, interval.lower, interval.upper) == pytest.approx(tuple(column), abs=2e-5)
    (alone,) = written_out(y.astype(float), np.ones(len(y)), logit, cluster).T
    large = found.in_the_large
    assert (large.estimate, large.lower, large.upper) == pytest.approx(tuple(alone), abs=2e-5)


def test_a_known_distortion_is_found() -> None:
    y, p, cluster = simulated(np.random.default_rng(5), slope=0.5, shift=0.8, n_patients=2000, spread=0.0)
    found = recalibrate(y, p, cluster)
    assert found.slope.estimate == pytest.approx(0.5, abs=0.02)
    assert found.intercept.estimate == pytest.approx(0.8, abs=0.04)
    assert found.slope.lower < 0.5 < found.slope.upper


def test_calibrated_probabilities_have_slope_one_and_intercepts_zero() -> None:
    y, p, cluster = simulated(np.random.default_rng(6), n_patients=2000, spread=0.0)
    found = recalibrate(y, p, cluster)
    assert found.slope.estimate == pytest.approx(1, abs=0.03)
    assert found.intercept.estimate == pytest.approx(0, abs=0.04)
    assert found.in_the_large.estimate == pytest.approx(0, abs=0.04)


def test_in_the_large_makes_the_mean_probability_the_share() -> None:
    y, p, cluster = simulated(np.random.default_rng(8), shift=-1.0)
    logit = np.log(p / (1 - p))
    moved = expit(logit + recalibrate(y, p, cluster).in_the_large.estimate)
    assert moved.mean() == pytest.approx(y.mean())


def test_limits_hold_where_cells_of_a_patient_are_alike() -> None:
    """In 200 simulated studies with patients that differ, about 95% of the intervals of the large contain the truth."""
    generator = np.random.default_rng(11)
    wide = simulated(generator, n_patients=4000, spread=1.0)
    truth = recalibrate(*wide).in_the_large.estimate
    held = 0
    for _ in range(200):
        found = recalibrate(*simulated(generator, spread=1.0)).in_the_large
        held += found.lower <= truth <= found.upper
    assert 0.90 <= held / 200 <= 0.99


def test_probabilities_of_0_and_1_are_moved_inside() -> None:
    y = np.array([True, False, True, False])
    one = recalibrate(y, np.array([1.0, 0.0, 0.0, 1.0]), np.arange(4))
    small = SMALLEST_PROBABILITY
    other = recalibrate(y, np.array([1 - small, small, small, 1 - small]), np.arange(4))
    assert one.slope.estimate == other.slope.estimate == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        ([], [], "no cells to measure"),
        ([True, True], [0.2, 0.4], "the cells are all of one kind"),
    ],
)
def test_one_kind_has_no_calibration(y: list[bool], p: list[float], reason: str) -> None:
    found = recalibrate(np.array(y, dtype=bool), np.array(p), np.arange(len(y)))
    assert found.undefined == found.undefined_in_the_large == reason
    assert all(math.isnan(item.estimate) for item in (found.slope, found.intercept, found.in_the_large))


@pytest.mark.parametrize(
    ("p", "reason"),
    [
        ([0.1, 0.2, 0.7, 0.9], "the probabilities separate the two kinds completely, and the slope is infinite"),
        ([0.9, 0.7, 0.2, 0.1], "the probabilities separate the two kinds completely, and the slope is infinite"),
        ([0.4, 0.4, 0.4, 0.4], "all probabilities are equal"),
    ],
)
def test_without_a_finite_slope_the_large_remains(p: list[float], reason: str) -> None:
    found = recalibrate(np.array([False, False, True, True]), np.array(p), np.arange(4))
    assert (found.undefined, found.undefined_in_the_large) == (reason, "")
    assert math.isnan(found.slope.estimate)
    assert math.isfinite(found.in_the_large.estimate)


def test_one_patient_has_values_and_no_limits() -> None:
    found = recalibrate(np.array([True, False, True, False]), np.array([0.8, 0.3, 0.4, 0.6]), np.zeros(4, dtype=int))
    assert math.isfinite(found.slope.estimate)
    assert math.isnan(found.slope.lower)


def test_extreme_probabilities_do_not_stop_the_fit() -> None:
    """A network sure of nearly everything and sometimes wrong: the slope is small and finite."""
    generator = np.random.default_rng(2)
    y = generator.random(4000) < 0.05
    p = np.where(y ^ (generator.random(4000) < 0.01), 1.0, 0.0)
    found = recalibrate(y, p, np.arange(4000) // 50)
    assert 0.1 < found.slope.estimate < 0.5
    assert found.slope.lower < found.slope.estimate < found.slope.upper
