"""What was recorded about a patient as a whole, and stays with the prediction that it was about. Pure.

A decision is about one cell, and goes along to the cell in its place (``carry``). An audit is about the frame that it
was drawn from: on other cells its chances of being drawn would be wrong, and so would its interval. A full review says
that every cell was seen, a checked field that nothing more lies in it, and an answer to a flag is about figures that
the new prediction has anew. None of these is carried; each is listed by name, so that a reader knows what to do again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.review.events import Event, Kind

LeftKind = Literal["audit", "full_review", "fields_checked", "flags_answered"]
ABOUT_PATIENT: frozenset[Kind] = frozenset(
    {"audit_drawn", "audit_answer", "full_review", "field_checked", "flag_answered"}
)
"""Kinds of event that are about the patient as one prediction left it."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """One thing that was not carried, and who recorded it; ``n`` of ``of`` cells were named in an audit.

    ``n`` counts the checked fields and the answered flags; it is 1 for a full review. ``of`` is 0 where nothing is
    counted out of more.
    """

    kind: LeftKind
    readers: tuple[str, ...]
    n: int
    of: int = 0


def left_behind(events: Iterable[Event]) -> tuple[LeftBehind, ...]:
    """Return what the events of a patient since its last binding recorded that no new prediction takes along.

    What was taken back is not among it: a full review that its reader withdrew, for example.
    """
    own: dict[Kind, list[Event]] = defaultdict(list)
    for event in events:
        own[event.kind].append(event)
    found: list[LeftBehind] = []
    if own["audit_drawn"]:
        drawn = own["audit_drawn"][-1]
        answers = {event.cell_id: event.reader for event in own["audit_answer"] if event.sequence > drawn.sequence}
        of = max(drawn.new["audit"]["sizes"], default=0)
        found.append(LeftBehind("audit", _each([drawn.reader, *answers.values()]), len(answers), of))
    if by := _reviewers(own["full_review"]):
        found.append(LeftBehind("full_review", by, 1))
    if fields := {event.new["field_id"]: event.reader for event in own["field_checked"]}:
        found.append(LeftBehind("fields_checked", _each(fields.values()), len(fields)))
    if flags := {event.new["flag"]: event.reader for event in own["flag_answered"]}:
        found.append(LeftBehind("flags_answered", _each(flags.values()), len(flags)))
    return tuple(found)


def _reviewers(events: Iterable[Event]) -> tuple[str, ...]:
    """Return who said that every cell was seen, and whose word stands."""
    standing: list[str] = []
    for event in events:
        if event.new is not False:
            standing.append(event.reader)
        elif event.reader in standing:
            standing = [reader for reader in standing if reader != event.reader]
        else:  # somebody else's was taken back
            standing = []
    return _each(standing)


def _each(readers: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(readers))
