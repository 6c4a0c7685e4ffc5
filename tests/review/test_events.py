from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from marrowscope.errors import ReviewError
from marrowscope.review.events import GENESIS, Draft, Event, Head, canonical, chain_faults, chained, hash_of


def chain(n: int = 8) -> tuple[list[Event], Head]:
    events, head = [], Head(0, GENESIS)
    for index in range(n):
        draft = Draft("Ada", "P1", "relabel", f"c{index}", None, "N1", {"category": "N", "p_cblc": 0.1 + index / 10})
        event = chained(draft, head, f"2026-03-01T10:00:0{index}.000+00:00")
        events.append(event)
        head = Head(event.sequence, event.hash)
    return events, head


def faults(events: list[Event], head: Head | None) -> list[tuple[int, str]]:
    return [(fault.sequence, fault.kind) for fault in chain_faults(events, head)]


def rehashed(event: Event) -> Event:
    return replace(event, hash=hash_of(event))


def test_a_sound_chain_has_no_fault() -> None:
    assert faults(*chain()) == []
    assert faults([], Head(0, GENESIS)) == []


@pytest.mark.parametrize("name", ["time_utc", "reader", "patient_id", "cell_id", "kind", "old", "new", "model_value"])
def test_an_edited_event_is_named_whatever_was_edited(name: str) -> None:
    events, head = chain()
    changes: dict[str, Any] = {name: "restore" if name == "kind" else "another"}
    events[4] = replace(events[4], **changes)
    assert faults(events, head) == [(5, "edited")]


@pytest.mark.parametrize("index", [0, 4, 7])
def test_an_edited_event_is_named_even_where_its_hash_was_made_anew(index: int) -> None:
    events, head = chain()
    events[index] = rehashed(replace(events[index], new="N5"))
    assert faults(events, head) == [(index + 1, "edited")]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (3, 3), (3, 6), (8, 8)])
def test_deleted_events_are_named(first: int, last: int) -> None:
    events, head = chain()
    del events[first - 1 : last]
    assert faults(events, head) == [(first, "deleted")]


def test_a_deleted_event_is_named_where_the_later_ones_were_numbered_anew() -> None:
    events, head = chain()
    del events[3]
    events = [*events[:3], *(replace(event, sequence=event.sequence - 1) for event in events[3:])]
    found = faults(events, head)
    assert found[0] == (4, "reordered")
    assert (8, "deleted") in found


def test_reordered_events_are_named() -> None:
    events, head = chain()
    events[2], events[5] = replace(events[5], sequence=3), replace(events[2], sequence=6)
    assert faults(events, head) == [(3, "reordered"), (6, "reordered")]


def test_events_after_the_head_are_named() -> None:
    events, _ = chain()
    assert faults(events, Head(6, events[5].hash)) == [(7, "added")]


def test_an_end_that_the_head_does_not_name_is_found() -> None:
    events, _ = chain()
    assert faults(events, Head(8, "f" * 64)) == [(8, "edited")]


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": [1.5, None], "a": "浆"}) == '{"a":"浆","b":[1.5,null]}'
    with pytest.raises(ReviewError, match="JSON does not have"):
        canonical({"a": float("nan")})
