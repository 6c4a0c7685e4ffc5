"""A review database as a whole: backup while the station works, restore, and copy from SQLite to PostgreSQL or back.

The events are copied as they are, so the copy has the same hashes and the same head; it is verified before it counts.
Accounts go along, closed ones closed. Sessions and attempts to enter are not copied: a backup opens no session.

Nothing is ever replaced. A target that is whole and the same already, as where a call was killed after its last step,
is what was asked for: the same call ends well.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from marrowscope.disk import written_whole
from marrowscope.errors import ReviewError
from marrowscope.review.database import ACCOUNTS, EVENTS, HEAD, make_private_file, reading, sqlite_url, writing
from marrowscope.review.events import chain_faults
from marrowscope.review.log_rows import head_of, read_events, row_of
from marrowscope.review.migrations import upgrade
from marrowscope.review.store import Store
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.review.events import ChainFault, Head

_ROWS_AT_ONCE = 1000
_MOST_NAMED = 5
_Stated: TypeAlias = "tuple[tuple[tuple[object, ...], ...], ...]"
_KEPT = (HEAD, ACCOUNTS)
"""Tables that, beside the events that the head stands for, are what a copy keeps."""


def back_up(store: Store, out: Path) -> Head:
    """Write the database to a new SQLite file, whole or not at all, while others go on writing to it.

    Returns the head of the copy. Raises ReviewError where ``out`` exists and is no backup of the database as it stands,
    or the log is not sound.
    """
    if out.exists():
        if (made := _head_of_same(out, _stated(store.engine))) is not None:
            return made
        message = f"{out}: found a file there, expected a new name for the backup; choose another --out"
        raise ReviewError(message)
    with written_whole(out) as temporary:
        make_private_file(temporary)
        if store.engine.dialect.name == "sqlite":
            with reading(store.engine) as connection:
                source = connection.connection.driver_connection
                if not isinstance(source, sqlite3.Connection):
                    message = "found a database that is not SQLite, expected one"
                    raise ReviewError(message)
                _copy_pages(source, temporary)
        else:
            target = Store(sqlite_url(temporary))
            try:
                copy(store, target)
            finally:
                target.close()
        return _sound_file(temporary, out)


def copy(source: Store, target: Store) -> Head:
    """Copy every event and account to ``target``, which must be empty: a copy writes over nothing.

    Returns the head that both have then. Raises ReviewError for a target that holds another event or account, and for a
    log that is not sound: a fault must not travel.
    """
    upgrade(target.engine)
    with reading(source.engine) as read:
        head = head_of(read)
        require_sound(list(chain_faults(read_events(read), head)), "the source")
        if head.sequence and _stated(target.engine) == _stated(source.engine):
            require_sound(target.verify(), "the target")
            return head  # copied by an earlier call
        with writing(target.engine) as write:
            _refuse_filled(write)
            rows = []
            for event in read_events(read):
                rows.append(row_of(event))
                if len(rows) == _ROWS_AT_ONCE:
                    write.execute(EVENTS.insert(), rows)
                    rows = []
            if rows:
                write.execute(EVENTS.insert(), rows)
            write.execute(HEAD.update().values(sequence=head.sequence, hash=head.hash))
            if accounts := [dict(row) for row in read.execute(sa.select(ACCOUNTS)).mappings()]:
                write.execute(ACCOUNTS.insert(), accounts)
            require_sound(list(chain_faults(read_events(write), head)), "the copy")
    return head


def restore(backup: Path, out: Path) -> Head:
    """Make the database of a new station from a backup alone, which is only read: it may lie where nobody can write.

    Raises ReviewError where there is another database already, and for a file that is no backup or is not sound.
    """
    if out.exists():
        with closing(_opened_backup(backup)) as source:
            stated = None if out.samefile(backup) else _stated_in_file(source)
        if stated is not None and (made := _head_of_same(out, stated)) is not None:
            return made
        message = f"{out}: found a database there, expected none: a restore replaces nothing; choose another --out"
        raise ReviewError(message)
    with closing(_opened_backup(backup)) as source, written_whole(out) as temporary:
        make_private_file(temporary)
        _copy_pages(source, temporary)
        return _sound_file(temporary, out)


def _stated(engine: sa.Engine) -> _Stated:
    """Return the head and the accounts of a database; equal heads of sound logs are equal logs."""
    with reading(engine) as connection:
        return tuple(tuple(tuple(row) for row in connection.execute(_rows_of(table))) for table in _KEPT)


def _stated_in_file(connection: sqlite3.Connection) -> _Stated | None:
    """Return what ``_stated`` does of an opened backup; None where an earlier version wrote it."""
    try:
        return tuple(tuple(connection.execute(str(_rows_of(table))).fetchall()) for table in _KEPT)
    except sqlite3.Error:
        return None


def _rows_of(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(*table.primary_key)


def _head_of_same(path: Path, stated: _Stated) -> Head | None:
    """Return the head of the SQLite file ``path`` where it holds what is ``stated``, and is sound; None otherwise."""
    try:
        store = Store(sqlite_url(path), reads_only=True)
        try:
            return store.head() if _stated(store.engine) == stated and not store.verify() else None
        finally:
            store.close()
    except ReviewError:
        return None  # no database, or none that can be read


def require_sound(faults: Sequence[ChainFault], what: str) -> None:
    """Raise ReviewError that names the first faults of a log."""
    if faults:
        named = "; ".join(fault.sentence for fault in faults[:_MOST_NAMED])
        message = f"{what}: found {count_of(len(faults), 'fault')} in the log ({named}), expected a sound one"
        raise ReviewError(message)


def _refuse_filled(write: sa.Connection) -> None:
    """Raise ReviewError that names what a target holds already."""
    head_of(write, lock=True)
    n_events = write.scalar(sa.select(sa.func.count()).select_from(EVENTS)) or 0
    names = write.scalars(sa.select(ACCOUNTS.c.name).order_by(ACCOUNTS.c.name)).all()
    found = [count_of(n_events, "event")] if n_events else []
    if names:
        more = ", ..." if len(names) > _MOST_NAMED else ""
        found.append(f"{count_of(len(names), 'account')} ({', '.join(names[:_MOST_NAMED])}{more})")
    if found:
        message = f"the target: found {' and '.join(found)}, expected an empty database; choose another"
        raise ReviewError(message)


def _opened_backup(path: Path) -> sqlite3.Connection:
    """Open the file of a backup for reading alone; ReviewError for anything else."""
    if not path.is_file():
        message = f"{path}: found no file there, expected one written by `marrowscope review backup`"
        raise ReviewError(message)
    has_journal = path.with_name(f"{path.name}-wal").exists()  # a copy of a station's own files has one
    address = f"{path.resolve().as_uri()}?mode=ro{'' if has_journal else '&immutable=1'}"
    connection = sqlite3.connect(address, uri=True)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        connection.close()
        message = f"{path}: found no database ({error}), expected a file written by `marrowscope review backup`"
        raise ReviewError(message) from error
    if not {EVENTS.name, HEAD.name} <= tables:
        connection.close()
        message = f"{path}: found a database without a review, expected one written by `marrowscope review backup`"
        raise ReviewError(message)
    return connection


def _sound_file(path: Path, named: Path) -> Head:
    """Bring a copied database to this version, check its log, leave it as one file, and return its head."""
    store = Store(sqlite_url(path))
    try:
        require_sound(store.verify(), str(named))
        head = store.head()
    finally:
        store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, without a journal beside it
    return head


def _copy_pages(source: sqlite3.Connection, path: Path) -> None:
    """Copy a SQLite database as it stands at one moment, then drop what opens sessions."""
    with closing(sqlite3.connect(path)) as target:
        try:
            source.backup(target)
            target.execute("DELETE FROM sessions")
            target.execute("DELETE FROM login_attempts")
            target.commit()
            target.execute("VACUUM")
        except sqlite3.Error as error:
            message = f"the review database cannot be copied ({error}); check it with `marrowscope review verify`"
            raise ReviewError(message) from error
