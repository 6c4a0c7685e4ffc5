"""The rows of the fields and cells tables that one field gives."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.quality import REJECT_REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.cells.quality import Judgement
    from marrowscope.records import Detection
    from marrowscope.streaming.photograph import ReadField

STATUS_OK, STATUS_FAILED = "ok", "failed"


@dataclass(slots=True)
class FieldRows:
    """The row of one field in the fields table and those of its contours in the cells table.

    ``n_parts`` holds for each contour how many parts its mask had.
    """

    row: dict[str, Any]
    cells: list[dict[str, Any]] = field(default_factory=list)
    n_parts: list[int] = field(default_factory=list)


def failed_rows(read: ReadField, error: str) -> FieldRows:
    """Give the row of a field without cells, with the sentence why."""
    return FieldRows(field_row(read, [], []) | {"status": STATUS_FAILED, "error": error})


def field_row(read: ReadField, detections: Sequence[Detection], reasons: Sequence[str | None]) -> dict[str, Any]:
    """Give the row of a field, its measures left out."""
    item, region = read.item, read.item.region
    counted = Counter(reasons)
    return {
        "field_id": item.field_id,
        "patient_id": item.patient_id,
        "path": str(item.path),
        "sha256": read.digest,
        "width_px": read.width_px,
        "height_px": read.height_px,
        "region_x_px": None if region is None else region.x_px,
        "region_y_px": None if region is None else region.y_px,
        "um_per_px": read.um_per_px,
        "status": STATUS_OK,
        "error": None,
        "n_contours": len(reasons),
        **{f"n_rejected_{reason}": counted[reason] for reason in REJECT_REASONS},
        "n_split": sum(detection.n_parts > 1 for detection in detections),
        "n_cells": counted[None],
    }


def cell_row(read: ReadField, detection: Detection, judged: Judgement, image_um_per_px: float) -> dict[str, Any]:
    """Give the row of a contour before its measures and its call; ``image_um_per_px`` is that of ``read.image``."""
    item, contour = read.item, read.to_file(detection.contour_xy)
    place = "" if item.region is None else f"{item.region.x_px},{item.region.y_px}"
    return {
        "cell_id": hashlib.sha256((read.digest + place).encode() + contour.tobytes()).hexdigest()[:20],
        "field_id": item.field_id,
        "patient_id": item.patient_id,
        "contour_xy": contour.ravel().tolist(),
        "score": detection.score,
        "area_um2": judged.area_px * image_um_per_px**2,
        "circularity": judged.circularity,
        "reject_reason": judged.reason,
    }


def nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Give what cannot be measured as null, which NaN is in memory."""
    return {name: None if np.isnan(value) else value for name, value in values.items()}
