"""Plane geometry of cell contours.

A contour is float64 (n, 2), x then y, implicitly closed, in pixels; the centre of the top-left pixel is (0, 0), so an
image of width w covers x from -0.5 to w - 0.5. Contours are the truth (cells overlap); masks are made from them when
needed. A contour of fewer than three points is empty: it has area 0, overlaps nothing and rasterises to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, MaskArray

MIN_POINTS = 3
CIRCULARITY_POINTS = 64
HALF_PX = 0.5


def area(contour_xy: ContourArray) -> float:
    """Area in square pixels by the shoelace formula, never negative; the lobes of a figure of eight cancel."""
    return abs(_signed_area(contour_xy))


def perimeter(contour_xy: ContourArray) -> float:
    """Length of the closed contour in pixels."""
    if len(contour_xy) == 0:
        return 0.0
    steps = np.roll(contour_xy, -1, axis=0) - contour_xy
    return float(np.hypot(steps[:, 0], steps[:, 1]).sum())


def centroid(contour_xy: ContourArray) -> tuple[float, float]:
    """Centre of area (x, y); the mean of the points where the area is 0. Raises ValueError on no points."""
    if len(contour_xy) == 0:
        message = "the centroid of a contour without points does not exist"
        raise ValueError(message)
    origin = contour_xy.mean(axis=0)
    x, y = (contour_xy - origin).T
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    cross = x * y_next - x_next * y
    doubled = float(cross.sum())
    extent = float(np.ptp(x) * np.ptp(y))
    if abs(doubled) <= 1e-12 * max(extent, 1e-12):
        return float(origin[0]), float(origin[1])
    cx = float(((x + x_next) * cross).sum()) / (3 * doubled)
    cy = float(((y + y_next) * cross).sum()) / (3 * doubled)
    return float(origin[0]) + cx, float(origin[1]) + cy


def circularity(contour_xy: ContourArray) -> float:
    """4 pi area / perimeter^2 (Cox 1927, J. Paleontology 1:179), 1 for a circle, 0 for an empty contour.

    Measured on the contour resampled to 64 equal steps, so that pixel stairs do not lengthen the perimeter.
    """
    if len(contour_xy) < MIN_POINTS:
        return 0.0
    smooth = resample_contour(contour_xy, CIRCULARITY_POINTS)
    length = perimeter(smooth)
    return 4 * np.pi * area(smooth) / length**2 if length > 0 else 0.0


def bounding_box(contour_xy: ContourArray) -> tuple[float, float, float, float]:
    """Tightest (x0, y0, x1, y1) around the points. Raises ValueError on no points."""
    if len(contour_xy) == 0:
        message = "the bounding box of a contour without points does not exist"
        raise ValueError(message)
    x0, y0 = contour_xy.min(axis=0)
    x1, y1 = contour_xy.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def is_valid(contour_xy: ContourArray) -> bool:
    """Say whether the contour is finite, has an area and does not cross or touch itself."""
    if len(contour_xy) < MIN_POINTS or not np.isfinite(contour_xy).all():
        return False
    return bool(shapely.is_valid(shapely.Polygon(contour_xy))) and area(contour_xy) > 0


def repair(contour_xy: ContourArray) -> ContourArray | None:
    """Give a valid contour of the same cell: the largest part of the enclosed area, holes filled.

    A valid contour comes back unchanged; None where nothing with an area is left.
    """
    if is_valid(contour_xy):
        return contour_xy
    if len(contour_xy) < MIN_POINTS or not np.isfinite(contour_xy).all():
        return None
    return _largest_ring(shapely.make_valid(shapely.Polygon(contour_xy)))


def clip_to_image(contour_xy: ContourArray, width_px: int, height_px: int) -> ContourArray | None:
    """Cut the contour to the image (largest part kept); unchanged where it lies inside, None where wholly outside.

    The contour has to be valid (see ``repair``).
    """
    if len(contour_xy) < MIN_POINTS:
        return None
    x0, y0, x1, y1 = bounding_box(contour_xy)
    low, right, bottom = -HALF_PX, width_px - HALF_PX, height_px - HALF_PX
    if min(x0, y0) >= low and x1 <= right and y1 <= bottom:
        return contour_xy
    return _largest_ring(shapely.intersection(_polygon(contour_xy), shapely.box(low, low, right, bottom)))


def iou(a: ContourArray, b: ContourArray) -> float:
    """Intersection over union of two contours, exact (not rasterised), 0-1; 0 where either has no area."""
    return float(iou_matrix([a], [b])[0, 0])


def iou_matrix(list_a: Sequence[ContourArray], list_b: Sequence[ContourArray]) -> NDArray[np.float64]:
    """Exact IoU of every contour of ``list_a`` with every one of ``list_b``: float64 (n, m).

    Only pairs whose boxes meet are intersected (STRtree). Either list may be empty.
    """
    result = np.zeros((len(list_a), len(list_b)))
    if result.size == 0:
        return result
    shapes_a = np.array([_polygon(contour) for contour in list_a])
    shapes_b = np.array([_polygon(contour) for contour in list_b])
    index_b, index_a = shapely.STRtree(shapes_a).query(shapes_b)
    shared = shapely.area(shapely.intersection(shapes_a[index_a], shapes_b[index_b]))
    united = shapely.area(shapes_a)[index_a] + shapely.area(shapes_b)[index_b] - shared
    np.divide(shared, united, out=shared, where=united > 0)
    result[index_a, index_b] = shared
    return result


def rasterize(contour_xy: ContourArray, height_px: int, width_px: int) -> MaskArray:
    """Mask (height, width) of the pixels whose centre lies inside the contour (even-odd rule).

    Exact to floating point: each row's crossings toggle the pixels to their right, so that two contours that share
    an edge share no pixel. (A polygon fill that also draws the outline makes a cell of 40 px some 5% too large.)
    """
    mask: MaskArray = np.zeros((height_px, width_px), dtype=np.bool_)
    if len(contour_xy) < MIN_POINTS:
        return mask
    _, y_low, _, y_high = bounding_box(contour_xy)
    first, last = max(int(np.ceil(y_low)), 0), min(int(np.floor(y_high)), height_px - 1)
    if first > last:
        return mask
    rows = np.arange(first, last + 1, dtype=np.float64)[:, None]
    x0, y0 = contour_xy.T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    row_index, edge_index = np.nonzero((y0 <= rows) != (y1 <= rows))
    slope = (x1 - x0)[edge_index] / (y1 - y0)[edge_index]
    x_cross = x0[edge_index] + (rows[row_index, 0] - y0[edge_index]) * slope
    columns = np.clip(np.ceil(x_cross), 0, width_px).astype(np.intp)
    toggles = np.zeros((len(rows), width_px + 1), dtype=np.int32)
    np.add.at(toggles, (row_index, columns), 1)
    mask[first : last + 1] = np.cumsum(toggles, axis=1)[:, :width_px] % 2 == 1
    return mask


def resample_contour(contour_xy: ContourArray, n_points: int) -> ContourArray:
    """Give ``n_points`` points at equal steps along the closed contour, beginning at its first point."""
    if len(contour_xy) == 0:
        return np.zeros((0, 2))
    closed = np.vstack([contour_xy, contour_xy[:1]])
    steps = np.hypot(*np.diff(closed, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, travelled[-1], n_points, endpoint=False)
    return np.column_stack([np.interp(wanted, travelled, closed[:, axis]) for axis in (0, 1)])


def dilate(contour_xy: ContourArray, distance_px: float) -> ContourArray:
    """Move the contour outwards by ``distance_px`` (inwards where negative): (m, 2), empty where nothing is left."""
    if len(contour_xy) < MIN_POINTS:
        return np.zeros((0, 2))
    ring = _largest_ring(shapely.buffer(_polygon(contour_xy), distance_px))
    return np.zeros((0, 2)) if ring is None else ring


def _signed_area(contour_xy: ContourArray) -> float:
    if len(contour_xy) < MIN_POINTS:
        return 0.0
    x, y = (contour_xy - contour_xy[0]).T
    return 0.5 * float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _polygon(contour_xy: ContourArray) -> shapely.Geometry:
    """Give a valid shapely geometry of the contour, empty where it encloses nothing."""
    if len(contour_xy) < MIN_POINTS:
        return shapely.Polygon()
    polygon = shapely.Polygon(contour_xy)
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _largest_ring(geometry: shapely.Geometry) -> ContourArray | None:
    """Outer ring (n, 2), not repeated at its end, of the largest polygon in ``geometry``."""
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, shapely.Polygon)]
    parts += [
        inner for part in shapely.get_parts(geometry) if isinstance(part, shapely.MultiPolygon) for inner in part.geoms
    ]
    if not parts:
        return None
    largest = max(parts, key=lambda part: part.area)
    if largest.area <= 0:
        return None
    return np.asarray(largest.exterior.coords, dtype=np.float64)[:-1]
