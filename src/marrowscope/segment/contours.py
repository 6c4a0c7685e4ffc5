"""A mask's logits to a sub-pixel contour.

The mask of a cell is a weighted sum of prototypes on a grid of four input pixels. It is summed inside the cell's box
only, resampled to the input's pixels, traced by marching squares with linear interpolation, cut to the box, smoothed
along its length, and cut to the input. The contour follows the logits, not the prototype grid's stairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import contourpy
import cv2
import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d

from marrowscope import geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.records import ContourArray
    from marrowscope.segment.config import Interpolation

    _OuterOffset = tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]]

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
_EVEN_STEP_PX = 0.5


def trace_cell(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    box_xyxy: NDArray[np.float64],
    *,
    smoothing_px: float = 2.0,
    step_px: float = 1.0,
    interpolation: Interpolation = "cubic",
    level: float = 0.0,
    box_margin_px: float = 0.0,
) -> tuple[ContourArray, int] | None:
    """Trace one cell in input pixels (the centre of the first is (0, 0)); give its contour and number of parts.

    ``prototypes`` is (k, h / 4, w / 4), ``coefficients`` (k,), ``box_xyxy`` in corner coordinates of the input.
    The largest part where the logits exceed ``level`` is kept, without holes, smoothed, its points ``step_px`` apart.
    Beyond the box the network was never trained, so the mask ends there, or ``box_margin_px`` further out. None when it
    is empty inside.
    """
    n_rows, n_columns = prototypes.shape[1:]
    low = np.floor(box_xyxy[:2] / _RATIO).astype(int) - _PROTOTYPE_MARGIN
    high = np.ceil(box_xyxy[2:] / _RATIO).astype(int) + _PROTOTYPE_MARGIN
    (column0, row0), (column1, row1) = np.maximum(low, 0), np.minimum(high, (n_columns, n_rows))
    if column0 >= column1 or row0 >= row1:
        return None
    logits = np.tensordot(coefficients, prototypes[:, row0:row1, column0:column1], axes=1)
    fine = cv2.resize(
        np.ascontiguousarray(logits, dtype=np.float32),
        (int(column1 - column0) * _RATIO, int(row1 - row0) * _RATIO),
        interpolation=_INTERPOLATIONS[interpolation],
    ).astype(np.float64)
    # A cell at the input's edge is continued, smoothed, and only then cut: its contour ends on the edge, sharply.
    fine = np.pad(fine, _PAD_PX, mode="edge") - level
    x = np.arange(column0 * _RATIO - _PAD_PX, column1 * _RATIO + _PAD_PX, dtype=np.float64)
    y = np.arange(row0 * _RATIO - _PAD_PX, row1 * _RATIO + _PAD_PX, dtype=np.float64)
    inside = shapely.box(-0.5, -0.5, n_columns * _RATIO - 0.5, n_rows * _RATIO - 0.5)
    limits = _open_box(box_xyxy, box_margin_px, n_columns * _RATIO, n_rows * _RATIO)
    parts = [
        np.asarray(piece.exterior.coords)[:-1]
        for ring in _trace_zero_level(fine, x, y)
        if geometry.area(ring) >= _MIN_PART_PX2
        for cut in _polygons(shapely.intersection(_valid(ring), limits))
        for piece in _polygons(shapely.intersection(_smooth_polygon(cut, smoothing_px), inside))
    ]
    if not parts:
        return None
    largest = max(parts, key=geometry.area)
    n_points = max(_MIN_POINTS, round(geometry.perimeter(largest) / step_px))
    return geometry.resample_contour(largest, n_points), len(parts)


def smooth_contour(contour_xy: ContourArray, sigma_px: float) -> ContourArray:
    """Filter a closed contour along its length with a Gaussian of ``sigma_px``; 0 gives it back.

    The filter is 2 G - G G: a Gaussian G by itself would shrink a circle of radius r by sigma^2 / (2 r).
    """
    if sigma_px == 0:
        return contour_xy
    length = geometry.perimeter(contour_xy)
    even = geometry.resample_contour(contour_xy, max(_MIN_POINTS, round(length / _EVEN_STEP_PX)))
    sigma = sigma_px * len(even) / length
    once = gaussian_filter1d(even, sigma, axis=0, mode="wrap")
    twice = gaussian_filter1d(once, sigma, axis=0, mode="wrap")
    return np.asarray(2 * once - twice, dtype=np.float64)


def _open_box(box_xyxy: NDArray[np.float64], margin_px: float, width_px: int, height_px: int) -> shapely.Polygon:
    """Give the box with its margin in pixel-centre coordinates, open where it ends at the input's edge.

    There the cell goes on outside, and the cut at the edge comes after the smoothing.
    """
    low, high = box_xyxy[:2] - margin_px, box_xyxy[2:] + margin_px
    low = np.where(low < _EDGE_PX, -float(_PAD_PX), low) - 0.5
    size = np.array([width_px, height_px], dtype=np.float64)
    high = np.where(high > size - _EDGE_PX, size + _PAD_PX, high) - 0.5
    limits: shapely.Polygon = shapely.box(low[0], low[1], high[0], high[1])
    return limits


def _polygons(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """Give the polygons of a geometry that are more than a ripple."""
    pieces = shapely.get_parts(shape)
    return [piece for piece in pieces if isinstance(piece, shapely.Polygon) and piece.area >= _MIN_PART_PX2]


def _valid(ring: ContourArray) -> shapely.Geometry:
    """Give a ring as a valid geometry."""
    polygon = shapely.Polygon(ring)
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _smooth_polygon(polygon: shapely.Polygon, sigma_px: float) -> shapely.Geometry:
    """Smooth a polygon's outline; its holes go."""
    return _valid(smooth_contour(np.asarray(polygon.exterior.coords)[:-1], sigma_px))


def _trace_zero_level(
    values: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[ContourArray]:
    """Outer rings of the region where ``values`` (rows y, columns x) is positive; holes are left out."""
    # A negative frame closes the rings that reach the end of the values.
    values = np.pad(values, 1, constant_values=-1.0 - float(np.abs(values).max()))
    x = np.concatenate([[x[0] - 1], x, [x[-1] + 1]])
    y = np.concatenate([[y[0] - 1], y, [y[-1] + 1]])
    generator = contourpy.contour_generator(x, y, values, fill_type=contourpy.FillType.OuterOffset)
    polygons, ring_offsets = cast("_OuterOffset", generator.filled(0.0, np.inf))
    # Each polygon's first ring is its outline, closed by repeating its first point.
    return [points[: offsets[1] - 1] for points, offsets in zip(polygons, ring_offsets, strict=True)]
