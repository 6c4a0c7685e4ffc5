"""The posterior of the ratio: hand-worked cases, invariances, and the same integral by other means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from marrowscope.patient.quantify.posterior import (
    CENTERS,
    EDGES,
    Curve,
    NewPatient,
    Posterior,
    called_share,
    posterior,
    prior_of_ratios,
    within_false_positives,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVEN = prior_of_ratios(np.empty(0))


PERFECT = {"a": 1.0, "b": 1.0, "s": 1.0, "f": 0.0, "r": 0.0, "g": 0.0}


def rates(**known: float) -> NewPatient:
    """Give rates without any doubt, as a single draw; those not named are perfect."""
    return NewPatient(*(np.array([value]) for value in (PERFECT | known).values()))


def of(y: float, n: float, prior: NDArray[np.float64] = EVEN, **known: float) -> Posterior:
    return posterior(y, n, prior, Curve.of(rates(**known)))


@pytest.mark.parametrize(("y", "n"), [(0, 10), (3, 10), (30, 200), (200, 200), (7.5, 61.3)])
def test_perfect_calls_give_the_beta_posterior(y: float, n: float) -> None:
    found, exact = of(y, n), stats.beta(y + 1, n - y + 1)
    assert found.median == pytest.approx(exact.median(), abs=1e-3)
    assert found.above(0.2) == pytest.approx(exact.sf(0.2), abs=2e-3)
    assert np.abs(found.cumulative - exact.cdf(EDGES)).max() < 3e-3


def test_the_interval_is_the_shortest_one() -> None:
    lower, upper = of(20, 100).highest_density()
    exact = stats.beta(21, 81)
    starts = np.linspace(0, 0.05, 2001)
    widths = exact.ppf(starts + 0.95) - exact.ppf(starts)
    assert upper - lower == pytest.approx(widths.min(), abs=1e-3)
    assert exact.cdf(upper) - exact.cdf(lower) == pytest.approx(0.95, abs=2e-3)
    assert exact.pdf(lower) == pytest.approx(exact.pdf(upper), rel=0.15)  # equal heights, within a cell of the grid


def test_the_interval_reaches_0_where_nothing_is_called_and_1_where_all_is() -> None:
    assert of(0, 100).highest_density() == pytest.approx((0.0, 1 - 0.05 ** (1 / 101)), abs=1e-3)
    lower, upper = of(100, 100).highest_density()
    assert (lower, upper) == pytest.approx((0.05 ** (1 / 101), 1.0), abs=1e-3)


@settings(deadline=None)
@given(st.tuples(*[st.floats(0.05, 1)] * 3, st.floats(0, 0.4), st.floats(0, 0.2), st.floats(0, 1), st.floats(0, 1)))
def test_called_share_counts_what_is_called_over_what_is_counted(drawn: tuple[float, ...]) -> None:
    """Of 10,000 countable cells and the spurious ones beside them."""
    a, b, s, f, r, g, ratio = drawn
    cblc, other, spurious = 10_000 * ratio * a, 10_000 * (1 - ratio) * b, 10_000 * r
    expected = (cblc * s + other * f + spurious * g) / (cblc + other + spurious)
    assert called_share(ratio, rates(a=a, b=b, s=s, f=f, r=r, g=g))[0, 0] == pytest.approx(expected, abs=1e-12)


def test_known_errors_are_undone() -> None:
    """30% of 20,000 cells are called where 85% of the CBLC and 5% of the others are, and CBLC are found less often."""
    known = {"a": 0.8, "b": 0.95, "s": 0.85, "f": 0.05, "r": 0.02, "g": 0.4}
    ratio = of(6000, 20_000, EVEN, **known).median
    assert float(called_share(ratio, rates(**known))[0, 0]) == pytest.approx(0.3, abs=1e-3)


def test_a_mixture_of_rates_is_integrated_as_by_quadrature() -> None:
    """Three draws of rates and a prior with a peak, against scipy's quadrature of the formula as it is written."""
    draws = NewPatient(*(np.array(v) for v in ([0.9, 0.8, 1.0], [0.95, 0.9, 1.0], [0.9, 0.7, 0.8], [0.02, 0.1, 0.05],
                                               [0.01, 0.0, 0.05], [0.3, 0.5, 0.2])))  # fmt: skip
    others, y, n = np.array([0.1, 0.2, 0.25, 0.6]), 40 / 1.7, 160 / 1.7
    spread = min(float(others.std()), float(np.subtract(*np.quantile(others, [0.75, 0.25]))) / 1.34)
    bandwidth = max(0.9 * spread * 4**-0.2, 0.1)

    def density(pi: float) -> float:
        kernel = sum(stats.norm.pdf(pi, at, bandwidth) for x in others for at in (x, -x, 2 - x)) / len(others)
        q = called_share(pi, draws)[0]
        return float((0.3 + 0.7 * kernel) * np.mean(q**y * (1 - q) ** (n - y)))

    whole = integrate.quad(density, 0, 1, points=[0.1, 0.2, 0.25, 0.6], limit=200)[0]
    found = posterior(y, n, prior_of_ratios(others), Curve.of(draws))
    for limit in (0.05, 0.2, 0.3, 0.5):
        exact = integrate.quad(density, limit, 1, points=[0.6], limit=200)[0] / whole
        assert found.above(limit) == pytest.approx(exact, abs=4e-3)


def test_importance_sampling_gives_the_same_median_and_interval() -> None:
    rng = np.random.default_rng(0)
    d = 3000
    draws = NewPatient(rng.beta(90, 10, d), rng.beta(95, 5, d), rng.beta(40, 10, d), rng.beta(3, 60, d),
                       rng.beta(2, 100, d), rng.beta(2, 3, d))  # fmt: skip
    found = posterior(60, 300, EVEN, Curve.of(draws))
    pi, pick = rng.uniform(size=400_000), rng.integers(0, d, 400_000)
    own = NewPatient(*(getattr(draws, name)[pick] for name in NewPatient.__dataclass_fields__))
    top = pi * own.found_cblc * own.called_cblc + (1 - pi) * own.found_other * own.called_other
    q = (top + own.spurious * own.called_spurious) / (pi * own.found_cblc + (1 - pi) * own.found_other + own.spurious)
    weight = np.exp(stats.binom.logpmf(60, 300, q))
    order = np.argsort(pi)
    cumulative = np.cumsum(weight[order]) / weight.sum()
    low, middle, high = np.interp([0.025, 0.5, 0.975], cumulative, pi[order])
    assert found.median == pytest.approx(middle, abs=3e-3)
    assert np.interp([low, high], EDGES, found.cumulative) == pytest.approx([0.025, 0.975], abs=4e-3)


def test_fewer_effective_cells_widen_and_doubt_about_rates_widens() -> None:
    def width(found: Posterior) -> float:
        lower, upper = found.highest_density()
        return upper - lower

    assert width(of(20, 100)) > 1.3 * width(of(40, 200))
    doubt = NewPatient(*(np.array([value, other]) for value, other in ((1, 1), (1, 1), (0.9, 0.6), (0.0, 0.1),
                                                                       (0, 0), (0, 0))))  # fmt: skip
    assert width(posterior(40, 200, EVEN, Curve.of(doubt))) > 1.2 * width(of(40, 200, s=0.75, f=0.05))


def test_calls_and_their_complement_mirror_each_other() -> None:
    """If CBLC and other cells change roles, the ratio becomes one minus the ratio."""
    one = of(30, 120, a=0.8, b=0.9, s=0.85, f=0.1)
    other = of(90, 120, a=0.9, b=0.8, s=0.9, f=0.15)
    assert one.median == pytest.approx(1 - other.median, abs=1e-9)
    assert one.highest_density() == pytest.approx(tuple(1 - x for x in other.highest_density()[::-1]), abs=5e-3)


def test_the_prior_is_an_even_part_and_a_kernel_around_the_others() -> None:
    prior = prior_of_ratios(np.array([0.1] * 10 + [0.8] * 10))
    assert prior.sum() == pytest.approx(1)
    density = prior / np.diff(EDGES)
    assert density.min() >= 0.3 - 1e-9
    assert density[np.argmin(abs(CENTERS - 0.1))] > 2 * density[np.argmin(abs(CENTERS - 0.45))]
    at_zero = prior_of_ratios(np.zeros(12))
    assert at_zero[EDGES[1:] <= 0.3].sum() > 0.75  # nothing of the kernel is lost below 0
    assert np.allclose(EVEN, np.diff(EDGES))


def test_a_prior_moves_a_small_sample_and_not_a_large_one() -> None:
    prior = prior_of_ratios(np.linspace(0.0, 0.1, 20))
    assert of(3, 10, prior).median < of(3, 10).median - 0.03
    assert of(900, 3000, prior).median == pytest.approx(of(900, 3000).median, abs=0.01)


def test_no_probability_is_below_0_or_above_1() -> None:
    """Rounding alone made one of -7e-16, which the tables refuse: a whole prediction ended with it."""
    for n in range(60, 160):
        found = of(n / 50, float(n), prior_of_ratios(np.array([0.02, 0.1, 0.3])))
        assert found.cumulative[-1] == 1
        assert all(0 <= found.above(limit) <= 1 for limit in (0.3, 0.9, 1.0))


def test_0_is_excluded_where_fewer_than_1_in_40_without_cblc_have_as_many_calls() -> None:
    curve = Curve.of(rates(s=0.9, f=0.05))
    tails = {y: stats.binom.sf(y - 1, 100, 0.05) for y in (0, 5, 10, 11)}
    assert tails[10] > 0.025 > tails[11]
    assert [within_false_positives(y, 100, curve) for y in tails] == [True, True, True, False]
    apart = Curve.of(NewPatient(*(np.array(v) for v in ([1, 1], [1, 1], [0.9, 0.9], [0.01, 0.2], [0, 0], [0, 0]))))
    assert within_false_positives(25, 100, apart)  # usual for one of the two


def test_what_contradicts_certain_rates_leaves_the_prior() -> None:
    """No call can be wrong here, and half of the cells are called although none is CBLC or other."""
    found = of(5, 10, s=1, f=1)
    assert found.median == pytest.approx(0.5, abs=0.01)
    assert found.above(0.9) == pytest.approx(0.1, abs=0.01)


def test_a_grid_of_patients_takes_little_time() -> None:
    import time

    rng = np.random.default_rng(1)
    curve = Curve.of(NewPatient(*(rng.beta(20, 4, 4000) for _ in range(6))))
    started = time.process_time()
    for y in range(200):
        posterior(y, 300, EVEN, curve).highest_density()
    assert time.process_time() - started < 2  # 1,000 patients within seconds
