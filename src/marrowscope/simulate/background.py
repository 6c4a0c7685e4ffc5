"""Everything on the slide besides nucleated cells and erythrocytes: plasma, platelets, fat, precipitate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.canvas import Slide, paste
from marrowscope.simulate.erythrocytes import disc_patch
from marrowscope.simulate.parameters import span
from marrowscope.simulate.shapes import draw_outline

if TYPE_CHECKING:
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import Parameters
    from marrowscope.simulate.texture import Floats

_CLUMP_SHARE = 0.06
_CLUSTER_SHARE = 0.25


def _count(rng: np.random.Generator, parameters: Parameters, key: str) -> int:
    low, high = span(parameters.optics.field[key])
    return int(rng.integers(int(low), int(high) + 1))


def add_plasma(rng: np.random.Generator, slide: Slide, style: PatientStyle) -> None:
    """Add the faint stain between the cells: a drift across the field and a fine grain."""
    shape = (slide.height_px, slide.width_px)
    um_per_px = style.center.um_per_px
    small = texture.noise(rng, (shape[0] // 4 + 1, shape[1] // 4 + 1), 2.5 / um_per_px)
    cloud = cv2.resize(small, (slide.width_px, slide.height_px), interpolation=cv2.INTER_LINEAR)
    level = style.center.background * float(np.exp(rng.normal(0, 0.3)))
    amount = (0.35 * level) * cloud + (level * rng.uniform(0.05, 0.3)) * texture.noise(rng, shape, 0.35 / um_per_px)
    amount = np.maximum(amount + level, 0.0)
    blue_part = rng.uniform(0.1, 0.9)
    slide.layers["blue"] += np.float32(blue_part) * amount
    slide.layers["pink"] += np.float32(1.0 - blue_part) * amount


def _platelet(rng: np.random.Generator, slide: Slide, um_per_px: float, center: tuple[float, float]) -> None:
    diameter = float(np.clip(np.exp(rng.normal(np.log(2.6), 0.25)), 1.5, 5.0)) / um_per_px
    outline = draw_outline(rng, diameter, rng.uniform(0.05, 0.16), rng.uniform(1.0, 1.6))
    patch, x0, y0 = disc_patch(rng, outline, center)
    core = patch**2 * np.clip(1.0 + 0.5 * texture.noise(rng, patch.shape, 0.25 / um_per_px), 0, None)
    paste(slide.layers["blue"], np.float32(rng.uniform(0.06, 0.3)) * patch, x0, y0)
    paste(slide.layers["pink"], np.float32(0.1) * patch, x0, y0)
    paste(slide.layers["azurophil"], np.float32(rng.uniform(0.1, 0.45)) * core, x0, y0)


def add_platelets(rng: np.random.Generator, slide: Slide, style: PatientStyle, parameters: Parameters) -> None:
    """Add single platelets (2-5 um) and an occasional clump."""
    um_per_px = style.center.um_per_px
    for _ in range(_count(rng, parameters, "platelets")):
        x, y = rng.uniform(0, slide.width_px), rng.uniform(0, slide.height_px)
        n = int(rng.integers(4, 16)) if rng.random() < _CLUMP_SHARE else 1
        spread = 1.4 * np.sqrt(n - 1) / um_per_px + 1e-6
        for _ in range(n):
            _platelet(rng, slide, um_per_px, (x + rng.normal(0, spread), y + rng.normal(0, spread)))


def add_fat_holes(rng: np.random.Generator, slide: Slide, style: PatientStyle, parameters: Parameters) -> None:
    """Clear round holes left by fat in marrow-like fields; cells drawn later cover them."""
    if style.center.blood_like:
        return
    for _ in range(_count(rng, parameters, "fat_holes_marrow")):
        diameter = float(np.exp(rng.normal(np.log(6.0), 0.7))) / style.center.um_per_px
        center = (rng.uniform(0, slide.width_px), rng.uniform(0, slide.height_px))
        patch, x0, y0 = disc_patch(rng, draw_outline(rng, diameter, 0.02, rng.uniform(1.0, 1.2)), center)
        slide.clear(np.clip(1.2 * patch, 0, 1), x0, y0, 0.95)


def add_precipitate(rng: np.random.Generator, density: Floats, style: PatientStyle, parameters: Parameters) -> None:
    """Add stain precipitate on top of everything: single specks and clusters, blue-black to red-violet."""
    height, width = density.shape[:2]
    um_per_px = style.center.um_per_px
    half = int(np.ceil(6.0 / um_per_px))
    for _ in range(_count(rng, parameters, "debris")):
        cluster = rng.random() < _CLUSTER_SHARE
        n = int(rng.integers(5, 40)) if cluster else 1
        spread = rng.uniform(0.6, 2.2) / um_per_px if cluster else 0.01
        places = np.clip(half + rng.normal(0, spread, (n, 2)), 0, 2 * half).astype(int)
        patch = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
        np.add.at(patch, (places[:, 0], places[:, 1]), rng.uniform(0.3, 1.6, n).astype(np.float32))
        patch = np.asarray(cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.12, 0.3) / um_per_px), dtype=np.float32)
        patch *= rng.uniform(0.3, 1.2) / max(float(patch.max()), 1e-6)
        dye = style.dyes["azurophil" if rng.random() < 0.6 else "basophil"]  # noqa: PLR2004 - more red than black
        x0, y0 = int(rng.uniform(0, width)) - half, int(rng.uniform(0, height)) - half
        paste(density, patch[..., None] * dye, x0, y0)
