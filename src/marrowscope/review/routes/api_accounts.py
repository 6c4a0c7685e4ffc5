"""Accounts and runs, for admins; and one's own password."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import Field

from marrowscope.review.accounts import (
    add_account,
    change_account,
    check_password,
    read_accounts,
    utc_now,
)
from marrowscope.review.events import DECIDING
from marrowscope.review.guard import ENTER, INSPECT, MANAGE, RefusedError, address_of, station_of
from marrowscope.review.live_estimate import hidden_cells
from marrowscope.review.routes.sent_values import EventNumber, SentPassword, SentValue, ShortText
from marrowscope.review.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.review.events import Event, Kind
    from marrowscope.review.patient_state import PatientState

router = APIRouter()
_EVENTS_AT_ONCE = 1000
_EVERYBODYS: frozenset[Kind] = frozenset({"assign", "bind"})
_OWN: frozenset[Kind] = frozenset({"open", "comment", "field_checked", "flag_answered", "full_review", "smears_stated"})
"""Kinds of event that a blinded reader sees: everybody's, and the reader's own."""


class NewAccount(SentValue):
    """An account to make."""

    name: ShortText
    full_name: ShortText = ""
    roles: list[ShortText] = Field(min_length=1)
    password: SentPassword | None = None
    subject: ShortText | None = None


class ChangedAccount(SentValue):
    """What is to change of an account; what is left out stays."""

    roles: list[ShortText] | None = Field(default=None, min_length=1)
    password: SentPassword | None = None
    active: bool | None = None


class NewPassword(SentValue):
    """One's own password, the present and the new one."""

    old: SentPassword
    new: SentPassword


class AddedRun(SentValue):
    """A run to review as well; ``path`` is below the folder that the station was started with."""

    path: str = Field(min_length=1, max_length=4000)


@router.get("/api/accounts")
def accounts(request: Request, _session: Annotated[Session, Depends(MANAGE)]) -> list[dict[str, Any]]:
    """Return every account; a password is in none of them."""
    return [
        {
            "name": account.name,
            "full_name": account.full_name,
            "roles": sorted(account.roles),
            "active": account.is_active,
            "has_password": account.has_password,
            "subject": account.subject,
        }
        for account in read_accounts(station_of(request).store.engine)
    ]


@router.post("/api/accounts")
def add(
    request: Request, sent: Annotated[NewAccount, Body()], _session: Annotated[Session, Depends(MANAGE)]
) -> dict[str, Any]:
    """Make an account."""
    engine = station_of(request).store.engine
    add_account(engine, sent.name, sent.roles, full_name=sent.full_name, password=sent.password, subject=sent.subject)
    return {"name": sent.name}


@router.post("/api/accounts/{name}")
def change(
    request: Request, name: str, sent: Annotated[ChangedAccount, Body()], _session: Annotated[Session, Depends(MANAGE)]
) -> dict[str, Any]:
    """Change an account: roles, password, or whether it may enter. Its sessions end."""
    engine = station_of(request).store.engine
    change_account(engine, name, roles=sent.roles, password=sent.password, is_active=sent.active)
    return {"name": name}


@router.post("/api/password")
def change_own_password(
    request: Request, sent: Annotated[NewPassword, Body()], session: Annotated[Session, Depends(ENTER)]
) -> dict[str, Any]:
    """Change one's own password; every session of the account ends, this one too."""
    engine = station_of(request).store.engine
    if check_password(engine, session.reader, sent.old, address_of(request), utc_now()) is None:
        raise RefusedError(403, "found a wrong present password; nothing was changed")
    change_account(engine, session.reader, password=sent.new)
    return {}


@router.post("/api/runs")
def add_run(
    request: Request, sent: Annotated[AddedRun, Body()], session: Annotated[Session, Depends(MANAGE)]
) -> dict[str, Any]:
    """Review another run as well, from below the folder that the station was started with."""
    station = station_of(request)
    return {"patients": station.add_run(Path(sent.path), session.reader)}


@router.get("/api/log")
def log(
    request: Request,
    session: Annotated[Session, Depends(INSPECT)],
    after: EventNumber = 0,
) -> dict[str, Any]:
    """Return up to a thousand events after number ``after``, as they were recorded, and the head of the chain.

    What a reader must not see is ``withheld``, and its values are null. Of a patient whom this session reads or read
    blinded, until it is signed, that is everything but assignments and the session's own comments and answers. Of one
    with an audit whose looks are open, it is what the machine said of its cells, also by the strata they were drawn in.
    """
    station = station_of(request)
    head = station.store.head()
    found: list[dict[str, Any]] = []
    hiding: dict[str, _Hiding] = {}
    for event in station.store.events(after=after):
        values = {name: getattr(event, name) for name in event.__slots__}
        hidden: tuple[str, ...] = ()
        if "decide" in session.permissions and event.patient_id in station.cells.rows:
            if event.patient_id not in hiding:
                hiding[event.patient_id] = _hiding(station.state(event.patient_id), session.reader)
            hidden = hiding[event.patient_id].of(event)
        found.append({**values, **dict.fromkeys(hidden), **({"withheld": True} if hidden else {})})
        if len(found) == _EVENTS_AT_ONCE:
            break
    return {"sequence": head.sequence, "head": head.hash, "events": found}


@dataclass(frozen=True, slots=True)
class _Hiding:
    """What of a patient's log ``reader`` must not see: nearly everything, or the machine's word on some cells.

    ``audit`` is what the event of an audit with open looks holds; None without one.
    """

    reader: str
    is_blinded: bool
    cells: frozenset[str]
    audit: Mapping[str, Any] | None

    def of(self, event: Event) -> tuple[str, ...]:
        """Return the names of the values of ``event`` that are hidden."""
        if self.is_blinded:
            is_own = event.kind in _OWN and event.reader == self.reader
            return () if is_own or event.kind in _EVERYBODYS else ("old", "new", "model_value")
        if event.kind == "audit_drawn":  # its strata are calls, and its seed tells which cells come next
            return ("new",) if event.new == self.audit else ()
        if event.kind not in DECIDING:
            return ()
        touched = {event.cell_id, *(event.new["cells"] if event.kind == "merge" else ())}
        return ("model_value",) if touched & self.cells else ()


def _hiding(state: PatientState, reader: str) -> _Hiding:
    hidden = hidden_cells(state)
    audit = state.audit if hidden and not state.is_locked else None
    return _Hiding(reader, reader in state.blinded and not state.is_locked, hidden, audit)


@router.get("/api/verify")
def verify(request: Request, _session: Annotated[Session, Depends(INSPECT)]) -> dict[str, Any]:
    """Check the whole log; ``faults`` name each event that was edited, deleted, moved or added."""
    store = station_of(request).store
    faults = store.verify()
    head = store.head_if_one()
    named = [{"sequence": fault.sequence, "kind": fault.kind, "sentence": fault.sentence} for fault in faults]
    return {"sequence": head and head.sequence, "head": head and head.hash, "faults": named}
