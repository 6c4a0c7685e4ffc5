"""Design effects against simulation and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from marrowscope.statistics.clusters import (
    ASSUMED_CORRELATION,
    PRIOR_FIELDS,
    design_effect,
    field_design_effect,
    pooled_correlation,
    share_interval,
)


def clustered(rng: np.random.Generator, share: float, correlation: float, fields: int, cells: int) -> np.ndarray:
    concentration = (1 - correlation) / correlation
    return rng.binomial(cells, rng.beta(share * concentration, (1 - share) * concentration, size=fields)).astype(float)


def test_design_effect_of_many_fields_is_one_plus_cells_times_correlation() -> None:
    rng = np.random.default_rng(1)
    x = clustered(rng, 0.3, 0.05, 20_000, 21)
    assert field_design_effect(x, np.full(20_000, 21.0)) == pytest.approx(1 + 20 * 0.05, rel=0.05)


def test_design_effect_of_equal_fields_is_the_variance_over_the_binomial_one() -> None:
    x, n = np.array([1.0, 3.0, 5.0, 3.0]), np.full(4, 10.0)
    share = 12 / 40
    expected = (x / 10).var(ddof=1) / 4 / (share * (1 - share) / 40)
    assert float(field_design_effect(x, n)) == pytest.approx(expected)


def test_fields_without_a_cell_are_no_fields() -> None:
    x, n = np.array([2.0, 4.0, 0.0]), np.array([10.0, 10.0, 0.0])
    assert float(field_design_effect(x, n)) == pytest.approx(float(field_design_effect(x[:2], n[:2])))
    assert float(design_effect(x, n, 0.04)) == pytest.approx(float(design_effect(x[:2], n[:2], 0.04)))


@pytest.mark.parametrize("x", [[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
def test_share_of_nothing_or_everything_takes_the_pooled_effect(x: list[float]) -> None:
    n = np.full(3, 9.0)
    assert np.isnan(field_design_effect(np.array(x), n))
    assert float(design_effect(np.array(x), n, 0.1)) == pytest.approx(1 + 8 * 0.1)


def test_own_fields_and_pooled_correlation_are_averaged_as_stated() -> None:
    x, n = np.array([1.0, 8.0, 5.0, 3.0]), np.full(4, 10.0)
    own = float(field_design_effect(x, n))
    expected = (PRIOR_FIELDS * (1 + 9 * 0.04) + 3 * own) / (PRIOR_FIELDS + 3)
    assert float(design_effect(x, n, 0.04)) == pytest.approx(expected)


def test_design_effect_is_never_below_one_and_works_for_many_patients() -> None:
    x = np.array([[3.0, 3.0, 3.0, 3.0], [0.0, 10.0, 0.0, 10.0]])
    effect = design_effect(x, np.full((2, 4), 10.0), 0.0)
    assert effect[0] == 1.0
    assert effect[1] > 2


@pytest.mark.parametrize("correlation", [0.0, 0.04, 0.2])
def test_pooled_correlation_is_found_again(correlation: float) -> None:
    rng = np.random.default_rng(3)
    x, n = [], []
    for share in rng.uniform(0.05, 0.9, size=600):
        cells = np.full(12, 20.0)
        x.append(
            clustered(rng, share, correlation, 12, 20) if correlation else rng.binomial(20, share, 12).astype(float)
        )
        n.append(cells)
    assert pooled_correlation(x, n) == pytest.approx(correlation, abs=0.01)


def test_correlation_without_a_patient_of_two_fields_is_the_assumed_one() -> None:
    assert pooled_correlation([np.array([3.0])], [np.array([10.0])]) == ASSUMED_CORRELATION
    assert pooled_correlation([np.array([0.0, 0.0])], [np.array([10.0, 10.0])]) == ASSUMED_CORRELATION


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.integers(1, 500), st.floats(1, 10))
def test_interval_is_jeffreys_of_the_effective_number(x: int, others: int, effect: float) -> None:
    n = x + others
    found = share_interval(x, n, effect)
    share = x / n
    expected = beta(share * n / effect + 0.5, (1 - share) * n / effect + 0.5).ppf([0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx(tuple(expected))


def test_interval_reaches_its_ends_and_knows_nothing_without_cells() -> None:
    assert share_interval(0, 40).lower == 0.0
    assert share_interval(40, 40).upper == 1.0
    nothing = share_interval(0, 0)
    assert (np.isnan(nothing.estimate), nothing.lower, nothing.upper) == (True, 0.0, 1.0)
