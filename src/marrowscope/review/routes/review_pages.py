"""The pages: worklist, one patient, and where to enter. Their content comes from the JSON addresses."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from marrowscope.review.guard import PUBLIC, SEE, station_of
from marrowscope.review.sessions import Session

router = APIRouter()


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("marrowscope.review"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def page(name: str, **values: Any) -> HTMLResponse:  # noqa: ANN401 - what a template takes
    """Render a template."""
    return HTMLResponse(_templates().get_template(name).render(**values))


@router.get("/")
def worklist_page(session: Annotated[Session, Depends(SEE)]) -> HTMLResponse:
    """Show the worklist."""
    return page("worklist.html.j2", session=session)


@router.get("/patients/{patient_id}")
def patient_page(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> HTMLResponse:
    """Show one patient."""
    station_of(request).patient(patient_id)  # names one that is not there
    return page("review_patient.html.j2", session=session, patient_id=patient_id)


@router.get("/login", dependencies=[Depends(PUBLIC)])
def login_page(request: Request) -> HTMLResponse:
    """Show how to enter."""
    return page("login.html.j2", with_accounts=station_of(request).lone_reader is None)
