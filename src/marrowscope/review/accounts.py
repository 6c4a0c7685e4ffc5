"""Accounts: who may do what, and how they prove who they are.

Passwords are kept as argon2id hashes. Attempts to enter are counted by account and by address in the database, so that
neither another process nor a restart forgets them; an attempt on an unknown name takes as long as one on a known name.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from marrowscope.errors import ReviewError
from marrowscope.review.database import ACCOUNTS, ATTEMPTS, SESSIONS, alone, reading, writing
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Role = Literal["reader", "signer", "auditor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
Permission = Literal["see", "decide", "sign", "compare", "inspect", "manage"]
"""see patients and cells; decide about cells; sign, amend and adjudicate; compare readers; inspect the log; manage
accounts and runs."""

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "reader": frozenset({"see", "decide"}),
    "signer": frozenset({"see", "decide", "sign", "compare"}),
    "auditor": frozenset({"see", "compare", "inspect"}),
    "admin": frozenset({"manage"}),
}

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 128
ATTEMPTS_WITHIN = timedelta(minutes=15)
MOST_BY_ACCOUNT, MOST_BY_ADDRESS = 5, 30
_LONGEST_NAME = 100
_ATTEMPTS_LOCK, _ACCOUNTS_LOCK = 7_360_483, 7_360_484
"""Numbers of the locks on PostgreSQL: what is counted or checked stays so until the transaction ends."""

_HASHER = PasswordHasher()
"""argon2id with the parameters that its RFC recommends where memory is scarce: 64 MiB, three passes."""
_NOBODYS_HASH = _HASHER.hash("nobody has this password")


@dataclass(frozen=True, slots=True)
class Account:
    """One person; ``subject`` is the person's name at the single sign-on, None without it."""

    name: str
    full_name: str
    roles: frozenset[Role]
    is_active: bool
    has_password: bool
    subject: str | None = None


class TooManyAttemptsError(ReviewError):
    """Too many failed attempts to enter, of one account or from one address."""


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """Return what roles allow together."""
    return frozenset[Permission]().union(*(PERMISSIONS[role] for role in roles))


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


def add_account(
    engine: sa.Engine,
    name: str,
    roles: Collection[str],
    *,
    full_name: str = "",
    password: str | None = None,
    subject: str | None = None,
) -> None:
    """Make an account. Raises ReviewError for a name that is taken or no name, an unknown role, a poor password."""
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable() or name != name.strip():
        message = f"found the account name {name!r}, expected 1 to {_LONGEST_NAME} printable characters"
        raise ReviewError(message)
    row = {
        "name": name,
        "full_name": full_name or name,
        "roles": _joined(roles),
        "password_hash": None if password is None else hash_password(password, name),
        "subject": subject,
        "active": True,
        "created_utc": utc_now().isoformat(),
    }
    with writing(engine) as connection:
        alone(connection, _ACCOUNTS_LOCK)
        same_name = connection.scalar(sa.select(ACCOUNTS.c.name).where(ACCOUNTS.c.name == name))
        same_subject = subject and connection.scalar(sa.select(ACCOUNTS.c.name).where(ACCOUNTS.c.subject == subject))
        if taken := same_name or same_subject:
            message = f"found an account {taken!r} already, expected a new one; choose another name, or change that one"
            raise ReviewError(message)
        connection.execute(ACCOUNTS.insert().values(row))


def is_made(
    engine: sa.Engine,
    name: str,
    roles: Collection[str],
    *,
    full_name: str = "",
    password: str | None = None,
    subject: str | None = None,
) -> bool:
    """Say whether the account that ``add_account`` would make is there, as where a call was killed after that.

    For the command line alone, whose caller holds the database: through the station, passwords could be guessed.
    """
    with reading(engine) as connection:
        row = connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.name == name)).first()
    if row is None or not row.active:
        return False
    known = row.password_hash
    fits = known is None if password is None else known is not None and _fits(known, password)
    return fits and (row.full_name, row.roles, row.subject) == (full_name or name, _joined(roles), subject)


def change_account(
    engine: sa.Engine,
    name: str,
    *,
    roles: Collection[str] | None = None,
    password: str | None = None,
    is_active: bool | None = None,
) -> None:
    """Change an account and end its sessions. Raises ReviewError for one that is not there, and as ``add_account``.

    The last active admin stays one: nobody could give the role back.
    """
    values: dict[str, object] = {}
    if roles is not None:
        values["roles"] = _joined(roles)
    if password is not None:
        values["password_hash"] = hash_password(password, name)
    if is_active is not None:
        values["active"] = is_active
    with writing(engine) as connection:
        alone(connection, _ACCOUNTS_LOCK)
        if connection.scalar(sa.select(ACCOUNTS.c.name).where(ACCOUNTS.c.name == name)) is None:
            message = f"found no account {name!r}, expected one that was added"
            raise ReviewError(message)
        if values:
            connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.name == name).values(values))
        rows = connection.execute(sa.select(ACCOUNTS.c.roles).where(ACCOUNTS.c.active)).scalars()
        if ("active" in values or "roles" in values) and not any("admin" in row.split() for row in rows):
            message = f"account {name!r} is the last admin, expected one to stay; make another admin first"
            raise ReviewError(message)
        connection.execute(SESSIONS.delete().where(SESSIONS.c.account == name))


def read_accounts(engine: sa.Engine) -> list[Account]:
    """Return every account, by name."""
    with reading(engine) as connection:
        return [_account(row) for row in connection.execute(sa.select(ACCOUNTS).order_by(ACCOUNTS.c.name))]


def find_account(engine: sa.Engine, name: str | None = None, *, subject: str | None = None) -> Account | None:
    """Return an account by its name, or by its subject at the single sign-on; None where there is none."""
    where = ACCOUNTS.c.name == name if subject is None else ACCOUNTS.c.subject == subject
    with reading(engine) as connection:
        row = connection.execute(sa.select(ACCOUNTS).where(where)).one_or_none()
    return None if row is None else _account(row)


def check_password(engine: sa.Engine, name: str, password: str, address: str, now: datetime) -> Account | None:
    """Return the account whose password this is, None for a wrong name or password.

    Raises TooManyAttemptsError after five failures of an account, or thirty from an address, in a quarter of an hour.
    """
    name = name.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL has no such character, no account either
    sources = {f"account {name[:_LONGEST_NAME]}": MOST_BY_ACCOUNT, f"address {address}": MOST_BY_ADDRESS}
    mark = f"{now.isoformat()} {secrets.token_hex(8)}"  # names this attempt among those of the same moment
    since = (now - ATTEMPTS_WITHIN).isoformat()
    with writing(engine) as connection:  # counted before the password is tried: no two attempts share a place
        alone(connection, _ATTEMPTS_LOCK)
        connection.execute(ATTEMPTS.delete().where(ATTEMPTS.c.time_utc < since))
        for source, most in sources.items():
            n = connection.scalar(sa.select(sa.func.count()).where(ATTEMPTS.c.source == source)) or 0
            if n >= most:
                minutes = int(ATTEMPTS_WITHIN.total_seconds() // 60)
                message = f"too many failed attempts to enter; wait {minutes} minutes"
                raise TooManyAttemptsError(message)
        connection.execute(ATTEMPTS.insert(), [{"source": source, "time_utc": mark} for source in sources])
    with reading(engine) as connection:
        row = connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.name == name)).one_or_none()
    known = _NOBODYS_HASH if row is None or row.password_hash is None else row.password_hash
    fits = _fits(known, password[:LONGEST_PASSWORD]) and len(password) <= LONGEST_PASSWORD
    if not fits or row is None or row.password_hash is None or not row.active:
        return None
    with writing(engine) as connection:
        forgotten = (ATTEMPTS.c.source == f"account {name}") | (ATTEMPTS.c.time_utc == mark)
        connection.execute(ATTEMPTS.delete().where(forgotten))  # of the address, only this one: it did not fail
        if _HASHER.check_needs_rehash(row.password_hash):
            renewed = ACCOUNTS.update().where(ACCOUNTS.c.name == name).values(password_hash=_HASHER.hash(password))
            connection.execute(renewed)
    return _account(row)


def hash_password(password: str, name: str) -> str:
    """Return the argon2id hash of a new password; ReviewError for one that is short, long, or holds the name."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        message = (
            f"found a password of {count_of(len(password), 'character')}, expected {SHORTEST_PASSWORD} to "
            f"{LONGEST_PASSWORD}; several words are easier to keep than signs"
        )
        raise ReviewError(message)
    if name.casefold() in password.casefold() or len(set(password)) < SHORTEST_PASSWORD // 3:
        message = "found a password that holds the account's name or hardly differing characters; choose another"
        raise ReviewError(message)
    return _HASHER.hash(password)


def _fits(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False


def _joined(roles: Collection[str]) -> str:
    if unknown := sorted(set(roles) - set(ROLES)):
        message = f"found role {unknown[0]!r}, expected some of {', '.join(ROLES)}"
        raise ReviewError(message)
    return " ".join(role for role in ROLES if role in roles)


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    known = row._mapping  # noqa: SLF001  SQLAlchemy's documented name for a row as a mapping
    return Account(
        name=known["name"],
        full_name=known["full_name"],
        roles=frozenset(role for role in ROLES if role in known["roles"].split()),
        is_active=bool(known["active"]),
        has_password=known["password_hash"] is not None,
        subject=known["subject"],
    )
