"""Blinded readers: who is given which patients, and what they said, side by side, for the one who adjudicates."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import Field

from marrowscope.review.consensus import verdicts
from marrowscope.review.guard import SIGN, station_of, unblinded
from marrowscope.review.routes.sent_values import SentValue, ShortText, acknowledged
from marrowscope.review.sessions import Session

router = APIRouter()


class SentAssignment(SentValue):
    """Patients and the readers who get them; no reader ends an assignment."""

    patients: list[ShortText] = Field(min_length=1, max_length=10_000)
    readers: list[ShortText] = Field(max_length=20)


@router.post("/api/assign")
def assign(
    request: Request, sent: Annotated[SentAssignment, Body()], session: Annotated[Session, Depends(SIGN)]
) -> dict[str, Any]:
    """Give patients to two or more readers, who see neither calls nor each other's decisions."""
    appended = station_of(request).assign(sent.patients, sent.readers, session.reader)
    return acknowledged(appended)


@router.get("/api/patients/{patient_id}/readings")
def readings(request: Request, patient_id: str, session: Annotated[Session, Depends(SIGN)]) -> dict[str, Any]:
    """Return what each assigned reader says of each cell that any of them named, disputed ones first."""
    station = unblinded(request, patient_id, session)
    state = station.state(patient_id)
    found = [item for item in verdicts(state) if item.names]
    found.sort(key=lambda item: item.status != "disputed")
    return {
        "sequence": state.sequence,
        "readers": list(state.assigned),
        "cells": [
            {
                "cell_id": item.cell.cell_id,
                "field_id": item.cell.field_id,
                "status": item.status,
                "names": item.names,
                "code": item.cell.code,
            }
            for item in found
        ],
    }
