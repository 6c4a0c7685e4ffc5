"""Measures of a slide's overview and of its samples: empty slide, nuclei, solid parts, focus.

Density is optical density (OD = -log10(I / white)), where white is each channel's 95% quantile over the overview. Three
maps at the overview's scale show empty slide, nuclei (by purple density) and solid parts: places without empty slide
nearby, such as marrow particles or a thick smear. Sharpness is that of the quality flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope.imaging.slope import slope

if TYPE_CHECKING:
    from marrowscope.records import ImageArray

_CLEAR_OD = 0.08
"""Below this mean density, a pixel shows empty slide."""
_NUCLEUS_OD = 0.2
"""Above this purple density, a pixel shows a nucleus."""
_SOLID_WINDOW_UM = 60.0
"""Side of the window in which a solid part has almost no empty slide."""
_SOLID_CLEAR_SHARE = 0.1
"""A window with less empty slide than this is inside a solid part."""
_MIN_SOLID_UM2 = 10_000.0
"""Smallest solid part that is a particle or a thick part of the smear, not a few cells."""

_WHITE_QUANTILE, _MIN_WHITE = 0.95, 32
_MEAN = np.full((1, 3), 1 / 3, dtype=np.float32)
_PURPLE = np.array([[0.5, 0.75, -0.25]], dtype=np.float32)
"""Weights of the OD of R, G, B that set off the nucleus, as in cell morphology."""
_LOG_LEVELS = np.log10(np.arange(256, dtype=np.float32) + np.float32(1.0))

_FOCUS_UM_PER_PX = 0.3
_REACH_UM = 3.0
_MIN_STEP_OD = 0.08
_EDGE_SHARE = 0.3
_DARKEST = 0.99
_STEEPEST = 0.97
_MIN_EDGE_PX = 100

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OverviewMaps:
    """Maps (h, w) uint8, 1 where true: empty slide, solid parts, and nuclei outside solid parts."""

    clear: Mask
    solid: Mask
    nuclei: Mask


def map_overview(image: ImageArray, um_per_px: float) -> OverviewMaps:
    """Map an overview, RGB uint8 (h, w, 3)."""
    density = _density(image)
    clear = (cv2.transform(density, _MEAN) < _CLEAR_OD).astype(np.uint8).reshape(image.shape[:2])
    nuclei = (cv2.transform(density, _PURPLE) > _NUCLEUS_OD).astype(np.uint8).reshape(image.shape[:2])
    solid = _solid_parts(clear, um_per_px)
    return OverviewMaps(clear, solid, nuclei * (1 - solid))


def _solid_parts(clear: Mask, um_per_px: float) -> Mask:
    """Find the connected places without empty slide that are large enough to matter."""
    side = max(1, round(_SOLID_WINDOW_UM / um_per_px) | 1)
    window = np.ones((side, side), dtype=np.uint8)
    local = cv2.blur(clear.astype(np.float32), (side, side), borderType=cv2.BORDER_REPLICATE)
    inside = (local < _SOLID_CLEAR_SHARE).astype(np.uint8)
    grown = np.asarray(cv2.dilate(inside, window), dtype=np.uint8) * (1 - clear)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] * um_per_px**2 >= _MIN_SOLID_UM2
    large[0] = False
    return np.asarray(large[labels], dtype=np.uint8)


def sharpness(image: ImageArray, um_per_px: float) -> float:
    """Measure the steepness (1/um) of the steepest 3% of the edges; NaN with fewer than 100 edge pixels.

    It is the slope of the density over its range within 1.5 um, at 0.3 um per px or the image's own coarser scale. A
    step after a Gaussian blur of 1 um has 0.46, after one of 0.5 um 0.80. It does not depend on how dark the stain is.
    """
    factor = um_per_px / _FOCUS_UM_PER_PX
    if factor < 1:
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    scale = max(um_per_px, _FOCUS_UM_PER_PX)
    gray = np.asarray(cv2.transform(_density(image), _MEAN), dtype=np.float32)
    side = max(3, round(_REACH_UM / scale) | 1)
    window = np.ones((side, side), dtype=np.uint8)
    step = np.asarray(cv2.dilate(gray, window) - cv2.erode(gray, window))
    on_edge = step > max(_MIN_STEP_OD, _EDGE_SHARE * float(np.quantile(gray, _DARKEST)))
    if np.count_nonzero(on_edge) < _MIN_EDGE_PX:
        return float("nan")
    return float(np.quantile(slope(gray, scale=1 / 8)[on_edge] / step[on_edge], _STEEPEST)) / scale


def _density(image: ImageArray) -> NDArray[np.float32]:
    """Return the OD (h, w, 3) relative to each channel's 95% quantile; 0 for anything brighter."""
    n_below = _WHITE_QUANTILE * image.shape[0] * image.shape[1]
    table = np.empty((1, 256, 3), dtype=np.float32)
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().cumsum()
        white = max(int(np.searchsorted(counts, n_below)), _MIN_WHITE)
        table[0, :, channel] = np.maximum(_LOG_LEVELS[white] - _LOG_LEVELS, 0)
    return np.asarray(cv2.LUT(image, table), dtype=np.float32)
