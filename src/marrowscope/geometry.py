"""Plane geometry of cell contours.

A contour is float64 (n, 2), x then y, implicitly closed, in pixels. The center of the top-left pixel is (0, 0), so an
image of width w covers x from -0.5 to w - 0.5. Contours are the primary data, since cells overlap; masks are made from
them when needed. A contour of fewer than three points is empty: area 0, no overlap, an empty mask.

Measurements of all cells of a field work on ``Rings``, their contours concatenated, in a few array operations. The
functions for one contour do the same with one ring. No ring's result depends on the others, to the bit.

Longer than 400 lines: measuring, cutting and comparing contours share one private reading of what an outline encloses
(``_polygon``, ``_largest_ring``), and two modules would have to agree on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import shapely

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, MaskArray

MIN_POINTS = 3
MAX_COORDINATE_PX = 10_000_000
"""Largest coordinate, of either sign, or side that an outline or a table may state, in pixels: some ten times the side
of the largest slides. Float32, in which OpenCV computes, still tells neighboring pixels apart (up to 2^24)."""
_CIRCULARITY_POINTS = 64
HALF_PX = 0.5


@dataclass(frozen=True)
class Rings:
    """Concatenated contours: ring i is ``points_xy[offsets[i]:offsets[i + 1]]``; ``offsets`` is (m + 1,), from 0."""

    points_xy: ContourArray
    offsets: NDArray[np.intp]

    @classmethod
    def of(cls, contours: Sequence[ContourArray]) -> Rings:
        """Concatenate contours (n, 2); there may be none, and each may be empty."""
        offsets = np.zeros(len(contours) + 1, dtype=np.intp)
        np.cumsum([len(contour) for contour in contours], out=offsets[1:])
        points = np.concatenate(contours, dtype=np.float64) if len(contours) else np.zeros((0, 2))
        return cls(points.reshape(-1, 2), offsets)

    def __len__(self) -> int:
        """Return the number of rings."""
        return len(self.offsets) - 1

    def split(self) -> list[ContourArray]:
        """Return the contours as separate arrays."""
        ends = self.offsets.tolist()
        return [self.points_xy[start:end].copy() for start, end in pairwise(ends)]

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Rings:
        """Select rings by position or by a mask (m,)."""
        starts, counts = self.offsets[:-1][chosen], self.counts[chosen]
        offsets = _offsets(counts)
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return Rings(self.points_xy.take(index, axis=0), offsets)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """Number of points of each ring (m,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def owner(self) -> NDArray[np.intp]:
        """Index of each point's ring (n,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    @cached_property
    def edges(self) -> ContourArray:
        """Vectors from each point to the next in its ring (n, 2); the last goes back to the first."""
        return self.following - self.points_xy

    @cached_property
    def edge_lengths(self) -> NDArray[np.float64]:
        """Distance from each point to the next in its ring (n,)."""
        return np.asarray(np.hypot(self.edges[:, 0], self.edges[:, 1]))

    @cached_property
    def following(self) -> ContourArray:
        """The point after each point in its ring (n, 2)."""
        return self.points_xy.take(self.following_index, axis=0)

    @cached_property
    def following_index(self) -> NDArray[np.intp]:
        """The position of the point after each point in its ring (n,)."""
        filled = self.counts > 0
        following = np.arange(1, len(self.points_xy) + 1)
        following[self.offsets[1:][filled] - 1] = self.offsets[:-1][filled]
        return following

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum ``values`` (n,), one per point, over each ring (m,); 0 for an empty ring."""
        if not len(self):
            return np.zeros(0)
        # With a zero before each ring, the sum equals np.sum over the ring, to the bit.
        spaced = np.zeros(len(values) + len(self))
        spaced[self._spaced_index] = values
        return np.add.reduceat(spaced, self.offsets[:-1] + np.arange(len(self)))

    @cached_property
    def _spaced_index(self) -> NDArray[np.intp]:
        """Position of each point (n,) in an array with one extra element before each ring."""
        return np.arange(1, len(self.points_xy) + 1) + self.owner

    def bounds(self) -> NDArray[np.float64]:
        """Tightest (x0, y0, x1, y1) around each ring's points (m, 4); NaN for an empty one."""
        result = np.full((len(self), 4), np.nan)
        filled = self.counts > 0
        if filled.any():
            firsts = self.offsets[:-1][filled]
            x, y = np.ascontiguousarray(self.points_xy.T)
            columns = [reduction.reduceat(axis, firsts) for reduction in (np.minimum, np.maximum) for axis in (x, y)]
            result[filled] = np.column_stack(columns)
        return result


def areas(rings: Rings) -> NDArray[np.float64]:
    """Area of each ring (m,); see ``area``."""
    return np.abs(signed_areas(rings))


def signed_areas(rings: Rings) -> NDArray[np.float64]:
    """Signed area of each ring (m,), positive if the points run from x towards y."""
    local, following = _about_first(rings)
    cross = local[:, 0] * following[:, 1] - following[:, 0] * local[:, 1]
    return np.where(rings.counts >= MIN_POINTS, 0.5 * rings.sums(cross), 0.0)


def perimeters(rings: Rings) -> NDArray[np.float64]:
    """Length of each closed ring (m,)."""
    return rings.sums(rings.edge_lengths)


def centroids(rings: Rings) -> ContourArray:
    """Centroid of each ring (m, 2); see ``centroid``. Raises ValueError for a ring without points."""
    if (rings.counts == 0).any():
        message = "found a contour without points, expected at least one point for a centroid"
        raise ValueError(message)
    origins = np.column_stack([rings.sums(rings.points_xy[:, axis]) for axis in (0, 1)]) / rings.counts[:, None]
    moved = origins.repeat(rings.counts, axis=0)
    local = rings.points_xy - moved
    following = local.take(rings.following_index, axis=0)
    cross = local[:, 0] * following[:, 1] - following[:, 0] * local[:, 1]
    doubled = rings.sums(cross)
    moments = np.column_stack([rings.sums((local[:, axis] + following[:, axis]) * cross) for axis in (0, 1)])
    low, high = np.split(rings.bounds(), 2, axis=1)
    flat = np.abs(doubled) <= 1e-12 * np.maximum(np.prod(high - low, axis=1), 1e-12)  # no area: the mean of the points
    return np.asarray(origins + np.where(flat[:, None], 0.0, moments / np.where(flat, 1.0, 3 * doubled)[:, None]))


def circularities(rings: Rings) -> NDArray[np.float64]:
    """4 pi area / perimeter^2 of each ring (m,); see ``circularity``."""
    smooth = resample(rings, np.full(len(rings), _CIRCULARITY_POINTS))
    lengths = perimeters(smooth)
    measured = (rings.counts >= MIN_POINTS) & (lengths > 0)
    return np.where(measured, 4 * np.pi * areas(smooth) / np.where(measured, lengths, 1.0) ** 2, 0.0)


def are_valid(rings: Rings) -> NDArray[np.bool_]:
    """Return whether each ring is valid (m,); see ``is_valid``."""
    valid = rings.counts >= MIN_POINTS
    finite = np.isfinite(rings.points_xy)
    if not finite.all():
        valid[rings.owner[~finite.all(axis=1)]] = False
    chosen = rings if valid.all() else rings.take(valid)
    if len(chosen):
        polygons = shapely.polygons(shapely.linearrings(chosen.points_xy, indices=chosen.owner))
        valid[valid] = shapely.is_valid(polygons) & (areas(chosen) > 0)
    return valid


def lie_inside(rings: Rings, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Return whether each ring is inside an image (m,), which spans -0.5 to size - 0.5."""
    return lie_in_boxes(rings, np.array([[-HALF_PX, -HALF_PX, width_px - HALF_PX, height_px - HALF_PX]]))


def lie_in_boxes(rings: Rings, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each ring is inside its box (x0, y0, x1, y1); ``boxes`` is (m, 4), or (1, 4) for all rings."""
    bounds = rings.bounds()
    return np.asarray(((bounds[:, :2] >= boxes[:, :2]) & (bounds[:, 2:] <= boxes[:, 2:])).all(axis=1))


def resample(rings: Rings, n_points: NDArray[np.intp]) -> Rings:
    """Resample each ring to ``n_points`` (m,) equally spaced points, from its first point; empty rings stay empty.

    Point i is i steps from the first. The points in each edge are computed from the ends of the edge, without a search;
    the values equal those of ``np.interp`` over the arc length, to the bit.
    """
    filled = rings.counts > 0
    firsts, lasts = rings.offsets[:-1][filled], rings.offsets[1:][filled] - 1
    offsets = _offsets(np.where(filled, n_points, 0))
    lengths = rings.edge_lengths
    ends = np.empty_like(lengths)
    for start, end in pairwise(rings.offsets.tolist()):  # one sum over all rings would carry rounding errors over
        np.add.accumulate(lengths[start:end], out=ends[start:end])
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1]
    starts[firsts] = 0.0
    steps = np.zeros(len(rings))
    steps[filled] = ends[lasts] / np.maximum(n_points[filled], 1)
    step = steps.repeat(rings.counts)
    moves = step > 0
    # The first point at or after each edge's start; the division may be off in its last bit.
    first = np.ceil(np.divide(starts, step, out=np.zeros_like(starts), where=moves))
    first -= ((first - 1) * step >= starts) & moves
    first += first * step < starts
    first = np.minimum(first, n_points.repeat(rings.counts)).astype(np.intp) + offsets[:-1].repeat(rings.counts)
    n_on_edge = np.empty_like(first)
    np.subtract(first[1:], first[:-1], out=n_on_edge[:-1])
    n_on_edge[-1:] = offsets[-1] - first[-1:]
    edge = np.arange(len(first)).repeat(n_on_edge)
    owner = rings.owner.take(edge)
    along = (np.arange(offsets[-1]) - offsets.take(owner)) * steps.take(owner) - starts.take(edge)
    span = (ends - starts)[:, None]
    slopes = np.divide(rings.edges, span, out=np.zeros_like(rings.edges), where=span > 0)
    return Rings(slopes.take(edge, axis=0) * along[:, None] + rings.points_xy.take(edge, axis=0), offsets)


def rasterize_all(rings: Rings, height_px: int, width_px: int) -> MaskArray:
    """Mask (m, height, width) of each ring, by the rule of ``rasterize``."""
    low, high = np.minimum(rings.points_xy, rings.following)[:, 1], np.maximum(rings.points_xy, rings.following)[:, 1]
    # An edge crosses the rows r with y_low <= r < y_high.
    first = np.clip(np.ceil(low), 0, height_px).astype(np.intp)
    n_rows = np.clip(np.ceil(high), 0, height_px).astype(np.intp) - first
    n_rows[rings.counts[rings.owner] < MIN_POINTS] = 0
    edge = np.repeat(np.arange(len(first)), n_rows)
    begun = np.cumsum(n_rows) - n_rows
    row = np.arange(len(edge)) - begun[edge] + first[edge]
    start, step = rings.points_xy[edge], rings.edges[edge]
    x_cross = start[:, 0] + (row - start[:, 1]) * (step[:, 0] / step[:, 1])
    column = np.clip(np.ceil(x_cross), 0, width_px).astype(np.intp)
    # A pixel is inside if the number of crossings to its left is odd. The rows of all masks are side by side, so each
    # step to the right handles eight of them at once.
    n_rows_all = len(rings) * height_px
    n_lanes = -(-n_rows_all // 8) * 8
    place = column * n_lanes + rings.owner[edge] * height_px + row
    toggles = np.bincount(place, minlength=(width_px + 1) * n_lanes).astype(np.uint8)[: width_px * n_lanes]
    crossed = np.bitwise_xor.accumulate(toggles.view(np.uint64).reshape(width_px, n_lanes // 8), axis=0)
    odd = np.ascontiguousarray(crossed.view(np.uint8)[:, :n_rows_all].T) & 1
    return odd.view(np.bool_).reshape(len(rings), height_px, width_px)


def are_pixels(contour_xy: ContourArray) -> bool:
    """Say whether all coordinates are finite and within MAX_COORDINATE_PX; true for a contour without points."""
    return bool((np.abs(contour_xy) <= MAX_COORDINATE_PX).all())


def area(contour_xy: ContourArray) -> float:
    """Area in square pixels by the shoelace formula, never negative; the lobes of a figure eight cancel."""
    return float(areas(Rings.of([contour_xy]))[0])


def perimeter(contour_xy: ContourArray) -> float:
    """Length of the closed contour in pixels."""
    return float(perimeters(Rings.of([contour_xy]))[0])


def centroid(contour_xy: ContourArray) -> tuple[float, float]:
    """Centroid (x, y) of the area; the mean of the points if the area is 0. Raises ValueError without points."""
    x, y = centroids(Rings.of([contour_xy]))[0].tolist()
    return x, y


def circularity(contour_xy: ContourArray) -> float:
    """4 pi area / perimeter^2 (Cox 1927, J. Paleontology 1:179), 1 for a circle, 0 for an empty contour.

    Measured on the contour resampled to 64 equal steps, so that pixel steps do not lengthen the perimeter.
    """
    return float(circularities(Rings.of([contour_xy]))[0])


def bounding_box(contour_xy: ContourArray) -> tuple[float, float, float, float]:
    """Tightest (x0, y0, x1, y1) around the points. Raises ValueError without points."""
    if len(contour_xy) == 0:
        message = "found a contour without points, expected at least one point for a bounding box"
        raise ValueError(message)
    x0, y0 = contour_xy.min(axis=0)
    x1, y1 = contour_xy.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def is_valid(contour_xy: ContourArray) -> bool:
    """Whether the contour is finite, has an area and does not cross or touch itself."""
    return bool(are_valid(Rings.of([contour_xy]))[0])


def repair(contour_xy: ContourArray) -> ContourArray | None:
    """Return a valid contour of the same cell: the largest part of the enclosed area, with holes filled.

    A valid contour is returned unchanged. Returns None if no area is left.
    """
    if is_valid(contour_xy):
        return contour_xy
    if len(contour_xy) < MIN_POINTS or not np.isfinite(contour_xy).all():
        return None
    return _largest_ring(shapely.make_valid(shapely.Polygon(contour_xy)))


def clip_to_image(contour_xy: ContourArray, width_px: int, height_px: int) -> ContourArray | None:
    """Clip the contour to the image, keeping the largest part; unchanged if inside, None if entirely outside.

    The contour must be valid (see ``repair``).
    """
    if len(contour_xy) < MIN_POINTS:
        return None
    x0, y0, x1, y1 = bounding_box(contour_xy)
    low, right, bottom = -HALF_PX, width_px - HALF_PX, height_px - HALF_PX
    if min(x0, y0) >= low and x1 <= right and y1 <= bottom:
        return contour_xy
    return _largest_ring(shapely.intersection(_polygon(contour_xy), shapely.box(low, low, right, bottom)))


def iou(a: ContourArray, b: ContourArray) -> float:
    """Intersection over union of two contours, exact (not rasterized), 0-1; 0 if either has no area."""
    return float(iou_matrix([a], [b])[0, 0])


def iou_matrix(list_a: Sequence[ContourArray], list_b: Sequence[ContourArray]) -> NDArray[np.float64]:
    """Exact IoU of every contour in ``list_a`` with every contour in ``list_b``: float64 (n, m).

    Only pairs whose boxes overlap are intersected (STRtree). Either list may be empty.
    """
    result = np.zeros((len(list_a), len(list_b)))
    index_a, index_b, iou_of_pair = overlaps(list_a, list_b)
    result[index_a, index_b] = iou_of_pair
    return result


def shared_areas(rings: Rings, min_share: float) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the pairs of contours that share more than ``min_share`` (0-1) of the smaller one's area.

    ``first`` (k,) and ``second`` (k,) are positions with first < second, ``shared`` (k,) the area they have in common,
    square pixels, exact. Only pairs whose boxes share that much are intersected.
    """
    bounds, sizes = rings.bounds(), areas(rings)
    first, second = np.triu_indices(len(rings), k=1)
    low = np.maximum(bounds[first, :2], bounds[second, :2])
    high = np.minimum(bounds[first, 2:], bounds[second, 2:])
    needed = min_share * np.minimum(sizes[first], sizes[second])
    near = np.maximum(high - low, 0).prod(axis=1) > needed
    first, second, needed = first[near], second[near], needed[near]
    contours = rings.split()
    shapes = {index: _polygon(contours[index]) for index in {*first.tolist(), *second.tolist()}}
    shared = np.array(
        [
            shapely.area(shapely.intersection(shapes[one], shapes[other]))
            for one, other in zip(first.tolist(), second.tolist(), strict=True)
        ],
        dtype=np.float64,
    )
    same = shared > needed
    return first[same], second[same], shared[same]


def overlaps(
    list_a: Sequence[ContourArray], list_b: Sequence[ContourArray]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the pairs of contours whose boxes overlap: positions in ``list_a`` and ``list_b``, and their exact IoU.

    The memory needed grows with the pairs, not with the product of the lists. Either list may be empty.
    """
    shapes_a, shapes_b = _polygons(list_a), _polygons(list_b)
    if not len(shapes_a) or not len(shapes_b):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0)
    index_b, index_a = shapely.STRtree(shapes_a).query(shapes_b)
    return index_a, index_b, _ious(shapes_a[index_a], shapes_b[index_b])


def overlaps_within(
    contours: Sequence[ContourArray],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the pairs of one list whose boxes overlap, each once, the earlier first, and their exact IoU."""
    shapes = _polygons(contours)
    if not len(shapes):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0)
    second, first = shapely.STRtree(shapes).query(shapes)
    first, second = first[first < second], second[first < second]
    return first, second, _ious(shapes[first], shapes[second])


def _ious(shapes_a: NDArray[np.object_], shapes_b: NDArray[np.object_]) -> NDArray[np.float64]:
    """Intersection over union of pairs of shapes; 0 where neither has an area."""
    shared = np.asarray(shapely.area(shapely.intersection(shapes_a, shapes_b)), dtype=np.float64)
    united = shapely.area(shapes_a) + shapely.area(shapes_b) - shared
    np.divide(shared, united, out=shared, where=united > 0)
    return shared


def rasterize(contour_xy: ContourArray, height_px: int, width_px: int) -> MaskArray:
    """Mask (height, width) of the pixels whose center is inside the contour (even-odd rule).

    Exact to floating point: each row's crossings toggle the pixels to their right, so two contours that share an edge
    share no pixel. (A polygon fill that also draws the outline makes a 40 px cell about 5% too large.)
    """
    return np.asarray(rasterize_all(Rings.of([contour_xy]), height_px, width_px)[0])


def resample_contour(contour_xy: ContourArray, n_points: int) -> ContourArray:
    """Return ``n_points`` equally spaced points along the closed contour, starting at its first point."""
    return resample(Rings.of([contour_xy]), np.array([n_points])).points_xy


def dilate(contour_xy: ContourArray, distance_px: float) -> ContourArray:
    """Move the contour outward by ``distance_px`` (inward if negative): (m, 2), empty if nothing is left."""
    if len(contour_xy) < MIN_POINTS:
        return np.zeros((0, 2))
    ring = _largest_ring(shapely.buffer(_polygon(contour_xy), distance_px))
    return np.zeros((0, 2)) if ring is None else ring


def lies_within(inner_xy: ContourArray, outer_xy: ContourArray, margin_px: float = 0.0) -> bool:
    """Whether a ring is nowhere more than ``margin_px`` beyond a contour; True for one without points.

    A ring of one or two points, which encloses nothing, is compared by its points. Corners of the contour are moved
    outward as corners, so that a point may be off by ``margin_px`` in x and in y.
    """
    if not len(inner_xy):
        return True
    inner = _polygon(inner_xy) if len(inner_xy) >= MIN_POINTS else shapely.MultiPoint(inner_xy)
    outer = shapely.buffer(_polygon(outer_xy), margin_px, join_style="mitre")
    return bool(shapely.covers(outer, inner))


def _about_first(rings: Rings) -> tuple[ContourArray, ContourArray]:
    """Each point and the next, relative to the first of its ring, so that areas are exact far from the origin."""
    local = rings.points_xy - rings.points_xy.take(rings.offsets[:-1].repeat(rings.counts), axis=0)
    return local, local.take(rings.following_index, axis=0)


def _offsets(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)


def _polygons(contours: Sequence[ContourArray]) -> NDArray[np.object_]:
    """Return the valid shapely geometry of each contour (m,); see ``_polygon``."""
    rings = Rings.of(contours)
    enclosing = rings.counts >= MIN_POINTS
    chosen = rings.take(enclosing)
    polygons = np.full(len(rings), shapely.Polygon(), dtype=object)
    if len(chosen):
        polygons[enclosing] = shapely.polygons(shapely.linearrings(chosen.points_xy, indices=chosen.owner))
    crossing = ~shapely.is_valid(polygons)
    polygons[crossing] = shapely.make_valid(polygons[crossing])
    return polygons


def _polygon(contour_xy: ContourArray) -> shapely.Geometry:
    """Return a valid shapely geometry of the contour, empty where it encloses nothing."""
    if len(contour_xy) < MIN_POINTS:
        return shapely.Polygon()
    polygon = shapely.Polygon(contour_xy)
    return polygon if polygon.is_valid else shapely.make_valid(polygon)


def _largest_ring(geometry: shapely.Geometry) -> ContourArray | None:
    """Outer ring (n, 2) of the largest polygon in ``geometry``, without the repeated last point."""
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


def is_cut(contour_xy: ContourArray, width_px: int, height_px: int, margin_px: float = 1.0) -> bool:
    """Whether an image edge cuts a cell: its contour is within ``margin_px`` of the outermost pixel centers."""
    low, high = contour_xy.min(axis=0), contour_xy.max(axis=0)
    return bool(low.min() <= margin_px or high[0] >= width_px - 1 - margin_px or high[1] >= height_px - 1 - margin_px)
