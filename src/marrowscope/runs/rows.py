"""What was found in a field to its rows in the fields and cells tables: the one place where they are made."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope import geometry
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.geometry import Rings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.records import FoundCell, FoundField

_STATUS_OK, STATUS_FAILED = "ok", "failed"

GRID_PX = 4.0
"""Side of the squares that name a cell's place, in pixels of the image: 300,000 times the wobble between two runtimes,
a tenth of a cell."""
_GRID_OFFSET = 0.3137
"""Of a square: a centroid at a whole, a half or a quarter pixel is clear of the lines by 0.005 px."""


def field_row(found: FoundField, center: str, stain_distance: float, flags: Sequence[str]) -> dict[str, Any]:
    """Return the row of a field; ``stain_distance`` (NaN where unknown) and ``flags`` follow from its measures."""
    source, region = found.source, found.source.region
    counted = Counter(cell.reject_reason for cell in found.cells)
    measures = _nan_to_none({**found.measures, "stain_distance": stain_distance}) if found.error is None else {}
    return {
        "field_id": source.field_id,
        "patient_id": source.patient_id,
        "center": center,
        "path": source.place,
        "sha256": found.sha256,
        "width_px": found.width_px,
        "height_px": found.height_px,
        "region_x_px": None if region is None else region.x_px,
        "region_y_px": None if region is None else region.y_px,
        "um_per_px": found.um_per_px,
        "simulated": found.is_simulated,
        "status": _STATUS_OK if found.error is None else STATUS_FAILED,
        "error": None if found.error is None else found.error.replace(str(source.path), source.place),
        "n_contours": len(found.cells),
        **{f"n_rejected_{reason}": counted[reason] for reason in REJECT_REASONS},
        "n_split": sum(cell.n_parts > 1 for cell in found.cells),
        "n_cells": counted[None],
        **measures,
        "erythrocyte_diameter_um": found.erythrocytes.diameter_um if found.erythrocytes else None,
        "n_erythrocytes": found.erythrocytes.n if found.erythrocytes else None,
        "flags": list(flags) if found.error is None else None,
    }


def cell_rows(found: FoundField) -> list[dict[str, Any]]:
    """Return the rows of a field's contours, in their order."""
    return [_cell_row(found, cell, name) for cell, name in zip(found.cells, cell_ids(found), strict=True)]


def _cell_row(found: FoundField, cell: FoundCell, cell_id: str) -> dict[str, Any]:
    return {
        "cell_id": cell_id,
        "field_id": found.source.field_id,
        "patient_id": found.source.patient_id,
        "contour_xy": cell.contour_xy.ravel().tolist(),
        "score": cell.score,
        "area_um2": cell.area_um2,
        "circularity": cell.circularity,
        "reject_reason": cell.reject_reason,
        **({} if cell.call is None else asdict(cell.call)),
        **_nan_to_none(cell.morphology),
    }


def cell_ids(found: FoundField) -> list[str]:
    """Return the id of each cell of a field, 20 hex digits: made of the image, the region, and where the cell lies.

    Points of a contour wobble by 1e-5 px from runtime to runtime, so the place is the centroid on a grid of GRID_PX,
    whose lines keep clear of round coordinates. Cells of one square are numbered, the largest first: no two cells of a
    field have one id.
    """
    if not found.cells:
        return []
    rings = Rings.of([cell.contour_xy for cell in found.cells])
    squares = np.floor(geometry.centroids(rings) / GRID_PX - _GRID_OFFSET).astype(np.int64).tolist()
    order = np.argsort(-geometry.areas(rings), kind="stable")
    region = found.source.region
    place = "" if region is None else f"{region.x_px},{region.y_px}"
    n_in: Counter[tuple[int, int]] = Counter()
    ids = [""] * len(found.cells)
    for index in order.tolist():
        column, row = squares[index]
        named = f"{found.sha256} {place} {column},{row} {n_in[column, row]}"
        ids[index] = hashlib.sha256(named.encode()).hexdigest()[:20]
        n_in[column, row] += 1
    return ids


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return what cannot be measured as null, which NaN is in memory."""
    return {name: None if np.isnan(value) else value for name, value in values.items()}
