"""The mask logits of a field's cells to sub-pixel contours.

The mask of a cell is a weighted sum of prototypes on a grid of four input pixels. It is summed around the cell's box
only, resampled to the input's pixels, traced by marching squares with linear interpolation, cut to the box, smoothed
along its length, and cut to the input. The contour follows the logits, not the prototype grid's stairs.

Only the sum, the resampling and the tracing run cell by cell; what follows works on the rings of all cells at once.
A cell's contour does not depend, to the bit, on the cells it is traced with.
"""

from __future__ import annotations

from dataclasses import dataclass
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
# Prototypes kept around the box: a cubic kernel reaches two to either side.
_PROTOTYPE_MARGIN = 3
# A separate part smaller than this (input pixels squared) is the interpolation's ripple, not a part of the mask.
_MIN_PART_PX2 = 2.0
_MIN_POINTS = 12
_PAD_PX = 8
# A box that ends nearer than this to the input's edge ends there because the input does.
_EDGE_PX = 1.5
# Smoothing works on a power of two points, this far apart or nearer.
_EVEN_STEP_PX = 0.7
_MIN_EVEN_POINTS = 32
# An edge of a traced ring is shorter than this: it crosses one side of its box at most in x, and one in y.
_MIN_BOX_PX = 1.5
_OUTSIDE = -1e6


@dataclass(frozen=True, slots=True)
class TracedCells:
    """The cells that have a contour: their ``rings``, positions (m,) among the boxes, and ``n_parts`` (m,)."""

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
    """Trace the cells of one field in input pixels (the centre of the first is (0, 0)); the contours are valid.

    ``prototypes`` is (k, h / 4, w / 4), ``coefficients`` (m, k), ``boxes_xyxy`` (m, 4) in corner coordinates of the
    input. The largest part where the logits exceed ``level`` is kept, without holes, smoothed, its points ``step_px``
    apart; ``n_parts`` counts the parts. Beyond the box the network was never trained, so the mask ends there, or
    ``box_margin_px`` further out. A cell that is empty inside its box is left out.
    """
    height, width = (_RATIO * side for side in prototypes.shape[1:])
    limits = _open_boxes(boxes_xyxy, box_margin_px, width, height)
    traced: list[ContourArray] = []
    cells: list[int] = []
    for cell, box in enumerate(boxes_xyxy.tolist()):
        logits = _fine_logits(prototypes, coefficients[cell], box, interpolation)
        if logits is not None:
            lines = _trace_zero_level(*logits, level)
            traced += lines
            cells += [cell] * len(lines)
    rings, cell_of = Rings.of(traced), np.array(cells, dtype=np.intp)
    # Holes run the other way round: their area is negative.
    is_part = geometry.signed_areas(rings) >= _MIN_PART_PX2
    rings, cell_of = rings.take(is_part), cell_of[is_part]
    clipped, wrong = _clip(rings, limits[cell_of])
    sound, cell_of = _cut(clipped, rings, cell_of, wrong, limits[cell_of])
    return _largest_parts(smooth_rings(sound, smoothing_px), cell_of, step_px, width, height)


def smooth_rings(rings: Rings, sigma_px: float) -> Rings:
    """Filter closed contours along their length with a Gaussian of ``sigma_px``; 0 gives them back.

    The filter is 2 G - G G: a Gaussian G by itself would shrink a circle of radius r by sigma^2 / (2 r). It is applied
    as a factor to the spectrum of each ring's points at equal steps.
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
        place = chosen[even.owner]
        spectrum = np.fft.rfft(even.points_xy[place].reshape(-1, n, 2).transpose(0, 2, 1))
        gauss = np.exp(-0.5 * (2 * np.pi * sigma_px / lengths[chosen, None] * np.arange(n // 2 + 1)) ** 2)
        filtered = np.fft.irfft(spectrum * (2 * gauss - gauss**2)[:, None], n=n)
        smooth[place] = filtered.transpose(0, 2, 1).reshape(-1, 2)
    return Rings(smooth, even.offsets)


def _open_boxes(
    boxes_xyxy: NDArray[np.float64], margin_px: float, width_px: int, height_px: int
) -> NDArray[np.float64]:
    """Give the boxes with their margin in pixel-centre coordinates (m, 4), open where one ends at the input's edge.

    There the cell goes on outside, and the cut at the edge comes after the smoothing: it is sharp.
    """
    low, high = boxes_xyxy[:, :2] - margin_px, boxes_xyxy[:, 2:] + margin_px
    low = np.where(low < _EDGE_PX, -float(_PAD_PX), low)
    size = np.array([width_px, height_px], dtype=np.float64)
    high = np.where(high > size - _EDGE_PX, size + _PAD_PX, high)
    return np.concatenate([low, high], axis=1) - 0.5


def _fine_logits(
    prototypes: NDArray[np.float32], coefficients: NDArray[np.float32], box: list[float], interpolation: Interpolation
) -> tuple[NDArray[np.float32], int, int] | None:
    """Give the logits around a box at the input's pixels, and x and y of the first; None for a box outside the input.

    At the input's edge they are continued, so that a cell there can be smoothed before it is cut.
    """
    n_rows, n_columns = prototypes.shape[1:]
    column0 = max(int(box[0] // _RATIO) - _PROTOTYPE_MARGIN, 0)
    row0 = max(int(box[1] // _RATIO) - _PROTOTYPE_MARGIN, 0)
    column1 = min(-int(-box[2] // _RATIO) + _PROTOTYPE_MARGIN, n_columns)
    row1 = min(-int(-box[3] // _RATIO) + _PROTOTYPE_MARGIN, n_rows)
    if column0 >= column1 or row0 >= row1:
        return None
    # einsum and not a matrix product: a BLAS may sum in another order with another number of threads.
    coarse = np.einsum("k,kij->ij", coefficients, prototypes[:, row0:row1, column0:column1])
    size = ((column1 - column0) * _RATIO, (row1 - row0) * _RATIO)
    fine = cv2.resize(coarse, size, interpolation=_INTERPOLATIONS[interpolation])
    left, top = column0 * _RATIO, row0 * _RATIO
    if column0 == 0 or row0 == 0 or column1 == n_columns or row1 == n_rows:
        fine = cv2.copyMakeBorder(fine, *[_PAD_PX + 1] * 4, cv2.BORDER_REPLICATE)
        left, top = left - _PAD_PX - 1, top - _PAD_PX - 1
    return np.asarray(fine, dtype=np.float32), left, top


def _trace_zero_level(fine: NDArray[np.float32], left: int, top: int, level: float) -> list[ContourArray]:
    """Outlines of the region where the logits exceed ``level``, and of its holes the other way round."""
    height, width = fine.shape
    # A negative frame closes the rings that reach the end of the logits.
    values = np.full((height + 2, width + 2), _OUTSIDE)
    np.subtract(fine, level, out=values[1:-1, 1:-1])
    generator = SerialContourGenerator(
        np.broadcast_to(np.arange(left - 1.0, left + width + 1), values.shape),
        np.broadcast_to(np.arange(top - 1.0, top + height + 1)[:, None], values.shape),
        values,
        None,
        x_chunk_size=0,
        y_chunk_size=0,
        line_type=LineType.Separate,
        fill_type=FillType.OuterOffset,
        corner_mask=True,
        quad_as_tri=False,
        z_interp=ZInterp.Linear,
    )
    # Every line is closed and repeats its first point.
    return [line[:-1] for line in cast("list[ContourArray]", generator.lines(0.0))]


def _clip(rings: Rings, boxes: NDArray[np.float64]) -> tuple[Rings, NDArray[np.bool_]]:
    """Cut each ring to its box (m, 4); say of which the result is wrong and ``_cut`` is needed (m,).

    A ring gets a point wherever it meets a line of its box, and what lies outside is moved to the nearest point of the
    box: its way outside becomes a way along the border. That is the ring of the intersection unless it runs backwards
    there, which it does between two parts of one cell.
    """
    for axis in (0, 1):
        rings = _split_edges(rings, axis, boxes[:, axis], boxes[:, axis + 2])
    low, high = boxes[rings.owner, :2], boxes[rings.owner, 2:]
    clipped = Rings(np.clip(rings.points_xy, low, high), rings.offsets)
    start, end, step = clipped.points_xy, clipped.following, clipped.edges
    # Forwards is with the inside on the left: +y at the high x, -x at the high y, and so on.
    backwards = ((start == high) & (end == high) & (step[:, ::-1] * [1, -1] < 0)).any(axis=1)
    backwards |= ((start == low) & (end == low) & (step[:, ::-1] * [-1, 1] < 0)).any(axis=1)
    wrong = (boxes[:, 2:] - boxes[:, :2] < _MIN_BOX_PX).any(axis=1)
    wrong[rings.owner[backwards]] = True
    return clipped, wrong


def _split_edges(rings: Rings, axis: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> Rings:
    """Add a point wherever an edge crosses its ring's ``low`` or ``high`` (m,) in x (axis 0) or y (axis 1)."""
    start, end = rings.points_xy[:, axis], rings.following[:, axis]
    low, high = low[rings.owner], high[rings.owner]
    crosses_low = (start < low) != (end < low)
    crosses = np.flatnonzero(crosses_low | ((start > high) != (end > high)))
    level = np.where(crosses_low, low, high)[crosses]
    share = (level - start[crosses]) / (end[crosses] - start[crosses])
    added = rings.points_xy[crosses] + share[:, None] * rings.edges[crosses]
    added[:, axis] = level
    counts = rings.counts + np.bincount(rings.owner[crosses], minlength=len(rings))
    points = np.insert(rings.points_xy, crosses + 1, added, axis=0)
    return Rings(points, np.concatenate([[0], np.cumsum(counts)]))


def _largest_parts(
    rings: Rings, cell_of: NDArray[np.intp], step_px: float, width_px: int, height_px: int
) -> TracedCells:
    """Cut smooth rings to the input, keep each cell's largest, and lay its points ``step_px`` apart."""
    leaves = ~geometry.lie_inside(rings, width_px, height_px)
    boxes = np.tile([-0.5, -0.5, width_px - 0.5, height_px - 0.5], (len(rings), 1))
    result = _resampled_parts(*_cut(rings, rings, cell_of, leaves, boxes), step_px)
    crossed = ~geometry.are_valid(result.rings)
    if crossed.any():  # a ring that smoothing made cross itself falls into parts
        again = leaves | np.isin(cell_of, result.index[crossed])
        result = _resampled_parts(*_cut(rings, rings, cell_of, again, boxes), step_px)
    return result


def _resampled_parts(parts: Rings, cell_of: NDArray[np.intp], step_px: float) -> TracedCells:
    sizes = geometry.areas(parts)
    order = np.lexsort((-sizes, cell_of))  # by cell, the largest first; equal ones in their order
    index, firsts, n_parts = np.unique(cell_of[order], return_index=True, return_counts=True)
    largest = parts.take(order[firsts])
    n_points = np.maximum(_MIN_POINTS, np.rint(geometry.perimeters(largest) / step_px)).astype(np.intp)
    return TracedCells(geometry.resample(largest, n_points), index, n_parts)


def _cut(
    sound: Rings, rings: Rings, cell_of: NDArray[np.intp], chosen: NDArray[np.bool_], boxes: NDArray[np.float64]
) -> tuple[Rings, NDArray[np.intp]]:
    """Take the ``sound`` rings, and for the chosen the parts of ``rings`` in their boxes (m, 4); ripples go.

    ``cell_of`` (m,) names the cell of each ring; the same is given of the result.
    """
    whole = ~chosen & (geometry.areas(sound) >= _MIN_PART_PX2)
    if not chosen.any():
        return sound.take(whole), cell_of[whole]
    pieces: list[ContourArray] = []
    cells: list[int] = []
    shapes = [_valid(ring) for ring in rings.take(chosen).split()]
    cuts = shapely.intersection(shapes, shapely.box(*boxes[chosen].T))
    for cell, cut in zip(cell_of[chosen].tolist(), cuts, strict=True):
        for piece in shapely.get_parts(cut):
            if isinstance(piece, shapely.Polygon) and piece.area >= _MIN_PART_PX2:
                pieces.append(np.asarray(piece.exterior.coords)[:-1])
                cells.append(cell)
    joined = Rings.of([*sound.take(whole).split(), *pieces])
    return joined, np.concatenate([cell_of[whole], np.array(cells, dtype=np.intp)])


def _valid(ring: ContourArray) -> shapely.Geometry:
    """Give a ring as a valid geometry."""
    polygon = shapely.Polygon(ring)
    return polygon if polygon.is_valid else shapely.make_valid(polygon)
