"""A review database as a whole: backup while the station works, restore, and copy from SQLite to PostgreSQL or back.

The events are copied as they are, so the copy has the same hashes and the same head; it is verified before it counts.
Sessions and attempts to enter are not copied: a backup opens no session.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import sqlalchemy as sa

from marrowscope.disk import written_whole
from marrowscope.errors import ReviewError
from marrowscope.review.database import ACCOUNTS, EVENTS, HEAD, make_private_file, reading, sqlite_url, writing
from marrowscope.review.events import chain_faults
from marrowscope.review.migrations import upgrade
from marrowscope.review.store import Store, head_of, read_events, row_of
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.review.events import ChainFault, Head

_ROWS_AT_ONCE = 1000
_MOST_NAMED = 5


def back_up(store: Store, out: Path) -> Head:
    """Write the database to a new SQLite file, whole or not at all, while others go on writing to it.

    Returns the head of the copy. Raises ReviewError where ``out`` exists, or the log is not sound.
    """
    if out.exists():
        message = f"{out}: found a file there, expected a new name for the backup; choose another --out"
        raise ReviewError(message)
    with written_whole(out) as temporary:
        make_private_file(temporary)
        if store.engine.dialect.name == "sqlite":
            _copy_pages(store, temporary)
        else:
            target = Store(sqlite_url(temporary))
            try:
                copy(store, target)
            finally:
                target.close()
        target = Store(sqlite_url(temporary))
        try:
            require_sound(target.verify(), str(out))
            head = target.head()
        finally:
            target.close()
        with closing(sqlite3.connect(temporary)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a journal beside it
    return head


def copy(source: Store, target: Store) -> Head:
    """Copy every event and account to ``target``, which must be empty or an earlier state of ``source``.

    Returns the head that both have then. Raises ReviewError for a target with other events, and for a log that is not
    sound: a fault must not travel.
    """
    upgrade(target.engine)
    with reading(source.engine) as read:
        head = head_of(read)
        require_sound(list(chain_faults(read_events(read), head)), "the source")
        with writing(target.engine) as write:
            have = head_of(write, lock=True)
            if have.sequence and not _is_earlier(read, have):
                message = (
                    f"the target: found {count_of(have.sequence, 'event')} that the source does not have, expected an "
                    "empty database or an earlier copy; choose another"
                )
                raise ReviewError(message)
            rows = []
            for event in read_events(read, after=have.sequence):
                rows.append(row_of(event))
                if len(rows) == _ROWS_AT_ONCE:
                    write.execute(EVENTS.insert(), rows)
                    rows = []
            if rows:
                write.execute(EVENTS.insert(), rows)
            write.execute(HEAD.update().values(sequence=head.sequence, hash=head.hash))
            write.execute(ACCOUNTS.delete())
            if accounts := [dict(row) for row in read.execute(sa.select(ACCOUNTS)).mappings()]:
                write.execute(ACCOUNTS.insert(), accounts)
            require_sound(list(chain_faults(read_events(write), head)), "the copy")
    return head


def restore(backup: Path, out: Path) -> Head:
    """Make the database of a new station from a backup; ReviewError where there is one, or the backup is not sound."""
    if out.exists():
        message = f"{out}: found a database there, expected none: a restore replaces nothing; choose another --out"
        raise ReviewError(message)
    source = Store(sqlite_url(backup))
    try:
        return back_up(source, out)
    finally:
        source.close()


def require_sound(faults: Sequence[ChainFault], what: str) -> None:
    """Raise ReviewError that names the first faults of a log."""
    if faults:
        named = "; ".join(fault.sentence for fault in faults[:_MOST_NAMED])
        message = f"{what}: found {count_of(len(faults), 'fault')} in the log ({named}), expected a sound one"
        raise ReviewError(message)


def _is_earlier(read: sa.Connection, head: Head) -> bool:
    query = sa.select(EVENTS.c.hash).where(EVENTS.c.sequence == head.sequence)
    return read.scalar(query) == head.hash


def _copy_pages(store: Store, path: Path) -> None:
    """Copy a SQLite database as it stands at one moment, then drop what opens sessions."""
    with closing(sqlite3.connect(path)) as target:
        with reading(store.engine) as connection:
            source = connection.connection.driver_connection
            if not isinstance(source, sqlite3.Connection):
                message = "found a database that is not SQLite, expected one"
                raise ReviewError(message)
            source.backup(target)
        target.execute("DELETE FROM sessions")
        target.execute("DELETE FROM login_attempts")
        target.commit()
        target.execute("VACUUM")
