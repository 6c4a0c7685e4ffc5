"""Fields and cells as the reports show them: records made from rows of a run's tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.errors import RunError
from marrowscope.records import Region
from marrowscope.slides import window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.records import ContourArray

CELL_COLUMNS = (
    "cell_id", "field_id", "contour_xy", "reject_reason", "p_cblc", "p_category", "category", "is_cblc",
    "is_countable", "contradiction", "area_um2",
)  # fmt: skip
"""Columns of the table of cells that ``shown_cell`` needs."""


@dataclass(frozen=True, slots=True)
class ShownCell:
    """One contour; a refused one has no category and no probabilities. ``contour_xy`` is (n, 2), in pixels."""

    cell_id: str
    field_id: str
    contour_xy: ContourArray
    reject_reason: str | None
    category: str | None
    p_category: tuple[float, ...]
    p_cblc: float
    is_cblc: bool
    is_countable: bool
    contradiction: bool
    area_um2: float | None = None


@dataclass(frozen=True, slots=True)
class ShownField:
    """One field, at the ``path`` of the prediction; ``failed`` says why it could not be read, else it is None.

    ``region`` is the field's part of the slide, None for a photograph.
    """

    field_id: str
    patient_id: str
    path: str
    sha256: str | None
    um_per_px: float | None
    width_px: int
    height_px: int
    failed: str | None
    flags: tuple[str, ...]
    region: Region | None

    @property
    def name(self) -> str:
        """The field's name within its patient."""
        return self.field_id.removeprefix(f"{self.patient_id}/")


def shown_cell(row: Mapping[str, Any]) -> ShownCell:
    """Make a row of the table of cells a record.

    Raises RunError naming the cell where its contour is no list of points, or a number is not finite: it would be
    drawn and sorted at a wrong place.
    """
    points = np.asarray(row["contour_xy"] if row["contour_xy"] is not None else (), dtype=np.float64)
    p_category = tuple(row["p_category"] or ())
    numbers = (points, [row["p_cblc"] or 0.0], [math.nan if p is None else p for p in p_category])
    if points.size % 2 or not all(np.isfinite(part).all() for part in numbers):
        message = (
            f"cells table, cell {row['cell_id']!r}: found a contour or a probability that is not finite, expected "
            "x and y of every point and shares from 0 to 1; run `marrowscope predict` again"
        )
        raise RunError(message)
    if row["reject_reason"] is None and (row["category"] is None or row["p_cblc"] is None or not p_category):
        message = (
            f"cells table, cell {row['cell_id']!r}: found a kept cell without category or probabilities, expected "
            "both; run `marrowscope predict` again"
        )
        raise RunError(message)
    return ShownCell(
        cell_id=row["cell_id"],
        field_id=row["field_id"],
        contour_xy=points.reshape(-1, 2),
        reject_reason=row["reject_reason"],
        category=row["category"],
        p_category=p_category,
        p_cblc=row["p_cblc"] or 0.0,
        is_cblc=bool(row["is_cblc"]),
        is_countable=bool(row["is_countable"]),
        contradiction=bool(row["contradiction"]),
        area_um2=row.get("area_um2"),
    )


def shown_field(row: Mapping[str, Any]) -> ShownField:
    """Make a record from a row of the table of fields; for a slide's region, the row may also have the core columns."""
    return ShownField(
        field_id=row["field_id"],
        patient_id=row["patient_id"],
        path=row["path"],
        sha256=row["sha256"],
        um_per_px=row["um_per_px"],
        width_px=row["width_px"] or 0,
        height_px=row["height_px"] or 0,
        failed=None if row["status"] == "ok" else row["error"] or "could not be read",
        flags=tuple(row["flags"] or ()),
        region=_region_of(row),
    )


def _region_of(row: Mapping[str, Any]) -> Region | None:
    """Return the field's part of the slide; None for a photograph, and if nothing was read.

    If the row does not state the core, the whole region is the core.
    """
    x, y, width, height = (row[name] for name in ("region_x_px", "region_y_px", "width_px", "height_px"))
    if x is None or width is None:
        return None
    if row.get("core_x0_px") is None:
        return window(x, y, x + width, y + height)
    return Region(x, y, width, height, row["core_x0_px"], row["core_y0_px"], row["core_x1_px"], row["core_y1_px"])
