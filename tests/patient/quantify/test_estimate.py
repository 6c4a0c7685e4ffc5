"""The corrected ratio of one patient, and that its interval covers."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.patient.quantify.estimate import PatientCounts, estimate_ratio, prepare_rates
from marrowscope.patient.quantify.rates import draw_rates, fit_error_rates
from tests.patient.quantify.patients import M1, N5, R2, VOCABULARY, N, make_counts, make_rates


def test_many_cells_give_the_closed_form_when_patients_agree() -> None:
    """The prior and the doubt about the rates fade: what is left is the adjusted count."""
    rates = make_rates({N: 0.9, N5: 0.05}, n_patients=200, cells=2000)
    found = estimate_ratio(make_counts({N: 1500, N5: 3500}), rates)
    assert found.ratio == pytest.approx((0.3 - 0.05) / (0.9 - 0.05), abs=0.01)
    assert found.lower < found.ratio < found.upper
    assert found.note is None


def test_detection_enters_the_ratio() -> None:
    same = estimate_ratio(make_counts({N: 60, N5: 140}), make_rates({N: 0.9, N5: 0.05})).ratio
    missed = make_rates({N: 0.9, N5: 0.05}, found=(0.8, 1.0))
    assert estimate_ratio(make_counts({N: 60, N5: 140}), missed).ratio > same + 0.03


def test_cells_that_should_not_be_counted_are_taken_out() -> None:
    clean = make_rates({N: 0.9, N5: 0.05})
    calls = [0] * len(clean.kinds)
    calls[N], calls[N5] = 1600, 2400  # 40% of them are called CBLC
    soiled = clean.model_copy(
        update={"wrongly_counted": (100,) * 40, "wrong_calls": tuple(calls), "wrongly_called": (40,) * 40}
    )
    counts = make_counts({N: 30, N5: 170})
    assert estimate_ratio(counts, soiled).ratio < estimate_ratio(counts, clean).ratio - 0.02


def test_older_rates_without_calls_by_patient_give_nearly_the_same() -> None:
    rates = make_rates({N: 0.9, N5: 0.05}, spread=0.02)
    calls = [0] * len(rates.kinds)
    calls[N], calls[N5] = 160, 240
    new = rates.model_copy(
        update={"wrongly_counted": (10,) * 40, "wrong_calls": tuple(calls), "wrongly_called": (4,) * 40}
    )
    old = new.model_copy(update={"wrongly_called": None})
    counts = make_counts({N: 60, N5: 140})
    assert estimate_ratio(counts, old).ratio == pytest.approx(estimate_ratio(counts, new).ratio, abs=0.01)


def test_rates_of_both_sides_are_those_of_the_cells() -> None:
    rates = make_rates({N: 0.9, M1: 0.5, N5: 0.05}, found=(0.8, 0.9))
    assert rates.call_rate(cblc=True) == pytest.approx(0.7, abs=1e-3)
    assert rates.call_rate(cblc=False) == pytest.approx(0.05, abs=1e-3)
    assert (rates.recall(cblc=True), rates.recall(cblc=False)) == pytest.approx((0.8, 0.9))
    assert np.isnan(make_rates({N5: 0.05}).call_rate(cblc=True))
    assert rates.ratios.tolist() == pytest.approx([2 / 3] * 40)


def test_drawn_rates_are_those_of_new_patients() -> None:
    drawn = draw_rates(make_rates({N: 0.85, N5: 0.05}, spread=0.03, found=(0.8, 0.95)), 4000, seed=1)
    assert drawn.called_cblc.mean() == pytest.approx(0.85, abs=0.02)
    assert drawn.called_cblc.std() == pytest.approx(np.sqrt(0.85 * 0.15 * 0.03), rel=0.25)
    assert np.median(drawn.called_other) == pytest.approx(0.045, abs=0.015)
    assert np.median(drawn.found_cblc) == pytest.approx(0.8, abs=0.01)
    assert np.median(drawn.spurious) < 1e-3


def test_no_called_cell_gives_zero_with_an_upper_limit() -> None:
    found = estimate_ratio(make_counts({N5: 200}), make_rates({N: 0.9, N5: 0.001}, spread=0.02))
    assert (found.ratio, found.lower, found.note) == (0.0, 0.0, "none_called")
    assert 0 < found.upper < 0.1


def test_share_below_the_false_positive_rate_is_said_and_0_is_not_excluded() -> None:
    found = estimate_ratio(make_counts({N: 6, N5: 194}), make_rates({N: 0.9, N5: 0.08}, spread=0.02))
    assert (found.lower, found.note) == (0.0, "within_false_positive_rate")
    assert 0 < found.ratio < 0.05


def test_rates_too_close_give_no_ratio() -> None:
    found = estimate_ratio(make_counts({N: 60, N5: 140}), make_rates({N: 0.4, N5: 0.2}))
    assert np.isnan([found.ratio, found.lower, found.upper]).all()
    assert (found.note, found.posterior) == ("rates_too_close", None)
    assert np.isnan(found.confidence_above(0.2))


def test_rates_without_a_cblc_give_no_ratio() -> None:
    assert estimate_ratio(make_counts({N5: 100}), make_rates({N5: 0.05})).note == "rates_too_close"


def test_patient_without_a_countable_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="no countable cell"):
        estimate_ratio(PatientCounts(np.zeros(0), np.zeros(0)), make_rates({N: 0.9, N5: 0.05}))


def test_equal_counts_give_equal_figures_every_time() -> None:
    rates = make_rates({N: 0.9, N5: 0.05}, spread=0.03)
    counts = make_counts({N: 60, N5: 140})
    first = estimate_ratio(counts, rates)
    prepare_rates.cache_clear()
    second = estimate_ratio(counts, rates)
    assert (first.ratio, first.lower, first.upper) == (second.ratio, second.lower, second.upper)
    assert first.confidence_above(0.3) == second.confidence_above(0.3)


def test_confidence_and_interval_are_of_one_posterior() -> None:
    found = estimate_ratio(make_counts({N: 60, N5: 140}), make_rates({N: 0.9, N5: 0.05}, spread=0.03))
    assert found.confidence_above(found.ratio) == pytest.approx(0.5, abs=1e-6)
    assert found.confidence_above(found.lower) - found.confidence_above(found.upper) == pytest.approx(0.95, abs=1e-6)


def test_clustered_fields_and_far_patients_each_widen_the_interval() -> None:
    def width(x: list[float], *, spread: float) -> float:
        fields, widths = np.array(x), []
        for seed in range(4):
            counts = PatientCounts(fields, np.full(len(x), 20.0))
            rates = make_rates({N: 0.9, N5: 0.05}, spread=spread, seed=seed)
            found = estimate_ratio(counts, rates)
            widths.append(found.upper - found.lower)
        return float(np.mean(widths))

    even = [6.0] * 10
    usual = width(even, spread=0.02)
    assert width([0.0, 12.0] * 5, spread=0.02) > 1.15 * usual
    assert width(even, spread=0.10) > 1.15 * usual


def test_interval_covers_new_patients() -> None:
    """A coverage far from 0.95 fails; the proof with its Monte-Carlo error is a benchmark."""
    rng = np.random.default_rng(8)
    spread, held = 0.03, []
    cohorts = [make_rates({N: 0.85, N5: 0.05, R2: 0.05}, spread=spread, seed=seed) for seed in range(6)]
    for index in range(360):
        ratio = rng.uniform(0.05, 0.6)
        tpr, fpr = (rng.beta(mean * (1 / spread - 1), (1 - mean) * (1 / spread - 1)) for mean in (0.85, 0.05))
        shares = rng.beta(ratio * 24, (1 - ratio) * 24, 12)  # intra-class correlation 0.04
        blasts = rng.binomial(25, shares)
        x = (rng.binomial(blasts, tpr) + rng.binomial(25 - blasts, fpr)).astype(float)
        found = estimate_ratio(PatientCounts(x, np.full(12, 25.0)), cohorts[index % len(cohorts)])
        held.append(found.lower <= ratio <= found.upper)
    assert 0.90 <= np.mean(held) <= 0.99


def test_error_rates_are_counted_from_cells() -> None:
    import polars as pl

    rows = [
        ("P1", "P1/a", "N", True, "N", True),
        ("P1", "P1/a", "N", True, "N5", False),
        ("P1", "P1/b", "N", False, None, None),
        ("P2", "P2/a", "N5", True, "N5", False),
        ("P2", "P2/a", "V", True, "N", True),  # not countable, and counted all the same
    ]
    columns = ["patient_id", "field_id", "code", "counted", "called_category", "called_cblc"]
    found = fit_error_rates(pl.DataFrame(rows, schema=columns, orient="row"), VOCABULARY, 0.05)
    assert [row[N] for row in found.annotated] == [3, 0]
    assert [row[N] for row in found.counted] == [2, 0]
    assert [row[N] for row in found.called] == [1, 0]
    assert [row[N5] for row in found.counted] == [0, 1]
    assert found.wrongly_counted == (0, 1)
    assert found.wrongly_called == (0, 1)
    assert found.wrong_calls[N] == sum(found.wrong_calls) == 1
    assert [row[1:] for row in found.by_kind()] == [(3, 2, 1), (1, 1, 0)]
    with pytest.raises(ValueError, match="none of them counted"):
        fit_error_rates(pl.DataFrame(rows[2:3], schema=columns, orient="row"), VOCABULARY, 0.05)
