"""The log of a review in its database: append, read, verify, back up, copy. It is only ever added to.

One thread writes: requests wait in a queue, those that wait together are committed together, and each is answered only
after its commit, so that nothing acknowledged is lost. The head row is locked first, so the chain stays one even where
several servers write to one PostgreSQL.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.database import EVENTS, HEAD, open_engine, reading, writing
from marrowscope.review.events import DECIDING, GENESIS, ChainFault, Event, Head, chain_faults, chained
from marrowscope.review.log_rows import ROWS_AT_ONCE, event_of, head_of, read_events, row_of, sound_rows, value_of
from marrowscope.review.migrations import upgrade
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from marrowscope.review.events import Draft, Kind

_MOST_TOGETHER = 64
"""Requests that one commit holds at most."""
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


class TamperedError(ReviewError):
    """What was recorded was changed in the database since."""


class ReplacedError(ChangedError):
    """The patient is bound to another prediction than the one that was looked at; nothing was recorded."""

    def __init__(self, patient_id: str) -> None:
        """Say of which patient."""
        super().__init__(f"patient {patient_id!r}: the run under review was replaced; open the page again")


@dataclass(frozen=True, slots=True)
class _Request:
    drafts: tuple[Draft, ...]
    base: int | None
    unsigned_after: int | None
    alone_after: int | None
    bound: Mapping[str, int]
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
        bound: Mapping[str, int] | None = None,
    ) -> Appended:
        """Record ``drafts`` together, or none of them; returns after the commit.

        With ``base``, the number of the last event that the reader saw, ConflictError is raised where another reader
        decided about one of the cells after it, and ChangedError where another reader answered the same flag, checked
        the same field, or where a full review and a decision of different readers meet. With ``unsigned_after``, the
        event that the drafts were checked at, LockedError is raised where a patient was signed after it, and
        ChangedError where an audit was drawn, readers were assigned, or the same reader changed one of the cells. With
        ``alone_after``, ChangedError is raised where anything was recorded about one of the patients after that event:
        what is to be recorded depends on the whole state. ``bound`` gives patients the event that the caller knows as
        their last binding: ReplacedError is raised where a later one is recorded. ReviewError for a number beyond the
        last event.
        """
        if self._closed:
            message = "the review station is closing, and records nothing more; start it again"
            raise ReviewError(message)
        request = _Request(tuple(drafts), base, unsigned_after, alone_after, bound or {}, Future())
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

    def head_if_one(self) -> Head | None:
        """Return the head of the chain; None where the database holds none, or several, which only an edit leaves."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(HEAD.c.sequence, HEAD.c.hash)).all()
        return Head(rows[0].sequence, rows[0].hash) if len(rows) == 1 else None

    def number_of(self, own_hash: str) -> int | None:
        """Return the number of the event that has this hash; None where there is none."""
        with reading(self.engine) as connection:
            row = connection.execute(sa.select(EVENTS.c.sequence).where(EVENTS.c.hash == own_hash)).first()
        return row.sequence if row is not None and isinstance(row.sequence, int) else None

    def verify(self) -> list[ChainFault]:
        """Name each event that was edited, deleted, moved or added; empty for a sound log.

        A tail that was deleted, with the head set back, leaves a chain that is sound: only the head that was noted
        elsewhere, in a signed document for example, tells of it.
        """
        with reading(self.engine) as connection:
            heads = [Head(row.sequence, row.hash) for row in connection.execute(sa.select(HEAD).order_by(HEAD.c.id))]
            rows = connection.execute(sa.select(EVENTS).order_by(EVENTS.c.sequence)).yield_per(ROWS_AT_ONCE)
            strange: list[ChainFault] = []
            faults = list(chain_faults(sound_rows(rows, strange), heads[0] if len(heads) == 1 else None))
        if len(heads) != 1:
            sentence = f"the log has {count_of(len(heads), 'head')} of the chain, and must have one"
            strange.append(ChainFault(0, "added" if heads else "deleted", sentence))
        named = {fault.sequence for fault in faults}
        return [*(fault for fault in strange if fault.kind != "edited" or fault.sequence not in named), *faults]

    def signed_event(self, sequence: int) -> Event:
        """Return a signing event as it was recorded; ReviewError where it, or the chain after it, was changed since."""
        with reading(self.engine) as connection:
            before = connection.execute(
                sa.select(EVENTS.c.sequence, EVENTS.c.hash).where(EVENTS.c.sequence == sequence - 1)
            ).one_or_none()
            last = Head(before.sequence, before.hash) if before else Head(0, GENESIS)
            events = list(read_events(connection, after=sequence - 1))
            fault = next(iter(chain_faults(events, head_of(connection), last)), None)
        if fault is not None or not events or events[0].sequence != sequence:
            said = fault.sentence if fault else f"event {sequence} is missing"
            message = (
                f"the signed result is not shown: {said}; ask `marrowscope review verify` what was changed, and "
                "restore a backup"
            )
            raise TamperedError(message)
        return events[0]

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
    for number in (request.base, request.unsigned_after, request.alone_after):
        if number is not None and number > head.sequence:
            refuse_unseen(number, head)
    _refuse_replaced(connection, request.bound)
    if request.base is not None:
        _refuse_conflicts(connection, request.drafts, request.base)
    if request.unsigned_after is not None:
        _refuse_signed(connection, request.drafts, request.unsigned_after)
        _refuse_own(connection, request.drafts, request.unsigned_after)
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


def refuse_unseen(number: int, head: Head) -> NoReturn:
    """Raise ReviewError for the number of an event that nobody can have seen: it is not recorded yet."""
    message = f"found base {number}, expected at most {head.sequence}, the last event of the log; open the page again"
    raise ReviewError(message)


def _refuse_replaced(connection: sa.Connection, bound: Mapping[str, int]) -> None:
    """Refuse what is about a patient that was bound again after the event that the caller knows."""
    if not bound:
        return
    query = (
        sa.select(EVENTS.c.new)
        .where(EVENTS.c.kind == "bind", EVENTS.c.patient_id.in_(["", *sorted(bound)]))
        .where(EVENTS.c.sequence > sa.bindparam("n"))
        .order_by(EVENTS.c.sequence)
    )
    for known in sorted(set(bound.values())):
        own = {name for name, sequence in bound.items() if sequence == known}
        for row in connection.execute(query, {"n": known}):
            if found := own.intersection(value_of(row.new).get("patients", ())):
                raise ReplacedError(min(found))


def _refuse_conflicts(connection: sa.Connection, drafts: Sequence[Draft], base: int) -> None:
    """Refuse what another reader's events after ``base`` are in the way of: the drafts were made without them."""
    others = [event for _, events in _since(connection, drafts, base, by_others=True) for event in events]
    own_cells = {(draft.patient_id, name) for draft in drafts for name in _cells_of(draft)}
    if on_cells := [e for e in others if any((e.patient_id, name) in own_cells for name in _cells_of(e))]:
        raise ConflictError(on_cells)
    own = {(draft.patient_id, subject) for draft in drafts for subject in _subjects_of(draft)}
    for event in others:
        if any((event.patient_id, subject) in own for subject in _meets(event)):
            raise _changed(event.reader, event.kind)


def _refuse_own(connection: sa.Connection, drafts: Sequence[Draft], after: int) -> None:
    """Refuse a second decision of one reader, sent beside the first, about a cell that is no longer as it was."""
    for own, events in _since(connection, drafts, after, by_others=False):
        cells = {name for draft in own for name in _cells_of(draft)}
        for event in events:
            if event.kind != "relabel" and cells & _cells_of(event):
                raise _changed(event.reader, event.kind)


def _since(
    connection: sa.Connection, drafts: Sequence[Draft], after: int, *, by_others: bool
) -> Iterator[tuple[list[Draft], list[Event]]]:
    """Give the drafts of each patient, with what their readers, or others, recorded about it after an event."""
    for patient_id in sorted({draft.patient_id for draft in drafts}):
        own = [draft for draft in drafts if draft.patient_id == patient_id]
        readers = sorted({draft.reader for draft in own})
        by = EVENTS.c.reader.not_in(readers) if by_others else EVENTS.c.reader.in_(readers)
        query = sa.select(EVENTS).where(EVENTS.c.patient_id == patient_id, EVENTS.c.sequence > after, by)
        yield own, [event_of(row) for row in connection.execute(query.order_by(EVENTS.c.sequence))]


def _cells_of(item: Draft | Event) -> set[str]:
    """Return the cells that something is decided about; none for what is about the patient as a whole."""
    if item.kind not in DECIDING:
        return set()
    return {item.cell_id or "", *(item.new["cells"] if item.kind == "merge" else ())}


def _subjects_of(item: Draft | Event) -> set[tuple[str, str]]:
    """Return what else can be said by one reader at a time: a flag's answer, a field's check, a full review."""
    if item.kind in DECIDING:
        return {("cells", "")}
    if item.kind == "flag_answered":
        return {("flag", item.new["flag"])}
    if item.kind == "smears_stated":
        return {("smears", "")}
    if item.kind == "field_checked":
        return {("field", item.new["field_id"])}
    if item.kind == "comment" and item.new.get("about") is not None and item.cell_id is None:
        return {("about", item.new["about"])}
    return {("full_review", "")} if item.kind == "full_review" else set()


def _meets(event: Event) -> set[tuple[str, str]]:
    """Return the subjects that an event is in the way of: a full review is about all cells."""
    found = _subjects_of(event)
    if event.kind in DECIDING:
        return {("full_review", "")}
    return found | {("cells", "")} if event.kind == "full_review" else found


def _changed(reader: str, kind: str) -> ChangedError:
    return ChangedError(
        f"{reader} recorded something about this patient meanwhile ({kind}); look at it, then try again"
    )


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
    raise _changed(row.reader, row.kind)


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
        raise _changed(row.reader, row.kind)
