"""Image quality of a field of view, with or without cells: focus, exposure, stain.

Steps: bring the image to a fixed scale; estimate its background, which gives optical density (OD = -log10(I / white));
measure the steepness of the sharpest edges relative to their height, the brightness of the empty slide, the share of
clipped pixels, and the density per channel of the darkest stained parts (nuclei). Every measure describes the whole
field and does not depend on empty areas. A value that cannot be measured is NaN, never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope.imaging.slope import slope

if TYPE_CHECKING:
    from marrowscope.records import ImageArray

FIELD_MEASURES: dict[str, str] = {
    "sharpness": "steepness of the steepest edges: slope of the density over its range within 1.5 um (1/um)",
    "background": "gray level of the empty slide (0-1)",
    "clipped": "share of pixels at the end of the gray scale (0-1): over- or underexposed",
    "od_red": "mean optical density of the stained foreground, red",
    "od_green": "mean optical density of the stained foreground, green",
    "od_blue": "mean optical density of the stained foreground, blue",
    "stain_distance": "Mahalanobis distance of the three densities from the training fields; null without a reference",
}

SCALE_UM_PER_PX = 0.3
"""Finer images are shrunk to this scale: finer detail is mostly noise, sharpening and JPEG artifacts, not focus."""

_WHITE_QUANTILE = 0.95
_MIN_WHITE = 32
"""An image darker than this in every channel shows nothing against a background."""
_CLIPPED_LOW, _CLIPPED_HIGH = 1, 254
"""A pixel is clipped, its color lost, when all three channels reach one of these. One channel alone does not count: a
cream background saturates the red channel in a well-exposed image."""

_STAINED_UM2 = 40.0
"""Area of about one small nucleus. The density that this much of the field exceeds is taken as that of the nuclei."""
_STAINED_SHARE = 0.6
"""Stained foreground exceeds this fraction of that density. A fraction, not a fixed level: twice the stain then gives
twice the measure."""
_MIN_OD = 0.08
"""Below this density, the slide is empty."""

_REACH_UM = 3.0
_EDGE_SHARE = 0.3
_STEEPEST = 0.97
_MIN_EDGE_PX = 100
_SAMPLED = (slice(None, None, 5), slice(None, None, 7))
_SAMPLE_MARGIN = 2.0
"""The sample has this many times the share above the quantile. A miss is very unlikely, and is detected."""

_LOG_LEVELS = np.log10(np.arange(256, dtype=np.float32) + np.float32(1.0))
_MEAN = np.full((1, 3), 1 / 3, dtype=np.float32)
_MEASURED = ("sharpness", "background", "clipped", "od_red", "od_green", "od_blue")

Floats = NDArray[np.float32]


def measure_field(image: ImageArray, um_per_px: float, shrunk: ImageArray | None = None) -> dict[str, float]:
    """Measure an RGB uint8 image (h, w, 3); returns FIELD_MEASURES except the distance, NaN where not measurable.

    An image without contrast has only a background and a clipped share; an image without pixels has no values.
    ``shrunk`` is the image shrunk to SCALE_UM_PER_PX with an area filter, if the caller already has it.
    """
    values = dict.fromkeys(_MEASURED, float("nan"))
    if image.size == 0:
        return values
    values["clipped"] = _clipped_share(image)
    small, scale = _at_fixed_scale(image, um_per_px) if shrunk is None else (shrunk, SCALE_UM_PER_PX)
    white = _white(small)
    values["background"] = float(white.mean()) / 255
    if white.max() < _MIN_WHITE:
        return values
    density = _optical_density(small, white)
    gray = np.asarray(cv2.transform(density, _MEAN), dtype=np.float32)
    dense = _density_of_the_darkest(gray, _STAINED_UM2 / scale**2)
    if dense < _MIN_OD:
        return values
    stained = (gray > _STAINED_SHARE * dense).astype(np.uint8)
    values["od_red"], values["od_green"], values["od_blue"] = cv2.mean(density, stained)[:3]
    values["sharpness"] = _edge_steepness(gray, scale, max(_MIN_OD, _EDGE_SHARE * dense))
    return values


def _clipped_share(image: ImageArray) -> float:
    """Share of the pixels that are black or white in all three channels."""
    # The gray level of such a pixel is within the same limits, and most images have no pixel that dark or bright.
    darkest, brightest, _, _ = cv2.minMaxLoc(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    n_clipped = 0
    if darkest <= _CLIPPED_LOW:
        n_clipped += cv2.countNonZero(cv2.inRange(image, (0, 0, 0), (_CLIPPED_LOW,) * 3))
    if brightest >= _CLIPPED_HIGH:
        n_clipped += cv2.countNonZero(cv2.inRange(image, (_CLIPPED_HIGH,) * 3, (255, 255, 255)))
    return float(n_clipped / (image.shape[0] * image.shape[1]))


def _at_fixed_scale(image: ImageArray, um_per_px: float) -> tuple[ImageArray, float]:
    """Shrink to the fixed scale with an area filter, unless the image is coarser; return it and its um per px."""
    factor = um_per_px / SCALE_UM_PER_PX
    if factor >= 1:
        return image, um_per_px
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)), SCALE_UM_PER_PX


def _white(image: ImageArray) -> NDArray[np.intp]:
    """Gray level (3,) of the empty slide: each channel's 95% quantile."""
    n_below = _WHITE_QUANTILE * image.shape[0] * image.shape[1]
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().cumsum() for channel in range(3)]
    return np.array([np.searchsorted(below, n_below) for below in counts])


def _optical_density(image: ImageArray, white: NDArray[np.intp]) -> Floats:
    """OD (h, w, 3) relative to ``white``; 0 for anything brighter."""
    levels = _LOG_LEVELS[np.maximum(white, _MIN_WHITE)]
    table = np.maximum(levels[None, None, :] - _LOG_LEVELS[None, :, None], 0).astype(np.float32)
    return np.asarray(cv2.LUT(image, table), dtype=np.float32)


def _density_of_the_darkest(gray: Floats, n_px: float) -> float:
    """Density that ``n_px`` pixels exceed, or a tenth of the pixels of a small image."""
    rank = min(round(n_px), gray.size // 10)
    values = gray[gray > 0.5 * gray.max()]  # nearly always includes the wanted value, and sorts quickly
    if values.size <= rank:
        values = gray.ravel()
    position = values.size - 1 - rank
    return float(np.partition(values, position).item(position))


def _edge_steepness(gray: Floats, um_per_px: float, least_step: float) -> float:
    """Steepness (1/um) of the steepest 3% of the edges: the slope over the range of densities within 1.5 um.

    Slope over range does not depend on how dark the stain is. A step of any height after a Gaussian blur with standard
    deviation s has 1 / (s sqrt(2 pi) erf(1.5 um / (s sqrt(2)))): 0.46 at 1 um. NaN with fewer than 100 edge pixels.
    """
    side = max(3, round(_REACH_UM / um_per_px) | 1)
    window = np.ones((side, side), dtype=np.uint8)
    step = np.asarray(cv2.subtract(cv2.dilate(gray, window), cv2.erode(gray, window)))
    on_edge = step > least_step
    if np.count_nonzero(on_edge) < _MIN_EDGE_PX:
        return float("nan")
    # Away from edges the quotient has no meaning; a step of 0 gives 0.
    steepness = np.asarray(cv2.divide(slope(gray, scale=1 / 8), step), dtype=np.float32)
    return _quantile_of_the_chosen(steepness, on_edge, _STEEPEST) / um_per_px


def _quantile_of_the_chosen(values: Floats, chosen: NDArray[np.bool_], share: float) -> float:
    """Return ``np.quantile`` of ``values[chosen]``, to the bit; fast for a high ``share``.

    A sample gives a lower bound for the quantile, and only the values above that bound are sorted.
    """
    n_chosen = int(np.count_nonzero(chosen))
    position = (n_chosen - 1) * share
    n_above = n_chosen - int(position)  # including the value at the position
    sample = values[_SAMPLED][chosen[_SAMPLED]]
    top = values[:0]
    if sample.size >= _MIN_EDGE_PX:
        rank = min(int(sample.size * (1 - _SAMPLE_MARGIN * (1 - share))), sample.size - 1)
        top = values[chosen & (values > np.partition(sample, rank)[rank])]
    if top.size < n_above:
        top = values[chosen]
    first = top.size - n_above
    second = min(first + 1, top.size - 1)
    top.partition((first, second))
    low, high, along = top[first], top[second], position % 1
    gap = high - low
    return float(low + gap * along if along < 0.5 else high - gap * (1 - along))  # noqa: PLR2004 - as numpy rounds
