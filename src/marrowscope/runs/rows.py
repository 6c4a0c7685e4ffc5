"""What was found in a field to its rows in the fields and cells tables: the one place where they are made."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.quality import REJECT_REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.records import FoundCell, FoundField

_STATUS_OK, STATUS_FAILED = "ok", "failed"


def field_row(found: FoundField, center: str, stain_distance: float, flags: Sequence[str]) -> dict[str, Any]:
    """Give the row of a field; ``stain_distance`` (NaN where unknown) and ``flags`` follow from its measures."""
    source, region = found.source, found.source.region
    counted = Counter(cell.reject_reason for cell in found.cells)
    measures = _nan_to_none({**found.measures, "stain_distance": stain_distance}) if found.error is None else {}
    return {
        "field_id": source.field_id,
        "patient_id": source.patient_id,
        "center": center,
        "path": str(source.path),
        "sha256": found.sha256,
        "width_px": found.width_px,
        "height_px": found.height_px,
        "region_x_px": None if region is None else region.x_px,
        "region_y_px": None if region is None else region.y_px,
        "um_per_px": found.um_per_px,
        "status": _STATUS_OK if found.error is None else STATUS_FAILED,
        "error": found.error,
        "n_contours": len(found.cells),
        **{f"n_rejected_{reason}": counted[reason] for reason in REJECT_REASONS},
        "n_split": sum(cell.n_parts > 1 for cell in found.cells),
        "n_cells": counted[None],
        **measures,
        "flags": list(flags) if found.error is None else None,
    }


def cell_rows(found: FoundField) -> list[dict[str, Any]]:
    """Give the rows of a field's contours, in their order."""
    return [_cell_row(found, cell) for cell in found.cells]


def _cell_row(found: FoundField, cell: FoundCell) -> dict[str, Any]:
    return {
        "cell_id": cell_id(found, cell),
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


def cell_id(found: FoundField, cell: FoundCell) -> str:
    """Give the id of a cell, 20 hex digits: the same image, region and contour have the same one."""
    region = found.source.region
    place = "" if region is None else f"{region.x_px},{region.y_px}"
    return hashlib.sha256((found.sha256 + place).encode() + cell.contour_xy.tobytes()).hexdigest()[:20]


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Give what cannot be measured as null, which NaN is in memory."""
    return {name: None if np.isnan(value) else value for name, value in values.items()}
