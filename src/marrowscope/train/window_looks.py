"""How a training window of the segmenter looks: its stain and light varied, the cytoplasm of some cells faded.

Works on optical density, so that background stays background. The invariant: no outline moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ImageArray

FloatMatrix = NDArray[np.float64]

# Nuclei absorb red light, erythrocytes hardly: this red optical density separates them in Giemsa-type stains.
NUCLEUS_RED_OD = 0.22
# Share of the cytoplasm's optical density that a faded cell keeps, drawn for each cell.
FADED_TO = (0.35, 0.9)
_KERNEL = np.ones((3, 3), dtype=np.uint8)


def fade_cytoplasm(image: ImageArray, cells: Sequence[FloatMatrix], kept: Sequence[float] | FloatMatrix) -> ImageArray:
    """Fade the cytoplasm of cells toward the glass near them: its optical density is multiplied by ``kept`` (0-1 each).

    ``cells`` are closed rings (k, 2) in corner coordinates. Nuclei keep their stain; the seam is soft. Plasma cells and
    others with pale, eccentric cytoplasm are rare in training sets, and a network that saw few outlines their nuclei.
    """
    faded = image.astype(np.float64)
    for ring, share in zip(cells, kept, strict=True):
        reach = 0.5 * np.ptp(ring, axis=0).max()
        x0, y0 = np.maximum(np.floor(ring.min(axis=0) - reach), 0).astype(int)
        x1, y1 = np.ceil(ring.max(axis=0) + reach).astype(int)
        near = faded[y0:y1, x0:x1]
        glass = np.maximum(empty_glass(near), 1.0)
        density = np.log10(glass / np.maximum(near, 1.0))
        nucleus = cv2.morphologyEx((density[..., 0] > NUCLEUS_RED_OD).astype(np.uint8), cv2.MORPH_OPEN, _KERNEL)
        cell = np.zeros_like(nucleus)
        cv2.fillPoly(cell, [np.round(ring - 0.5 - [x0, y0]).astype(np.int32)], 1)
        factor = np.where((cell > 0) & (cv2.dilate(nucleus, _KERNEL) == 0), share, 1.0)
        near[:] = glass * 10.0 ** -(density * cv2.GaussianBlur(factor, (0, 0), 0.7)[..., None])
    result: ImageArray = np.clip(np.round(faded), 0, 255).astype(np.uint8)
    return result


def vary_stain(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Vary stain strength per channel, illumination, tint, sharpness and noise; uint8 in and out.

    Works on optical density, so that background stays background. The ranges are wider than the differences between the
    two centers of the real packs: color should not tell the segmenter the center.
    """
    density = -np.log10(np.maximum(image.astype(np.float32), 1.0) / 255.0)
    density *= rng.uniform(0.75, 1.3) * rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    light = 255.0 * rng.uniform(0.85, 1.08) * rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    varied = np.float32(10.0) ** -density * light
    if rng.random() < 0.4:  # noqa: PLR2004 - share of windows
        varied = cv2.GaussianBlur(varied, (0, 0), float(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.4:  # noqa: PLR2004 - share of windows
        varied = varied + rng.normal(0.0, rng.uniform(1.0, 5.0), size=varied.shape)
    result: ImageArray = np.clip(np.round(varied), 0, 255).astype(np.uint8)
    return result


def empty_glass(image: ImageArray | FloatMatrix) -> FloatMatrix:
    """Median color (3,) of the lightest fifth of the pixels: the empty glass."""
    lightness = image.min(axis=2)
    color: FloatMatrix = np.median(image[lightness >= np.percentile(lightness, 80)], axis=0)
    return color
