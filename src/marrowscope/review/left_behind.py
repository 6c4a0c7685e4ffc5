"""What was recorded about a patient as a whole, and stays with the prediction that it was about. Pure.

A decision is about one cell, and goes along to the cell in its place (``carry``). An audit is about the frame that it
was drawn from: on other cells its chances of being drawn would be wrong, and so would its interval. A full review says
that every cell was seen, a checked field that nothing more lies in it, and an answer to a flag is about figures that
the new prediction has anew. None of these is carried; each is listed by name, so that a reader knows what to do again.
A signature is about the earlier cells as well: the patient stays signed and locked until somebody amends it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from marrowscope.review.events import DECIDING, SETTLING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.review.events import Event, Kind

LeftKind = Literal["audit", "full_review", "fields_checked", "flags_answered", "signature"]
ABOUT_PATIENT: frozenset[Kind] = frozenset(
    {"audit_drawn", "audit_answer", "full_review", "field_checked", "flag_answered", "sign", "amend"}
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


def left_behind(events: Iterable[Event], assigned: Sequence[str] = ()) -> tuple[LeftBehind, ...]:
    """Return what the events of a patient since its last binding recorded that no new prediction takes along.

    What was taken back is not among it: a full review that its reader withdrew, for example, or that was decided after.
    ``assigned`` are the blinded readers before the first of ``events``.
    """
    events = list(events)
    own: dict[Kind, list[Event]] = defaultdict(list)
    for event in events:
        own[event.kind].append(event)
    found: list[LeftBehind] = []
    if own["audit_drawn"]:
        drawn = own["audit_drawn"][-1]
        answers = {event.cell_id: event.reader for event in own["audit_answer"] if event.sequence > drawn.sequence}
        of = max(drawn.new["audit"]["sizes"], default=0)
        found.append(LeftBehind("audit", _each([drawn.reader, *answers.values()]), len(answers), of))
    if by := _reviewers(events, assigned):
        found.append(LeftBehind("full_review", by, 1))
    if fields := {event.new["field_id"]: event.reader for event in own["field_checked"]}:
        found.append(LeftBehind("fields_checked", _each(fields.values()), len(fields)))
    if flags := {event.new["flag"]: event.reader for event in own["flag_answered"]}:
        found.append(LeftBehind("flags_answered", _each(flags.values()), len(flags)))
    signed = [event for event in events if event.kind in {"sign", "amend"}]
    if signed and signed[-1].kind == "sign":
        found.append(LeftBehind("signature", (signed[-1].reader,), 1))
    return tuple(found)


def _reviewers(events: Iterable[Event], assigned: Sequence[str]) -> tuple[str, ...]:
    """Return who said that every cell was seen, and whose word stands: nobody's after a later decision."""
    standing: list[str] = []
    readers = set(assigned)
    for event in events:
        if event.kind == "assign":
            readers |= set(event.new["readers"])
        if event.kind in DECIDING and event.kind != "carried":
            if event.kind not in SETTLING:
                standing = [name for name in standing if event.reader in readers and name != event.reader]
            elif not readers:
                standing = []
        if event.kind != "full_review":
            continue
        if event.new is not False:
            standing.append(event.reader)
        elif event.reader in standing:
            standing = [reader for reader in standing if reader != event.reader]
        else:  # somebody else's was taken back
            standing = []
    return _each(standing)


def _each(readers: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(readers))
