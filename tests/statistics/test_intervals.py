from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from marrowscope.statistics.intervals import (
    bootstrap_columns,
    bootstrap_difference,
    bootstrap_over_groups,
    bootstrap_sums,
    wilson_interval,
)

Statistic = Callable[[NDArray[np.int64]], float]


@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(x: int, n: int, confidence: float) -> None:
    x = min(x, n)
    oracle = binomtest(x, n).proportion_ci(confidence, method="wilson")
    interval = wilson_interval(x, n, confidence)
    assert interval.estimate == x / n
    assert interval.lower == pytest.approx(oracle.low, abs=1e-12)
    assert interval.upper == pytest.approx(oracle.high, abs=1e-12)
    assert 0 <= interval.lower <= interval.estimate <= interval.upper <= 1


def test_wilson_without_observations_knows_nothing() -> None:
    interval = wilson_interval(0, 0)
    assert math.isnan(interval.estimate)
    assert (interval.lower, interval.upper) == (0.0, 1.0)


@pytest.mark.parametrize(("x", "n"), [(-1, 4), (5, 4)])
def test_wilson_refuses_an_impossible_count(x: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"x={x} among n={n}, expected 0 <= x <= n"):
        wilson_interval(x, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        wilson_interval(1, 2, confidence)


def _mean_of(values: NDArray[np.float64]) -> Statistic:
    return lambda rows: float(values[rows].mean())


def test_bootstrap_matches_the_normal_interval_of_a_mean_of_groups() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(3.0, 2.0, size=200)
    groups = [f"p{i}" for i in range(200)]
    interval = bootstrap_over_groups(groups, _mean_of(values), n_resamples=4000, seed=3)
    half = 1.96 * values.std() / math.sqrt(200)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.lower == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.upper == pytest.approx(values.mean() + half, abs=0.03)


def test_alike_cells_of_a_patient_do_not_narrow_the_interval() -> None:
    per_patient = np.random.default_rng(0).normal(size=12)
    once = bootstrap_over_groups([f"p{i}" for i in range(12)], _mean_of(per_patient))
    many = bootstrap_over_groups([f"p{i}" for i in range(12) for _ in range(50)], _mean_of(np.repeat(per_patient, 50)))
    assert many.lower == pytest.approx(once.lower)
    assert many.upper == pytest.approx(once.upper)


def test_bootstrap_is_seeded_and_does_not_depend_on_the_order_of_rows() -> None:
    values = np.random.default_rng(2).normal(size=60)
    groups = [f"p{i % 17}" for i in range(60)]
    first = bootstrap_over_groups(groups, _mean_of(values), seed=7)
    assert bootstrap_over_groups(groups, _mean_of(values), seed=7) == first
    assert bootstrap_over_groups(groups, _mean_of(values), seed=8) != first
    backwards = bootstrap_over_groups(groups[::-1], _mean_of(values[::-1]), seed=7)
    assert backwards.lower == pytest.approx(first.lower)
    assert backwards.upper == pytest.approx(first.upper)


def test_sums_of_groups_give_the_same_interval_as_their_rows() -> None:
    found = np.random.default_rng(0).random(90) < 0.7
    groups = [f"p{i % 9}" for i in range(90)]
    rows = bootstrap_over_groups(groups, lambda drawn: float(found[drawn].mean()), seed=3, n_resamples=500)
    sums = np.array([[found[k::9].sum(), 10] for k in range(9)], dtype=np.float64)
    totals = bootstrap_sums(sums, lambda total: float(total[0] / total[1]), seed=3, n_resamples=500)
    assert (totals.estimate, totals.lower, totals.upper) == pytest.approx((rows.estimate, rows.lower, rows.upper))


def _two_shares(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([totals[:, 0] / totals[:, 1], totals[:, 1] - totals[:, 0]], axis=1)


@pytest.mark.parametrize("block", [1, 7, 5000])
def test_columns_at_once_give_the_intervals_of_one_statistic_after_the_other(block: int) -> None:
    generator = np.random.default_rng(0)
    sums = np.stack([generator.integers(0, 9, 12), np.full(12, 10)], axis=1).astype(np.float64)
    first, second = bootstrap_columns(sums, _two_shares, n_resamples=100, seed=4, block=block)
    assert first == bootstrap_sums(sums, lambda total: float(total[0] / total[1]), n_resamples=100, seed=4)
    assert second == bootstrap_sums(sums, lambda total: float(total[1] - total[0]), n_resamples=100, seed=4)


def test_identity_as_sums_says_how_often_each_group_is_drawn() -> None:
    values = np.random.default_rng(0).normal(size=9)
    (weighed,) = bootstrap_columns(np.eye(9), lambda times: (times @ values / 9)[:, None], n_resamples=200, seed=2)
    rows = bootstrap_over_groups([f"p{k}" for k in range(9)], _mean_of(values), n_resamples=200, seed=2)
    assert (weighed.estimate, weighed.lower, weighed.upper) == pytest.approx((rows.estimate, rows.lower, rows.upper))


@pytest.mark.parametrize("n_groups", [0, 1])
def test_columns_of_fewer_than_two_groups_have_no_limits(n_groups: int) -> None:
    (interval,) = bootstrap_columns(np.ones((n_groups, 1)), lambda totals: totals)
    assert interval.estimate == n_groups
    assert math.isnan(interval.lower)


@pytest.mark.parametrize("n_groups", [0, 1])
def test_sums_of_fewer_than_two_groups_have_no_limits(n_groups: int) -> None:
    interval = bootstrap_sums(np.ones((n_groups, 2)), lambda total: float(total[0] / total[1]))
    assert math.isnan(interval.lower)
    assert math.isnan(interval.estimate) == (n_groups == 0)


def test_one_group_has_an_estimate_and_no_limits() -> None:
    interval = bootstrap_over_groups(["p", "p"], _mean_of(np.array([1.0, 3.0])))
    assert interval.estimate == 2.0
    assert math.isnan(interval.lower)
    assert math.isnan(interval.upper)


def test_no_rows_have_no_estimate() -> None:
    interval = bootstrap_over_groups([], lambda _: pytest.fail("called without rows"))
    assert math.isnan(interval.estimate)


def test_rarely_defined_statistic_has_no_limits_and_a_mostly_defined_one_has() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    groups = list("abcd")

    def needs(n_distinct: int) -> Statistic:
        return lambda rows: float(values[rows].mean()) if len(set(rows)) >= n_distinct else math.nan

    assert math.isnan(bootstrap_over_groups(groups, needs(4)).lower)  # a resample has all four with p = 0.09
    assert math.isfinite(bootstrap_over_groups(groups, needs(2)).lower)  # p = 0.98


def test_paired_difference_is_narrower_than_the_two_sides_apart() -> None:
    generator = np.random.default_rng(5)
    shared = generator.normal(0, 5, size=40)
    groups = [f"p{i:02d}" for i in range(40)]
    better, worse = shared + 1 + generator.normal(0, 0.1, 40), shared
    interval = bootstrap_difference(groups, _mean_of(better), groups, _mean_of(worse))
    assert interval.lower == pytest.approx(1, abs=0.1)
    assert interval.upper == pytest.approx(1, abs=0.1)
    assert interval.lower < interval.estimate < interval.upper


def test_paired_difference_takes_different_rows_of_the_same_patients() -> None:
    interval = bootstrap_difference(
        ["a", "a", "b"], _mean_of(np.array([2.0, 2.0, 2.0])), ["b", "a"], _mean_of(np.array([1.0, 1.0]))
    )
    assert (interval.estimate, interval.lower, interval.upper) == (1.0, 1.0, 1.0)


def test_paired_difference_refuses_different_patients() -> None:
    with pytest.raises(ValueError, match="on one side only: c"):
        bootstrap_difference(["a", "b"], len, ["a", "b", "c"], len)
