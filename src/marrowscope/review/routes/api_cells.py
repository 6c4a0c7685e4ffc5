"""A patient's cells and fields as JSON, and the decisions that come back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Depends, Request
from pydantic import Field

from marrowscope.review.decisions import Decision
from marrowscope.review.events import SETTLING
from marrowscope.review.guard import DECIDE, SEE, RefusedError, station_of
from marrowscope.review.live_estimate import hidden_cells
from marrowscope.review.routes.sent_values import EventNumber, SentValue, acknowledged
from marrowscope.review.sessions import Session

if TYPE_CHECKING:
    from marrowscope.review.events import Event
    from marrowscope.review.patient_state import ReviewedCell
    from marrowscope.review.station import SeenState

router = APIRouter()
_MOST_EVENTS = 20_000


class SentDecision(SentValue):
    """One decision in a request."""

    kind: str
    cell_id: str | None = None
    new: Any = None


class SentDecisions(SentValue):
    """Decisions that belong together: all are recorded, or none. ``base`` is the last event that the page saw."""

    base: EventNumber
    events: list[SentDecision] = Field(min_length=1, max_length=_MOST_EVENTS)


@router.get("/api/patients/{patient_id}/cells")
def cells(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> dict[str, Any]:
    """Return every cell of a patient, columns as arrays, removed ones too; x, y, w, h is the contour's box."""
    station = station_of(request)
    seen = station.seen_by(patient_id, session)
    station.progress.is_here(patient_id, session.reader)
    columns = _columns(list(seen.state.cells.values()), _hidden(seen))
    return {"patient_id": patient_id, "blinded": seen.is_blinded, **_state(seen), **columns}


@router.get("/api/patients/{patient_id}/fields")
def fields(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> list[dict[str, Any]]:
    """Return the fields of a patient, without contours; a blinded reader gets no flags, which tell of the calls."""
    station = station_of(request)
    shown = station.patient(patient_id).fields.values()
    is_blinded = station.seen_by(patient_id, session).is_blinded
    return [
        {
            "field_id": field.field_id,
            "name": field.name,
            "width_px": field.width_px,
            "height_px": field.height_px,
            "um_per_px": field.um_per_px,
            "failed": field.failed,
            "flags": [] if is_blinded else list(field.flags),
        }
        for field in shown
    ]


@router.get("/api/patients/{patient_id}/fields/{field_id:path}")
def field_contours(
    request: Request, patient_id: str, field_id: str, session: Annotated[Session, Depends(SEE)]
) -> dict[str, Any]:
    """Return the contours of one field, those that a quality rule refused apart: a click can take one of them."""
    station = station_of(request)
    field = station.field(patient_id, field_id)
    seen = station.seen_by(patient_id, session)
    state, hidden = seen.state, _hidden(seen)
    return {
        "field_id": field_id,
        "width_px": field.width_px,
        "height_px": field.height_px,
        "um_per_px": field.um_per_px,
        "checked_by": state.fields_checked.get(field_id),
        "cells": [
            {
                "cell_id": cell.cell_id,
                "contour_xy": _rounded(cell.contour_xy),
                "model_category": None if cell.cell_id in hidden else cell.model_category,
                "code": cell.code,
                "removed": cell.removed,
                "origin": cell.origin,
            }
            for cell in state.cells.values()
            if cell.field_id == field_id
        ],
        "refused": [
            {"cell_id": cell.cell_id, "contour_xy": cell.contour_xy.ravel().tolist(), "reason": cell.reject_reason}
            for cell in station.patient(patient_id).refused
            if cell.field_id == field_id
        ],
    }


class SentClick(SentValue):
    """A place of a field, in its pixels."""

    field_id: str
    x: Annotated[float, Field(allow_inf_nan=False)]
    y: Annotated[float, Field(allow_inf_nan=False)]


@router.post("/api/patients/{patient_id}/outline")
def outline(
    request: Request, patient_id: str, sent: Annotated[SentClick, Body()], session: Annotated[Session, Depends(DECIDE)]
) -> dict[str, Any]:
    """Return the segmenter's contour at a click; nothing is recorded. ``found`` says why there is none."""
    station = station_of(request)
    state = station.seen_by(patient_id, session).state
    found = station.outline_at(patient_id, sent.field_id, (sent.x, sent.y), state)
    contour = None if found.contour_xy is None else _rounded(tuple(found.contour_xy.ravel().tolist()))
    return {"found": found.found, "contour_xy": contour}


@router.post("/api/patients/{patient_id}/events")
def decide(
    request: Request,
    patient_id: str,
    sent: Annotated[SentDecisions, Body()],
    session: Annotated[Session, Depends(DECIDE)],
) -> dict[str, Any]:
    """Record decisions; the answer comes after they are on disk."""
    station = station_of(request)
    settles = any(item.kind in SETTLING for item in sent.events)
    if any(item.kind == "smears_stated" for item in sent.events):
        state = station.state(patient_id)  # a reader of it adds a voice, anybody else settles what they dispute
        settles = settles or (bool(state.disputed_smears) and session.reader not in state.blinded)
    if settles and "sign" not in session.permissions:
        raise RefusedError(403, f"{session.reader} may not adjudicate: it needs the permission to sign")
    decisions = [Decision(item.kind, item.cell_id, item.new) for item in sent.events]
    is_blinded = station.seen_by(patient_id, session).is_blinded
    appended = station.decide(patient_id, session.reader, decisions, sent.base, is_blinded=is_blinded)
    station.progress.is_here(patient_id, session.reader)
    if is_blinded:  # the head of the chain moves with whatever others record
        said = {"sequence": station.seen_by(patient_id, session).sequence, "head": None}
    else:
        said = acknowledged(appended)
    return {
        **said,
        "conflicts": [],
        "cell_ids": [event.cell_id for event in appended.events],
    }


def _hidden(seen: SeenState) -> frozenset[str]:
    """Return the cells whose calls must not be seen: those of an open audit, and all for a blinded reader."""
    return frozenset(seen.state.cells) if seen.is_blinded else hidden_cells(seen.state)


def _state(seen: SeenState) -> dict[str, Any]:
    state = seen.state
    return {
        "sequence": seen.sequence,
        "is_locked": state.is_locked,
        "n_smears": state.n_smears,
        "disputed_smears": list(state.disputed_smears),
        "full_review_by": state.full_review_by,
        "full_review_withdrawn": state.full_review_withdrawn,
        "misplaced": [
            {"kind": event.kind, "reader": event.reader, "time_utc": event.time_utc, "cell_id": event.cell_id}
            for event in state.misplaced
        ],
        "fields_checked": dict(state.fields_checked),
        "flags_answered": dict(state.flags_answered),
        "not_carried": [_not_carried(event) for event in state.not_carried],
        "left_behind": [asdict(item) for item in state.left_behind],
        "comments": [
            {
                "reader": comment.reader,
                "time_utc": comment.time_utc,
                "cell_id": comment.cell_id,
                "about": comment.about,
                "text": comment.text,
            }
            for comment in state.comments
        ],
        "signatures": [
            {"version": item.version, "reader": item.reader, "time_utc": item.time_utc, "head": item.head_hash}
            for item in state.signatures
        ],
    }


def _not_carried(event: Event) -> dict[str, Any]:
    """Return a decision that found no place in this prediction; of blinded readers, without whose it was."""
    old = event.old
    return {
        "field_id": old["field_id"],
        "code": old["code"],
        "removed": old["removed"],
        "decided_by": None if old.get("blind") else old["decided_by"],
        "reason": event.new["reason"],
    }


def _columns(cells: list[ReviewedCell], hidden: frozenset[str]) -> dict[str, list[Any]]:
    cells = [_without_call(cell) if cell.cell_id in hidden else cell for cell in cells]
    boxes = [_box(cell) for cell in cells]
    return {
        "cell_id": [cell.cell_id for cell in cells],
        "field_id": [cell.field_id for cell in cells],
        "model_category": [cell.model_category for cell in cells],
        "p_cblc": [_number(cell.p_cblc, 4) for cell in cells],
        "certainty": [_number(cell.certainty, 4) for cell in cells],
        "area_um2": [_number(cell.area_um2, 1) for cell in cells],
        "code": [cell.code for cell in cells],
        "removed": [cell.removed for cell in cells],
        "decided_by": [cell.decided_by for cell in cells],
        "origin": [cell.origin for cell in cells],
        **{name: [box[index] for box in boxes] for index, name in enumerate("xywh")},
    }


def _without_call(cell: ReviewedCell) -> ReviewedCell:
    """Return a cell of an audit as a reader may see it before naming it."""
    return replace(cell, model_category=None, certainty=None, p_cblc=None, model_is_cblc=None, model_is_countable=None)


def _box(cell: ReviewedCell) -> tuple[float, float, float, float]:
    points = np.asarray(cell.contour_xy).reshape(-1, 2)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)


def _number(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _rounded(contour_xy: tuple[float, ...]) -> list[float]:
    """Return a contour for drawing: a hundredth of a pixel is less than a screen shows."""
    return [round(value, 2) for value in contour_xy]
