"""Draws of a new patient's rates, against a known population and against sampling by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from marrowscope.patient.quantify.population import MOST_CELLS, draw_pair

RealArray = NDArray[np.float64]
Pair = tuple[RealArray, RealArray]


def patients(seed: int, n_patients: int, correlation: float, cells: int = 300) -> tuple[Pair, Pair]:
    """Draw patients around logits 1.7 and -3 with sds 0.5 and 0.7."""
    rng = np.random.default_rng(seed)
    z = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n_patients)
    theta = np.array([1.7, -3.0]) + np.array([0.5, 0.7]) * z
    n = rng.integers(cells // 2, cells, (2, n_patients))
    x = rng.binomial(n, expit(theta.T))
    return (x[0].astype(float), x[1].astype(float)), (n[0].astype(float), n[1].astype(float))


def drawn(x: Pair, n: Pair, n_draws: int = 2000, seed: int = 1) -> Pair:
    first, second = draw_pair(x, n, n_draws, np.random.default_rng(seed))
    return logit(first), logit(second)


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.9])
def test_many_patients_give_back_their_population(correlation: float) -> None:
    first, second = drawn(*patients(0, 500, correlation))
    assert (first.mean(), second.mean()) == pytest.approx((1.7, -3.0), abs=0.12)
    assert (first.std(), second.std()) == pytest.approx((0.5, 0.7), abs=0.08)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(correlation, abs=0.1)


def test_few_patients_are_wider_than_many_and_none_widest() -> None:
    many, few, none = (drawn(*patients(2, m, 0.0))[0].std() for m in (200, 4, 0))
    assert many < 0.8 * few < few < 0.6 * none


def test_patients_who_agree_are_known_as_well_as_their_cells_allow() -> None:
    x, n = (np.full(60, 240.0), np.full(60, 9.0)), (np.full(60, 300.0), np.full(60, 300.0))
    first, second = drawn(x, n)
    assert first.std() < 0.2
    assert second.mean() == pytest.approx(logit(0.03), abs=0.1)


def test_one_rate_is_what_brute_force_gives() -> None:
    """Eight patients: hyperparameters from the prior, weighed by the likelihood over 400 patients' thetas each."""
    x, n = patients(3, 8, 0.0, cells=60)
    nothing = np.zeros(8)
    ours = drawn((x[0], nothing), (n[0], nothing), n_draws=8000)[0]
    rng = np.random.default_rng(4)
    d = 6000
    mean, sd = logit(rng.beta(0.5, 0.5, d)), abs(rng.normal(0, 1, d))
    kept = abs(mean) < 11  # the grid's ends
    mean, sd = mean[kept], sd[kept]
    theta = mean[:, None] + sd[:, None] * rng.standard_normal((len(mean), 400))
    log_weight = np.zeros(len(mean))
    for successes, cells in zip(x[0], n[0], strict=True):
        one = successes * theta - cells * np.logaddexp(0, theta)
        highest = one.max(axis=1)
        log_weight += highest + np.log(np.exp(one - highest[:, None]).mean(axis=1))
    weight = np.exp(log_weight - log_weight.max())
    pick = rng.choice(len(mean), 8000, p=weight / weight.sum())
    brute = mean[pick] + sd[pick] * rng.standard_normal(8000)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(ours, share) == pytest.approx(np.quantile(brute, share), abs=0.12)


def test_a_patient_without_a_cell_adds_nothing() -> None:
    x, n = patients(5, 20, 0.5)
    more = tuple(np.append(one, 0.0) for one in x), tuple(np.append(one, 0.0) for one in n)
    assert np.allclose(drawn(x, n), drawn(*more))  # type: ignore[arg-type]


def test_the_order_of_patients_does_not_matter_and_a_seed_repeats() -> None:
    x, n = patients(6, 20, 0.5)
    turned = drawn((x[0][::-1], x[1][::-1]), (n[0][::-1], n[1][::-1]))
    assert np.allclose(drawn(x, n), turned)
    assert np.array_equal(drawn(x, n), drawn(x, n))
    assert not np.array_equal(drawn(x, n), drawn(x, n, seed=2))


def test_the_sides_mirror_each_other() -> None:
    """Cells that are not called instead of those that are: the same draws, mirrored in distribution."""
    x, n = patients(7, 30, 0.6)
    first, _ = drawn(x, n, n_draws=8000)
    mirrored, _ = drawn((n[0] - x[0], n[1] - x[1]), n, n_draws=8000)
    assert np.quantile(first, [0.1, 0.5, 0.9]) == pytest.approx(-np.quantile(mirrored, [0.9, 0.5, 0.1]), abs=0.05)


def test_a_million_cells_of_one_patient_are_no_more_than_the_most() -> None:
    x, n = patients(8, 10, 0.0)
    huge = (np.append(x[0], 800_000.0), np.append(x[1], 50_000.0)), (np.append(n[0], 1e6), np.append(n[1], 1e6))
    large = (
        (np.append(x[0], 0.8 * MOST_CELLS), np.append(x[1], 0.05 * MOST_CELLS)),
        (np.append(n[0], MOST_CELLS), np.append(n[1], MOST_CELLS)),
    )
    assert np.allclose(drawn(*huge), drawn(*large))
