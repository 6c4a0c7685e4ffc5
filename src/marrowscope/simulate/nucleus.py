"""The nucleus: a level set with the exact area, its chromatin and nucleoli."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.shapes import ANGLES, NUCLEI

if TYPE_CHECKING:
    from marrowscope.simulate.frame import Brush
    from marrowscope.simulate.texture import Floats

_BARE_NC = 0.96
"""At this ratio or above the nucleus fills the whole outline: bare and smudged nuclei."""
_NUCLEOLUS_DEPTH_UM = 0.9
_NUCLEUS_RIPPLE_UM = 0.13


@dataclass(frozen=True)
class Nucleus:
    """Soft mask (h, w, 0-1), depth below the nuclear membrane in um (negative outside), center (px from the cell's)."""

    mask: Floats
    depth_um: Floats
    center_px: tuple[float, float]


def shape_nucleus(brush: Brush) -> Nucleus:
    """Draw a nucleus whose area is exactly ``plan.nc`` times the cell's, whatever its shape.

    A function that is small inside the nucleus is thresholded at its ``nc`` quantile over the cell's pixels. Large
    nuclei increasingly follow the cell's own outline, small ones keep their shape.
    """
    rng, row, frame, nc = brush.rng, brush.row, brush.frame, brush.plan.nc
    radius = float(np.sqrt(np.mean(brush.plan.outline**2)))
    kinds = list(row.nucleus)
    weights = np.array([row.nucleus[kind] for kind in kinds])
    kind = str(rng.choice(kinds, p=weights / weights.sum()))
    size = float(np.sqrt(nc))
    shift = max(0.0, 1.0 - size) * rng.uniform(*row.eccentricity)
    direction = rng.uniform(0, 2 * np.pi)
    reach = float(np.interp(direction, ANGLES, brush.plan.outline)) / radius
    x, y = shift * reach * float(np.cos(direction)), shift * reach * float(np.sin(direction))
    value = NUCLEI[kind](rng, (frame.dx / radius - x, frame.dy / radius - y), size)
    value = value + (0.14 if kind == "smudge" else 0.05) * size * texture.noise(rng, value.shape, 0.28 * radius)
    ripple = _NUCLEUS_RIPPLE_UM / (radius * brush.um_per_px)
    value = value + ripple * texture.noise(rng, value.shape, 0.5 / brush.um_per_px)
    fraction = frame.distance / frame.border
    follow = nc**4
    value = (1.0 - follow) * value + follow * fraction * size
    value = value + 4.0 * np.clip(fraction - 0.95, 0.0, None)
    inside = frame.distance < frame.border
    depth: Floats = (float(np.quantile(value[inside], min(nc, 0.999))) - value) * radius
    mask: Floats = np.clip(depth / 1.2 + 0.5, 0.0, 1.0) * frame.cover
    if nc > _BARE_NC:
        mask, depth = frame.cover, frame.border - frame.distance
    depth_um = (depth * brush.um_per_px).astype(np.float32)
    return Nucleus(mask.astype(np.float32), depth_um, (x * radius, y * radius))


def stain_chromatin(brush: Brush, nucleus: Nucleus) -> Floats:
    """Return chromatin density relative to the nucleus's mean (h, w): clumps, membrane, thinner at the border."""
    rng, kind = brush.rng, brush.parameters.morphology.chromatin[brush.row.chromatin]
    scale = kind.scale_um * rng.uniform(0.8, 1.25) / brush.um_per_px / 2.0
    contrast = kind.contrast * rng.uniform(0.7, 1.35)
    grain = texture.clumps(rng, nucleus.mask.shape, scale, kind.gain, kind.ridge)
    depth = np.clip(nucleus.depth_um, 0, None)
    density: Floats = 1.0 + contrast * grain + 0.3 * rng.uniform(0.2, 1.2) * np.exp(-depth / 0.25)
    if kind.peripheral > 0:
        density += kind.peripheral * grain * np.exp(-depth)
    density *= 0.9 + 0.1 * np.clip(depth / 1.5, 0, 1)
    floored: Floats = np.maximum(density, np.float32(0.15))
    return floored


def place_nucleoli(brush: Brush, nucleus: Nucleus) -> Floats:
    """Cover (h, w, 0-1) of the nucleoli, away from the nuclear membrane."""
    rng, (least, most) = brush.rng, brush.row.nucleoli
    cover = np.zeros(nucleus.mask.shape, dtype=np.float32)
    deep = np.flatnonzero(nucleus.depth_um > _NUCLEOLUS_DEPTH_UM)
    if most and deep.size:
        for _ in range(int(rng.integers(least, most + 1))):
            spot = brush.frame.spot(int(deep[rng.integers(deep.size)]))
            radius = rng.uniform(0.55, 1.4) / brush.um_per_px * (0.75 + 0.5 / most)
            cover = np.maximum(cover, rng.uniform(0.25, 1.0) * np.clip((radius - spot) / 2.0 + 0.5, 0, 1))
    return cover
