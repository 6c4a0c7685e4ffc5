"""The sessions of those who have entered, kept in the database.

A session is a random token in a cookie; the database holds only its SHA-256, so that a copy of the database opens no
session. It ends after eight hours without a request, after a day in any case, and with every change of its account.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from marrowscope.review.accounts import permissions_of
from marrowscope.review.database import SESSIONS, reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.review.accounts import Account, Permission, Role

IDLE = timedelta(hours=8)
LONGEST = timedelta(hours=24)
_SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has entered. ``csrf_token`` must come back in the header of every request that changes something."""

    reader: str
    full_name: str
    roles: frozenset[Role]
    csrf_token: str

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the roles allow together."""
        return permissions_of(self.roles)


def token_hash(token: str) -> str:
    """Return what the database keeps of a token."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def begin_session(engine: sa.Engine, account: str, now: datetime) -> str:
    """Begin a session and return its token; sessions that are over are removed."""
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": token_hash(token),
        "account": account,
        "csrf_token": secrets.token_urlsafe(32),
        "created_utc": now.isoformat(),
        "seen_utc": now.isoformat(),
    }
    with writing(engine) as connection:
        oldest = (now - LONGEST).isoformat()
        connection.execute(SESSIONS.delete().where(SESSIONS.c.created_utc < oldest))
        connection.execute(SESSIONS.insert().values(row))
    return token


def end_session(engine: sa.Engine, token: str) -> None:
    """End a session; nothing happens for one that has ended."""
    with writing(engine) as connection:
        connection.execute(SESSIONS.delete().where(SESSIONS.c.token_hash == token_hash(token)))


def find_session(engine: sa.Engine, token: str, who: Callable[[str], Account | None], now: datetime) -> Session | None:
    """Return the session of a token; None where there is none, it has ended, or ``who`` knows no active account."""
    key = token_hash(token)
    with reading(engine) as connection:
        row = connection.execute(sa.select(SESSIONS).where(SESSIONS.c.token_hash == key)).one_or_none()
    if row is None:
        return None
    seen, created = datetime.fromisoformat(row.seen_utc), datetime.fromisoformat(row.created_utc)
    if now - seen > IDLE or now - created > LONGEST:
        end_session(engine, token)
        return None
    account = who(row.account)
    if account is None or not account.is_active:
        end_session(engine, token)  # for good: it does not come back when the account is opened again
        return None
    if now - seen > _SEEN_EVERY:
        with writing(engine) as connection:
            connection.execute(SESSIONS.update().where(SESSIONS.c.token_hash == key).values(seen_utc=now.isoformat()))
    return Session(account.name, account.full_name, account.roles, row.csrf_token)
