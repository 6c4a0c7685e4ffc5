"""The application that answers a station's browsers: routes, security headers, and errors as one sentence.

Every response carries a strict content security policy: scripts, styles and pictures come from the station alone, and
nothing is loaded from outside. The host that a request names must be one that the station was started for, so that no
page of another site can reach it under a name of its own.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.staticfiles import StaticFiles

from marrowscope.errors import DependencyError, InputError, ReviewError, RunError
from marrowscope.review.accounts import TooManyAttemptsError
from marrowscope.review.database import DatabaseDownError
from marrowscope.review.decisions import NeedsAdjudicationError
from marrowscope.review.guard import RefusedError
from marrowscope.review.routes import (
    agreement_page,
    api_accounts,
    api_audit,
    api_cells,
    api_readers,
    api_sign,
    api_worklist,
    entrance,
    review_pages,
    served_images,
    slide_pages,
)
from marrowscope.review.routes.review_pages import language_of, page
from marrowscope.review.spoken_refusals import refusal
from marrowscope.review.station import NotAssignedError, UnknownNameError
from marrowscope.review.store import ChangedError, ConflictError, LockedError, TamperedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from marrowscope.review.events import Event
    from marrowscope.review.station import Station

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # with no-referrer, a browser states origin "null" for the form that enters
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
)
_LOG = logging.getLogger(__name__)
_RETRY_AFTER_S = 2
_LONGEST_PLACE = 100
_MOST_BODY_BYTES = 16 * 1024**2
ROUTERS = (
    entrance.router,
    review_pages.router,
    agreement_page.router,
    api_worklist.router,
    api_cells.router,
    api_audit.router,
    api_sign.router,
    api_readers.router,
    api_accounts.router,
    served_images.router,
    slide_pages.router,
)


def create_app(
    station: Station, *, hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]"), secure: bool = False
) -> FastAPI:
    """Make the application. ``hosts`` are the names it answers to; ``secure`` where it is reached over HTTPS."""
    app = FastAPI(title="marrowscope review", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.station = station
    app.state.secure = secure
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=str(files("marrowscope.review") / "static")), name="static")
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(ConflictError, _conflict)
    app.add_exception_handler(DatabaseDownError, _database_down)
    app.add_exception_handler(ReviewError, _review_error)
    app.add_exception_handler(RunError, _run_error)
    app.add_exception_handler(InputError, _run_error)
    app.add_exception_handler(DependencyError, _run_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(_Border, hosts=tuple(hosts), secure=secure)
    return app


class _Border:
    """What every request passes: its host, its size, and the headers of its response."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], secure: bool) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        extra = [("Strict-Transport-Security", "max-age=31536000")] if secure else []
        self._headers = [(name.lower().encode(), value.encode()) for name, value in (*_HEADERS, *extra)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}  # a signed page has a policy of its own
                own = [(name, value) for name, value in self._headers if name not in present]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        host = headers.get(b"host", b"").decode("latin-1").rpartition(":")
        name = host[0] if host[1] and host[2].isdigit() else headers.get(b"host", b"").decode("latin-1")
        if name not in self._hosts:
            await _said(
                Request(scope), 421, f"found a request for host {name!r}, which this station does not answer to"
            )(scope, receive, send_with_headers)
            return
        length = headers.get(b"content-length", b"0")
        is_chunked = b"transfer-encoding" in headers
        if is_chunked or not length.isdigit() or int(length) > _MOST_BODY_BYTES:
            sentence = f"found a request without length or beyond {_MOST_BODY_BYTES} bytes, expected a shorter one"
            await _said(Request(scope), 413, sentence)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _said(request: Request, status: int, said: Exception | str, **more: object) -> Response:
    """Say it in the language of the page that asks: as a page to a person, as JSON to a script."""
    sentence = refusal(said, language_of(request))
    if _wants_page(request):
        answer = page(request, "refused.html.j2", sentence=f"{sentence[:1].upper()}{sentence[1:]}.")
        answer.status_code = status
        return answer
    return JSONResponse({"error": sentence, **more}, status_code=status)


def _wants_page(request: Request) -> bool:
    """Tell whether a person opened the address in a browser; scripts of the pages ask for any type."""
    return request.method == "GET" and "text/html" in request.headers.get("Accept", "")


def _refused(request: Request, error: Exception) -> Response:
    error = cast("RefusedError", error)
    if error.status == HTTPStatus.UNAUTHORIZED and _wants_page(request):
        return RedirectResponse("/login", status_code=303)
    return _said(request, error.status, error.sentence)


def _conflict(request: Request, error: Exception) -> Response:
    error = cast("ConflictError", error)
    try:
        head = request.app.state.station.store.head()
    except DatabaseDownError as down:
        return _database_down(request, down)
    return _said(
        request,
        409,
        error,
        sequence=head.sequence,
        head=head.hash,
        conflicts=[_decision(event) for event in error.events],
    )


def _decision(event: Event) -> dict[str, object]:
    return {
        "sequence": event.sequence,
        "time_utc": event.time_utc,
        "reader": event.reader,
        "cell_id": event.cell_id,
        "kind": event.kind,
        "new": event.new,
    }


def _database_down(request: Request, error: Exception) -> Response:
    """Say that nothing was decided about the request; what the driver says is for who runs the station."""
    _LOG.warning("%s", error)
    answer = _said(
        request, 503, "the station cannot reach its database; nothing is lost in this browser, try again soon"
    )
    answer.headers["Retry-After"] = str(_RETRY_AFTER_S)
    return answer


_STATUSES: tuple[tuple[type[ReviewError], int], ...] = (
    (UnknownNameError, 404),
    (NotAssignedError, 403),
    (LockedError, 409),
    (TamperedError, 409),
    (ChangedError, 409),
    (TooManyAttemptsError, 429),
)


def _review_error(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)
    more = {"adjudicate": True} if isinstance(error, NeedsAdjudicationError) else {}
    return _said(request, status, error, **more)


def _run_error(request: Request, error: Exception) -> Response:
    """Say that a file of a run cannot be used: a lone reader, whose files they are, is told which and why."""
    _LOG.warning("%s", error)
    is_own = request.app.state.station.lone_reader is not None
    return _said(
        request, 500, str(error) if is_own else "the station cannot read the run's files; ask who runs the station"
    )


def _not_valid(request: Request, error: Exception) -> Response:
    """Name what does not fit in a request, by its place in the body; how it is read is nobody's business."""
    fault = cast("RequestValidationError", error).errors()[0]
    words = [str(part) for part in fault["loc"][1:]]  # the first word is body, query or path
    where = " ".join(word for word in words if word.isprintable())[:_LONGEST_PLACE]
    if fault["type"] == "json_invalid" or not where:
        return _said(
            request, 400, "found a request that is no JSON object of this address, expected one; load the page again"
        )
    if fault["type"] == "missing":
        sentence = f"the request has no {where}, expected what this station's pages send; load the page again"
    elif fault["type"] == "extra_forbidden":
        sentence = (
            f"the request has {where!r}, which nobody asks for, expected what this station's pages send; load the page "
            "again"
        )
    else:
        sentence = (
            f"{where!r} of the request does not fit, expected what this station's pages send; load the page again"
        )
    return _said(request, 400, sentence)


def _http_error(request: Request, error: Exception) -> Response:
    error = cast("HTTPException", error)
    return _said(request, error.status_code, str(error.detail))
