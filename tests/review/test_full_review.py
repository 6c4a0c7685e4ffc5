"""Full reviews, missed cells, corrected counts and progress against hand counts and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from marrowscope.review.audit import CBLC, NOT_COUNTABLE, OTHER, FrameCell
from marrowscope.review.full_review import full_review_interval, machine_count, review_progress
from marrowscope.review.missed_fields import check_fields, draw_fields


def test_a_full_review_is_x_of_n_with_jeffreys_interval() -> None:
    found = full_review_interval(30, 100, effect=2.0)
    assert (found.x, found.n, found.found_cells_only) == (30, 100, True)
    assert [found.fields.lower, found.fields.upper] == pytest.approx(beta(30.5, 70.5).ppf([0.025, 0.975]))
    assert [found.smear.lower, found.smear.upper] == pytest.approx(beta(15.5, 35.5).ppf([0.025, 0.975]))
    assert found.fields.estimate == found.smear.estimate == 0.3


def test_no_cblc_and_nothing_else_have_a_limit_on_one_side() -> None:
    assert full_review_interval(0, 50).fields.lower == 0
    assert full_review_interval(50, 50).fields.upper == 1
    empty = full_review_interval(0, 0).fields
    assert math.isnan(empty.estimate)
    assert (empty.lower, empty.upper) == (0, 1)


def test_more_cblc_than_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="found a reviewed ratio of x=5 among n=3"):
        full_review_interval(5, 3)


def test_missed_cells_are_expanded_to_all_fields() -> None:
    missed = check_fields([(1, 2), (0, 0), (0, 1), (1, 0)], 12)
    assert missed.expanded.tolist() == [6, 9, 0]
    found = full_review_interval(30, 100, missed=missed)
    assert found.fields.estimate == pytest.approx(36 / 115)
    assert not found.found_cells_only
    assert found.fields.lower < 30 / 100 < found.fields.upper
    assert found == full_review_interval(30, 100, missed=missed)


def test_checking_every_field_leaves_the_sampling_interval_alone() -> None:
    """All fields checked: the added cells are certain, and the interval is that of x of n with them."""
    missed = check_fields([(1, 1), (2, 0), (0, 3)], 3)
    found = full_review_interval(30, 100, missed=missed, n_draws=100_000)
    assert found.fields.estimate == pytest.approx(33 / 107)
    assert (found.x, found.n) == (33, 107), "x of n is the ratio that is printed"
    assert [found.fields.lower, found.fields.upper] == pytest.approx(beta(33.5, 74.5).ppf([0.025, 0.975]), abs=0.003)


def test_more_checked_fields_narrow_what_the_missed_cells_add() -> None:
    widths = []
    for m in (3, 6, 18):
        drawn = check_fields([(1, 1), (0, 2), (2, 0)] * (m // 3), 20).draw(4000, np.random.default_rng(0), "upper")
        widths.append(drawn[:, 0].std())
    assert widths[0] > widths[1] > widths[2]


def test_fields_without_a_missed_cell_still_may_have_missed_some() -> None:
    missed = check_fields([(0, 0)] * 3, 20)
    assert missed.expanded.tolist() == [0, 0, 0]
    upper, lower = (missed.draw(4000, np.random.default_rng(0), end) for end in ("upper", "lower"))
    assert upper[:, 0].mean() == pytest.approx(17 / 3, rel=0.1)  # one cell in three fields
    assert not upper[:, 1].any()
    assert not lower[:, 0].any()


def test_fields_that_differ_more_than_counts_do_widen_it() -> None:
    even, uneven = check_fields([(2, 0)] * 6, 30), check_fields([(12, 0)] + [(0, 0)] * 5, 30)
    assert even.dispersion == 1
    assert uneven.dispersion == pytest.approx((10 + 5 * 12) / 15)
    spread = [fields.draw(8000, np.random.default_rng(0), "upper")[:, 0].std() for fields in (even, uneven)]
    assert spread[1] > 1.5 * spread[0]


@pytest.mark.parametrize(("n_checked", "n_fields"), [(2, 20), (0, 0), (5, 4)])
def test_too_few_checked_fields_are_refused(n_checked: int, n_fields: int) -> None:
    with pytest.raises(ValueError, match="expected at least 3 drawn at random and searched whole"):
        check_fields([(0, 0)] * n_checked, n_fields)


def test_a_patient_of_two_fields_may_have_both_checked() -> None:
    assert check_fields([(1, 0), (0, 0)], 2).expanded.tolist() == [1, 0, 0]


def test_fields_are_drawn_by_the_seed_alone() -> None:
    names = [f"P1/{i}" for i in range(20)]
    assert draw_fields(names, "s") == draw_fields(reversed(names), "s")
    assert len(draw_fields(names, "s")) == 3
    assert draw_fields(names, "s", 5)[:3] == draw_fields(names, "s")
    assert len({draw_fields(names, str(seed)) for seed in range(20)}) > 15
    assert set(draw_fields(names[:2], "s")) == set(names[:2])


def test_the_corrected_count_is_no_estimate_before_all_is_seen() -> None:
    frame = [
        FrameCell("a", called_cblc=True, called_countable=True, p_cblc=0.9),
        FrameCell("b", called_cblc=True, called_countable=True, p_cblc=0.6),
        FrameCell("c", called_cblc=False, called_countable=True, p_cblc=0.2),
        FrameCell("d", called_cblc=False, called_countable=False, p_cblc=0.2),
    ]
    none = machine_count(frame, {})
    assert (none.x, none.n, none.corrected_x, none.corrected_n) == (2, 3, 2, 3)
    some = machine_count(frame, {"b": OTHER, "d": CBLC, "elsewhere": CBLC})
    assert (some.x, some.n, some.corrected_x, some.corrected_n) == (2, 3, 2, 4)
    assert (some.n_reviewed, some.n_cells, some.is_estimate) == (2, 4, False)
    full = machine_count(frame, {"a": NOT_COUNTABLE, "b": OTHER, "c": OTHER, "d": CBLC})
    assert (full.corrected_x, full.corrected_n, full.is_estimate) == (1, 3, True)


def test_progress_counts_to_500_cells_on_two_smears() -> None:
    found = review_progress({"N": 20, "L2": 80, "E": 0}, 1, effect=1.5)
    assert (found.n, found.wanted, found.n_smears, found.wanted_smears) == (100, 500, 1, 2)
    assert [share.x for share in found.categories] == [20, 80, 0]
    assert found.categories[2].share.lower == 0
    assert sum(share.share.estimate for share in found.categories) == pytest.approx(1)
    narrow = review_progress({"N": 100, "L2": 400}, 2).categories[0].share
    assert narrow.upper - narrow.lower < found.categories[0].share.upper - found.categories[0].share.lower
