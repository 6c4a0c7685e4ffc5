"""Find a cell on the seam of two regions exactly once.

Two regions see the same cell slightly differently. Each may see its center on the other's side of the seam, and the
cell would be lost. So a region keeps every cell whose center is in its core or slightly outside (``own_cells``). Cells
near its border that an earlier region already returned are then dropped (``drop_duplicates``). Only a region's cells
near the border need to be remembered (``near_seam``).

A cell is lost only if the centers seen by two regions are farther apart than twice the tolerance; then their contours
would hardly overlap either. The order of the regions only decides which contour of a cell is kept.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from marrowscope import geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, Detection, Region

SEAM_UM = 3.0
"""A cell whose center is this far outside a region's core is still kept: found twice rather than not at all."""
SEAM_IOU = 0.5
"""Contours of two regions with this much overlap are the same cell."""
_BIN_PX = 1024
"""Remembered cells are looked up in squares of this side: a slide read as a whole has hundreds of thousands."""


class SeamMemory:
    """The cells near the borders of a slide's regions: which cells of the next region are new."""

    def __init__(self, um_per_px: float) -> None:
        self._tolerance_px = SEAM_UM / um_per_px
        self._bins: defaultdict[tuple[int, int], list[ContourArray]] = defaultdict(list)

    def take(self, contours: Sequence[ContourArray], region: Region) -> list[int]:
        """Return the positions of the ``contours`` (slide pixels) that no earlier region had, and remember them."""
        new = drop_duplicates(contours, self._near(region))
        kept = [contours[index] for index in new]
        for index in near_seam(kept, region, self._tolerance_px):
            self._bins[_bin(*geometry.centroid(kept[index]))].append(kept[index])
        return new

    def _near(self, region: Region) -> list[ContourArray]:
        """Return the remembered cells in and around the area that ``region`` reads."""
        left, top = _bin(region.x_px, region.y_px)
        right, bottom = _bin(region.x_px + region.width_px, region.y_px + region.height_px)
        near = ((column, row) for row in range(top - 1, bottom + 2) for column in range(left - 1, right + 2))
        return [contour for place in near if place in self._bins for contour in self._bins[place]]


def _bin(x: float, y: float) -> tuple[int, int]:
    return int(x // _BIN_PX), int(y // _BIN_PX)


def to_slide(contour_xy: ContourArray, region: Region) -> ContourArray:
    """Convert a contour from pixels of the area that the region reads to slide pixels."""
    return contour_xy + np.array([region.x_px, region.y_px], dtype=np.float64)


def own_cells(detections: Sequence[Detection], region: Region, tolerance_px: float) -> list[int]:
    """Return the positions of the detections whose center is in the region's core or within ``tolerance_px`` of it.

    The detections are in pixels of the area that the region reads.
    """
    centers = [geometry.centroid(to_slide(item.contour_xy, region)) for item in detections]
    depths = _depths_of(np.array(centers, dtype=np.float64).reshape(-1, 2), region)
    return [int(index) for index in np.flatnonzero(depths >= -tolerance_px)]


def near_seam(contours: Sequence[ContourArray], region: Region, tolerance_px: float) -> list[int]:
    """Return the positions of the contours (slide pixels) that another region may have found too.

    These are all contours except those entirely inside the core and more than ``tolerance_px`` from its border.
    """
    boxes = np.array([geometry.bounding_box(contour) for contour in contours], dtype=np.float64).reshape(-1, 4)
    depths = np.minimum(_depths_of(boxes[:, :2], region), _depths_of(boxes[:, 2:], region))
    return [int(index) for index in np.flatnonzero(depths <= tolerance_px)]


def drop_duplicates(
    contours: Sequence[ContourArray], earlier: Sequence[ContourArray], min_iou: float = SEAM_IOU
) -> list[int]:
    """Return the positions of the ``contours`` that no earlier region had; both in slide pixels.

    Contours are paired one to one, best overlap first, so that one earlier cell never removes two new ones.
    """
    overlap = geometry.iou_matrix(contours, earlier)
    new, old = np.nonzero(overlap >= min_iou)
    order = np.lexsort((old, new, -overlap[new, old]))
    taken_new: set[int] = set()
    taken_old: set[int] = set()
    for pair in order:
        here, there = int(new[pair]), int(old[pair])
        if here not in taken_new and there not in taken_old:
            taken_new.add(here)
            taken_old.add(there)
    return [index for index in range(len(contours)) if index not in taken_new]


def _depths_of(points_xy: NDArray[np.float64], region: Region) -> NDArray[np.float64]:
    """Return for each point (n, 2) its depth inside the core in pixels; negative outside."""
    inside_low = points_xy - (np.array([region.x0, region.y0]) - geometry.HALF_PX)
    inside_high = (np.array([region.x1, region.y1]) - geometry.HALF_PX) - points_xy
    return np.asarray(np.minimum(inside_low, inside_high).min(axis=1), dtype=np.float64)
