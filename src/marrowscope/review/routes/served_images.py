"""Pictures: the crop of one cell, and a whole field, cut from the run's images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from marrowscope.review.guard import SEE, RefusedError, station_of
from marrowscope.review.sessions import Session

router = APIRouter()
_KEPT = {"Cache-Control": "private, max-age=3600"}
_PROBLEMS = {
    "not_found": "the image was not found where the run read it; start the station with --images-from and its folder",
    "changed": "the image has changed since it was predicted, so no cell is cut from it",
    "unreadable": "the image cannot be read",
}


@router.get("/crops/{patient_id}/{cell_id}.webp")
def crop(request: Request, patient_id: str, cell_id: str, session: Annotated[Session, Depends(SEE)]) -> Response:
    """Return the crop of a cell; ``v`` in the address lets a browser tell a redrawn cell from the one before."""
    station = station_of(request)
    state = station.seen_by(patient_id, session).state
    cell = state.cells.get(cell_id)
    if cell is None:
        raise RefusedError(404, f"patient {patient_id!r}: found no cell {cell_id!r}, expected one of the run")
    field = station.field(patient_id, cell.field_id)
    others = (other for other in state.cells.values() if other.field_id == cell.field_id)
    return _picture(station.images.crop(field, cell, others), "image/webp")


@router.get("/fields/{patient_id}/{field_id:path}.jpg")
def field(request: Request, patient_id: str, field_id: str, session: Annotated[Session, Depends(SEE)]) -> Response:
    """Return a whole field."""
    station = station_of(request)
    station.seen_by(patient_id, session)
    return _picture(station.images.field(station.field(patient_id, field_id)), "image/jpeg")


def _picture(data: bytes | str, media_type: str) -> Response:
    if isinstance(data, str):
        raise RefusedError(404, _PROBLEMS[data])
    return Response(data, media_type=media_type, headers=_KEPT)
