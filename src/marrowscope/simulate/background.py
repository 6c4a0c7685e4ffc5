"""Everything on the slide that is no nucleated cell: erythrocytes, platelets, fat holes, precipitate, plasma.

Erythrocytes combine as (a^p + b^p)^(1/p): thin cells that lie on each other add up (p near 1), thick merged ones show
hardly more than the darker (large p).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.parameters import number, span
from marrowscope.simulate.shapes import N_ANGLES, draw_outline

if TYPE_CHECKING:
    from marrowscope.records import FloatArray, MaskArray
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import Parameters


def paste(canvas: FloatArray, patch: FloatArray, x0: int, y0: int) -> None:
    """Add ``patch`` to ``canvas`` in place, cut to the canvas."""
    height, width = canvas.shape[:2]
    ax, ay = max(x0, 0), max(y0, 0)
    bx, by = min(x0 + patch.shape[1], width), min(y0 + patch.shape[0], height)
    if ax < bx and ay < by:
        canvas[ay:by, ax:bx] += patch[ay - y0 : by - y0, ax - x0 : bx - x0]


def _erythrocyte(rng: np.random.Generator, radius: float, outline: FloatArray, pallor: float, width: float,
                 center: tuple[float, float]) -> tuple[FloatArray, int, int]:
    """Thickness (h, w) of one erythrocyte, 1 at its thick ring, with the patch's top-left pixel."""
    reach = float(outline.max()) + 2
    x0, y0 = int(np.floor(center[0] - reach)), int(np.floor(center[1] - reach))
    size = int(np.ceil(2 * reach)) + 1
    dx = np.arange(size, dtype=np.float32)[None, :] + np.float32(x0 - center[0])
    dy = np.arange(size, dtype=np.float32)[:, None] + np.float32(y0 - center[1])
    distance = np.hypot(dx, dy)
    index = (np.arctan2(dy, dx) * np.float32(N_ANGLES / (2 * np.pi))).astype(np.int32) % N_ANGLES
    border = outline.astype(np.float32)[index]
    fraction = distance / border
    profile = 1.0 - pallor * np.exp(-((fraction / width) ** rng.choice([2.0, 3.0, 5.0])))
    profile *= 0.86 + 0.14 * np.clip(fraction, 0, 1) ** 2
    edge = np.clip((border - distance) / rng.uniform(1.0, 0.06 * radius + 1.2) + 0.3, 0.0, 1.0)
    return profile * edge, x0, y0


def _outline(rng: np.random.Generator, diameter: float, crenated: float, tear: float) -> FloatArray:
    outline = draw_outline(rng, diameter, rng.uniform(0.006, 0.045), 1.0 + abs(rng.normal(0, 0.13)))
    kind = rng.random()
    angle = np.arange(N_ANGLES) * (2 * np.pi / N_ANGLES)
    if kind < crenated:
        outline = outline * (1.0 + rng.uniform(0.02, 0.07) * np.cos(rng.integers(9, 16) * angle + rng.uniform(0, 6)))
    elif kind < crenated + tear:
        delta = np.angle(np.exp(1j * (angle - rng.uniform(0, 2 * np.pi))))
        outline = outline * (1.0 + rng.uniform(0.3, 0.8) * np.exp(-((delta / 0.3) ** 2)))
    return outline


def add_erythrocytes(
    rng: np.random.Generator, density: FloatArray, occupied: MaskArray, style: PatientStyle, parameters: Parameters
) -> None:
    """Add erythrocytes around the nucleated cells (``occupied``) to ``density`` in place."""
    table, center = parameters.optics.erythrocyte, style.center
    height, width = occupied.shape
    um_per_px = center.um_per_px
    coverage = rng.uniform(*span(table["coverage_blood_like" if center.blood_like else "coverage_marrow"]))
    mean_um = rng.uniform(*span(table["diameter_um"]))
    pallor = float(np.clip(center.pallor + rng.normal(0, 0.12), 0.0, 0.97))
    pallor_width = rng.uniform(0.3, 0.62)
    crenated, rouleaux = rng.uniform(*span(table["crenated"])), rng.uniform(*span(table["rouleaux"])) ** 2
    polychromatic = rng.uniform(*span(table["polychromatic"]))
    power = float(np.clip(center.overlap_power * np.exp(rng.normal(0, 0.15)), 1.0, 5.0))
    free = cv2.distanceTransform((~occupied).astype(np.uint8), cv2.DIST_L2, 3)
    each = np.pi * (mean_um / um_per_px) ** 2 / 4.0
    n_wanted = int(coverage * float((~occupied).sum()) / each)
    crowd = texture.noise(rng, (height // 8 + 1, width // 8 + 1), 24.0)
    thickness = np.zeros((height, width), dtype=np.float32)
    blue = np.zeros((height, width), dtype=np.float32)
    spacing = rng.uniform(0.35, 1.05)
    taken = np.zeros((height // 8 + 1, width // 8 + 1), dtype=np.uint8)
    last: tuple[float, float] | None = None
    direction, placed, tries = 0.0, 0, 0
    while placed < n_wanted and tries < 6 * n_wanted:
        tries += 1
        radius = 0.5 * mean_um / um_per_px * float(np.exp(rng.normal(0, number(table["spread"]))))
        if last is not None and rng.random() < rouleaux:
            step = radius * rng.uniform(0.5, 1.2)
            x, y = last[0] + step * np.cos(direction), last[1] + step * np.sin(direction)
            direction += rng.normal(0, 0.25)
            stacked = True
        else:
            x, y = rng.uniform(-radius, width + radius), rng.uniform(-radius, height + radius)
            direction, stacked = rng.uniform(0, 2 * np.pi), False
        ix, iy = int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))
        if free[iy, ix] < radius * rng.uniform(0.7, 1.05) and 0 <= x < width and 0 <= y < height:
            last = None
            continue
        if not stacked and (taken[iy // 8, ix // 8] or rng.random() > 0.5 + 0.35 * crowd[iy // 8, ix // 8]):
            continue
        outline = _outline(rng, 2 * radius, crenated, number(table["tear"]))
        own_pallor = float(np.clip(pallor + rng.normal(0, 0.15), 0.0, 0.97))
        patch, x0, y0 = _erythrocyte(rng, radius, outline, own_pallor, pallor_width, (x, y))
        patch *= np.float32(np.exp(rng.normal(0, number(table["thickness_spread"]))))
        if rng.random() < polychromatic:
            paste(blue, patch * np.float32(rng.uniform(0.08, 0.22)), x0, y0)
        paste(thickness, patch**power, x0, y0)
        cv2.circle(taken, (int(x) // 8, int(y) // 8), int(radius * 2 * spacing / 8), 1, -1)
        last, placed = (x, y), placed + 1
    thickness = np.power(thickness, 1.0 / power) * (1.0 + 0.03 * texture.noise(rng, (height, width), 0.4 / um_per_px))
    density += thickness[..., None] * style.erythrocyte
    density += blue[..., None] * style.dyes["blue"]


def add_plasma(rng: np.random.Generator, density: FloatArray, style: PatientStyle) -> None:
    """Add the faint stain between the cells."""
    height, width = density.shape[:2]
    um_per_px = style.center.um_per_px
    small = texture.noise(rng, (height // 4 + 1, width // 4 + 1), 2.5 / um_per_px)
    cloud = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    grain = texture.noise(rng, (height, width), 0.35 / um_per_px)
    level = style.center.background * float(np.exp(rng.normal(0, 0.3)))
    amount = np.clip(level * (1.0 + 0.35 * cloud + rng.uniform(0.05, 0.3) * grain), 0, None)
    blue_part = rng.uniform(0.1, 0.9)
    density += amount[..., None] * (blue_part * style.dyes["blue"] + (1.0 - blue_part) * style.dyes["pink"])


def _platelet(rng: np.random.Generator, density: FloatArray, style: PatientStyle, x: float, y: float) -> None:
    um_per_px = style.center.um_per_px
    diameter = float(np.clip(np.exp(rng.normal(np.log(2.6), 0.25)), 1.5, 5.0)) / um_per_px
    outline = draw_outline(rng, diameter, rng.uniform(0.05, 0.16), rng.uniform(1.0, 1.6))
    patch, x0, y0 = _erythrocyte(rng, diameter / 2, outline, 0.0, 1.0, (x, y))
    grain = np.clip(1.0 + 0.5 * texture.noise(rng, patch.shape, 0.25 / um_per_px), 0, None)
    core = patch**2 * grain
    shade = rng.uniform(0.06, 0.3)
    layer = (
        (shade * patch)[..., None] * style.dyes["blue"]
        + (0.1 * patch)[..., None] * style.dyes["pink"]
        + (rng.uniform(0.1, 0.45) * core)[..., None] * style.dyes["azurophil"]
    )
    paste(density, layer, x0, y0)


def add_platelets(rng: np.random.Generator, density: FloatArray, style: PatientStyle, parameters: Parameters) -> None:
    """Add single platelets and now and then a clump."""
    height, width = density.shape[:2]
    for _ in range(int(rng.integers(*(int(v) for v in span(parameters.optics.field["platelets"]))))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        n = int(rng.integers(4, 16)) if rng.random() < 0.06 else 1  # noqa: PLR2004 - clumps are rare
        for _ in range(n):
            spread = 1.4 * np.sqrt(n - 1) / style.center.um_per_px
            _platelet(rng, density, style, x + rng.normal(0, spread + 1e-6), y + rng.normal(0, spread + 1e-6))


def add_debris(rng: np.random.Generator, density: FloatArray, style: PatientStyle, parameters: Parameters) -> None:
    """Add stain precipitate: specks and small clusters of them, blue-black to red-violet."""
    height, width = density.shape[:2]
    um_per_px = style.center.um_per_px
    place = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.integers(*(int(v) for v in span(parameters.optics.field["debris"]))))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        n = 1 if rng.random() < 0.75 else int(rng.integers(5, 40))  # noqa: PLR2004 - one in four is a cluster
        spread = 0.01 if n == 1 else rng.uniform(0.6, 2.2) / um_per_px
        xs = np.clip(x + rng.normal(0, spread, n), 0, width - 1).astype(int)
        ys = np.clip(y + rng.normal(0, spread, n), 0, height - 1).astype(int)
        np.add.at(place, (ys, xs), rng.uniform(0.3, 1.6, n).astype(np.float32))
    if not place.any():
        return
    speck = cv2.GaussianBlur(place, (0, 0), rng.uniform(0.12, 0.3) / um_per_px)
    amount = speck / max(float(speck.max()), 1e-6) * rng.uniform(0.4, 1.2)
    density += amount[..., None] * style.dyes["azurophil" if rng.random() < 0.6 else "basophil"]  # noqa: PLR2004


def add_fat_holes(rng: np.random.Generator, density: FloatArray, style: PatientStyle, parameters: Parameters) -> None:
    """Clear round holes left by fat, over whatever lies there except nucleated cells drawn later."""
    if style.center.blood_like:
        return
    height, width = density.shape[:2]
    for _ in range(int(rng.integers(*(int(v) for v in span(parameters.optics.field["fat_holes_marrow"]))))):
        diameter = float(np.exp(rng.normal(np.log(6.0), 0.7))) / style.center.um_per_px
        outline = draw_outline(rng, diameter, 0.02, rng.uniform(1.0, 1.2))
        patch, x0, y0 = _erythrocyte(
            rng, diameter / 2, outline, 0.0, 1.0, (rng.uniform(0, width), rng.uniform(0, height))
        )
        hole = np.zeros((height, width), dtype=np.float32)
        paste(hole, np.clip(patch * 1.2, 0, 1), x0, y0)
        density *= (1.0 - 0.95 * hole)[..., None]
