"""The regions of a slide that a run read, as fields: each expert cell belongs to one of them.

An annotation of a slide is in pixels of the whole slide, a run's contours are in pixels of their regions. A region owns
the cells whose center is in its core. On the seam of two regions, an expert's outline and the run's may have their
centers on different sides: an expert cell therefore goes first to the region whose contour overlaps it best, and only
then to the core that its center is in. Cells in no core were not read by the run; they are counted, not compared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.geometry import HALF_PX, Rings, centroids, overlaps
from marrowscope.records import Annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, Field
    from marrowscope.runs.checked_rows import CheckedRows

_CORE = ("core_x0_px", "core_y0_px", "core_x1_px", "core_y1_px")
_NOT_READ = -1


def split_slides(
    fields: Sequence[Field],
    run_fields: pl.DataFrame,
    run_cells: CheckedRows,
    regions: pl.DataFrame | None,
    min_iou: float,
) -> tuple[list[Field], int]:
    """Return the fields with each slide of the run replaced by its regions, and the expert cells that no region owns.

    ``regions`` is the run's table of that name, None for a run without slides. A run that lacks it, or the cores in it,
    owns what its regions show.
    """
    rows = run_fields.filter(pl.col("region_x_px").is_not_null())
    if regions is not None:
        rows = rows.join(regions.select("field_id", *_CORE).unique("field_id"), on="field_id", how="left")
    of_slide: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        of_slide.setdefault(row["field_id"].rpartition("/")[0], []).append(row)
    result: list[Field] = []
    n_outside = 0
    for field in fields:
        read = of_slide.get(field.field_id)
        if read is None:
            result.append(field)
            continue
        owner = _owners(field, read, run_cells, min_iou)
        n_outside += int((owner == _NOT_READ).sum())
        result += [_region_field(field, row, owner == index) for index, row in enumerate(read)]
    return result, n_outside


def _owners(
    field: Field, regions: Sequence[dict[str, Any]], run_cells: CheckedRows, min_iou: float
) -> NDArray[np.intp]:
    """Return for each annotation of a slide the position of the region that owns it, -1 where none does."""
    outlines = [annotation.contour_xy for annotation in field.annotations]
    owner = np.full(len(outlines), _NOT_READ, dtype=np.intp)
    if not outlines:
        return owner
    centers = centroids(Rings.of(outlines))
    for index, row in reversed(list(enumerate(regions))):
        x0, y0, x1, y1 = _core(row)
        inside = ((centers >= [x0 - HALF_PX, y0 - HALF_PX]) & (centers < [x1 - HALF_PX, y1 - HALF_PX])).all(axis=1)
        owner[inside] = index
    position = {row["field_id"]: index for index, row in enumerate(regions)}
    of_slide = run_cells.rows.filter(pl.col("field_id").is_in(list(position)))
    cells = run_cells.read(of_slide.select("field_id", "contour_xy", "reject_reason"))
    contours = [
        _in_slide(points, regions[position[field_id]])
        for field_id, points in zip(cells["field_id"], cells["contour_xy"], strict=True)
    ]
    found, expert, iou = overlaps(contours, outlines)
    is_kept = cells["reject_reason"].is_null().to_numpy()[found] if len(found) else np.zeros(0, dtype=np.bool_)
    worth = np.where(iou >= min_iou, iou + is_kept, 0.0)
    for pair in np.argsort(worth, kind="stable"):  # the best is written last
        if worth[pair] > 0:
            owner[expert[pair]] = position[cells["field_id"][int(found[pair])]]
    return owner


def _core(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the core of a region in pixels of the slide; where the run does not state it, the whole region."""
    x, y = row["region_x_px"], row["region_y_px"]
    if any(row.get(name) is None for name in _CORE):
        return x, y, x + (row["width_px"] or 0), y + (row["height_px"] or 0)
    x0, y0, x1, y1 = (int(row[name]) for name in _CORE)
    return x0, y0, x1, y1


def _in_slide(points: pl.Series, row: dict[str, Any]) -> ContourArray:
    corner = np.array([row["region_x_px"], row["region_y_px"]], dtype=np.float64)
    return np.asarray(points.to_numpy().reshape(-1, 2) + corner, dtype=np.float64)


def _region_field(field: Field, row: dict[str, Any], is_own: NDArray[np.bool_]) -> Field:
    """Return a region as a field, with the annotations it owns in its own pixels."""
    corner = np.array([row["region_x_px"], row["region_y_px"]], dtype=np.float64)
    shifted = tuple(
        Annotation(item.code, item.contour_xy - corner, item.shape_index, item.cell_id)
        for item, own in zip(field.annotations, is_own, strict=True)
        if own
    )
    x0, y0, x1, y1 = _core(row)
    return replace(
        field,
        field_id=row["field_id"],
        width_px=row["width_px"] or x1 - x0,
        height_px=row["height_px"] or y1 - y0,
        annotations=shifted,
    )
