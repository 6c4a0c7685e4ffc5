"""A cell before it is drawn, and the pixel grid it is drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate.shapes import N_ANGLES

if TYPE_CHECKING:
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import CodeMorphology, Parameters
    from marrowscope.simulate.texture import Floats

_MARGIN_PX = 4
TABLE = 8 * N_ANGLES


@dataclass
class CellPlan:
    """A cell's type, position and outline (radius in px at equal angles, see shapes); ``nc`` is its area ratio."""

    code: str
    center_xy: tuple[float, float]
    outline: Floats
    nc: float


@dataclass(frozen=True)
class Frame:
    """Grid of one cell's patch, all (h, w): offset from the center, distance, radius of the outline, cover (0-1)."""

    dx: Floats
    dy: Floats
    distance: Floats
    border: Floats
    cover: Floats
    x0: int
    y0: int

    def spot(self, place: int) -> Floats:
        """Distance (h, w) of every pixel to the pixel with flat index ``place``."""
        y, x = divmod(place, self.cover.shape[1])
        distance: Floats = np.hypot(self.dx - self.dx[0, x], self.dy - self.dy[y, 0])
        return distance


@dataclass(frozen=True)
class Brush:
    """Everything that each step of drawing one cell needs."""

    rng: np.random.Generator
    row: CodeMorphology
    plan: CellPlan
    frame: Frame
    um_per_px: float
    style: PatientStyle
    parameters: Parameters


def make_frame(plan: CellPlan, edge_px: float) -> Frame:
    """Lay the grid around ``plan``; the cover fades over ``edge_px`` at the outline."""
    reach = float(plan.outline.max()) + _MARGIN_PX + edge_px
    cx, cy = plan.center_xy
    x0, y0 = int(np.floor(cx - reach)), int(np.floor(cy - reach))
    size = int(np.ceil(2 * reach)) + 1
    axis = np.arange(size, dtype=np.float32)
    dx = np.broadcast_to((axis + np.float32(x0 - cx))[None, :], (size, size))
    dy = np.broadcast_to((axis + np.float32(y0 - cy))[:, None], (size, size))
    distance = np.hypot(dx, dy)
    closed = np.append(plan.outline, plan.outline[0])
    table = np.interp(np.arange(TABLE) * (N_ANGLES / TABLE), np.arange(N_ANGLES + 1), closed).astype(np.float32)
    index = (np.arctan2(dy, dx) * np.float32(TABLE / (2 * np.pi))).astype(np.int32) % TABLE
    border = table[index]
    cover = np.clip((border - distance) / max(1.0, edge_px) + 0.5, 0.0, 1.0)
    return Frame(dx, dy, distance, border, cover, x0, y0)
