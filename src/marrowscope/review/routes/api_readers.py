"""Blinded readers: who is given which patients, what they said, and what they dispute, for the one who adjudicates."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import Field

from marrowscope.review.accounts import permissions_of, read_accounts
from marrowscope.review.consensus import verdicts
from marrowscope.review.disputes import disputes
from marrowscope.review.guard import SIGN, impartial, station_of, unblinded
from marrowscope.review.routes.sent_values import SentValue, ShortText, acknowledged
from marrowscope.review.sessions import Session

router = APIRouter()
_MOST_ASKED = 200


class SentAssignment(SentValue):
    """Patients and the readers who get them; no reader ends an assignment."""

    patients: list[ShortText] = Field(min_length=1, max_length=10_000)
    readers: list[ShortText] = Field(max_length=20)


@router.get("/api/readers")
def readers(request: Request, _session: Annotated[Session, Depends(SIGN)]) -> list[dict[str, str]]:
    """Return the accounts to which a patient can be assigned: active ones that may decide."""
    station = station_of(request)
    alone = [] if station.lone_reader is None else [station.who(station.lone_reader)]
    accounts = [account for account in alone or read_accounts(station.store.engine) if account is not None]
    return [
        {"name": account.name, "full_name": account.full_name}
        for account in accounts
        if account.is_active and "decide" in permissions_of(account.roles)
    ]


@router.post("/api/assign")
def assign(
    request: Request, sent: Annotated[SentAssignment, Body()], session: Annotated[Session, Depends(SIGN)]
) -> dict[str, Any]:
    """Give patients to readers, who see neither calls nor each other's decisions."""
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


@router.get("/api/disputes")
def all_disputes(request: Request, session: Annotated[Session, Depends(SIGN)]) -> dict[str, dict[str, int]]:
    """Count the disputed and the adjudicated cells of each assigned patient that this signer may settle."""
    station = station_of(request)
    counted: dict[str, dict[str, int]] = {}
    for patient_id, progress in station.progress.patients().items():
        if not progress.was_assigned or progress.is_locked or patient_id not in station.cells.rows:
            continue
        counts = station.dispute_counts(patient_id, progress.sequence)
        if session.reader not in counts.blinded:
            counted[patient_id] = {"disputed": counts.n_open, "settled": counts.n_settled}
    return counted


@router.get("/api/patients/{patient_id}/disputes")
def patient_disputes(
    request: Request,
    patient_id: str,
    session: Annotated[Session, Depends(SIGN)],
    cell: Annotated[tuple[str, ...], Query(max_length=_MOST_ASKED)] = (),
) -> dict[str, Any]:
    """Return each cell that its readers dispute or disputed, with their answers under letters, not names.

    ``agreed`` are those they named alike: cells that an audit waits for, and those that ``cell`` names.
    """
    state = impartial(request, patient_id, session).state(patient_id)
    return {
        "sequence": state.sequence,
        "cells": [
            {
                "cell_id": item.cell.cell_id,
                "field_id": item.cell.field_id,
                "settled": item.is_settled,
                "agreed": item.is_agreed,
                "answers": [
                    {"letter": answer.letter, "code": answer.code, "said": answer.said} for answer in item.answers
                ],
            }
            for item in disputes(state, cell)
        ],
    }
