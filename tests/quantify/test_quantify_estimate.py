"""The corrected ratio of one patient, and that its interval covers."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.clusters import design_effect
from marrowscope.quantify.correct import adjusted_ratio
from marrowscope.quantify.estimate import PatientCounts, draw_ratios, estimate_ratio, patient_mixtures
from marrowscope.quantify.rates import draw_rates, fit_error_rates
from tests.quantify.patients import IS_CBLC, KINDS, M1, N5, R2, VOCABULARY, N, make_counts, make_rates


def test_ratio_is_the_closed_form_when_kinds_err_alike() -> None:
    rates = make_rates({N: 0.9, N5: 0.05})
    found = estimate_ratio(make_counts({N: 60, N5: 140}), rates)
    assert found.ratio == pytest.approx(float(adjusted_ratio(0.3, 0.9, 0.05)), abs=5e-3)
    assert found.lower < found.ratio < found.upper
    assert found.note is None


def test_patient_of_a_badly_recognised_kind_is_corrected_more() -> None:
    rates = make_rates({N: 0.95, M1: 0.6, N5: 0.02})
    as_m1, as_n = (estimate_ratio(make_counts({kind: 60, N5: 140}), rates).ratio for kind in (M1, N))
    pooled = float(adjusted_ratio(0.3, 0.775, 0.02))
    assert as_n < pooled < as_m1


def test_detection_enters_the_ratio() -> None:
    same = estimate_ratio(make_counts({N: 60, N5: 140}), make_rates({N: 0.9, N5: 0.05})).ratio
    missed = make_rates({N: 0.9, N5: 0.05}, found=(0.8, 1.0))
    assert estimate_ratio(make_counts({N: 60, N5: 140}), missed).ratio > same + 0.03


def test_one_patient_does_not_teach_what_every_cell_of_a_kind_is_called() -> None:
    few, many = (make_rates({N: 0.9, M1: 0.2, N5: 0.05}, n_patients=n, cells=40) for n in (1, 60))
    assert many.call_shares()[M1, M1] == pytest.approx(0.2, abs=0.03)
    assert few.call_shares()[M1, M1] > 0.4
    for rates in (few, many):
        assert rates.call_shares().sum(axis=0) == pytest.approx(1.0)
        assert (rates.call_shares() > 0).all()


def test_kind_that_is_often_missed_counts_for_more() -> None:
    def ratio(missed: int) -> float:
        rates = make_rates({N: 0.9, M1: 0.9, N5: 0.05})
        annotated = [list(row) for row in rates.annotated]
        for row in annotated:
            row[missed] = 2 * row[missed]  # half of its cells were not found
        found = rates.model_copy(update={"annotated": tuple(map(tuple, annotated))})
        return estimate_ratio(make_counts({N: 60, N5: 140}), found).ratio

    assert ratio(N) > ratio(M1) + 0.08


def test_no_called_cell_gives_zero_with_an_upper_limit() -> None:
    found = estimate_ratio(make_counts({N5: 200}), make_rates({N: 0.9, N5: 0.001}, spread=0.02))
    assert (found.ratio, found.lower, found.note) == (0.0, 0.0, "none_called")
    assert 0 < found.upper < 0.1


def test_ratio_below_the_false_positive_rate_is_said() -> None:
    found = estimate_ratio(make_counts({N: 6, N5: 194}), make_rates({N: 0.9, N5: 0.08}, spread=0.02))
    assert (found.ratio, found.lower, found.note) == (0.0, 0.0, "within_false_positive_rate")


def test_rates_too_close_give_no_ratio() -> None:
    found = estimate_ratio(make_counts({N: 60, N5: 140}), make_rates({N: 0.4, N5: 0.2}))
    assert np.isnan([found.ratio, found.lower, found.upper]).all()
    assert (found.note, len(found.draws)) == ("rates_too_close", 0)
    assert np.isnan(found.confidence_above(0.2))


def test_rates_without_a_cblc_give_no_ratio() -> None:
    assert estimate_ratio(make_counts({N5: 100}), make_rates({N5: 0.05})).note == "rates_too_close"


def test_patient_without_a_countable_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="no countable cell"):
        estimate_ratio(PatientCounts(np.zeros(0), np.zeros(0), np.zeros(len(KINDS))), make_rates({N: 0.9, N5: 0.05}))


def test_equal_counts_give_equal_figures_every_time() -> None:
    rates = make_rates({N: 0.9, N5: 0.05}, spread=0.03)
    counts = make_counts({N: 60, N5: 140})
    first, second = estimate_ratio(counts, rates), estimate_ratio(counts, rates)
    assert (first.lower, first.upper) == (second.lower, second.upper)
    assert (first.draws == second.draws).all()


def test_clustered_fields_and_far_patients_each_widen_the_interval() -> None:
    def width(x: list[float], *, spread: float) -> float:
        fields, widths = np.array(x), []
        for seed in range(8):
            counts = PatientCounts(fields, np.full(len(x), 20.0), make_counts({N: 60, N5: 140}).called_kinds)
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
    spread, ratio, held = 0.03, 0.25, []
    draws_of = [
        (rates, draw_rates(rates, 800, seed=1))
        for rates in (make_rates({N: 0.85, N5: 0.05, R2: 0.05}, spread=spread, seed=seed) for seed in range(12))
    ]
    for index in range(360):
        rates, draws = draws_of[index % len(draws_of)]
        tpr, fpr = (rng.beta(mean * (1 / spread - 1), (1 - mean) * (1 / spread - 1)) for mean in (0.85, 0.05))
        shares = rng.beta(ratio * 24, (1 - ratio) * 24, 12)  # intra-class correlation 0.04
        blasts = rng.binomial(25, shares)
        x = (rng.binomial(blasts, tpr) + rng.binomial(25 - blasts, fpr)).astype(float)
        n = np.full(12, 25.0)
        mixtures = patient_mixtures(make_counts({N: int(x.sum()), N5: int(300 - x.sum())}).called_kinds, rates)
        effect = float(design_effect(x, n, 0.04))
        drawn = draw_ratios(
            np.array([x.sum() / 300]),
            np.array([300 / effect]),
            (mixtures[0][None], mixtures[1][None]),
            draws,
            seed=index,
        )
        lower, upper = np.quantile(drawn, [0.025, 0.975])
        held.append(lower <= ratio <= upper)
    assert 0.90 <= np.mean(held) <= 0.985


def test_kind_of_few_cells_takes_the_rate_of_all_like_it() -> None:
    rates = make_rates({N: 0.9, N5: 0.05})
    by_kind = rates.calls.rates()
    assert by_kind[N] == pytest.approx(0.9, abs=1e-3)
    assert by_kind[M1] == pytest.approx(0.9, abs=1e-3)  # never seen
    assert by_kind[~IS_CBLC] == pytest.approx(0.05, abs=1e-3)


def test_error_rates_are_counted_from_cells() -> None:
    import polars as pl

    rows = [
        ("P1", "P1/a", "N", True, "N", True),
        ("P1", "P1/a", "N", True, "N5", False),
        ("P1", "P1/b", "N", False, None, None),
        ("P2", "P2/a", "N5", True, "N5", False),
        ("P2", "P2/a", "V", True, "N", True),  # not countable: enters no rate
    ]
    columns = ["patient_id", "field_id", "code", "counted", "called_category", "called_cblc"]
    found = fit_error_rates(pl.DataFrame(rows, schema=columns, orient="row"), VOCABULARY, 0.05)
    assert [row[N] for row in found.annotated] == [3, 0]
    assert [row[N] for row in found.counted] == [2, 0]
    assert [row[N] for row in found.called] == [1, 0]
    assert [row[N5] for row in found.counted] == [0, 1]
    assert np.sum(found.confusion) == 3
    assert found.confusion[N5][N] == 1
    with pytest.raises(ValueError, match="none of them counted"):
        fit_error_rates(pl.DataFrame(rows[2:3], schema=columns, orient="row"), VOCABULARY, 0.05)
