"""The cytoplasm: two dyes, grain, Golgi zone, rim, vacuoles, Auer rods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate import texture

if TYPE_CHECKING:
    from marrowscope.simulate.frame import Brush
    from marrowscope.simulate.nucleus import Nucleus
    from marrowscope.simulate.texture import Floats

_VACUOLE_RADIUS_UM = 0.45


def stain_cytoplasm(brush: Brush, nucleus: Nucleus) -> tuple[Floats, Floats]:
    """Return the amounts of blue and pink dye (h, w)."""
    rng, row, frame, style = brush.rng, brush.row, brush.frame, brush.style
    blue = rng.uniform(*row.blue) * style.blue_factor * math.exp(rng.normal(0, style.cytoplasm_spread))
    pink = rng.uniform(*row.pink) * style.pink_factor * math.exp(rng.normal(0, style.cytoplasm_spread))
    grain = texture.noise(rng, frame.cover.shape, 0.3 / brush.um_per_px)
    cloud = texture.noise(rng, frame.cover.shape, 1.6 / brush.um_per_px)
    amount = 1.0 + rng.uniform(0.03, 0.14) * grain + rng.uniform(0.06, 0.2) * cloud
    inner_um = np.clip(frame.border - frame.distance, 0, None) * brush.um_per_px
    amount *= 1.0 + rng.uniform(*row.rim) * np.exp(-inner_um / rng.uniform(0.4, 1.2))
    amount *= np.clip(0.55 + inner_um / rng.uniform(0.8, 2.5), 0, 1)
    hof = rng.uniform(*row.hof)
    if hof > 0:
        amount = amount * (1.0 - hof * _golgi_zone(brush, nucleus))
    amount = np.clip(amount, 0.05, None)
    return (blue * amount).astype(np.float32), (pink * amount).astype(np.float32)


def _golgi_zone(brush: Brush, nucleus: Nucleus) -> Floats:
    """Pale zone (h, w, 0-1) beside the nucleus, on the side where the cytoplasm is widest."""
    rng, frame, (x, y) = brush.rng, brush.frame, nucleus.center_px
    radius = float(frame.border.mean())
    turn = np.arctan2(-y, -x) if np.hypot(x, y) > 1.0 else rng.uniform(0, 2 * np.pi)
    turn += rng.normal(0, 0.5)
    hx, hy = x + 0.62 * radius * float(np.cos(turn)), y + 0.62 * radius * float(np.sin(turn))
    zone: Floats = np.exp(-((frame.dx - hx) ** 2 + (frame.dy - hy) ** 2) / (2 * (0.24 * radius) ** 2))
    return zone


def place_vacuoles(brush: Brush, nucleus: Nucleus) -> Floats:
    """Cover (h, w, 0-1) of clear vacuoles in the cytoplasm."""
    rng, frame, (share, least, most) = brush.rng, brush.frame, brush.row.vacuoles
    holes = np.zeros(frame.cover.shape, dtype=np.float32)
    if rng.random() >= share:
        return holes
    away = frame.border - frame.distance > 0.5 / brush.um_per_px
    candidates = np.flatnonzero(away & (nucleus.mask < 0.4))  # noqa: PLR2004 - outside the nucleus
    if not candidates.size:
        return holes
    for _ in range(int(rng.integers(least, most + 1))):
        spot = frame.spot(int(candidates[rng.integers(candidates.size)]))
        radius = _VACUOLE_RADIUS_UM * float(np.exp(rng.normal(0, 0.4))) / brush.um_per_px
        holes = np.maximum(holes, np.clip(radius - spot + 0.5, 0, 1) * rng.uniform(0.5, 0.95))
    return holes * frame.cover


def place_auer_rods(brush: Brush, nucleus: Nucleus) -> Floats:
    """Amount (h, w, 0-1) of one to three Auer rods: thin straight needles in the cytoplasm."""
    rng, frame = brush.rng, brush.frame
    height, width = frame.cover.shape
    rods: Floats = np.zeros((height, width), dtype=np.float32)
    candidates = np.flatnonzero((frame.cover > 0.9) & (nucleus.mask < 0.2))  # noqa: PLR2004 - cytoplasm
    if not candidates.size:
        return rods
    for _ in range(int(rng.integers(1, 4))):
        y, x = divmod(int(candidates[rng.integers(candidates.size)]), width)
        angle = rng.uniform(0, math.pi)
        dx, dy = frame.dx - frame.dx[0, x], frame.dy - frame.dy[y, 0]
        along = np.abs(dx * math.cos(angle) + dy * math.sin(angle)) - rng.uniform(0.8, 2.2) / brush.um_per_px
        across = np.abs(dy * math.cos(angle) - dx * math.sin(angle)) - rng.uniform(0.12, 0.25) / brush.um_per_px
        rods = np.maximum(rods, np.clip(0.5 - np.maximum(along, across), 0, 1))
    return rods * frame.cover
