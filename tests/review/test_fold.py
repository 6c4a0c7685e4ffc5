"""The fold is pure, the same at once or step by step, and blind to what it must not see."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marrowscope.review.events import GENESIS, Draft, Event, Head, Kind, chained
from marrowscope.review.fold import Folding, fold
from marrowscope.review.patient_state import FrozenCell

SQUARE = (0.0, 0.0, 10.0, 0.0, 10.0, 10.0)
FROZEN = [
    FrozenCell(f"c{index}", "P1/f", SQUARE, "N", 0.9, 0.8, is_cblc=True, is_countable=True, area_um2=50.0)
    for index in range(4)
]
DRAWN = {"field_id": "P1/f", "contour_xy": list(SQUARE), "code": "J"}


def chain(*steps: tuple[Kind, str | None, Any], reader: str = "Ada") -> list[Event]:
    events, head = [], Head(0, GENESIS)
    for kind, cell_id, new in steps:
        event = chained(Draft(reader, "P1", kind, cell_id, None, new), head, "2026-03-01T10:00:00.000+00:00")
        events.append(event)
        head = Head(event.sequence, event.hash)
    return events


def test_nothing_decided_leaves_the_run_as_it_is() -> None:
    state = fold("P1", FROZEN, [])
    assert (state.sequence, state.n_reviewed, [cell.code for cell in state.present]) == (0, 0, [None] * 4)
    assert fold("P1", [], []).present == []


def test_a_decision_that_is_taken_back_leaves_no_trace_on_the_cell() -> None:
    before = fold("P1", FROZEN, []).cells["c1"]
    assert fold("P1", FROZEN, chain(("relabel", "c1", "R"), ("relabel", "c1", None))).cells["c1"] == before


def test_removed_cells_stay_to_be_restored() -> None:
    events = chain(("not_a_cell", "c1", None), ("delete", "c2", None), ("restore", "c2", None))
    state = fold("P1", FROZEN, events)
    assert [cell.cell_id for cell in state.present] == ["c0", "c2", "c3"]
    assert state.cells["c1"].removed == "not_a_cell"


def test_split_and_merge_put_others_in_the_place_of_cells() -> None:
    parts = [{**DRAWN, "cell_id": "d1", "code": None}, {**DRAWN, "cell_id": "d2"}]
    events = chain(("split", "c0", {"parts": parts}), ("merge", "d3", {**DRAWN, "cells": ["c1", "c2"]}))
    state = fold("P1", FROZEN, events)
    assert [(cell.cell_id, cell.origin, cell.code) for cell in state.present] == [
        ("c3", "model", None),
        ("d1", "split", None),
        ("d2", "split", "J"),
        ("d3", "merged", "J"),
    ]
    assert {cell.cell_id: cell.removed for cell in state.cells.values() if cell.removed} == {
        "c0": "split",
        "c1": "merge",
        "c2": "merge",
    }


def test_an_event_about_a_cell_of_another_run_is_named_and_the_rest_is_shown() -> None:
    merged = {"field_id": "f1", "contour_xy": [0, 0, 9, 0, 9, 9], "cells": ["c1", "c9"]}
    events = chain(("relabel", "c9", "N"), ("merge", "m", merged), ("relabel", "c0", "R"))
    state = fold("P1", FROZEN, events)
    assert [event.sequence for event in state.misplaced] == [1, 2]
    assert (state.cells["c0"].code, state.cells["c1"].removed, "m" in state.cells) == ("R", None, False)
    assert state.sequence == 3


def test_decisions_before_the_patient_was_bound_again_are_left_out() -> None:
    events = chain(("relabel", "old", "N"), ("full_review", None, True), ("bind", None, {}), ("relabel", "c0", "R"))
    folding = Folding("P1", FROZEN, since=3)
    for event in events:
        folding.apply(event)
    state = folding.state()
    assert (state.full_review_by, state.n_reviewed, state.cells["c0"].code) == (None, 1, "R")


def test_the_first_answer_counts_and_complete_looks_stay_spent() -> None:
    stratum = {"key": "other_uncertain", "n_cells": 2, "drawn": ["c0", "c1"], "n_by_look": [1, 2]}
    drawn = {"audit": {"seed": "s", "sizes": [1, 2], "reviewed": [], "strata": [stratum]}, "fields": []}
    steps: list[Any] = [("audit_drawn", None, drawn), ("audit_answer", "c0", "N"), ("audit_answer", "c0", "R")]
    state = fold("P1", FROZEN, chain(*steps))
    assert (state.audit_answers, state.cells["c0"].code, state.looks_spent) == ({"c0": "N"}, "R", 0)
    bound = fold("P1", FROZEN, chain(*steps, ("bind", None, {})))
    assert (bound.audit_answers, bound.audit, bound.looks_spent) == ({}, None, 1)


def test_a_state_does_not_change_under_the_one_who_holds_it() -> None:
    folding = Folding("P1", FROZEN)
    first, second = chain(("relabel", "c0", "N"), ("relabel", "c0", "R"))
    folding.apply(first)
    held = folding.state()
    folding.apply(second)
    assert (held.cells["c0"].code, folding.state().cells["c0"].code) == ("N", "R")


_STEP = st.one_of(
    st.tuples(st.just("relabel"), st.sampled_from(["c0", "c1", "c2"]), st.sampled_from(["N", "R", None])),
    st.tuples(st.sampled_from(["not_a_cell", "delete", "restore"]), st.sampled_from(["c0", "c1"]), st.none()),
    st.tuples(st.just("redraw"), st.just("c3"), st.just({"contour_xy": [0, 0, 5, 0, 5, 5]})),
    st.tuples(st.just("add"), st.sampled_from(["d1", "d2"]), st.just(DRAWN)),
    st.tuples(st.just("comment"), st.none(), st.just({"text": "x"})),
)


@given(st.lists(_STEP, max_size=12), st.integers(0, 12))
def test_folding_step_by_step_gives_what_folding_at_once_gives(steps: list[Any], pause: int) -> None:
    events = chain(*steps)
    folding = Folding("P1", FROZEN)
    for event in [*events[:pause], *events[:pause], *events]:  # events that were applied are skipped
        folding.apply(event)
    assert folding.state() == fold("P1", FROZEN, events)


@given(st.lists(st.tuples(st.sampled_from(["Ada", "Bo"]), _STEP), max_size=10))
def test_a_blinded_fold_is_that_of_the_readers_own_events(steps: list[Any]) -> None:
    events, head = [], Head(0, GENESIS)
    for reader, (kind, cell_id, new) in steps:
        event = chained(Draft(reader, "P1", kind, cell_id, None, new), head, "2026-03-01T10:00:00.000+00:00")
        events.append(event)
        head = Head(event.sequence, event.hash)
    folding = Folding("P1", FROZEN, only="Ada")
    for event in events:
        folding.apply(event)
    own = fold("P1", FROZEN, [event for event in events if event.reader == "Ada"])
    assert (folding.state().cells, folding.state().comments) == (own.cells, own.comments)
