"""A patient's fields and the contours drawn in them, as records made from the run's tables; no pixels here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from marrowscope import geometry
from marrowscope.records import Region
from marrowscope.report.palette import category_color
from marrowscope.slides import window

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from marrowscope.records import ContourArray

UNCERTAIN_BELOW = 0.7
"""A cell is marked as uncertain below this probability of its category, and where it is called CBLC with less."""

_SHORT_ID = 8
"""Digits of a cell's id that are printed; enough for a search in the table, where the whole id stands."""

_LEAST_POINTS = 3
_DRAWN_TOLERANCE_UM = 0.03
"""How far a drawn contour may leave the predicted one: an eighth of a pixel of the coarsest picture."""


@dataclass(frozen=True, slots=True)
class CellMark:
    """One contour of a field as drawn: SVG path, label, colour, place, and what was called."""

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
        """Whether the call needs a second look: a low probability, or heads that contradict each other."""
        return (
            self.contradiction or self.p_category < UNCERTAIN_BELOW or (self.is_cblc and self.p_cblc < UNCERTAIN_BELOW)
        )


@dataclass(frozen=True, slots=True)
class FieldPage:
    """One field of a patient; ``failed`` says why an image could not be read (it has no size then).

    ``region`` is what of a slide at ``path`` it is, None for a photograph.
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
        """Cells called CBLC in this field."""
        return sum(mark.is_cblc for mark in self.kept)


def field_pages(fields: pl.DataFrame, cells: pl.DataFrame, lineage_of: Mapping[str, str]) -> tuple[FieldPage, ...]:
    """Give the patient's fields in table order, numbered from 1, each with its marks."""
    by_field = {str(key[0]): frame for key, frame in cells.group_by("field_id", maintain_order=True)}
    pages: list[FieldPage] = []
    for number, row in enumerate(fields.iter_rows(named=True), start=1):
        frame = by_field.get(row["field_id"])
        scale = row["um_per_px"]
        marks = (
            [cell_mark(cell, number, row["width_px"] or 0, lineage_of, scale) for cell in frame.iter_rows(named=True)]
            if frame is not None
            else []
        )
        pages.append(
            FieldPage(
                number=number,
                name=row["field_id"].removeprefix(f"{row['patient_id']}/"),
                path=row["path"],
                sha256=row["sha256"] or "",
                um_per_px=scale,
                width_px=row["width_px"] or 0,
                height_px=row["height_px"] or 0,
                failed=None if row["status"] == "ok" else row["error"] or "could not be read",
                kept=tuple(mark for mark in marks if mark.reject_reason is None),
                rejected=tuple(mark for mark in marks if mark.reject_reason is not None),
                flags=tuple(row["flags"] or ()),
                region=region_of(row),
            )
        )
    return tuple(pages)


def region_of(row: Mapping[str, Any]) -> Region | None:
    """Give what of a slide a row of the fields table is; None for a photograph, and where nothing was read.

    Where the row says nothing of its core, the region gives the cells of all that it reads.
    """
    x, y, width, height = (row[name] for name in ("region_x_px", "region_y_px", "width_px", "height_px"))
    if x is None or width is None:
        return None
    if row.get("core_x0_px") is None:
        return window(x, y, x + width, y + height)
    return Region(x, y, width, height, row["core_x0_px"], row["core_y0_px"], row["core_x1_px"], row["core_y1_px"])


def cell_mark(
    cell: Mapping[str, Any],
    field_number: int,
    width_px: int,
    lineage_of: Mapping[str, str],
    um_per_px: float | None = None,
) -> CellMark:
    """Make one row of the cells table a mark; the label stands above the contour, inside the image.

    ``lineage_of`` holds the categories in the order of ``p_category``.
    The place is the contour's centroid in whole pixels of the image, counted from its top left corner.
    """
    contour = np.asarray(cell["contour_xy"], dtype=np.float64).reshape(-1, 2)
    category = cell["category"] or ""
    label_size = width_px / 75
    left, top = contour.min(axis=0) if len(contour) else (0.0, 0.0)
    right = contour[:, 0].max() if len(contour) else 0.0
    center_x, center_y = geometry.centroid(contour) if len(contour) >= _LEAST_POINTS else (left, top)
    return CellMark(
        cell_id=cell["cell_id"],
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
        p_cblc=cell["p_cblc"] or 0.0,
        is_cblc=bool(cell["is_cblc"]),
        is_countable=bool(cell["is_countable"]),
        contradiction=bool(cell["contradiction"]),
        reject_reason=cell["reject_reason"],
    )


def _called_probability(cell: Mapping[str, Any], category: str, categories: list[str]) -> float:
    """Give the probability of the category that was called; heads that contradict each other call another than the top.

    A category that the vocabulary at hand does not have takes the largest.
    """
    p = cell["p_category"] or (0.0,)
    index = categories.index(category) if category in categories else -1
    return p[index] if 0 <= index < len(p) else max(p)


def svg_path(contour_xy: ContourArray, tolerance_px: float = 0.0) -> str:
    """Give a contour as SVG path data in image pixels, with as few points as keep it within ``tolerance_px``.

    SVG puts the corner of the top-left pixel at (0, 0), contours its centre: half a pixel is added.
    """
    points = np.asarray(contour_xy, dtype=np.float64)
    if tolerance_px > 0 and len(points) > _LEAST_POINTS:
        drawn = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance_px, closed=True)
        points = np.asarray(drawn[:, 0], dtype=np.float64)
    text = " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in points.tolist())
    return f"M{text}Z" if text else ""
