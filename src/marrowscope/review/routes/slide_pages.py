"""A patient's slides in deep zoom: the page, what it draws, and the tiles.

Nothing here tells of a call: regions carry the number of their cells alone, which every reader sees in the gallery. The
outlines come region by region from where the field view has them (``api_cells``), with the same calls hidden.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from marrowscope.review.guard import SEE, RefusedError, station_of
from marrowscope.review.routes.review_pages import category_colors, page
from marrowscope.review.sessions import Session
from marrowscope.review.slide_tiles import OVERLAP_PX, PROBLEMS, TILE_PX, NoTileError, RunSlide, slides_of
from marrowscope.review.station import Station
from marrowscope.wording import count_of

router = APIRouter()
_KEPT = {"Cache-Control": "private, max-age=3600"}


@router.get("/slides/{patient_id}")
def slide_page(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> HTMLResponse:
    """Show the slides of one patient."""
    station = station_of(request)
    data = {
        "reader": session.reader,
        "patient_id": patient_id,
        "problems": PROBLEMS,
        "colors": category_colors(station),
        "blinded": station.seen_by(patient_id, session).is_blinded,
    }
    return page(request, "review_slide.html.j2", data, session=session, patient_id=patient_id)


@router.get("/api/patients/{patient_id}/slides")
def slides(request: Request, patient_id: str, session: Annotated[Session, Depends(SEE)]) -> list[dict[str, Any]]:
    """Return the slides of a patient: size, levels and the regions that were read, or why one cannot be shown."""
    station = station_of(request)
    present = Counter(cell.field_id for cell in station.seen_by(patient_id, session).state.present)
    return [_slide(station, number, slide, present) for number, slide in enumerate(_slides(station, patient_id), 1)]


@router.get("/slides/{patient_id}/{number}/{level}/{column}_{row}.jpg")
def tile(  # noqa: PLR0917 - the parts of its address
    request: Request,
    patient_id: str,
    number: int,
    level: int,
    column: int,
    row: int,
    session: Annotated[Session, Depends(SEE)],
) -> Response:
    """Return one tile of a slide; ``number`` is its place in the list, from 1."""
    station = station_of(request)
    station.seen_by(patient_id, session)
    known = _slides(station, patient_id)
    if not 1 <= number <= len(known):
        raise RefusedError(404, f"patient {patient_id!r}: found no slide {number}, expected {_one_of(len(known))}")
    try:
        data = station.tiles.tile(known[number - 1], level, column, row)
    except NoTileError as error:
        raise RefusedError(404, f"patient {patient_id!r}, slide {number}: {error}") from None
    if isinstance(data, str):
        raise RefusedError(404, f"patient {patient_id!r}, slide {number}: it cannot be shown ({data})")
    return Response(data, media_type="image/jpeg", headers=_KEPT)


def _slides(station: Station, patient_id: str) -> list[RunSlide]:
    return slides_of(station.patient(patient_id).fields.values())


def _one_of(n_slides: int) -> str:
    return f"one of {count_of(n_slides, 'slide')}" if n_slides else "none, since the patient was photographed"


def _slide(station: Station, number: int, slide: RunSlide, present: Counter[str]) -> dict[str, Any]:
    measured = station.tiles.measure(slide)
    shown: dict[str, Any] = {"number": number, "name": slide.path.name, "problem": None}
    if isinstance(measured, str):
        return {**shown, "problem": measured}
    return {
        **shown,
        "width_px": measured.width_px,
        "height_px": measured.height_px,
        "um_per_px": measured.um_per_px,
        "min_level": measured.min_level,
        "max_level": measured.max_level,
        "tile_px": TILE_PX,
        "overlap_px": OVERLAP_PX,
        "regions": [
            {
                "field_id": field.field_id,
                "name": field.name,
                "box_xyxy": [region.x0, region.y0, region.x1, region.y1],
                "origin_xy": [region.x_px, region.y_px],
                "n_cells": present[field.field_id],
            }
            for field in slide.regions
            if (region := field.region) is not None
        ],
    }
