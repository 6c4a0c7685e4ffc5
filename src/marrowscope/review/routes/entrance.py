"""Enter and leave: the one-time address of a lone reader, the session's cookie, and what a page must know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from marrowscope.review.accounts import check_password, find_account, permissions_of, utc_now
from marrowscope.review.guard import COOKIE, ENTER, PUBLIC, RefusedError, address_of, session_of, station_of
from marrowscope.review.sessions import LONGEST, Session, begin_session, end_session

if TYPE_CHECKING:
    from marrowscope.review.accounts import Account
    from marrowscope.review.single_sign_on import SingleSignOn

router = APIRouter()
_MOST_FIELDS = 8
_STATE_COOKIE = "marrowscope_oidc"
_STATE_FOR_S = 600


@router.get("/enter", dependencies=[Depends(PUBLIC)])
def enter(request: Request, token: str = "") -> Response:
    """Open the session of a lone reader; the token works once."""
    station = station_of(request)
    if station.lone_reader is not None and session_of(request) is not None:
        return RedirectResponse("/", status_code=303)  # the address again, in the browser that it opened
    if station.lone_reader is None or not station.use_token(token):
        raise RefusedError(
            403, "found a token that was used before or is not known; start the station again for a new one"
        )
    return with_session(request, RedirectResponse("/", status_code=303), station.lone_session)


@router.post("/login", dependencies=[Depends(PUBLIC)])
async def log_in(request: Request) -> Response:
    """Enter with name and password, as the form of the page sends them; the answer is the same for either wrong."""
    station = station_of(request)
    try:
        sent = parse_qs((await request.body()).decode("utf-8", errors="replace"), max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise RefusedError(400, "found a form of too many fields, expected name and password") from error
    name, password = (sent.get(field, [""])[0] for field in ("name", "password"))
    account = await run_in_threadpool(
        check_password, station.store.engine, name, password, address_of(request), utc_now()
    )
    if account is None or station.lone_reader is not None:
        raise RefusedError(401, "found a wrong name or password; nobody has entered")
    response = RedirectResponse(_first_page(account), status_code=303)
    return await run_in_threadpool(with_session, request, response, account.name)


@router.get("/oidc/start", dependencies=[Depends(PUBLIC)])
def begin_single_sign_on(request: Request) -> Response:
    """Send the browser to the single sign-on; a cookie ties what comes back to this browser."""
    address, state = _single_sign_on(request).begin(address_of(request))
    response = RedirectResponse(address, status_code=303)
    response.set_cookie(
        _STATE_COOKIE,
        state,
        max_age=_STATE_FOR_S,
        path="/oidc",
        httponly=True,
        samesite="lax",  # it must come along from the provider's site
        secure=request.app.state.secure,
    )
    return response


@router.get("/oidc/back", dependencies=[Depends(PUBLIC)])
def end_single_sign_on(request: Request, state: str = "", code: str = "") -> Response:
    """Let in who comes back from the single sign-on and has an account with that subject."""
    sign_on = _single_sign_on(request)
    if not state or request.cookies.get(_STATE_COOKIE) != state:
        raise RefusedError(403, "this entrance was not begun in this browser; enter again")
    account = find_account(station_of(request).store.engine, subject=sign_on.end(state, code))
    if account is None or not account.is_active:
        raise RefusedError(403, "the single sign-on knows you, but no account here has your name; ask an admin")
    # A page and no redirect: a cookie of this site alone does not come along on a way that began at another site.
    place = _first_page(account)
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={place}"><a href="{place}">marrowscope</a>'
    response = with_session(request, HTMLResponse(page), account.name)
    response.delete_cookie(_STATE_COOKIE, path="/oidc")
    return response


def _first_page(account: Account) -> str:
    """Return where an account begins: the worklist, or the accounts for an admin who sees no patient."""
    may = permissions_of(account.roles)
    return "/accounts" if "manage" in may and "see" not in may else "/"


def _single_sign_on(request: Request) -> SingleSignOn:
    sign_on: SingleSignOn | None = station_of(request).single_sign_on
    if sign_on is None:
        raise RefusedError(404, "this station has no single sign-on; enter with name and password")
    return sign_on


@router.post("/api/leave")
def leave(request: Request, _session: Annotated[Session, Depends(ENTER)]) -> Response:
    """End the session."""
    end_session(station_of(request).store.engine, request.cookies.get(COOKIE, ""))
    response = JSONResponse({})
    response.delete_cookie(COOKIE, path="/")
    return response


@router.get("/api/session")
def session(session: Annotated[Session, Depends(ENTER)]) -> dict[str, Any]:
    """Return who has entered, and the CSRF token that changing requests must carry."""
    return {
        "reader": session.reader,
        "full_name": session.full_name,
        "roles": sorted(session.roles),
        "permissions": sorted(session.permissions),
        "csrf": session.csrf_token,
    }


def with_session(request: Request, response: Response, account: str) -> Response:
    """Begin a session and put its cookie into ``response``: not readable by scripts, sent to this site alone."""
    token = begin_session(station_of(request).store.engine, account, utc_now())
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(LONGEST.total_seconds()),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.app.state.secure,
    )
    return response
