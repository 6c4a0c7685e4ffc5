"""The random audit and the figures: draw and freeze, show what to name without the calls, estimate."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from marrowscope.review.guard import DECIDE, SEE, unblinded
from marrowscope.review.live_estimate import audit_view
from marrowscope.review.routes.sent_values import acknowledged
from marrowscope.review.sessions import Session
from marrowscope.review.sign import figures_of

router = APIRouter()


@router.get("/api/patients/{patient_id}/estimate")
def patient_estimate(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> dict[str, Any]:
    """Return the figures as they stand: machine, audit, full review, progress."""
    station = unblinded(request, patient_id, session)
    station.progress.is_here(patient_id, session.reader)
    chart = station.chart(patient_id)
    return {"sequence": chart.state.sequence, **figures_of(chart)}


@router.post("/api/patients/{patient_id}/audit")
def draw(request: Request, patient_id: str, session: Annotated[Session, Depends(DECIDE)]) -> dict[str, Any]:
    """Draw an audit and freeze it."""
    appended = unblinded(request, patient_id, session).draw(patient_id, session.reader)
    return acknowledged(appended)


@router.get("/api/patients/{patient_id}/audit")
def audit(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> dict[str, Any]:
    """Return the cells of the audit in the order to name them, without any call; ``drawn`` is false without one.

    ``cells`` goes up to the end of the look at work; the cells of later looks are not told.
    """
    state = unblinded(request, patient_id, session).state(patient_id)
    view = audit_view(state)
    if view is None:
        return {"drawn": False, "sequence": state.sequence}
    until = next((size for size in view.audit.sizes if size > view.n_answered), view.audit.sizes[-1])
    return {
        "drawn": True,
        "sequence": state.sequence,
        "sizes": list(view.audit.sizes),
        "n_answered": view.n_answered,
        "next": view.next_cell,
        "fields": list(view.fields),
        "cells": [
            {
                "cell_id": name,
                "field_id": state.cells[name].field_id,
                "answered": name in state.audit_answers,
                "answer": state.audit_answers.get(name),
            }
            for name in view.order[:until]
        ],
    }
