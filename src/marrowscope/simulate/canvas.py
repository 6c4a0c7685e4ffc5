"""The canvas of a field: amounts of dye in layers, summed once to optical density.

One number per dye instead of three colors keeps the many small additions cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.texture import Floats

_LAYERS = ("erythrocyte", "blue", "pink", "azurophil")


def paste(canvas: Floats, patch: Floats, x0: int, y0: int) -> None:
    """Add ``patch`` to ``canvas`` in place with its top-left pixel at (x0, y0), cropped to the canvas."""
    height, width = canvas.shape[:2]
    ax, ay = max(x0, 0), max(y0, 0)
    bx, by = min(x0 + patch.shape[1], width), min(y0 + patch.shape[0], height)
    if ax < bx and ay < by:
        canvas[ay:by, ax:bx] += patch[ay - y0 : by - y0, ax - x0 : bx - x0]


def lay_over(density: Floats, patch: Floats, cover: Floats, keep: float, corner: tuple[int, int]) -> None:
    """Draw a cell over the density in place with its top-left pixel at ``corner`` (x, y).

    Whatever lies below the cell keeps the share ``keep`` of its density.
    """
    x0, y0 = corner
    height, width = density.shape[:2]
    ax, ay = max(x0, 0), max(y0, 0)
    bx, by = min(x0 + patch.shape[1], width), min(y0 + patch.shape[0], height)
    if ax < bx and ay < by:
        window = density[ay:by, ax:bx]
        part = (slice(ay - y0, by - y0), slice(ax - x0, bx - x0))
        window *= (1.0 - (1.0 - keep) * cover[part])[..., None]
        window += patch[part]


@dataclass
class Slide:
    """Amounts of dye per pixel, one (height, width) float32 layer each."""

    height_px: int
    width_px: int
    layers: dict[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        """Start with clear layers."""
        self.layers = {name: np.zeros((self.height_px, self.width_px), dtype=np.float32) for name in _LAYERS}

    def clear(self, patch: Floats, x0: int, y0: int, share: float) -> None:
        """Remove the share ``share * patch`` from every layer (a hole in whatever lies there)."""
        height, width = self.height_px, self.width_px
        ax, ay = max(x0, 0), max(y0, 0)
        bx, by = min(x0 + patch.shape[1], width), min(y0 + patch.shape[0], height)
        if ax < bx and ay < by:
            rest = 1.0 - share * patch[ay - y0 : by - y0, ax - x0 : bx - x0]
            for layer in self.layers.values():
                layer[ay:by, ax:bx] *= rest

    def density(self, style: PatientStyle) -> Floats:
        """Optical density (height, width, 3) with one patient's dyes."""
        vectors = [style.erythrocyte if name == "erythrocyte" else style.dyes[name] for name in _LAYERS]
        stacked = cv2.merge([self.layers[name] for name in _LAYERS])
        return np.asarray(cv2.transform(stacked, np.stack(vectors, axis=1).astype(np.float32)), dtype=np.float32)
