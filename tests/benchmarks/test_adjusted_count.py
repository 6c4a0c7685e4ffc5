"""The spread of patients, on patients drawn with a known one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.adjusted_count import (
    MAX_CORRELATION,
    UNKNOWN_CORRELATION,
    draw_beta,
    draw_spread,
    spread_of_patients,
)


def patients(rng: np.random.Generator, n_patients: int, mean: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    n = rng.integers(5, 400, n_patients).astype(float)
    own = (
        rng.beta(mean * (1 / spread - 1), (1 - mean) * (1 / spread - 1), n_patients)
        if spread
        else np.full(n_patients, mean)
    )
    return rng.binomial(n.astype(int), own).astype(float), n


@pytest.mark.parametrize(("mean", "spread"), [(0.85, 0.0), (0.85, 0.03), (0.05, 0.1)])
def test_spread_is_found_again(mean: float, spread: float) -> None:
    x, n = patients(np.random.default_rng(0), 4000, mean, spread)
    assert float(spread_of_patients(x, n, mean * n)) == pytest.approx(spread, abs=0.006)


def test_few_patients_leave_the_spread_uncertain_and_many_do_not() -> None:
    widths = []
    for n_patients in (8, 800):
        x, n = patients(np.random.default_rng(1), n_patients, 0.8, 0.05)
        drawn = draw_spread(x, n, 0.8 * n, 2000, np.random.default_rng(2))
        widths.append(np.quantile(drawn, 0.9) / max(np.quantile(drawn, 0.1), 1e-6))
    assert widths[0] > 2 * widths[1]


def test_patients_without_a_cell_add_nothing_and_one_patient_tells_nothing() -> None:
    x, n = patients(np.random.default_rng(4), 30, 0.7, 0.05)
    more = spread_of_patients(np.append(x, 0.0), np.append(n, 0.0), np.append(0.7 * n, 0.0))
    assert float(more) == pytest.approx(float(spread_of_patients(x, n, 0.7 * n)))
    alone = draw_spread(x[:1], n[:1], 0.7 * n[:1], 5, np.random.default_rng(0))
    assert (alone == UNKNOWN_CORRELATION).all()
    nobody = draw_spread(np.zeros(3), np.zeros(3), np.zeros(3), 5, np.random.default_rng(0))
    assert (nobody == UNKNOWN_CORRELATION).all()


def test_spread_stays_within_its_limits() -> None:
    x, n = np.array([0.0, 100.0] * 10), np.full(20, 100.0)
    assert float(spread_of_patients(x, n, 0.5 * n)) == MAX_CORRELATION
    assert float(spread_of_patients(np.full(20, 50.0), n, 0.5 * n)) == 0.0


def test_drawn_rates_have_the_mean_and_spread_asked_for() -> None:
    drawn = draw_beta(np.full(200_000, 0.8), np.full(200_000, 0.05), np.random.default_rng(5))
    assert drawn.mean() == pytest.approx(0.8, abs=0.002)
    assert drawn.var() == pytest.approx(0.8 * 0.2 * 0.05, rel=0.03)
    assert draw_beta(np.array([0.8]), np.array([0.0]), np.random.default_rng(5))[0] == 0.8
