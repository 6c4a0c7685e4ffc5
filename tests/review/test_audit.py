"""Who is drawn into an audit: chance alone, by the seed, nested from look to look."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from marrowscope.review.audit import (
    CBLC,
    NOT_COUNTABLE,
    OTHER,
    Audit,
    FrameCell,
    allocate,
    count_answers,
    draw_audit,
    side_of,
)
from marrowscope.vocabulary import load_vocabulary

SIZES = st.lists(st.integers(0, 400), min_size=5, max_size=5).filter(any)


def make_frame(n: int, *, reviewed: int = 0, seed: int = 0) -> list[FrameCell]:
    rng = np.random.default_rng(seed)
    p_cblc, countable = rng.beta(0.3, 0.6, n), rng.random(n) < 0.95
    return [
        FrameCell(f"cell-{i}", bool(p_cblc[i] >= 0.5), bool(countable[i]), float(p_cblc[i]), reviewed=i < reviewed)
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("cblc", "countable", "p", "stratum"),
    [
        (True, True, 0.9, "cblc_certain"),
        (True, True, 0.899, "cblc_uncertain"),
        (False, True, 0.1, "other_certain"),
        (False, True, 0.101, "other_uncertain"),
        (False, False, 0.02, "not_countable"),
        (True, False, 0.99, "not_countable"),
    ],
)
def test_stratum_is_the_call_and_its_certainty(*, cblc: bool, countable: bool, p: float, stratum: str) -> None:
    assert FrameCell("a", cblc, countable, p).stratum == stratum


def test_the_same_seed_draws_the_same_cells_whatever_the_order_of_rows() -> None:
    frame = make_frame(300)
    shuffled = [frame[i] for i in np.random.default_rng(5).permutation(300)]
    assert draw_audit(frame, "7f") == draw_audit(shuffled, "7f")
    assert draw_audit(frame, "7f") != draw_audit(frame, "80")


def test_the_draw_is_the_same_for_ever() -> None:
    """Fixed cells: no version of a library may draw others from the seed that stands in an old log."""
    audit = draw_audit(
        [FrameCell(f"c{i}", called_cblc=False, called_countable=True, p_cblc=0.0) for i in range(8)], "s", [3]
    )
    assert audit.strata[0].drawn == ("c6", "c3", "c5")  # smallest of sha256sum of "s:c0" to "s:c7"


def test_a_larger_audit_contains_the_smaller_one() -> None:
    audit = draw_audit(make_frame(600), "a")
    assert audit.sizes == (50, 100, 200)
    shown = [audit.cells_of_look(look) for look in range(3)]
    assert [len(cells) for cells in shown] == [50, 50, 100]
    assert len({cell for cells in shown for cell in cells}) == 200


def test_every_cell_of_a_stratum_is_drawn_as_often() -> None:
    frame = [FrameCell(f"c{i}", called_cblc=i % 2 == 0, called_countable=True, p_cblc=0.5) for i in range(60)]
    times = Counter(cell for seed in range(2000) for cell in draw_audit(frame, str(seed), [20]).cells_of_look(0))
    shares = np.array([times[cell.cell_id] for cell in frame]) / 2000
    assert np.abs(shares - 20 / 60).max() < 0.05  # 4.7 standard errors


def test_cells_are_shown_with_their_strata_mixed() -> None:
    frame = make_frame(400)
    stratum = {cell.cell_id: cell.stratum for cell in frame}
    shown = [stratum[cell] for cell in draw_audit(frame, "b").cells_of_look(0)]
    runs = 1 + sum(a != b for a, b in itertools.pairwise(shown))
    assert runs > 25  # one stratum after the other would be 5


def test_cells_named_before_are_taken_whole_and_never_drawn() -> None:
    frame = make_frame(300, reviewed=40)
    audit = draw_audit(frame, "c")
    assert set(audit.reviewed) == {f"cell-{i}" for i in range(40)}
    assert not set(audit.reviewed) & {cell for stratum in audit.strata for cell in stratum.drawn}
    assert audit.n_cells == 300


def test_naming_a_cell_before_does_not_change_who_else_is_first() -> None:
    plain, named = (draw_audit(make_frame(300, reviewed=n), "d") for n in (0, 1))
    without = {s.key: [cell for cell in s.drawn if cell != "cell-0"] for s in plain.strata}
    for stratum in named.strata:
        both = min(len(stratum.drawn), len(without[stratum.key]))
        assert list(stratum.drawn[:both]) == without[stratum.key][:both]


def test_fewer_cells_than_an_audit_wants_are_all_drawn() -> None:
    audit = draw_audit(make_frame(116), "e")
    assert audit.sizes == (50, 100, 116)
    assert all(stratum.inclusion(2) == 1 for stratum in audit.strata)


def test_inclusion_is_drawn_over_all() -> None:
    audit = draw_audit(make_frame(600), "f")
    for stratum in audit.strata:
        assert stratum.inclusion(0) == pytest.approx(min(10, stratum.n_cells) / stratum.n_cells)


@given(SIZES, st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_allocation_takes_all_it_may_and_never_fewer_than_a_smaller_one(sizes: list[int], size: int) -> None:
    n_cells = np.array(sizes)
    taken, more = allocate(n_cells, size), allocate(n_cells, size + 1)
    assert taken.sum() == min(size, n_cells.sum())
    assert np.all((taken >= 0) & (taken <= n_cells))
    assert np.all(more >= taken)
    if size >= 50:
        assert np.all(taken >= np.minimum(10, n_cells))


def test_allocation_beyond_the_minima_goes_by_size() -> None:
    taken = allocate(np.array([100, 200, 700]), 500)
    assert np.abs(taken - [50, 100, 350]).max() <= 1
    assert allocate(np.array([10, 4, 2000]), 114).tolist() == [10, 4, 100]


def test_allocation_of_many_patients_is_that_of_each() -> None:
    n_cells = np.random.default_rng(0).integers(0, 300, (20, 5))
    assert allocate(n_cells, 100).tolist() == [allocate(row, 100).tolist() for row in n_cells]


def test_answers_are_counted_by_stratum_and_others_are_ignored() -> None:
    frame = make_frame(200, reviewed=3)
    audit = draw_audit(frame, "g", [50])
    sides = dict.fromkeys((cell.cell_id for cell in frame), OTHER)  # also cells that nobody drew
    sides |= {"cell-0": CBLC, audit.strata[0].drawn[0]: NOT_COUNTABLE}
    counts = count_answers(audit, sides)
    assert counts.n_cells.tolist() == [3, *(stratum.n_cells for stratum in audit.strata)]
    assert counts.named[0].tolist() == [1, 2, 0]
    assert counts.named[1].tolist() == [0, len(audit.strata[0].drawn) - 1, 1]
    assert counts.named[1:].sum() == 50


def test_a_look_counts_its_own_cells_alone() -> None:
    audit = draw_audit(make_frame(500), "h")
    sides = dict.fromkeys((cell for look in range(2) for cell in audit.cells_of_look(look)), OTHER)
    assert [int(count_answers(audit, sides, look).named.sum()) for look in (0, 1)] == [50, 100]
    with pytest.raises(ValueError, match="found 100 cells of the audit without an answer, expected none"):
        count_answers(audit, sides)


def test_no_cell_named_before_may_lack_its_answer() -> None:
    audit = draw_audit(make_frame(60, reviewed=1), "i", [20])
    sides = dict.fromkeys(audit.cells_of_look(0), OTHER)
    with pytest.raises(ValueError, match="found 1 cell of the audit without an answer"):
        count_answers(audit, sides)


@pytest.mark.parametrize(
    ("frame", "sizes", "message"),
    [
        ([], [50], "found a patient without a cell"),
        ([*make_frame(3), *make_frame(1)], [50], "some with the same id"),
        (make_frame(3), [], r"found sizes \[\] of an audit"),
        (make_frame(3), [100, 50], "expected rising numbers"),
        (make_frame(3), [0, 50], "expected rising numbers"),
    ],
)
def test_what_cannot_be_audited_is_refused(frame: list[FrameCell], sizes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_audit(frame, "s", sizes)


def test_a_patient_whose_cells_are_all_named_has_nothing_to_draw() -> None:
    audit = draw_audit(make_frame(30, reviewed=30), "j")
    assert audit.strata == ()
    assert count_answers(audit, dict.fromkeys(audit.reviewed, OTHER)).named.tolist() == [[0, 30, 0]]


def test_an_audit_survives_its_event() -> None:
    audit = draw_audit(make_frame(200), "k")
    assert Audit.model_validate_json(audit.model_dump_json()) == audit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_by_look": [10, 9, 8]}, "one rising number for each look"),
        ({"n_by_look": [10]}, "one rising number for each look"),
        ({"drawn": ["a", "a"]}, "not as many different ones"),
        ({"n_cells": 1}, "not as many different ones"),
    ],
)
def test_a_changed_audit_is_refused(change: dict[str, object], message: str) -> None:
    stored = draw_audit(make_frame(300), "l").model_dump(mode="json")
    stored["strata"][0] |= change
    with pytest.raises(ValidationError, match=message):
        Audit.model_validate(stored)


def test_sizes_that_do_not_add_up_are_refused() -> None:
    stored = draw_audit(make_frame(300), "m").model_dump(mode="json") | {"sizes": [50, 100, 199]}
    with pytest.raises(ValidationError, match="do not add up"):
        Audit.model_validate(stored)


@pytest.mark.parametrize(
    ("code", "side"),
    [("N", CBLC), ("J", CBLC), ("N5", OTHER), ("N0", OTHER), ("V", NOT_COUNTABLE), (None, NOT_COUNTABLE)],
)
def test_side_of_a_code_is_what_the_vocabulary_says(code: str | None, side: int) -> None:
    assert side_of(code, load_vocabulary()) == side
