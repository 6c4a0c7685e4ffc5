"""How much of an outline is a straight line along its bounding box: the mark of a contour that its box cut off.

A segmenter's mask that extends beyond its box is cut along the box, and a cell at a photograph's edge along the edge.
Drawn outlines are round there: a circle has a share of about 0.14, whatever its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marrowscope import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.records import ContourArray

TOLERANCE_UM = 0.15
"""A point this near to a side of the box lies on it: half a pixel of the segmenter's input."""

MAX_ANGLE_DEG = 6.0
"""A piece of outline that leaves the side's direction by more is not straight along it."""

STEP_UM = 0.6
"""Length of the pieces; shorter ones follow the pixel steps of hand-drawn outlines."""

_MIN_PIECES = 16
_EDGE_PX = 1.0


def box_share(contour_xy: ContourArray, um_per_px: float, image_size_px: tuple[int, int] | None = None) -> float:
    """Share of the outline's length (0 to 1) that runs along its own bounding box; 0 for an empty contour.

    With ``image_size_px`` (width, height), a side at the image's edge does not count: there the cell itself is cut.
    """
    if len(contour_xy) < geometry.MIN_POINTS:
        return 0.0
    n_pieces = max(_MIN_PIECES, round(geometry.perimeter(contour_xy) * um_per_px / STEP_UM))
    start = geometry.resample_contour(contour_xy, n_pieces)
    end = np.roll(start, -1, axis=0)
    step = end - start
    length = np.hypot(step[:, 0], step[:, 1])
    if not length.sum() > 0:
        return 0.0
    x0, y0, x1, y1 = geometry.bounding_box(contour_xy)
    tolerance_px = TOLERANCE_UM / um_per_px
    along = np.zeros(n_pieces, dtype=bool)
    for axis, sides in ((0, (x0, x1)), (1, (y0, y1))):
        parallel = np.abs(step[:, axis]) <= np.sin(np.deg2rad(MAX_ANGLE_DEG)) * length
        for side in sides:
            if image_size_px is not None and not _EDGE_PX < side < image_size_px[axis] - 1 - _EDGE_PX:
                continue
            near: NDArray[np.bool_] = np.maximum(abs(start[:, axis] - side), abs(end[:, axis] - side)) <= tolerance_px
            along |= near & parallel
    return float(length[along].sum() / length.sum())
