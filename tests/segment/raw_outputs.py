"""Raw outputs of a segmentation head for cells that are known: one prototype a cell, one anchor a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Cell = tuple[float, float, float, float]
"""Center x, center y, radius x, radius y in pixels."""

N_PROTOTYPES = 8


def ellipse_contour(cell: Cell, n_points: int = 400) -> NDArray[np.float64]:
    """Give the contour of an ellipse in pixel-center coordinates."""
    cx, cy, rx, ry = cell
    angle = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def ellipse_logits(cell: Cell, height_px: int, width_px: int) -> NDArray[np.float32]:
    """Give logits on the prototype grid (h / 4, w / 4): zero on the ellipse, saturating at 6 like a trained network."""
    cx, cy, rx, ry = cell
    x = np.arange(width_px // 4) * 4 + 1.5
    y = np.arange(height_px // 4) * 4 + 1.5
    radius = np.hypot((x[None, :] - cx) / rx, (y[:, None] - cy) / ry)
    logits: NDArray[np.float32] = (6 * np.tanh((1 - radius) * min(rx, ry) / 4)).astype(np.float32)
    return logits


def raw_outputs(
    cells: Sequence[tuple[float, float, float, float, float]], height_px: int, width_px: int, n_anchors: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give outputs (1, 5 + 8, n) and (1, 8, h / 4, w / 4) of ellipses (cx, cy, rx, ry, score).

    Every other anchor scores 0.
    """
    output = np.zeros((1, 5 + N_PROTOTYPES, n_anchors), dtype=np.float32)
    prototypes = np.zeros((1, N_PROTOTYPES, height_px // 4, width_px // 4), dtype=np.float32)
    output[0, 2:4] = 1.0
    for index, (cx, cy, rx, ry, score) in enumerate(cells):
        prototypes[0, index] = ellipse_logits((cx, cy, rx, ry), height_px, width_px)
        output[0, :5, index] = [cx + 0.5, cy + 0.5, 2 * rx, 2 * ry, score]
        output[0, 5 + index, index] = 1.0
    return output, prototypes
