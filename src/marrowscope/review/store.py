"""The log of a review in its database: append, read, verify, back up, copy. It is only ever added to.

One thread writes: requests wait in a queue, those that wait together are committed together, and each is answered only
after its commit, so that nothing acknowledged is lost. The head row is locked first, so the chain stays one even where
several servers write to one PostgreSQL.
"""

from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.database import EVENTS, HEAD, open_engine, reading, writing
from marrowscope.review.events import ChainFault, Event, Head, canonical, chain_faults, chained
from marrowscope.review.fold import DECIDING
from marrowscope.review.migrations import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from marrowscope.review.events import Draft, Kind

_MOST_TOGETHER = 64
"""Requests that one commit holds at most."""
_ROWS_AT_ONCE = 2000
_SETTLING = ("sign", "audit_drawn", "assign")
"""Kinds of event that change which decisions are allowed."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What was recorded, and the head of the chain after it."""

    events: tuple[Event, ...]
    head: Head


class ConflictError(ReviewError):
    """Another reader decided about the same cells meanwhile; nothing was recorded."""

    def __init__(self, events: Sequence[Event]) -> None:
        """Keep the other reader's events."""
        readers = ", ".join(sorted({event.reader for event in events}))
        super().__init__(f"{readers} decided about the same cell meanwhile; look at that decision, then decide again")
        self.events = tuple(events)


class LockedError(ReviewError):
    """The patient is signed: decisions need an amendment first."""


class ChangedError(ReviewError):
    """The patient changed since it was looked at; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class _Request:
    drafts: tuple[Draft, ...]
    base: int | None
    unsigned_after: int | None
    alone_after: int | None
    done: Future[Appended]


class Store:
    """The log in one database; usable from several threads. ``close`` it at the end."""

    def __init__(self, url: str, *, reads_only: bool = False) -> None:
        """Open the database, and bring its schema to this version; a new one is made.

        With ``reads_only`` the database stays as it is: to export it, or to look at what may be tampered with.
        """
        self.engine = open_engine(url, reads_only=reads_only)
        if not reads_only:
            upgrade(self.engine)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="review-writer", daemon=True)
        self._writer.start()

    def append(
        self,
        drafts: Iterable[Draft],
        base: int | None = None,
        *,
        unsigned_after: int | None = None,
        alone_after: int | None = None,
    ) -> Appended:
        """Record ``drafts`` together, or none of them; returns after the commit.

        With ``base``, the number of the last event that the reader saw, ConflictError is raised where another reader
        decided about one of the cells after it. With ``unsigned_after``, LockedError is raised where a patient was
        signed after that event, and ChangedError where an audit was drawn or readers were assigned. With
        ``alone_after``, ChangedError is raised where anything was recorded about one of the patients after that event:
        what is to be recorded depends on the whole state.
        """
        if self._closed:
            message = "the review station is closing, and records nothing more; start it again"
            raise ReviewError(message)
        request = _Request(tuple(drafts), base, unsigned_after, alone_after, Future())
        self._requests.put(request)
        return request.done.result()

    def read(self, patient_id: str | None = None, after: int = 0) -> list[Event]:
        """Read the events after number ``after``, of one patient or of all, in their order."""
        return list(self.events(patient_id, after))

    def events(self, patient_id: str | None = None, after: int = 0, kind: Kind | None = None) -> Iterator[Event]:
        """Read events as ``read`` does, of one kind or of all, a few thousand in memory at a time."""
        with reading(self.engine) as connection:
            yield from read_events(connection, patient_id, after, kind)

    def head(self) -> Head:
        """Return the head of the chain; number 0 before any event."""
        with reading(self.engine) as connection:
            return head_of(connection)

    def verify(self) -> list[ChainFault]:
        """Name each event that was edited, deleted, moved or added; empty for a sound log."""
        with reading(self.engine) as connection:
            return list(chain_faults(read_events(connection), head_of(connection)))

    def close(self) -> None:
        """Record what waits, then close the database."""
        if self._closed:
            return
        self._closed = True
        self._requests.put(None)
        self._writer.join()
        self.engine.dispose()

    def _write(self) -> None:
        """Answer requests until the end: those that wait are committed together."""
        ends = False
        while not ends:
            waiting = [self._requests.get()]
            while len(waiting) < _MOST_TOGETHER:
                try:
                    waiting.append(self._requests.get_nowait())
                except queue.Empty:
                    break
            ends = None in waiting
            requests = [request for request in waiting if request is not None]
            if requests:
                self._commit(requests)

    def _commit(self, requests: list[_Request]) -> None:
        answers: list[tuple[_Request, Appended | Exception]] = []
        try:
            with writing(self.engine) as connection:
                head = head_of(connection, lock=True)
                for request in requests:
                    try:
                        answer = _append(connection, request, head)
                    except ReviewError as error:
                        answers.append((request, error))
                        continue
                    head = answer.head
                    answers.append((request, answer))
                connection.execute(HEAD.update().values(sequence=head.sequence, hash=head.hash))
        except Exception as error:  # noqa: BLE001  whatever the database raises belongs to those who wait for it
            answers = [(request, error) for request in requests]
        for request, outcome in answers:
            if isinstance(outcome, Exception):
                request.done.set_exception(outcome)
            else:
                request.done.set_result(outcome)


def _append(connection: sa.Connection, request: _Request, head: Head) -> Appended:
    """Add the events of one request, or raise before anything is added."""
    if request.base is not None and (others := _conflicts(connection, request.drafts, request.base)):
        raise ConflictError(others)
    if request.unsigned_after is not None:
        _refuse_signed(connection, request.drafts, request.unsigned_after)
    if request.alone_after is not None:
        _refuse_changed(connection, request.drafts, request.alone_after)
    events: list[Event] = []
    last = head
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    for draft in request.drafts:
        event = chained(draft, last, now)
        events.append(event)
        last = Head(event.sequence, event.hash)
    if events:
        connection.execute(EVENTS.insert(), [row_of(event) for event in events])
    return Appended(tuple(events), last)


def _conflicts(connection: sa.Connection, drafts: Sequence[Draft], base: int) -> list[Event]:
    """Return what other readers decided after ``base`` about the cells of ``drafts``."""
    found: list[Event] = []
    for patient_id in sorted({draft.patient_id for draft in drafts}):
        own = [draft for draft in drafts if draft.patient_id == patient_id]
        cells = {draft.cell_id for draft in own if draft.kind in DECIDING} | {
            name for draft in own if draft.kind == "merge" for name in draft.new["cells"]
        }
        readers = {draft.reader for draft in own}
        query = (
            sa.select(EVENTS)
            .where(
                EVENTS.c.patient_id == patient_id,
                EVENTS.c.sequence > base,
                EVENTS.c.kind.in_(sorted(DECIDING)),
                EVENTS.c.reader.not_in(sorted(readers)),
            )
            .order_by(EVENTS.c.sequence)
        )
        found += [event for event in map(_event, connection.execute(query)) if _touched(event) & cells]
    return found


def _refuse_signed(connection: sa.Connection, drafts: Sequence[Draft], after: int) -> None:
    """Refuse what was decided before a signature, an audit or an assignment that was recorded meanwhile.

    The drafts were checked without them: a cell of a fresh audit, for example, takes no other decision first.
    """
    patients = sorted({draft.patient_id for draft in drafts})
    query = sa.select(EVENTS.c.patient_id, EVENTS.c.kind, EVENTS.c.reader).where(
        EVENTS.c.patient_id.in_(patients), EVENTS.c.sequence > after, EVENTS.c.kind.in_(_SETTLING)
    )
    row = connection.execute(query.order_by(EVENTS.c.sequence).limit(1)).one_or_none()
    if row is None:
        return
    if row.kind == "sign":
        raise LockedError(locked_sentence(row.patient_id))
    message = f"{row.reader} recorded something about this patient meanwhile ({row.kind}); look at it, then try again"
    raise ChangedError(message)


def locked_sentence(patient_id: str) -> str:
    """Say that a signed patient takes no decision."""
    return f"patient {patient_id!r} is signed: no decision is recorded; amend the result first, with a reason"


def _refuse_changed(connection: sa.Connection, drafts: Sequence[Draft], after: int) -> None:
    patients = sorted({draft.patient_id for draft in drafts})
    query = sa.select(EVENTS.c.reader, EVENTS.c.kind, EVENTS.c.sequence).where(
        EVENTS.c.patient_id.in_(patients), EVENTS.c.sequence > after, EVENTS.c.kind != "open"
    )
    row = connection.execute(query.order_by(EVENTS.c.sequence.desc()).limit(1)).one_or_none()
    if row is not None:
        message = (
            f"{row.reader} recorded something about this patient meanwhile ({row.kind}); look at it, then try again"
        )
        raise ChangedError(message)


def _touched(event: Event) -> set[str | None]:
    return {event.cell_id, *(event.new["cells"] if event.kind == "merge" else ())}


def read_events(
    connection: sa.Connection, patient_id: str | None = None, after: int = 0, kind: Kind | None = None
) -> Iterator[Event]:
    """Read events on an open connection, as ``Store.events`` does."""
    query = sa.select(EVENTS).where(EVENTS.c.sequence > after).order_by(EVENTS.c.sequence)
    if patient_id is not None:
        query = query.where(EVENTS.c.patient_id == patient_id)
    if kind is not None:
        query = query.where(EVENTS.c.kind == kind)
    result = connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    yield from map(_event, result)


def head_of(connection: sa.Connection, *, lock: bool = False) -> Head:
    """Read the head of the chain; ``lock`` keeps others from adding to it until the transaction ends."""
    query = sa.select(HEAD.c.sequence, HEAD.c.hash)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        message = "found no head of the chain in the review database, expected one row; restore a backup"
        raise ReviewError(message)
    return Head(row.sequence, row.hash)


def row_of(event: Event) -> dict[str, Any]:
    """Return the row that the table of events holds of an event."""
    return {
        "sequence": event.sequence,
        "time_utc": event.time_utc,
        "reader": event.reader,
        "patient_id": event.patient_id,
        "cell_id": event.cell_id,
        "kind": event.kind,
        "old": canonical(event.old),
        "new": canonical(event.new),
        "model_value": canonical(event.model_value),
        "previous_hash": event.previous_hash,
        "hash": event.hash,
    }


def _event(row: Any) -> Event:  # noqa: ANN401 - a row of EVENTS
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name for a row as a mapping
    return Event(**{**values, **{name: _value(values[name]) for name in ("old", "new", "model_value")}})


def _value(text: str) -> Any:  # noqa: ANN401 - any value of JSON
    """Read a stored value; text that is no JSON, which only an edit leaves, is taken as text and fails its hash."""
    try:
        return json.loads(text)
    except ValueError:
        return {"edited": text}
