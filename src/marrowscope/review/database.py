"""The database of a review: its tables, and engines for SQLite and PostgreSQL.

SQLite is opened in WAL with ``synchronous = FULL``, and a writing transaction begins with BEGIN IMMEDIATE, so it never
has to turn a reading lock into a writing one. On PostgreSQL the row of the head is locked instead. Values are stored as
canonical JSON text, so both databases hold the same bytes and give the same hashes.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event

from marrowscope.errors import ReviewError

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = sa.MetaData()
_HASH = sa.String(64)

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_utc", sa.Text, nullable=False),
    sa.Column("reader", sa.Text, nullable=False),
    sa.Column("patient_id", sa.Text, nullable=False),
    sa.Column("cell_id", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("old", sa.Text, nullable=False),
    sa.Column("new", sa.Text, nullable=False),
    sa.Column("model_value", sa.Text, nullable=False),
    sa.Column("previous_hash", _HASH, nullable=False),
    sa.Column("hash", _HASH, nullable=False),
    sa.Index("events_by_patient", "patient_id", "sequence"),
    sa.Index("events_by_cell", "patient_id", "cell_id", "sequence"),
)
HEAD = sa.Table(
    "head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("hash", _HASH, nullable=False),
)
ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text),
    sa.Column("subject", sa.Text, unique=True),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("created_utc", sa.Text, nullable=False),
)
SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("token_hash", _HASH, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("csrf_token", sa.Text, nullable=False),
    sa.Column("created_utc", sa.Text, nullable=False),
    sa.Column("seen_utc", sa.Text, nullable=False),
)
ATTEMPTS = sa.Table(
    "login_attempts",
    METADATA,
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("time_utc", sa.Text, nullable=False),
    sa.Index("attempts_by_source", "source", "time_utc"),
)

LARGEST_NUMBER = 2**63 - 1
"""The largest number of an event that a database holds."""

BUSY_S = 30.0
"""Seconds that a transaction waits for another one's end on SQLite."""
_IMMEDIATE = "begin_immediate"


class DatabaseDownError(ReviewError):
    """The database cannot be reached, read or written to now: nothing is said about what was asked of it."""


def sqlite_url(path: Path) -> str:
    """Return the address of a SQLite file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def open_engine(url: str, *, reads_only: bool = False) -> sa.Engine:
    """Open a database by its address; ReviewError for one that is neither SQLite nor PostgreSQL through psycopg.

    With ``reads_only``, the database itself refuses whatever would change it.
    """
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        message = f"found no address of a database in {url!r}, expected postgresql+psycopg://user@host/name"
        raise ReviewError(message) from error
    if address.drivername == "postgresql+psycopg":
        options = {"options": "-c default_transaction_read_only=on"} if reads_only else {}
        return sa.create_engine(address, pool_size=10, max_overflow=20, pool_pre_ping=True, connect_args=options)
    if address.drivername != "sqlite" or not address.database:
        message = f"found a database of {address.drivername}, expected a SQLite file or postgresql+psycopg://"
        raise ReviewError(message)
    engine = sa.create_engine(address, creator=_Connector(Path(address.database), makes=not reads_only))
    sa_event.listen(engine, "connect", _set_up_sqlite_to_read if reads_only else _set_up_sqlite)
    sa_event.listen(engine, "begin", _begin_sqlite)
    return engine


class _Connector:
    """Opens a SQLite file; the first time it may make it. One that is gone later is not made anew, empty.

    On a read-only disk SQLite cannot lay its journal beside a file; where there is none, nobody writes to that file,
    and it is read as it stands.
    """

    def __init__(self, path: Path, *, makes: bool) -> None:
        self._address = path.absolute().as_uri()
        is_kept = not makes and _is_on_read_only_disk(path) and not path.with_name(f"{path.name}-wal").exists()
        self._mode = "rwc" if makes else "ro&immutable=1" if is_kept else "rw"

    def __call__(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._address}?mode={self._mode}", uri=True, check_same_thread=False)
        connection.execute("PRAGMA schema_version")  # opens the file, which connecting alone does not
        self._mode = "rw" if self._mode == "rwc" else self._mode
        return connection


def _is_on_read_only_disk(path: Path) -> bool:
    """Say whether a file lies on a disk that is mounted for reading alone; False where the system does not tell."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (AttributeError, OSError):  # Windows, or no such file
        return False


def make_private_file(path: Path) -> None:
    """Make an empty file that only its owner can read, where there is none: SQLite keeps its permissions."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DB-API connection
    connection.isolation_level = None  # the driver begins nothing by itself; ``_begin_sqlite`` does
    connection.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_S)}")
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {setting}")


def _set_up_sqlite_to_read(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DB-API connection
    connection.isolation_level = None
    for setting in (f"busy_timeout = {round(1000 * BUSY_S)}", "trusted_schema = OFF", "query_only = ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection that reads one consistent state; database errors become a sentence."""
    with _said(), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection whose changes are committed at the end, or all undone."""
    with _said(), engine.connect().execution_options(**{_IMMEDIATE: True}) as connection, connection.begin():
        yield connection


def alone(connection: sa.Connection, lock: int) -> None:
    """Hold a lock of this number until the transaction ends; on SQLite, each writing transaction is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))


@contextmanager
def _said() -> Iterator[None]:
    """Raise a ReviewError for what a database raises: the sentence of its driver, without statement.

    A value that it does not take is refused; whatever else fails is the database's, DatabaseDownError.
    """
    try:
        yield
    except sa.exc.DataError as error:
        message = "found a value that the review database does not take (unprintable or too large); change it"
        raise ReviewError(message) from error
    except sa.exc.IntegrityError as error:
        message = (
            f"the review database refused a change ({' '.join(str(error.orig).split())}), expected one that it allows"
        )
        raise ReviewError(message) from error
    except sa.exc.DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        message = f"the review database refused ({reason}); check that it can be reached and written to"
        raise DatabaseDownError(message) from error
    except sa.exc.SQLAlchemyError as error:
        message = f"the review database cannot be used ({' '.join(str(error).split())})"
        raise DatabaseDownError(message) from error
