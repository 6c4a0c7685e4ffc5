"""What the run measured of one cell, and the cells that are most like it, as JSON."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request

from marrowscope.review.guard import SEE, RefusedError, station_of, unblinded
from marrowscope.review.live_estimate import hidden_cells
from marrowscope.review.measured_cells import MEASURES, MeasuredCells, distances, read_measures
from marrowscope.review.sessions import Session

if TYPE_CHECKING:
    from pathlib import Path

router = APIRouter()
_MOST_CATEGORIES = 4
_read = lru_cache(maxsize=8)(read_measures)


@router.get("/api/patients/{patient_id}/cells/{cell_id}/measures")
def measures(
    request: Request, patient_id: str, cell_id: str, session: Annotated[Session, Depends(SEE)]
) -> dict[str, Any]:
    """Return the probabilities and the morphology of one cell of the run; a drawn cell has none."""
    cells, index = _found(request, patient_id, cell_id, session)
    categories = station_of(request).vocabulary.categories
    order = np.argsort(-cells.p[index], kind="stable")[:_MOST_CATEGORIES]
    return {
        "cell_id": cell_id,
        "categories": [{"category": categories[i], "p": round(float(cells.p[index, i]), 4)} for i in order],
        "contradiction": bool(cells.contradiction[index]),
        "member_spread": _number(cells.member_spread[index]),
        "morphology": {name: _number(cells.measures[index, i]) for i, name in enumerate(MEASURES)},
    }


@router.get("/api/patients/{patient_id}/cells/{cell_id}/similar")
def similar(
    request: Request, patient_id: str, cell_id: str, session: Annotated[Session, Depends(SEE)]
) -> dict[str, Any]:
    """Return the cells of the run by their likeness to one of them, itself first, and what was compared."""
    cells, index = _found(request, patient_id, cell_id, session)
    distance = distances(cells, index)
    distance[index] = -1.0
    hidden = hidden_cells(station_of(request).state(patient_id))  # likeness to a known cell would tell their calls
    distance[[name in hidden for name in cells.cell_ids]] = np.inf
    order = np.argsort(distance, kind="stable")
    return {"by": "probabilities_and_morphology", "cell_ids": [cells.cell_ids[i] for i in order]}


def _found(request: Request, patient_id: str, cell_id: str, session: Session) -> tuple[MeasuredCells, int]:
    station_of(request).patient(patient_id)  # names one that is not there
    station = unblinded(request, patient_id, session)
    folder: Path = station.cells.run_of(patient_id).folder
    cells = _read(folder, patient_id)
    if cell_id not in cells.cell_ids:
        raise RefusedError(404, f"patient {patient_id!r}: cell {cell_id!r} was not measured by the run, or is unknown")
    if cell_id in hidden_cells(station.state(patient_id)):
        sentence = f"cell {cell_id!r}: an audit hides what the machine says of it until every cell of its look is named"
        raise RefusedError(403, sentence)
    return cells, cells.cell_ids.index(cell_id)


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
