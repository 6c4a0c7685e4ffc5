"""The interval of an audited ratio against closed forms, invariances and simulated audits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, betabinom

from marrowscope.review.audit import AuditCounts
from marrowscope.review.audited_ratio import (
    PSEUDO_COUNTS,
    audit_interval,
    draw_smear,
    draw_totals,
    expand,
    interval_of,
)
from marrowscope.review.missed_fields import check_fields


def counts_of(*strata: tuple[int, list[int]]) -> AuditCounts:
    return AuditCounts(np.array([n for n, _ in strata]), np.array([named for _, named in strata]))


def test_an_audit_of_every_cell_ends_in_the_plain_count() -> None:
    ratio = audit_interval(counts_of((30, [12, 15, 3]), (20, [2, 18, 0])))
    assert (ratio.fields.estimate, ratio.fields.lower, ratio.fields.upper) == (14 / 47,) * 3
    assert (ratio.n_named, ratio.n_cells, ratio.found_cells_only) == (50, 50, True)
    assert ratio.smear.lower < 14 / 47 < ratio.smear.upper


def test_the_point_is_the_stratified_estimate_worked_by_hand() -> None:
    # 100 cells of which 10 named: 9 CBLC, 1 not countable; 300 of which 20: 1 CBLC, 19 other; 5 of 5 other.
    counts = counts_of((100, [9, 0, 1]), (300, [1, 19, 0]), (5, [0, 5, 0]))
    assert expand(counts.n_cells, counts.named).tolist() == [90 + 15, 285 + 5, 10]
    assert audit_interval(counts).fields.estimate == pytest.approx(105 / 395)


def test_limits_of_one_stratum_are_the_beta_binomial_ones() -> None:
    """One stratum without other cells: unnamed CBLC are beta-binomial with Clopper's and Pearson's counts."""
    x, n, size = 7, 40, 400
    ratio = audit_interval(counts_of((size, [x, n - x, 0])), n_draws=200_000).fields
    # Half a cell may be not countable: it takes cells from the denominator alone, and leaves their ratio as it is.
    low = (x + betabinom(size - n, x, n - x + 1).ppf(0.025)) / size
    high = (x + betabinom(size - n, x + 1, n - x).ppf(0.975)) / size
    assert ratio.lower == pytest.approx(low, abs=0.004)
    assert ratio.upper == pytest.approx(high, abs=0.004)


def test_limits_of_a_large_stratum_are_those_of_clopper_and_pearson() -> None:
    ratio = audit_interval(counts_of((10**6, [7, 33, 0])), n_draws=200_000).fields
    assert ratio.lower == pytest.approx(beta(7, 34).ppf(0.025), abs=0.003)
    assert ratio.upper == pytest.approx(beta(8, 33).ppf(0.975), abs=0.003)


def test_mean_and_variance_of_the_draws_are_those_of_the_dirichlet_multinomial() -> None:
    n_cells, named = np.array([200, 90]), np.array([[5, 20, 1], [3, 4, 2]])
    totals = draw_totals(n_cells, named, 100_000, np.random.default_rng(0), "upper")
    mean, variance = np.zeros(2), np.zeros(2)
    for size, row in zip(n_cells, named, strict=True):
        weights = row + np.array(PSEUDO_COUNTS["upper"]) / 2
        share, open_cells, total = weights / weights.sum(), size - row.sum(), weights.sum()
        mean += row[:2] + open_cells * share[:2]
        variance += (open_cells * share * (1 - share) * (open_cells + total) / (total + 1))[:2]
    assert totals.mean(axis=0) == pytest.approx(mean, rel=0.01)
    assert totals.var(axis=0) == pytest.approx(variance, rel=0.03)
    assert np.all(totals == np.round(totals))
    assert np.all(totals.sum(axis=1) <= n_cells.sum())


def test_many_patients_at_once_are_drawn_as_each_alone() -> None:
    n_cells = np.array([[50, 80], [60, 20]])
    named = np.array([[[3, 7, 0], [1, 9, 0]], [[9, 1, 0], [0, 20, 0]]])
    together = draw_totals(n_cells, named, 20_000, np.random.default_rng(1), "lower")
    for k in range(2):
        alone = draw_totals(n_cells[k], named[k], 20_000, np.random.default_rng(2), "lower")
        assert together[k].mean(axis=0) == pytest.approx(alone.mean(axis=0), rel=0.02)


def test_the_same_seed_gives_the_same_limits() -> None:
    counts = counts_of((300, [9, 40, 1]), (100, [10, 0, 0]))
    assert audit_interval(counts, seed=3) == audit_interval(counts, seed=3)
    assert audit_interval(counts, seed=3) != audit_interval(counts, seed=4)


strata = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 3), st.integers(0, 200)), min_size=1, max_size=5
).filter(lambda rows: any(row[0] + row[1] for row in rows))


@given(strata, st.sampled_from([0.8, 0.95, 0.98]))
@settings(max_examples=60, deadline=None)
def test_limits_hold_the_estimate_and_mirror_when_cblc_and_others_change_places(
    rows: list[tuple[int, int, int, int]], level: float
) -> None:
    counts = counts_of(*[(c + o + n + more, [c, o, n]) for c, o, n, more in rows])
    mirrored = AuditCounts(counts.n_cells, counts.named[:, [1, 0, 2]])
    here = audit_interval(counts, level=level, n_draws=3000).fields
    there = audit_interval(mirrored, level=level, n_draws=3000).fields
    assert 0 <= here.lower <= here.estimate <= here.upper <= 1
    assert here.estimate == pytest.approx(1 - there.estimate)
    assert here.lower == pytest.approx(1 - there.upper, abs=0.06)  # other draws
    assert here.upper == pytest.approx(1 - there.lower, abs=0.06)


@given(strata)
@settings(max_examples=30, deadline=None)
def test_a_higher_level_gives_a_wider_interval(rows: list[tuple[int, int, int, int]]) -> None:
    counts = counts_of(*[(c + o + n + more, [c, o, n]) for c, o, n, more in rows])
    wide, narrow = (audit_interval(counts, level=level, n_draws=1000).fields for level in (0.98, 0.9))
    assert wide.lower <= narrow.lower
    assert narrow.upper <= wide.upper


def test_a_stratum_seen_in_full_takes_no_share_of_the_pseudo_count() -> None:
    """Cells named before, as a stratum of their own, leave the draws of the others as they are."""
    rest = (200, [4, 16, 0])
    alone = draw_totals(np.array([200]), np.array([rest[1]]), 500, np.random.default_rng(0), "upper")
    beside = draw_totals(np.array([30, 200]), np.array([[30, 0, 0], rest[1]]), 500, np.random.default_rng(0), "upper")
    assert np.array_equal(alone + np.array([30, 0]), beside)


def test_one_limit_alone_near_zero_and_near_one() -> None:
    low = audit_interval(counts_of((300, [1, 49, 0]))).fields
    high = audit_interval(counts_of((300, [49, 1, 0]))).fields
    middle = audit_interval(counts_of((300, [5, 45, 0]))).fields
    assert (low.limits, low.lower) == ("upper", 0.0)
    assert (high.limits, high.upper) == ("lower", 1.0)
    assert middle.limits == "both"
    assert 0.02 < low.upper < 0.12


def test_the_single_limit_is_that_of_the_two_sided_interval() -> None:
    draws = np.random.default_rng(0).beta(2, 60, 10_000)
    assert interval_of(draws, draws, 0.03, 0.95).upper == pytest.approx(np.quantile(draws, 0.975))


def test_no_cblc_among_the_named_still_has_an_upper_limit() -> None:
    ratio = audit_interval(counts_of((900, [0, 10, 0]), (20, [0, 10, 0]))).fields
    assert ratio.estimate == 0
    assert 0.05 < ratio.upper < 0.4


def test_nothing_countable_gives_no_ratio() -> None:
    ratio = audit_interval(counts_of((5, [0, 0, 5]))).fields
    assert np.isnan(ratio.estimate)
    assert (ratio.lower, ratio.upper) == (0.0, 1.0)


def test_clustering_widens_the_smear_and_not_the_fields() -> None:
    counts = counts_of((300, [30, 70, 0]))
    plain, clustered = (audit_interval(counts, effect=effect) for effect in (1.0, 4.0))
    assert plain.fields == clustered.fields
    width = [ratio.smear.upper - ratio.smear.lower for ratio in (plain, clustered)]
    assert plain.fields.upper - plain.fields.lower < width[0] < width[1]


def test_the_smear_of_a_known_ratio_is_jeffreys_interval_of_a_share() -> None:
    drawn = draw_smear(np.full(100_000, 0.3), np.full(100_000, 200.0), 2.0, np.random.default_rng(0))
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(beta(30.5, 70.5).ppf([0.025, 0.975]), abs=0.003)


def test_separates_only_when_wholly_on_one_side() -> None:
    ratio = audit_interval(counts_of((300, [50, 50, 0]))).fields
    assert ratio.separates(0.2)
    assert ratio.separates(0.9)
    assert not ratio.separates(0.5)


def test_missed_cells_enter_numerator_and_denominator() -> None:
    counts = counts_of((100, [20, 80, 0]))
    ratio = audit_interval(counts, missed=check_fields([(1, 0), (0, 1), (1, 1)], 15))
    assert ratio.fields.estimate == pytest.approx((20 + 10) / (100 + 20))
    assert not ratio.found_cells_only
    assert ratio.fields.lower < 20 / 100 < ratio.fields.upper


def test_simulated_audits_hold_the_truth_where_the_first_construction_did_not() -> None:
    """Of 1,000 cells 95% are CBLC, 50 are audited in five strata; half a count of each class in each held 79 of 100."""
    rng = np.random.default_rng(4)
    held = 0
    for k, _ in itertools.product(range(200), range(1)):
        cells = np.stack(
            [rng.multinomial(912, [0.72, 0.14, 0.03, 0.1, 0.01]), rng.multinomial(48, [0.1, 0.1, 0.6, 0.2, 0])]
        )
        cells = np.vstack([cells, rng.multinomial(40, [0.2, 0.1, 0.1, 0.1, 0.5])])
        named = np.array([rng.multivariate_hypergeometric(column, min(10, column.sum())) for column in cells.T])
        ratio = audit_interval(AuditCounts(cells.sum(axis=0), named), n_draws=500, seed=k).fields
        held += ratio.lower <= 0.95 <= ratio.upper
    assert 184 <= held <= 200
