"""Whole, single, round erythrocytes of a field and their diameters, by classical image analysis: no network, no scale.

Steps: shrink the field to a fixed number of pixels; threshold green light at eight optical densities below the empty
slide; take the outlines at every threshold and, of those that lie on each other, the one with the steepest edge (as
maximally stable extremal regions do: Matas et al. 2002, doi 10.1016/S0262-8856(04)00006-2); keep what is whole, round
and solid; leave out nucleated cells; keep the most common size. Cells that touch or overlap others are skipped.

Hemoglobin and eosin absorb blue light nearly as much as green, the azure B of nuclei, platelets and basophilic
cytoplasm hardly does: the ratio of the two densities tells erythrocytes from all others (0.4-1.0 against 0.0-0.35 in
the packs of real images; docs/scale.md). Nothing here depends on the stated scale, so a wrong one is found out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope.records import Erythrocytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ContourArray, ImageArray

MIN_ERYTHROCYTES = 3
"""A field with fewer measured erythrocytes has no diameter."""
MIN_POOLED = 20
"""A patient or a folder with fewer measured erythrocytes has no diameter: nothing is said about its scale."""
NORMAL_UM = 7.5
"""Mean diameter of normal erythrocytes on a smear (Harrison's Manual of Medicine, chapter Blood Smears)."""

_PIXELS = 250_000
"""A field is shrunk to this many pixels: an erythrocyte of a camera's field has 15 to 45 px then."""
_LIKE = 2.0
"""A field that was shrunk to this many times more or fewer pixels serves as well."""
_DENSITIES = np.geomspace(0.04, 0.35, 8)
"""Optical densities of the thresholds. Half of an erythrocyte's is its outline: 0.04 to 0.3 in the packs."""
_WHITE_QUANTILE, _MIN_WHITE = 0.95, 32
_MIN_PX = 10.0
"""Smaller objects are grains, platelets and noise."""
_MAX_OF_SIDE = 0.45
"""An object with a larger share of the field's shorter side is no single erythrocyte that anyone would photograph."""

_MIN_CIRCULARITY, _MIN_ELLIPTICITY, _MIN_SOLIDITY, _MAX_ELONGATION = 0.80, 0.97, 0.955, 1.7
_LEAST_AREA = 0.5
"""Of a chain that goes back as it came."""
_CHAIN_LENGTH = 0.95
"""The perimeter of a circle over the length of its chain of pixels."""
_SAME_CENTER, _SAME_SIZE = 0.35, 0.6
"""Outlines lie on each other when their centers are this share of the larger diameter apart, and are of like size."""

_MIN_BLUE_OF_GREEN = 0.38
_NUCLEAR = ((0.15, 0.33), (0.5, 0.45))
"""A pixel is of a nucleus at more green than this with less blue, as a share of the green, than that."""
_MAX_NUCLEAR_SHARE = 0.08
_BANDWIDTH, _SPREAD = 0.1, 1.3
"""The most common size is the peak of the density of log diameters with this bandwidth; members are within a factor."""
_MIN_AREA_SHARE = 0.004
"""Measured erythrocytes cover more of a field than this; a few specks do not."""

Floats = NDArray[np.float64]


def measure_erythrocytes(
    pixels: ImageArray,
    um_per_px: float,
    nucleated_xy: Sequence[ContourArray] = (),
    shrunk: ImageArray | None = None,
) -> Erythrocytes:
    """Measure a field (h, w, 3), RGB uint8: number of erythrocytes and their median diameter, None below the least.

    The rest as in ``erythrocyte_diameters_px``.
    """
    diameters = erythrocyte_diameters_px(pixels, nucleated_xy, shrunk)
    n = len(diameters)
    return Erythrocytes(n, float(np.median(diameters)) * um_per_px if n >= MIN_ERYTHROCYTES else None)


def erythrocyte_diameters_px(
    pixels: ImageArray, nucleated_xy: Sequence[ContourArray] = (), shrunk: ImageArray | None = None
) -> Floats:
    """Return the diameters (n,) of equal area, in px of ``pixels``, of all erythrocytes that can be measured.

    What lies on a contour of ``nucleated_xy`` is left out. ``shrunk`` is the field shrunk with an area filter, if the
    caller has it: it is taken if it is about as large as needed. Empty for a field without erythrocytes or pixels.
    """
    if pixels.size == 0:
        return np.empty(0)
    if shrunk is not None and 1 / _LIKE < shrunk.shape[0] * shrunk.shape[1] / _PIXELS < _LIKE:
        small, factor = shrunk, shrunk.shape[1] / pixels.shape[1]
    else:
        small, factor = _shrunk(pixels)
    white = _white(small)
    nuclear = _nuclear(small, white)
    outlines, shapes = _outlines(small, white[1])
    nucleated = _nucleated(nuclear, [(xy + 0.5) * factor - 0.5 for xy in nucleated_xy])
    inside = nucleated[shapes[:, 1].astype(np.intp), shapes[:, 0].astype(np.intp)] > 0
    kept = [
        index
        for index in np.flatnonzero(~inside)
        if _is_erythrocyte(small, white, nuclear, outlines[index], shapes[index, 2])
    ]
    diameters = most_common(shapes[kept, 2])
    if math.pi / 4 * float((diameters**2).sum()) < _MIN_AREA_SHARE * nucleated.size:
        return np.empty(0)
    found: Floats = diameters / factor
    return found


def _shrunk(pixels: ImageArray) -> tuple[ImageArray, float]:
    """Return the field with at most _PIXELS pixels, and its size over the field's."""
    height, width = pixels.shape[:2]
    factor = min(1.0, math.sqrt(_PIXELS / (height * width)))
    if factor == 1.0:
        return np.ascontiguousarray(pixels), factor
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)), factor


def _white(image: ImageArray) -> Floats:
    """Gray level (3,) of the empty slide: each channel's 95% quantile."""
    n_below = _WHITE_QUANTILE * image.shape[0] * image.shape[1]
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().cumsum() for channel in range(3)]
    return np.maximum([float(np.searchsorted(below, n_below)) for below in counts], _MIN_WHITE)


def _outlines(image: ImageArray, white: float) -> tuple[list[NDArray[np.int32]], Floats]:
    """Return the outlines (n, 1, 2) of whole round objects, and (n, 4) their x, y, diameter and mean edge in px."""
    green = np.asarray(cv2.GaussianBlur(cv2.extractChannel(image, 1), (3, 3), 0), dtype=np.uint8)
    longest = 4 * _MAX_OF_SIDE * min(green.shape)
    rings: list[NDArray[np.int32]] = []
    for density in _DENSITIES:
        _, mask = cv2.threshold(green, white * 10**-density, 255, cv2.THRESH_BINARY_INV)
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        # The chain of a circle has 2.8 points for each pixel of its diameter.
        rings += [np.asarray(ring, dtype=np.int32) for ring in found if 2.2 * _MIN_PX < len(ring) < longest]
    if not rings:
        return [], np.empty((0, 4))
    which, shapes = _measure(rings, green)
    best = _steepest(shapes)
    return [rings[index] for index in which[best]], shapes[best]


def _measure(rings: Sequence[NDArray[np.int32]], green: ImageArray) -> tuple[NDArray[np.intp], Floats]:
    """Return the positions (n,) of the outlines of whole, round objects, and (n, 4) their x, y, diameter, mean edge.

    All at once, by sums over the rings: the area and its second moments by Green's theorem, from which follows how much
    of the ellipse with the same moments the object fills, and how long it is. These sums are of whole numbers, and
    exact. Moments are taken of the few that pass the cheaper tests. An edge is the slope of ``green`` light.
    """
    height, width = green.shape
    lengths, column, row = _joined(rings)
    starts = np.cumsum(lengths) - lengths
    x, y = (_since_start(places, lengths, starts) for places in (column, row))
    x_next, y_next = _following(x, starts), _following(y, starts)
    cross = x * y_next - x_next * y
    area = np.abs(np.add.reduceat(cross, starts)) / 2
    area = np.where(area < _LEAST_AREA, _LEAST_AREA, area)
    perimeter = _CHAIN_LENGTH * np.add.reduceat(np.sqrt((x_next - x) ** 2 + (y_next - y) ** 2), starts)
    diameter = 2 * np.sqrt((area + lengths / 2 + 1) / np.pi)  # of all pixels, by Pick's theorem
    passed = np.flatnonzero(
        (np.minimum.reduceat(column, starts) > 1)
        & (np.minimum.reduceat(row, starts) > 1)
        & (np.maximum.reduceat(column, starts) < width - 2)
        & (np.maximum.reduceat(row, starts) < height - 2)
        & (diameter > _MIN_PX)
        & (diameter < _MAX_OF_SIDE * min(height, width))
        & (4 * np.pi * area > _MIN_CIRCULARITY * perimeter**2)
    )
    if not len(passed):
        return passed, np.empty((0, 4))
    chosen = np.zeros(len(rings), dtype=np.bool_)
    chosen[passed] = True
    chosen = np.repeat(chosen, lengths)
    x, x_next, y, y_next, cross = (values[chosen] for values in (x, x_next, y, y_next, cross))
    column, row, area, diameter, lengths = column[chosen], row[chosen], area[passed], diameter[passed], lengths[passed]
    starts = np.cumsum(lengths) - lengths

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, starts))

    twice = total(cross)
    twice = np.where(np.abs(twice) < 1, 1.0, twice)
    sum_x, sum_y = x + x_next, y + y_next
    center_x, center_y = total(sum_x * cross) / (3 * twice), total(sum_y * cross) / (3 * twice)
    xx = total((sum_x * sum_x - x * x_next) * cross) / (6 * twice) - center_x**2
    yy = total((sum_y * sum_y - y * y_next) * cross) / (6 * twice) - center_y**2
    xy = total((sum_x * sum_y + x * y + x_next * y_next) * cross) / (12 * twice) - center_x * center_y
    determinant = np.maximum(xx * yy - xy**2, 1e-9)
    half = np.sqrt(np.maximum((xx + yy) ** 2 / 4 - determinant, 0))
    mean = (xx + yy) / 2
    elongation = np.sqrt((mean + half) / np.maximum(mean - half, 1e-9))
    is_round = (area > _MIN_ELLIPTICITY * 4 * np.pi * np.sqrt(determinant)) & (elongation < _MAX_ELONGATION)
    place = row.astype(np.intp) * width + column
    across, down = (np.asarray(slope).take(place).astype(np.float32) for slope in cv2.spatialGradient(green))
    steepness = total(np.sqrt(across * across + down * down).astype(np.float64)) / lengths
    shapes = np.stack([center_x + column[starts], center_y + row[starts], diameter, steepness], axis=1)
    return passed[is_round], shapes[is_round]


def _joined(rings: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Return the number of points of each ring, and the columns and rows of all points, one ring after the other."""
    points = np.concatenate(rings)[:, 0]
    lengths = np.array([len(ring) for ring in rings], dtype=np.intp)
    return lengths, np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])


def _since_start(places: NDArray[np.int32], lengths: NDArray[np.intp], starts: NDArray[np.intp]) -> Floats:
    """Return places along one axis from each ring's first point on."""
    return (places - np.repeat(places[starts], lengths)).astype(np.float64)


def _following(values: Floats, starts: NDArray[np.intp]) -> Floats:
    """Return the value of the next point of each ring; the first one of a ring follows its last."""
    after = np.empty_like(values)
    after[:-1] = values[1:]
    after[np.append(starts[1:], len(values)) - 1] = values[starts]
    return after


def _steepest(shapes: Floats) -> NDArray[np.intp]:
    """Return the positions of the outlines with the steepest edge of all that lie on them."""
    x, y, diameter, edge = shapes.T
    larger = np.maximum(diameter[:, None], diameter[None, :])
    reach = _SAME_CENTER * larger
    near = (np.abs(x[:, None] - x[None, :]) < reach) & (np.abs(y[:, None] - y[None, :]) < reach)
    near &= np.minimum(diameter[:, None], diameter[None, :]) > _SAME_SIZE * larger
    one, other = np.nonzero(near)
    same = np.hypot(x[one] - x[other], y[one] - y[other]) < reach[one, other]
    rank = np.empty(len(shapes), dtype=np.intp)
    rank[np.argsort(-edge, kind="stable")] = np.arange(len(shapes))
    is_best = np.ones(len(shapes), dtype=np.bool_)
    is_best[one[same & (rank[other] < rank[one])]] = False
    return np.flatnonzero(is_best)


def _nuclear(image: ImageArray, white: Floats) -> ImageArray:
    """Return 1 for each pixel (h, w) of a nucleus's color, else 0.

    Less blue is absorbed at a brighter pixel, so that each level of green has a level of blue above which it is one.
    """
    levels = np.log10(np.arange(256) + 1.0)
    green, blue = ((math.log10(white[channel] + 1) - levels).astype(np.float32) for channel in (1, 2))
    highest = np.full(256, 255, dtype=np.int16)
    for density, blue_of_green in _NUCLEAR:
        below = np.searchsorted(-blue, -(np.float32(blue_of_green) * green), side="right") - 1
        highest = np.where(green > density, np.minimum(highest, below), highest).astype(np.int16)
    beyond = cv2.compare(cv2.extractChannel(image, 2).astype(np.int16), cv2.LUT(image[..., 1], highest), cv2.CMP_GT)
    return np.asarray(beyond, dtype=np.uint8) & np.uint8(1)


def _nucleated(nuclear: ImageArray, contours_xy: Sequence[ContourArray]) -> ImageArray:
    """Return 1 for each pixel (h, w) of the cells that have a nucleus, else 0.

    With a stated scale too coarse by half, the segmenter outlines erythrocytes too; these have none.
    """
    cells = np.zeros_like(nuclear)
    for contour_xy in contours_xy:
        ring = np.round(contour_xy).astype(np.int32).reshape(-1, 1, 2)
        if _share(nuclear, ring) >= _MAX_NUCLEAR_SHARE:
            cv2.fillPoly(cells, [ring], 1)
    return cells


def _share(nuclear: ImageArray, ring: NDArray[np.int32]) -> float:
    """Return the share of nuclear pixels inside an outline, 0-1."""
    box, mask = _filled(ring)
    inside = nuclear[box]
    return float(cv2.mean(inside, mask[: inside.shape[0], : inside.shape[1]])[0])


def _filled(ring: NDArray[np.int32]) -> tuple[tuple[slice, slice], ImageArray]:
    """Return the place of an outline's box, cut at the top left edges, and its mask there (h, w), 0 or 1."""
    x, y, width, height = cv2.boundingRect(ring)
    left, top = max(x, 0), max(y, 0)
    mask = np.zeros((max(y + height - top, 0), max(x + width - left, 0)), dtype=np.uint8)
    cv2.drawContours(mask, [ring], -1, 1, -1, offset=(-left, -top))
    return (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])), mask


def _is_erythrocyte(
    image: ImageArray, white: Floats, nuclear: ImageArray, ring: NDArray[np.int32], diameter: float
) -> bool:
    """Tell whether an outline is solid, as two cells together are not, and colored like an erythrocyte."""
    hull = cv2.contourArea(cv2.convexHull(ring)) + len(ring) / 2 + 1
    if math.pi / 4 * diameter**2 < _MIN_SOLIDITY * hull:
        return False
    box, mask = _filled(ring)
    if cv2.mean(nuclear[box], mask)[0] >= _MAX_NUCLEAR_SHARE:
        return False
    levels = cv2.mean(image[box], mask)
    green, blue = (math.log10((white[channel] + 1) / (levels[channel] + 1)) for channel in (1, 2))
    return blue >= _MIN_BLUE_OF_GREEN * green


def most_common(diameters: Floats) -> Floats:
    """Return the diameters around the most common one; each counts by its size, as noise is small and many."""
    if not len(diameters):
        return diameters
    logs = np.log(diameters)
    density = np.exp(-0.5 * ((logs[:, None] - logs[None, :]) / _BANDWIDTH) ** 2) @ diameters
    near: Floats = diameters[np.abs(logs - logs[density.argmax()]) < math.log(_SPREAD)]
    return near
