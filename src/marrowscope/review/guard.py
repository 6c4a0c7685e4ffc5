"""Who may ask for what: every route states a permission, and a request without it is refused before its function runs.

A request that changes something must carry the session's CSRF token in its header, and come from the station's own
pages.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Literal

from fastapi import Request

from marrowscope.review.accounts import utc_now
from marrowscope.review.sessions import Session, find_session

if TYPE_CHECKING:
    from marrowscope.review.accounts import Permission
    from marrowscope.review.station import Station

COOKIE = "marrowscope_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class RefusedError(Exception):
    """A request that is not answered: the status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        """Keep both."""
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def station_of(request: Request) -> Station:
    """Return the station that a request is about."""
    station: Station = request.app.state.station
    return station


def session_of(request: Request) -> Session | None:
    """Return the session of a request; None without one that is valid."""
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    station = station_of(request)
    return find_session(station.store.engine, token, station.entered_as, utc_now())


def address_of(request: Request) -> str:
    """Return the address that a request comes from; empty where the server knows none."""
    return "" if request.client is None else request.client.host


class Guard:
    """A dependency of a route: lets a request pass that has ``permission``, and gives its session."""

    def __init__(self, permission: Permission | Literal["enter"]) -> None:
        """``enter`` is for everybody who has entered, whatever the role."""
        self.permission = permission

    def __call__(self, request: Request) -> Session:
        """Return the session, or raise RefusedError: 401 without one, 403 without permission or CSRF token."""
        session = session_of(request)
        if session is None:
            raise RefusedError(401, "nobody has entered with this browser, or the session has ended; enter again")
        if self.permission != "enter" and self.permission not in session.permissions:
            roles = ", ".join(sorted(session.roles)) or "no role"
            sentence = f"{session.reader} ({roles}) may not do this: it needs the permission to {self.permission}"
            raise RefusedError(403, sentence)
        if request.method not in _SAFE_METHODS:
            check_origin(request)
            if not _equal(request.headers.get(CSRF_HEADER, ""), session.csrf_token):
                raise RefusedError(403, f"found no valid {CSRF_HEADER} in the request; load the page again")
        return session


class Public:
    """A dependency that says that a route is for everybody; it lets every request pass."""

    permission = "public"

    def __call__(self, request: Request) -> None:
        """Let a reading request pass, and a changing one from the station's own pages."""
        if request.method not in _SAFE_METHODS:
            check_origin(request)


SEE, DECIDE, SIGN = Guard("see"), Guard("decide"), Guard("sign")
COMPARE, INSPECT, MANAGE = Guard("compare"), Guard("inspect"), Guard("manage")
ENTER, PUBLIC = Guard("enter"), Public()


def unblinded(request: Request, patient_id: str, session: Session) -> Station:
    """Return the station for what a blinded reader must not see; RefusedError for one."""
    station = station_of(request)
    if station.seen_by(patient_id, session).is_blinded:
        raise RefusedError(
            403, f"patient {patient_id!r} is assigned to {session.reader} without the calls of machine and others"
        )
    return station


def impartial(request: Request, patient_id: str, session: Session) -> Station:
    """Return the station for one who adjudicates; RefusedError for who reads or read the patient blinded."""
    station = unblinded(request, patient_id, session)
    if session.reader in station.state(patient_id).blinded:
        raise RefusedError(403, f"patient {patient_id!r}: {session.reader} read it blinded, and never adjudicates it")
    return station


def check_origin(request: Request) -> None:
    """Refuse a changing request that a page of another origin sent; browsers state it in every one."""
    origin = request.headers.get("Origin")
    scheme = "https" if request.app.state.secure else "http"
    if origin is not None and origin != f"{scheme}://{request.headers.get('Host', '')}":
        raise RefusedError(403, f"found a request from {origin}, expected one from this station's own pages")


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())
