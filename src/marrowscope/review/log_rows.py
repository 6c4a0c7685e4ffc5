"""Events and the head of the chain as rows of the database, and the rows that no station writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.database import EVENTS, HEAD
from marrowscope.review.events import ChainFault, Event, Head, canonical
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from marrowscope.review.events import Kind

ROWS_AT_ONCE = 2000
"""Rows of a log in memory at a time."""


def read_events(
    connection: sa.Connection, patient_id: str | None = None, after: int = 0, kind: Kind | None = None
) -> Iterator[Event]:
    """Read events on an open connection, as ``Store.events`` does."""
    query = sa.select(EVENTS).where(EVENTS.c.sequence > after).order_by(EVENTS.c.sequence)
    if patient_id is not None:
        query = query.where(EVENTS.c.patient_id == patient_id)
    if kind is not None:
        query = query.where(EVENTS.c.kind == kind)
    result = connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    yield from map(event_of, result)


def head_of(connection: sa.Connection, *, lock: bool = False) -> Head:
    """Read the head of the chain; ``lock`` keeps others from adding to it until the transaction ends."""
    query = sa.select(HEAD.c.sequence, HEAD.c.hash)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    if len(rows) != 1:
        found = "no head" if not rows else count_of(len(rows), "head")
        message = f"found {found} of the chain in the review database, expected one row; restore a backup"
        raise ReviewError(message)
    row = rows[0]
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


def event_of(row: Any) -> Event:  # noqa: ANN401 - a row of EVENTS
    """Return the event that a row holds; one that was edited fails its hash."""
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name for a row as a mapping
    return Event(**{**values, **{name: value_of(values[name]) for name in ("old", "new", "model_value")}})


def value_of(text: str) -> Any:  # noqa: ANN401 - any value of JSON
    """Read a stored value; text that is no JSON, which only an edit leaves, is taken as text and fails its hash."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, TypeError, RecursionError):
        return {"edited": str(text)}


def _no_constant(name: str) -> NoReturn:
    message = f"{name} is no value of JSON"
    raise ValueError(message)


def sound_rows(rows: Iterable[Any], strange: list[ChainFault]) -> Iterator[Event]:
    """Give the events of rows that the station can have written; the others go to ``strange``, by their content."""
    for row in rows:
        values = row._mapping  # noqa: SLF001  SQLAlchemy's documented name for a row as a mapping
        number = values["sequence"]
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            sentence = f"a row has the number {number!r}, which no event has: it was added"
            strange.append(ChainFault(number if isinstance(number, int) else 0, "added", sentence))
        elif wrong := [name for name, value in values.items() if not _is_written(name, value)]:
            sentence = f"event {number} has no text that the station writes in {', '.join(wrong)}: it was edited"
            strange.append(ChainFault(number, "edited", sentence))
            yield event_of(row)
        else:
            yield event_of(row)


def _is_written(name: str, value: object) -> bool:
    """Whether a column holds what the station writes there: text, and canonical JSON where it holds values."""
    if name == "sequence" or (name == "cell_id" and value is None):
        return True
    if not isinstance(value, str):
        return False
    if name not in {"old", "new", "model_value"}:
        return True
    try:
        return canonical(value_of(value)) == value
    except (ReviewError, RecursionError):
        return False
