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
    green = np.ascontiguousarray(cv2.GaussianBlur(image, (3, 3), 0)[..., 1])
    across, down = (cv2.Sobel(green, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    edge = np.asarray(cv2.magnitude(across, down), dtype=np.float32)
    longest = 4 * _MAX_OF_SIDE * min(green.shape)
    outlines: list[NDArray[np.int32]] = []
    shapes = [np.empty((0, 4))]
    for density in _DENSITIES:
        _, mask = cv2.threshold(green, white * 10**-density, 255, cv2.THRESH_BINARY_INV)
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        # The chain of a circle has 2.8 points for each pixel of its diameter.
        rings = [np.asarray(ring, dtype=np.int32) for ring in found if 2.2 * _MIN_PX < len(ring) < longest]
        if rings:
            is_round, measured = _measure(rings, edge)
            outlines += [rings[index] for index in np.flatnonzero(is_round)]
            shapes.append(measured[is_round])
    table = np.concatenate(shapes)
    best = _steepest(table)
    return [outlines[index] for index in best], table[best]


def _measure(rings: Sequence[NDArray[np.int32]], edge: NDArray[np.float32]) -> tuple[NDArray[np.bool_], Floats]:
    """Tell which of the outlines are whole, round objects, and return (n, 4) their x, y, diameter and mean edge.

    All at once, by sums over the rings: the area and its second moments by Green's theorem, from which follows how much
    of the ellipse with the same moments the object fills, and how long it is.
    """
    lengths = np.array([len(ring) for ring in rings])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    points = np.concatenate(rings)[:, 0]
    following = np.arange(1, len(points) + 1)
    following[starts + lengths - 1] = starts
    here = (points - np.repeat(points[starts], lengths, axis=0)).astype(np.float64)
    x, y = here.T
    x_next, y_next = here[following].T

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, starts))

    cross = x * y_next - x_next * y
    twice = total(cross)
    twice = np.where(np.abs(twice) < 1, 1.0, twice)
    center_x, center_y = total((x + x_next) * cross) / (3 * twice), total((y + y_next) * cross) / (3 * twice)
    xx = total((x * x + x * x_next + x_next * x_next) * cross) / (6 * twice) - center_x**2
    yy = total((y * y + y * y_next + y_next * y_next) * cross) / (6 * twice) - center_y**2
    xy = total((2 * x * y + x * y_next + x_next * y + 2 * x_next * y_next) * cross) / (12 * twice) - center_x * center_y
    area = np.abs(twice) / 2
    determinant = np.maximum(xx * yy - xy**2, 1e-9)
    half = np.sqrt(np.maximum((xx + yy) ** 2 / 4 - determinant, 0))
    mean = (xx + yy) / 2
    elongation = np.sqrt((mean + half) / np.maximum(mean - half, 1e-9))
    perimeter = _CHAIN_LENGTH * total(np.hypot(x_next - x, y_next - y))
    diameter = 2 * np.sqrt((area + lengths / 2 + 1) / np.pi)  # of all pixels, by Pick's theorem
    height, width = edge.shape
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    is_round = (
        (low.min(axis=1) > 1)
        & (high[:, 0] < width - 2)
        & (high[:, 1] < height - 2)
        & (diameter > _MIN_PX)
        & (diameter < _MAX_OF_SIDE * min(height, width))
        & (4 * np.pi * area > _MIN_CIRCULARITY * perimeter**2)
        & (area > _MIN_ELLIPTICITY * 4 * np.pi * np.sqrt(determinant))
        & (elongation < _MAX_ELONGATION)
    )
    steepness = total(edge[points[:, 1], points[:, 0]].astype(np.float64)) / lengths
    x0, y0 = points[starts].T
    return is_round, np.stack([center_x + x0, center_y + y0, diameter, steepness], axis=1)


def _steepest(shapes: Floats) -> NDArray[np.intp]:
    """Return the positions of the outlines with the steepest edge of all that lie on them."""
    x, y, diameter, edge = shapes.T
    larger = np.maximum(diameter[:, None], diameter[None, :])
    apart = np.hypot(x[:, None] - x[None, :], y[:, None] - y[None, :])
    same = (apart < _SAME_CENTER * larger) & (np.minimum(diameter[:, None], diameter[None, :]) > _SAME_SIZE * larger)
    rank = np.empty(len(shapes), dtype=np.intp)
    rank[np.argsort(-edge, kind="stable")] = np.arange(len(shapes))
    return np.flatnonzero(~(same & (rank[None, :] < rank[:, None])).any(axis=1))


def _nuclear(image: ImageArray, white: Floats) -> ImageArray:
    """Return 1 for each pixel (h, w) of a nucleus's color, else 0."""
    levels = np.log10(np.arange(256) + 1.0)
    green, blue = (
        cv2.LUT(image[..., channel], (math.log10(white[channel] + 1) - levels).astype(np.float32)) for channel in (1, 2)
    )
    nuclear = np.zeros(image.shape[:2], dtype=np.bool_)
    for density, blue_of_green in _NUCLEAR:
        nuclear |= (green > density) & (blue < np.float32(blue_of_green) * green)
    return nuclear.astype(np.uint8)


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
    if math.pi / 4 * diameter**2 < _MIN_SOLIDITY * hull or _share(nuclear, ring) >= _MAX_NUCLEAR_SHARE:
        return False
    box, mask = _filled(ring)
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
