"""A patient's fields and the contours drawn in them, as records made from the run's tables, without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope import geometry
from marrowscope.report.palette import category_color

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.records import ContourArray, Region
    from marrowscope.report.shown_rows import ShownCell, ShownField

UNCERTAIN_BELOW = 0.7
"""A cell is marked as uncertain if the probability of its category, or of a CBLC call, is below this."""

_SHORT_ID = 8
"""Printed digits of a cell's id, enough to find the whole id in the table."""

_LEAST_POINTS = 3
_DRAWN_TOLERANCE_UM = 0.03
"""How far a drawn contour may deviate from the predicted one: an eighth of a pixel of the coarsest picture."""


@dataclass(frozen=True, slots=True)
class CellMark:
    """One contour of a field as drawn: SVG path, label, color, position and calls."""

    cell_id: str
    field_number: int
    contour_xy: ContourArray
    path: str
    label_x: float
    label_y: float
    x: int
    y: int
    category: str
    color: str
    p_category: float
    p_cblc: float
    is_cblc: bool
    is_countable: bool
    contradiction: bool
    reject_reason: str | None

    @property
    def short_id(self) -> str:
        """The first digits of the cell's id."""
        return self.cell_id[:_SHORT_ID]

    @property
    def uncertain(self) -> bool:
        """Whether the call needs a second look, because of a low probability or heads that contradict each other."""
        return (
            self.contradiction or self.p_category < UNCERTAIN_BELOW or (self.is_cblc and self.p_cblc < UNCERTAIN_BELOW)
        )


@dataclass(frozen=True, slots=True)
class FieldPage:
    """One field of a patient; ``failed`` says why the image could not be read (it then has no size).

    ``region`` is the field's part of the slide at ``path``, None for a photograph.
    """

    number: int
    name: str
    path: str
    sha256: str
    um_per_px: float | None
    width_px: int
    height_px: int
    failed: str | None
    kept: tuple[CellMark, ...]
    rejected: tuple[CellMark, ...]
    flags: tuple[str, ...] = ()
    region: Region | None = None

    @property
    def n_cblc(self) -> int:
        """Number of cells called CBLC in this field."""
        return sum(mark.is_cblc for mark in self.kept)


def field_pages(
    fields: Sequence[ShownField], cells: Sequence[ShownCell], lineage_of: Mapping[str, str]
) -> tuple[FieldPage, ...]:
    """Return the patient's fields in table order, numbered from 1, each with its marks."""
    by_field: dict[str, list[ShownCell]] = {}
    for cell in cells:
        by_field.setdefault(cell.field_id, []).append(cell)
    pages: list[FieldPage] = []
    for number, field in enumerate(fields, start=1):
        own = by_field.get(field.field_id, ())
        marks = [cell_mark(cell, number, field.width_px, lineage_of, field.um_per_px) for cell in own]
        pages.append(
            FieldPage(
                number=number,
                name=field.name,
                path=field.path,
                sha256=field.sha256 or "",
                um_per_px=field.um_per_px,
                width_px=field.width_px,
                height_px=field.height_px,
                failed=field.failed,
                kept=tuple(mark for mark in marks if mark.reject_reason is None),
                rejected=tuple(mark for mark in marks if mark.reject_reason is not None),
                flags=field.flags,
                region=field.region,
            )
        )
    return tuple(pages)


def cell_mark(
    cell: ShownCell,
    field_number: int,
    width_px: int,
    lineage_of: Mapping[str, str],
    um_per_px: float | None = None,
) -> CellMark:
    """Make the mark of a cell; the label is above the contour, inside the image.

    ``lineage_of`` has the categories in the order of ``p_category``. The position is the contour's centroid in whole
    pixels of the image, counted from its top left corner.
    """
    contour = cell.contour_xy
    category = cell.category or ""
    label_size = width_px / 75
    left, top = contour.min(axis=0) if len(contour) else (0.0, 0.0)
    right = contour[:, 0].max() if len(contour) else 0.0
    center_x, center_y = geometry.centroid(contour) if len(contour) >= _LEAST_POINTS else (left, top)
    return CellMark(
        cell_id=cell.cell_id,
        field_number=field_number,
        contour_xy=contour,
        path=svg_path(contour, _DRAWN_TOLERANCE_UM / um_per_px if um_per_px else 0.0),
        label_x=round((left + right) / 2 + 0.5, 1),
        label_y=round(max(top - label_size / 3, label_size), 1),
        x=round(center_x),
        y=round(center_y),
        category=category,
        color=category_color(category, lineage_of.get(category, "other")),
        p_category=_called_probability(cell, category, list(lineage_of)),
        p_cblc=cell.p_cblc,
        is_cblc=cell.is_cblc,
        is_countable=cell.is_countable,
        contradiction=cell.contradiction,
        reject_reason=cell.reject_reason,
    )


def _called_probability(cell: ShownCell, category: str, categories: list[str]) -> float:
    """Return the probability of the called category; if heads contradict each other, it need not be the largest.

    For a category that is not in ``categories``, the largest probability is returned.
    """
    p = cell.p_category or (0.0,)
    index = categories.index(category) if category in categories else -1
    return p[index] if 0 <= index < len(p) else max(p)


def svg_path(contour_xy: ContourArray, tolerance_px: float = 0.0) -> str:
    """Return a contour as SVG path data in image pixels, with as few points as ``tolerance_px`` allows.

    SVG has the corner of the top-left pixel at (0, 0), contours have its center there: half a pixel is added.
    """
    points = np.asarray(contour_xy, dtype=np.float64)
    if tolerance_px > 0 and len(points) > _LEAST_POINTS:
        drawn = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance_px, closed=True)
        points = np.asarray(drawn[:, 0], dtype=np.float64)
    text = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in points.tolist())
    return f"M{text}Z" if text else ""
