"""From the mask logits of a field's cells to subpixel contours.

The mask of a cell is a weighted sum of prototypes on a grid of four input pixels. It is summed only around the cell's
box, resampled to input pixels, traced by marching squares with linear interpolation, cut to the box, smoothed along its
length, and cut to the input. The contour follows the logits, not the steps of the prototype grid.

Only summing, resampling and tracing run cell by cell; the later steps work on the rings of all cells at once. A cell's
contour does not depend, to the bit, on the other cells traced with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import shapely
from contourpy import FillType, LineType, SerialContourGenerator, ZInterp

from marrowscope import geometry
from marrowscope.geometry import Rings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.records import ContourArray
    from marrowscope.segment.config import Interpolation

_RATIO = 4
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
# Prototypes kept around the box: a cubic kernel extends two to each side.
_PROTOTYPE_MARGIN = 3
# A separate part smaller than this (input pixels squared) is an interpolation artifact, not a part of the mask.
_MIN_PART_PX2 = 2.0
_MIN_POINTS = 12
_PAD_PX = 8
# A box that ends closer than this to the input's edge was cut off by that edge.
_EDGE_PX = 1.5
# Smoothing works on a power of two points, at most this far apart.
_EVEN_STEP_PX = 0.7
_MIN_EVEN_POINTS = 32
# Edges of a traced ring are shorter than this, so each crosses at most one side of its box in x, and one in y.
_MIN_BOX_PX = 1.5
_BORDER_ROUNDING = 1e-9
# Columns of a box that give its corners, in the order in which a ring passes them.
_CORNERS = np.array([[0, 1], [2, 1], [2, 3], [0, 3]])
_OUTSIDE = -1e6


@dataclass(frozen=True, slots=True)
class TracedCells:
    """The cells that have a contour: ``rings``, ``index`` of the box of each (m,), and ``n_parts`` (m,)."""

    rings: Rings
    index: NDArray[np.intp]
    n_parts: NDArray[np.intp]


def trace_cells(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float64],
    *,
    smoothing_px: float = 2.0,
    step_px: float = 1.0,
    interpolation: Interpolation = "cubic",
    level: float = 0.0,
    box_margin_px: float = 0.0,
) -> TracedCells:
    """Trace the cells of one field in input pixels, with (0, 0) the center of the first pixel; contours are valid.

    ``prototypes`` is (k, h / 4, w / 4), ``coefficients`` (m, k), ``boxes_xyxy`` (m, 4) in corner coordinates of the
    input. The largest part where the logits exceed ``level`` is kept, without holes, smoothed, with points ``step_px``
    apart; ``n_parts`` counts the parts. The network was never trained beyond the box, so the mask ends there, or
    ``box_margin_px`` farther out. A cell that is empty inside its box is left out.
    """
    height, width = (_RATIO * side for side in prototypes.shape[1:])
    limits = _open_boxes(boxes_xyxy, box_margin_px, width, height)
    lines: list[ContourArray] = []
    cells: list[int] = []
    origins: list[tuple[int, int]] = []
    for cell, box in enumerate(boxes_xyxy.tolist()):
        logits = _fine_logits(prototypes, coefficients[cell], box, interpolation)
        if logits is not None:
            traced = _trace_zero_level(logits[0], level)
            lines += traced
            cells += [cell] * len(traced)
            origins += [logits[1:]] * len(traced)
    rings, cell_of = Rings.of(lines), np.array(cells, dtype=np.intp)
    shift = np.array(origins, dtype=np.float64).reshape(-1, 2)
    # A neighbor's mask, or a ripple in the prototypes, may start next to the box.
    near = _boxes_meet(rings.bounds() + np.tile(shift, 2), limits[cell_of])
    rings, cell_of, shift = rings.take(near), cell_of[near], shift[near]
    # Holes run in the opposite direction, so their area is negative.
    is_part = geometry.signed_areas(rings) >= _MIN_PART_PX2
    if not is_part.all():
        rings, cell_of, shift = rings.take(is_part), cell_of[is_part], shift[is_part]
    rings = Rings(rings.points_xy + shift.take(rings.owner, axis=0), rings.offsets)
    rings, cell_of = _cut(rings, cell_of, limits[cell_of])
    return _largest_parts(smooth_rings(rings, smoothing_px), cell_of, step_px, width, height)


def smooth_rings(rings: Rings, sigma_px: float) -> Rings:
    """Smooth closed contours along their length with a Gaussian of ``sigma_px``; 0 returns them unchanged.

    The filter is 2 G - G G, because a Gaussian G alone would shrink a circle of radius r by sigma^2 / (2 r). It is
    applied as a factor to the spectrum of each ring's equally spaced points.
    """
    if sigma_px == 0 or not len(rings):
        return rings
    lengths = geometry.perimeters(rings)
    wanted = np.maximum(lengths / _EVEN_STEP_PX, _MIN_EVEN_POINTS)
    n_points = 2 ** np.ceil(np.log2(wanted)).astype(np.intp)
    even = geometry.resample(rings, n_points)
    smooth = np.empty_like(even.points_xy)
    for n in np.unique(n_points):
        chosen = n_points == n
        place = even.offsets[:-1][chosen, None] + np.arange(n)
        spectrum = np.fft.rfft(even.points_xy.take(place, axis=0), axis=1)
        gauss = np.exp(-0.5 * (2 * np.pi * sigma_px / lengths[chosen, None] * np.arange(n // 2 + 1)) ** 2)
        smooth[place] = np.fft.irfft(spectrum * (2 * gauss - gauss**2)[:, :, None], n=n, axis=1)
    return Rings(smooth, even.offsets)


def _open_boxes(
    boxes_xyxy: NDArray[np.float64], margin_px: float, width_px: int, height_px: int
) -> NDArray[np.float64]:
    """Return the boxes with their margin in pixel-center coordinates (m, 4), open where a box ends at the input's edge.

    There the cell continues outside. It is cut at the edge after smoothing, so that the cut is sharp.
    """
    low, high = boxes_xyxy[:, :2] - margin_px, boxes_xyxy[:, 2:] + margin_px
    low = np.where(low < _EDGE_PX, -float(_PAD_PX), low)
    size = np.array([width_px, height_px], dtype=np.float64)
    high = np.where(high > size - _EDGE_PX, size + _PAD_PX, high)
    return np.concatenate([low, high], axis=1) - 0.5


def _fine_logits(
    prototypes: NDArray[np.float32], coefficients: NDArray[np.float32], box: list[float], interpolation: Interpolation
) -> tuple[NDArray[np.float32], int, int] | None:
    """Return the logits around a box in input pixels, and x and y of the first; None for a box outside the input.

    They are extended beyond the input's edge, so that a cell there can be smoothed before it is cut.
    """
    n_rows, n_columns = prototypes.shape[1:]
    column0 = max(int(box[0] // _RATIO) - _PROTOTYPE_MARGIN, 0)
    row0 = max(int(box[1] // _RATIO) - _PROTOTYPE_MARGIN, 0)
    column1 = min(-int(-box[2] // _RATIO) + _PROTOTYPE_MARGIN, n_columns)
    row1 = min(-int(-box[3] // _RATIO) + _PROTOTYPE_MARGIN, n_rows)
    if column0 >= column1 or row0 >= row1:
        return None
    # einsum, not a matrix product: with a different number of threads, BLAS may sum in a different order.
    coarse = np.einsum("k,kij->ij", coefficients, prototypes[:, row0:row1, column0:column1])
    size = ((column1 - column0) * _RATIO, (row1 - row0) * _RATIO)
    fine = cv2.resize(coarse, size, interpolation=_INTERPOLATIONS[interpolation])
    left, top = column0 * _RATIO, row0 * _RATIO
    if column0 == 0 or row0 == 0 or column1 == n_columns or row1 == n_rows:
        fine = cv2.copyMakeBorder(fine, _PAD_PX, _PAD_PX, _PAD_PX, _PAD_PX, cv2.BORDER_REPLICATE)
        left, top = left - _PAD_PX, top - _PAD_PX
    return np.asarray(fine, dtype=np.float32), left, top


def _trace_zero_level(fine: NDArray[np.float32], level: float) -> list[ContourArray]:
    """Outlines of the region where the logits exceed ``level``, and of its holes in the opposite direction.

    Points are relative to the first logit. ``contourpy.contour_generator`` spends more time on checks than on tracing.
    """
    height, width = fine.shape
    # A negative frame closes the rings that reach the border of the logits.
    values = np.full((height + 2, width + 2), _OUTSIDE)
    np.subtract(fine, level, out=values[1:-1, 1:-1])
    generator = SerialContourGenerator(
        *_grid(height + 2, width + 2),
        values,
        None,  # type: ignore[arg-type] # no mask; its annotation omits None
        x_chunk_size=0,
        y_chunk_size=0,
        line_type=LineType.Separate,
        fill_type=FillType.OuterOffset,
        corner_mask=True,
        quad_as_tri=False,
        z_interp=ZInterp.Linear,
    )
    # Every line is closed: its last point repeats the first.
    return [line[:-1] for line in cast("list[ContourArray]", generator.lines(0.0))]


@lru_cache(maxsize=128)
def _grid(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the nodes; the first is one pixel outside the logits."""
    x, y = np.meshgrid(np.arange(-1.0, width - 1), np.arange(-1.0, height - 1))
    return x, y


def _cut(
    rings: Rings, cell_of: NDArray[np.intp], boxes: NDArray[np.float64], crossed: NDArray[np.bool_] | None = None
) -> tuple[Rings, NDArray[np.intp]]:
    """Cut each ring to its box (m, 4); return the parts and the cell of each, without interpolation artifacts.

    GEOS handles rings that fall into several parts and self-intersecting ones, ``crossed`` (m,).
    """
    clipped, doubtful = clip_rings(rings, boxes)
    if crossed is not None:
        doubtful |= crossed
    whole = ~doubtful & (geometry.areas(clipped) >= _MIN_PART_PX2)
    if whole.all():
        return clipped, cell_of
    parts, part_of = clipped.take(whole), cell_of[whole]
    if not doubtful.any():
        return parts, part_of
    pieces, piece_of = _intersect(rings.take(doubtful), cell_of[doubtful], boxes[doubtful])
    return Rings.of([*parts.split(), *pieces]), np.concatenate([part_of, np.array(piece_of, dtype=np.intp)])


def clip_rings(rings: Rings, boxes: NDArray[np.float64]) -> tuple[Rings, NDArray[np.bool_]]:
    """Cut each ring to its box (m, 4) where one part is left; also return for which rings this is uncertain (m,).

    The rings run from x towards y, and their edges are shorter than ``_MIN_BOX_PX``. Each path outside the box is
    replaced by a path along the border, corners included. Between two parts of a cell, that path runs backwards.
    """
    if geometry.lie_in_boxes(rings, boxes).all():
        return rings, np.zeros(len(rings), dtype=np.bool_)
    for axis in (0, 1):
        rings = _split_edges(rings, axis, boxes[:, axis], boxes[:, axis + 2])
    own = boxes.take(rings.owner, axis=0)
    points = np.clip(rings.points_xy, own[:, :2], own[:, 2:])
    inside = (points == rings.points_xy).all(axis=1)
    following = rings.following_index
    exits = inside & ~inside[following]
    leaves = np.flatnonzero(exits)
    leaver = rings.owner[leaves]
    n_leaves = np.bincount(leaver, minlength=len(rings))
    all_outside = rings.sums(inside.astype(np.float64)) == 0
    doubtful = all_outside & _boxes_meet(rings.bounds(), boxes)
    doubtful |= (boxes[:, 2:] - boxes[:, :2] < _MIN_BOX_PX).any(axis=1)
    # Length along the border of each path outside, in sides; the sum of its steps gives its direction.
    place = _border_place(points, own)
    step = place[following] - place
    step -= 4 * np.rint(step / 4)
    excursion = np.cumsum(exits) - 1
    last = np.cumsum(n_leaves) - 1
    first = last - n_leaves + 1
    excursion = np.where(excursion < first[rings.owner], last[rings.owner], excursion)
    outside = ~(inside & inside[following]) & ~all_outside[rings.owner]
    run = np.bincount(excursion[outside], weights=step[outside], minlength=len(leaves))
    doubtful[leaver[run < -_BORDER_ROUNDING]] = True
    n_corners = np.zeros(len(points), dtype=np.intp)
    begin = place[leaves]
    n_corners[leaves] = np.floor(begin + np.maximum(run, 0.0)) - np.floor(begin)
    repeats = np.where(inside, 1 + n_corners, 0)
    source = np.repeat(np.arange(len(points)), repeats)
    nth = np.arange(len(source)) - (np.cumsum(repeats) - repeats)[source]
    corner = np.flatnonzero(nth)
    which = (np.floor(place[source[corner]]).astype(np.intp) + nth[corner]) % 4
    result = points.take(source, axis=0)
    result[corner] = own[source[corner, None], _CORNERS[which]]
    counts = np.bincount(rings.owner[source], minlength=len(rings))
    return Rings(result, np.concatenate([[0], np.cumsum(counts)])), doubtful


def _boxes_meet(bounds: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((bounds[:, :2] < boxes[:, 2:]) & (bounds[:, 2:] > boxes[:, :2])).all(axis=1))


def _border_place(points_xy: ContourArray, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position of each point on its box's border (n,), in sides from (x0, y0): 0 to 4; meaningless off the border."""
    low, high = boxes[:, :2], boxes[:, 2:]
    share_x, share_y = ((points_xy - low) / (high - low)).T
    at_low, at_high = points_xy == low, points_xy == high
    beyond_top = np.where(at_high[:, 0], 1 + share_y, np.where(at_high[:, 1], 3 - share_x, 4 - share_y))
    return np.asarray(np.where(at_low[:, 1], share_x, beyond_top))


def _intersect(
    rings: Rings, cell_of: NDArray[np.intp], boxes: NDArray[np.float64]
) -> tuple[list[ContourArray], list[int]]:
    """Intersect each ring with its box exactly; return the outlines of the parts and the cell of each."""
    shapes = shapely.make_valid(shapely.polygons(shapely.linearrings(rings.points_xy, indices=rings.owner)))
    pieces, source = shapely.get_parts(shapely.intersection(shapes, shapely.box(*boxes.T)), return_index=True)
    chosen = (shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON) & (shapely.area(pieces) >= _MIN_PART_PX2)
    outlines = [np.asarray(piece.exterior.coords)[:-1] for piece in pieces[chosen]]
    return outlines, cell_of[source[chosen]].tolist()


def _split_edges(rings: Rings, axis: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> Rings:
    """Add a point wherever an edge crosses its ring's ``low`` or ``high`` (m,) in x (axis 0) or y (axis 1)."""
    place = np.ascontiguousarray(rings.points_xy[:, axis])
    below, above = place < low.repeat(rings.counts), place > high.repeat(rings.counts)
    following = rings.following_index
    crosses_low = below != below[following]
    crosses = np.flatnonzero(crosses_low | (above != above[following]))
    owner, after = rings.owner[crosses], following[crosses]
    level = np.where(crosses_low[crosses], low[owner], high[owner])
    share = (level - place[crosses]) / (place[after] - place[crosses])
    start = rings.points_xy.take(crosses, axis=0)
    added = start + share[:, None] * (rings.points_xy.take(after, axis=0) - start)
    added[:, axis] = level
    times = np.ones(len(place), dtype=np.intp)
    times[crosses] = 2
    points = rings.points_xy.repeat(times, axis=0)
    points[crosses + np.arange(1, len(crosses) + 1)] = added
    counts = rings.counts + np.bincount(owner, minlength=len(rings))
    return Rings(points, np.concatenate([[0], np.cumsum(counts)]))


def _largest_parts(
    rings: Rings, cell_of: NDArray[np.intp], step_px: float, width_px: int, height_px: int
) -> TracedCells:
    """Cut smooth rings to the input, keep each cell's largest part, and space its points ``step_px`` apart."""
    boxes = np.tile([-0.5, -0.5, width_px - 0.5, height_px - 0.5], (len(rings), 1))
    result = _resampled_parts(*_cut(rings, cell_of, boxes), step_px)
    sound = geometry.are_valid(result.rings)
    if sound.all():
        return result
    # A ring that crosses itself after smoothing falls into parts.
    crossed = np.isin(cell_of, result.index[~sound])
    return _resampled_parts(*_cut(rings, cell_of, boxes, crossed), step_px)


def _resampled_parts(parts: Rings, cell_of: NDArray[np.intp], step_px: float) -> TracedCells:
    sizes = geometry.areas(parts)
    order = np.lexsort((-sizes, cell_of))  # by cell, largest first; ties keep their order
    index, firsts, n_parts = np.unique(cell_of[order], return_index=True, return_counts=True)
    largest = parts.take(order[firsts])
    n_points = np.maximum(_MIN_POINTS, np.rint(geometry.perimeters(largest) / step_px)).astype(np.intp)
    return TracedCells(geometry.resample(largest, n_points), index, n_parts)
