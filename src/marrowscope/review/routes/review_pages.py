"""The pages: worklist, one patient, its disputes, accounts, and where to enter. Their content comes as JSON.

What a page needs before its first request stands in it as one block of JSON: words in the reader's language, colors of
the categories, and what the run says of the patient. The policy allows no inline script; a block of JSON is none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from marrowscope.report.cohort_page import learned_sentence, simulated_only_names
from marrowscope.report.environment import asset, template_environment
from marrowscope.report.palette import category_color
from marrowscope.report.plot import STYLE
from marrowscope.report.strings import LANGUAGES, Strings, load_strings
from marrowscope.review.accounts import ROLES
from marrowscope.review.guard import MANAGE, PUBLIC, SEE, SIGN, impartial, station_of
from marrowscope.review.routes import api_measures
from marrowscope.review.sessions import Session

if TYPE_CHECKING:
    import jinja2

    from marrowscope.review.station import Station
    from marrowscope.runs.schemas import PatientRow

router = APIRouter()
router.include_router(api_measures.router)

LANGUAGE_COOKIE = "marrowscope_language"
_YEAR_S = 365 * 24 * 3600
_WORDS = ("review.", "category.", "flag.", "state.word.")
"""What the scripts take from the catalog, by the beginning of the key."""


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return template_environment("marrowscope.review")


def page(request: Request, name: str, data: dict[str, Any] | None = None, **values: Any) -> HTMLResponse:  # noqa: ANN401
    """Render a template in the reader's language; ``?lang=zh`` chooses one and is remembered."""
    asked = request.query_params.get("lang")
    language = language_of(request)
    texts = load_strings(language)
    shown = {
        "language": language,
        "words": {key: text for key, text in texts.texts.items() if key.startswith(_WORDS)},
        **(data or {}),
    }
    text = _templates().get_template(name).render(t=texts, language=language, data=shown, **values)
    response = HTMLResponse(text)
    if asked == language:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR_S, path="/", samesite="strict")
    return response


def station_page(
    request: Request,
    name: str,
    session: Session,
    data: dict[str, Any] | None = None,
    **values: Any,  # noqa: ANN401
) -> HTMLResponse:
    """Render one of the pages that the head of each leads to: those that ``session`` may open."""
    with_accounts = station_of(request).lone_reader is None  # a lone reader's address works once: no way back in
    pages = {"worklist": ("see", "/"), "agreement": ("compare", "/agreement"), "accounts": ("manage", "/accounts")}
    open_to = {
        key: address
        for key, (permission, address) in pages.items()
        if permission in session.permissions and (with_accounts or key == "worklist")
    }
    return page(request, name, data, session=session, with_accounts=with_accounts, pages=open_to, **values)


@router.get("/")
def worklist_page(request: Request, session: Annotated[Session, Depends(SEE)]) -> HTMLResponse:
    """Show the worklist."""
    data = {"reader": session.reader, "may_assign": "sign" in session.permissions}
    return station_page(request, "worklist.html.j2", session, data)


@router.get("/patients/{patient_id}")
def patient_page(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> HTMLResponse:
    """Show one patient."""
    station = station_of(request)
    station.patient(patient_id)  # names one that is not there
    row = station.cells.rows[patient_id]
    is_blinded = station.seen_by(patient_id, session).is_blinded
    data = {
        "reader": session.reader,
        "may_decide": "decide" in session.permissions,
        "may_sign": "sign" in session.permissions,
        "may_adjudicate": "sign" in session.permissions and session.reader not in station.state(patient_id).blinded,
        "patient": _patient(row, load_strings(language_of(request)), is_blinded=is_blinded),
        "colors": category_colors(station),
        "station": next((event.hash for event in station.store.events("")), ""),  # names the database
    }
    has_slides = station.cells.has_slides(patient_id)
    return page(request, "review_patient.html.j2", data, session=session, patient_id=patient_id, has_slides=has_slides)


@router.get("/patients/{patient_id}/adjudicate")
def adjudicate_page(request: Request, patient_id: str, session: Annotated[Session, Depends(SIGN)]) -> HTMLResponse:
    """Show the cells that the blinded readers of a patient dispute, for a signer who did not read it."""
    station = station_of(request)
    station.patient(patient_id)  # names one that is not there
    impartial(request, patient_id, session)
    row = station.cells.rows[patient_id]
    data = {
        "reader": session.reader,
        "may_decide": True,
        "patient": _patient(row, load_strings(language_of(request)), is_blinded=True),
        "colors": category_colors(station),
        "station": next((event.hash for event in station.store.events("")), ""),
    }
    return page(request, "adjudicate.html.j2", data, session=session, patient_id=patient_id)


@router.get("/accounts")
def accounts_page(request: Request, session: Annotated[Session, Depends(MANAGE)]) -> HTMLResponse:
    """Show the accounts, for admins."""
    data = {"reader": session.reader, "roles": list(ROLES)}
    return station_page(request, "accounts.html.j2", session, data)


@router.get("/login", dependencies=[Depends(PUBLIC)])
def login_page(request: Request) -> HTMLResponse:
    """Show how to enter."""
    station = station_of(request)
    return page(
        request,
        "login.html.j2",
        with_accounts=station.lone_reader is None,
        with_single_sign_on=station.single_sign_on is not None,
    )


@router.get("/static/palette.css", dependencies=[Depends(PUBLIC)])
def palette() -> Response:
    """Return the colors and typefaces of the reports: pages of runs and of the review look alike."""
    return Response(str(asset("palette.css")), media_type="text/css")


@router.get("/static/plot.css", dependencies=[Depends(PUBLIC)])
def plot_style() -> Response:
    """Return the style of the figures, that of the reports: the policy allows none inside a page."""
    return Response(STYLE, media_type="text/css")


def language_of(request: Request) -> str:
    """Return the language that the reader chose, else that of the browser, else English."""
    for asked in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if asked in LANGUAGES:
            return asked
    return "zh" if request.headers.get("Accept-Language", "").lower().startswith("zh") else "en"


def _patient(row: PatientRow, texts: Strings, *, is_blinded: bool) -> dict[str, Any]:
    """Return what the run says of a patient; out of depth no ratio is made of its counts.

    A blinded reader gets neither count, state nor flags, which tell of the calls, and no marks, which stand at calls.
    """
    has_ratio = row.state != "out_of_depth" and not is_blinded
    return {
        "patient_id": row.patient_id,
        "center": row.center,
        "specimen": row.specimen,
        "state": None if is_blinded else row.state,
        "machine": {"x": row.n_cblc, "n": row.n_countable} if has_ratio else None,
        "flags": [{"flag": flag.flag, "name": texts.choose("flag", flag.flag)} for flag in row.flags if not is_blinded],
        "simulated_only": [] if is_blinded else list(row.simulated_only or ()),
        "learned": None if is_blinded else learned_sentence(simulated_only_names([row]), texts),
    }


def category_colors(station: Station) -> dict[str, str]:
    """Return the color of each category, as the reports have it."""
    lineages = {code.category: code.lineage for code in reversed(list(station.vocabulary.codes.values()))}
    return {name: category_color(name, lineages.get(name, "other")) for name in station.vocabulary.categories}
