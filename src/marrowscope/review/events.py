"""The events of a review: what a person decided, as frozen records in one chain of hashes.

An event's hash is the SHA-256 of the hash of the event before it and of its own canonical JSON (sorted keys, UTF-8, no
NaN), so an event that is edited, deleted or moved later no longer fits. ``chain_faults`` names each one. Pure: no
database, no clock.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from marrowscope.errors import ReviewError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal[
    "bind",
    "open",
    "relabel",
    "not_a_cell",
    "restore",
    "add",
    "delete",
    "split",
    "merge",
    "redraw",
    "comment",
    "audit_drawn",
    "audit_answer",
    "field_checked",
    "flag_answered",
    "smears_stated",
    "full_review",
    "sign",
    "amend",
    "carried",
    "not_carried",
    "assign",
    "adjudicate",
    "withdraw",
]
"""``bind`` comes first: the runs that a database is about, with the hashes of their tables."""
KINDS: tuple[str, ...] = get_args(Kind)

DECIDING: frozenset[Kind] = frozenset(
    {
        "relabel",
        "not_a_cell",
        "restore",
        "add",
        "delete",
        "split",
        "merge",
        "redraw",
        "audit_answer",
        "carried",
        "adjudicate",
        "withdraw",
    }
)
"""Kinds of event that decide something about one cell: two readers must not do so without seeing each other's."""

SETTLING: frozenset[Kind] = frozenset({"adjudicate", "withdraw"})
"""Kinds that settle what blinded readers dispute, or take that back; they are never one of these readers' own."""

GENESIS = "0" * 64
"""The hash before the first event."""

_NEAR = 1000
"""How far from its place an event that was moved is looked for."""

FaultKind = Literal["edited", "deleted", "reordered", "added"]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be recorded. ``old``, ``new`` and ``model_value`` are values of JSON; the kind says which."""

    reader: str
    patient_id: str
    kind: Kind
    cell_id: str | None = None
    old: Any = None
    new: Any = None
    model_value: Any = None


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded decision. ``sequence`` counts from 1 without a gap; ``time_utc`` is ISO 8601 with milliseconds."""

    sequence: int
    time_utc: str
    reader: str
    patient_id: str
    cell_id: str | None
    kind: Kind
    old: Any
    new: Any
    model_value: Any
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last event of a chain: its number and its hash."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class ChainFault:
    """One thing wrong with a chain, at the number of an event."""

    sequence: int
    kind: FaultKind
    sentence: str


def canonical(value: Any) -> str:  # noqa: ANN401 - any value of JSON
    """Write a value as canonical JSON. Raises ReviewError for NaN, infinity, and what JSON does not have."""
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()  # a half of a surrogate pair is no text
    except (TypeError, ValueError) as error:
        message = f"found a value that JSON does not have ({error}), expected text, finite numbers, lists and objects"
        raise ReviewError(message) from error
    return text


def chained(draft: Draft, previous: Head, time_utc: str) -> Event:
    """Make ``draft`` the event after ``previous``."""
    fields = {**asdict(draft), "sequence": previous.sequence + 1, "time_utc": time_utc, "previous_hash": previous.hash}
    return Event(**fields, hash=_hash(fields))


def hash_of(event: Event, sequence: int | None = None) -> str:
    """Return the hash that ``event`` must have; with ``sequence``, the one it would have under that number."""
    fields = asdict(event)
    del fields["hash"]
    return _hash(fields if sequence is None else {**fields, "sequence": sequence})


def chain_faults(events: Iterable[Event], head: Head | None, after: Head | None = None) -> Iterator[ChainFault]:
    """Name each event that was edited, deleted, moved or added since it was recorded; nothing for a sound chain.

    ``events`` are in the order of their numbers; ``head`` is what the database, or a signed document, says of the last
    one, None if it is not known. With ``after``, the chain begins after that event, and not at its beginning.
    """
    last = after or Head(0, GENESIS)
    known = {last.hash: last.sequence}
    is_sound, seen_head = True, head is not None and head == last
    for event in events:
        if event.sequence != last.sequence + 1:
            yield _deleted(last.sequence + 1, event.sequence - 1)
        if not _fits(event):
            place = _written_at(event, known, head)
            yield _edited(event) if place is None else _moved(event, place)
            is_sound = False
        elif is_sound and event.sequence == last.sequence + 1 and event.previous_hash != last.hash:
            yield ChainFault(
                last.sequence,
                "edited",
                f"event {last.sequence} is not the one that event {event.sequence} was recorded after: it was edited",
            )
        else:
            is_sound = True
        known[event.hash] = event.sequence
        last = Head(event.sequence, event.hash)
        seen_head = seen_head or (head is not None and head == last)
    if head is None:
        return
    if not last.sequence and head.sequence == 0 and head != last:
        yield ChainFault(0, "edited", "the head of the chain names no event, and has another hash than a new log has")
    elif head.sequence > last.sequence:
        yield _deleted(last.sequence + 1, head.sequence)
    elif head.sequence < last.sequence:
        yield ChainFault(
            head.sequence + 1,
            "added",
            f"events {head.sequence + 1} to {last.sequence} stand after the head of the chain, which is event "
            f"{head.sequence}: they were added without it",
        )
    elif not seen_head:
        yield ChainFault(
            head.sequence, "edited", f"event {head.sequence} is not the one that the head of the chain names"
        )


def _fits(event: Event, sequence: int | None = None) -> bool:
    """Whether an event fits its hash; a value that no event is recorded with fits none."""
    try:
        return hash_of(event, sequence) == event.hash
    except (ReviewError, RecursionError):
        return False


def _hash(fields: dict[str, Any]) -> str:
    own = {name: value for name, value in fields.items() if name != "previous_hash"}
    return hashlib.sha256(f"{fields['previous_hash']}\n{canonical(own)}".encode()).hexdigest()


def _written_at(event: Event, known: dict[str, int], head: Head | None) -> int | None:
    """Return the number under which an event was recorded that stands under another one; None if it was edited."""
    after = known.get(event.previous_hash)
    places = [after + 1] if after is not None else []
    end = (head.sequence if head else event.sequence) + 1
    near = range(max(1, event.sequence - _NEAR), min(end, event.sequence + _NEAR) + 1)
    return next((place for place in (*places, *near) if _fits(event, place)), None)


def _deleted(first: int, last: int) -> ChainFault:
    what = f"event {first} is" if first == last else f"events {first} to {last} are"
    return ChainFault(first, "deleted", f"{what} missing: deleted after being recorded")


def _edited(event: Event) -> ChainFault:
    return ChainFault(
        event.sequence,
        "edited",
        f"event {event.sequence} ({event.kind} by {event.reader} at {event.time_utc}) does not fit its hash: it was "
        "edited",
    )


def _moved(event: Event, place: int) -> ChainFault:
    return ChainFault(
        event.sequence, "reordered", f"event {event.sequence} was recorded as event {place}: the order was changed"
    )
