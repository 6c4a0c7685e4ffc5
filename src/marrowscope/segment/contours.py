"""A mask's logits to a sub-pixel contour.

The mask of a cell is a weighted sum of prototypes on a grid of four input pixels. It is summed inside the cell's box
only, resampled to the input's pixels, traced at its zero level by marching squares with linear interpolation,
smoothed along its length, and cut to the box. The contour follows the logits, not the prototype grid's stairs.
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
_EVEN_STEP_PX = 0.5


def trace_cell(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    box_xyxy: NDArray[np.float64],
    *,
    smoothing_px: float = 2.0,
    step_px: float = 1.0,
    interpolation: Interpolation = "cubic",
) -> tuple[ContourArray, int] | None:
    """Trace one cell in input pixels (the centre of the first is (0, 0)); give its contour and number of parts.

    ``prototypes`` is (k, h / 4, w / 4), ``coefficients`` (k,), ``box_xyxy`` in corner coordinates of the input.
    The largest part is kept, without holes, smoothed, its points ``step_px`` apart. Beyond the box the network was
    never trained, so the mask ends there. None when it is empty inside.
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
    fine = np.pad(fine, _PAD_PX, mode="edge")
    x = np.arange(column0 * _RATIO - _PAD_PX, column1 * _RATIO + _PAD_PX, dtype=np.float64)
    y = np.arange(row0 * _RATIO - _PAD_PX, row1 * _RATIO + _PAD_PX, dtype=np.float64)
    # Corner coordinates to pixel centres: half a pixel. The box ends where the input ends.
    left, top = np.maximum(box_xyxy[:2], 0) - 0.5
    right, bottom = np.minimum(box_xyxy[2:], (n_columns * _RATIO, n_rows * _RATIO)) - 0.5
    limits = shapely.box(left, top, right, bottom)
    parts = [
        np.asarray(piece.exterior.coords)[:-1]
        for ring in _trace_zero_level(fine, x, y)
        if geometry.area(ring) >= _MIN_PART_PX2
        for piece in shapely.get_parts(shapely.intersection(_smooth_polygon(ring, smoothing_px), limits))
        if isinstance(piece, shapely.Polygon) and piece.area >= _MIN_PART_PX2
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


def _smooth_polygon(ring: ContourArray, sigma_px: float) -> shapely.Geometry:
    """Give the smoothed ring as a valid geometry."""
    polygon = shapely.Polygon(smooth_contour(ring, sigma_px))
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


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
