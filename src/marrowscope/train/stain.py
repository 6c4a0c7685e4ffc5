"""How a crop is stained, and the same crop in the stain of another source.

Steps: the optical density of a crop's background and of its nucleus; the mean contrast of the two over each source
(center); a crop with another crop's background, its densities scaled by the ratio of the two sources' contrasts.
Contrasts are compared between sources and never between cells, so that a pale nucleus stays pale among its own kind.
Optical densities are natural logarithms against a white of 255, as in augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope.train.border import background_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ImageArray, MaskArray

Reals = NDArray[np.float64]

_MEASURED_SHARE = 0.55
"""Share of the stored crop's side around its center: beyond it a field of single-cell tiles shows other smears."""
_NUCLEUS_SHARE = 0.25
"""Share of the cell's pixels, the densest, whose mean density stands for its nucleus."""
_LEAST_PIXELS = 16
_LEAST_CONTRAST = 0.05
_LARGEST_GAIN = 2.0
# Optical density of each 8-bit value; 0 counts as half a gray level, since log(0) is infinite.
DENSITY = -np.log(np.maximum(np.arange(256), 0.5) / 255).astype(np.float32)


@dataclass(frozen=True, slots=True)
class StainChange:
    """What turns one crop's densities into another stain: channel by channel, ``gain`` times density plus ``shift``."""

    gain: Reals
    shift: Reals


@dataclass(frozen=True, slots=True)
class CropStains:
    """Stain of the crops ``rows`` (n,), ascending: ``background`` (n, 3) density, and the ``source`` (n,) of each.

    ``contrast`` (k, 3) is the mean density of nuclei above the background, over each of the k sources, at least 0.05.
    """

    rows: NDArray[np.int64]
    background: Reals
    source: NDArray[np.int64]
    contrast: Reals

    def change(self, row: int, donor: int, strength: float = 1.0) -> StainChange:
        """Move the crop of ``row`` to the background of the crop of ``donor`` and to the contrast of its source.

        ``strength`` from 0 to 1 is how far; the contrast changes twofold at most.
        """
        own, other = np.searchsorted(self.rows, (row, donor))
        ratio = self.contrast[self.source[other]] / self.contrast[self.source[own]]
        gain = np.clip(ratio, 1 / _LARGEST_GAIN, _LARGEST_GAIN) ** strength
        target = (1 - strength) * self.background[own] + strength * self.background[other]
        return StainChange(gain, target - gain * self.background[own])

    def draw(self, row: int, unit: Reals) -> StainChange:
        """Draw a change for the crop of ``row`` by three numbers from 0 to 1: strength, source and crop of the donor.

        The donor is of another source, each as likely; where there is one source, any crop of it.
        """
        own = self.source[np.searchsorted(self.rows, row)]
        others = [k for k in range(len(self.contrast)) if k != own] or [int(own)]
        donors = self.rows[self.source == others[int(unit[1] * len(others))]]
        return self.change(row, int(donors[int(unit[2] * len(donors))]), float(unit[0]))


def measure_stain(crop: ImageArray, mask: MaskArray) -> tuple[Reals, Reals]:
    """Measure the optical density (3,) of a stored crop's background and of its nucleus, near the crop's center.

    The background is that of ``background_color``; with a mask of fewer than 16 pixels, the densest pixels of all
    stand for the nucleus.
    """
    side = round(_MEASURED_SHARE * len(crop))
    start = (len(crop) - side) // 2
    inner, cell = crop[start : start + side, start : start + side], mask[start : start + side, start : start + side]
    background = DENSITY[background_color(inner, cell)].astype(np.float64)
    density = DENSITY[inner[cell] if cell.sum() >= _LEAST_PIXELS else inner.reshape(-1, 3)]
    total = density.sum(axis=1)
    n_dense = max(1, round(_NUCLEUS_SHARE * len(total)))
    densest = np.argpartition(total, -n_dense)[-n_dense:]
    return background, density[densest].mean(axis=0, dtype=np.float64)


def measure_stains(crops: ImageArray, masks: MaskArray, rows: NDArray[np.int64], sources: Sequence[str]) -> CropStains:
    """Measure the stain of the crops ``rows`` (n,), ascending, n at least 1; ``sources`` (n,) are their sources' names.

    ``crops`` (m, s, s, 3) and ``masks`` (m, s, s) are those of the whole crop set.
    """
    measured = [measure_stain(crops[row], masks[row]) for row in rows]
    background, nucleus = (np.stack(values) for values in zip(*measured, strict=True))
    names, source = np.unique(np.asarray(sources), return_inverse=True)
    contrast = np.stack([(nucleus - background)[source == k].mean(axis=0) for k in range(len(names))])
    return CropStains(rows, background, source.astype(np.int64), np.maximum(contrast, _LEAST_CONTRAST))


def restain(crop: ImageArray, change: StainChange) -> ImageArray:
    """Give a crop (s, s, 3) another stain; what would be lighter than white is white."""
    matrix = np.column_stack([np.diag(change.gain), change.shift]).astype(np.float32)
    return transform_density(crop, matrix)


def transform_density(crop: ImageArray, matrix: NDArray[np.float32], slope: float = 0.0) -> ImageArray:
    """Map the optical densities of a crop (s, s, 3) by ``matrix`` (3, 4) and return it as an image.

    ``slope`` is added from one side to the other, half of it less on the left and half more on the right.
    """
    density = cv2.transform(cv2.LUT(crop, DENSITY), matrix)
    if slope:
        density = density + np.linspace(-slope / 2, slope / 2, crop.shape[1], dtype=np.float32)[None, :, None]
    return cv2.convertScaleAbs(cv2.exp(-np.maximum(density, 0)), alpha=255.0).astype(np.uint8, copy=False)
