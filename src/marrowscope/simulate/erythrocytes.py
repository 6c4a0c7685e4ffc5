"""Erythrocytes: single, stacked and crowded, around the nucleated cells.

They combine as (a^p + b^p)^(1/p): thin cells lying on each other add up (p near 1), thick merged ones are hardly darker
than the darker of them (large p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.canvas import Slide, paste
from marrowscope.simulate.parameters import number, span
from marrowscope.simulate.shapes import ANGLES, N_ANGLES, draw_outline

if TYPE_CHECKING:
    from marrowscope.records import MaskArray
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import Parameters
    from marrowscope.simulate.texture import Floats

_COARSE = 8
_TRIES_PER_CELL = 6


@dataclass(frozen=True)
class Smear:
    """Appearance and arrangement of the erythrocytes of one field."""

    coverage: float
    radius_px: float
    pallor: float
    pallor_width: float
    crenated: float
    rouleaux: float
    polychromatic: float
    power: float
    spacing: float


def _draw_smear(rng: np.random.Generator, style: PatientStyle, parameters: Parameters) -> Smear:
    """Draw one field's erythrocytes around the center's typical values."""
    table, center = parameters.optics.erythrocyte, style.center
    return Smear(
        coverage=rng.uniform(*span(table["coverage_blood_like" if center.blood_like else "coverage_marrow"])),
        radius_px=0.5 * rng.uniform(*span(table["diameter_um"])) / center.um_per_px,
        pallor=float(np.clip(center.pallor + rng.normal(0, 0.12), 0.0, 0.97)),
        pallor_width=rng.uniform(0.3, 0.62),
        crenated=rng.uniform(*span(table["crenated"])),
        rouleaux=rng.uniform(*span(table["rouleaux"])) ** 2,
        polychromatic=rng.uniform(*span(table["polychromatic"])),
        power=float(np.clip(center.overlap_power * np.exp(rng.normal(0, 0.15)), 1.0, 5.0)),
        spacing=rng.uniform(*span(table["spacing"])),
    )


def disc_patch(
    rng: np.random.Generator, outline: Floats, center: tuple[float, float], pallor: float = 0.0, width: float = 1.0
) -> tuple[Floats, int, int]:
    """Thickness (h, w) of one flat cell, 1 at its thick ring, with the patch's top-left pixel."""
    reach = float(outline.max()) + 2
    x0, y0 = int(np.floor(center[0] - reach)), int(np.floor(center[1] - reach))
    size = int(np.ceil(2 * reach)) + 1
    dx = np.arange(size, dtype=np.float32)[None, :] + np.float32(x0 - center[0])
    dy = np.arange(size, dtype=np.float32)[:, None] + np.float32(y0 - center[1])
    distance = np.hypot(dx, dy)
    index = (np.arctan2(dy, dx) * np.float32(N_ANGLES / (2 * np.pi))).astype(np.int32) % N_ANGLES
    border = outline.astype(np.float32)[index]
    fraction = distance / border
    profile = 1.0 - pallor * np.exp(-((fraction / width) ** float(rng.choice([2.0, 3.0, 5.0]))))
    profile *= 0.86 + 0.14 * np.clip(fraction, 0, 1) ** 2
    edge = np.clip((border - distance) / float(rng.uniform(1.0, 0.06 * reach + 1.2)) + 0.3, 0.0, 1.0)
    return (profile * edge).astype(np.float32), x0, y0


def _outline(rng: np.random.Generator, diameter: float, crenated: float, tear: float) -> Floats:
    """Draw a round to oval outline; some crenated, some tear-shaped."""
    outline = draw_outline(rng, diameter, rng.uniform(0.006, 0.045), 1.0 + abs(rng.normal(0, 0.13)))
    kind = rng.random()
    if kind < crenated:
        outline = outline * (1.0 + rng.uniform(0.02, 0.07) * np.cos(rng.integers(9, 16) * ANGLES + rng.uniform(0, 6)))
    elif kind < crenated + tear:
        delta = np.angle(np.exp(1j * (ANGLES - rng.uniform(0, 2 * np.pi))))
        outline = outline * (1.0 + rng.uniform(0.3, 0.8) * np.exp(-((delta / 0.3) ** 2)))
    return outline


def _places(rng: np.random.Generator, occupied: MaskArray, smear: Smear) -> list[tuple[float, float, float]]:
    """Choose (x, y, radius px): in crowds, some in stacks, mostly beside the nucleated cells."""
    height, width = occupied.shape
    small = cv2.resize(occupied.astype(np.uint8), (width // _COARSE + 1, height // _COARSE + 1))
    distance = cv2.distanceTransform((small == 0).astype(np.uint8), cv2.DIST_L2, 3)
    free = _COARSE * np.minimum(distance, max(height, width))  # without any cell the distance is infinite
    crowd = 0.5 + 0.35 * texture.noise(rng, free.shape, 24.0)
    n_wanted = int(smear.coverage * float((small == 0).mean()) * height * width / (np.pi * smear.radius_px**2))
    taken = np.zeros(free.shape, dtype=np.uint8)
    places: list[tuple[float, float, float]] = []
    last: tuple[float, float] | None = None
    direction, tries = 0.0, 0
    while len(places) < n_wanted and tries < _TRIES_PER_CELL * n_wanted:
        tries += 1
        radius = smear.radius_px * float(np.exp(rng.normal(0, 0.05)))
        stacked = last is not None and rng.random() < smear.rouleaux
        if stacked and last is not None:
            step = radius * rng.uniform(0.5, 1.2)
            x, y = last[0] + step * np.cos(direction), last[1] + step * np.sin(direction)
            direction += rng.normal(0, 0.25)
        else:
            x, y = rng.uniform(-radius, width + radius), rng.uniform(-radius, height + radius)
            direction = rng.uniform(0, 2 * np.pi)
        column, row = int(np.clip(x, 0, width - 1)) // _COARSE, int(np.clip(y, 0, height - 1)) // _COARSE
        inside = 0 <= x < width and 0 <= y < height
        if inside and free[row, column] < radius * rng.uniform(0.7, 1.05):
            last = None
            continue
        if not stacked and (taken[row, column] or rng.random() > crowd[row, column]):
            continue
        cv2.circle(taken, (int(x) // _COARSE, int(y) // _COARSE), int(radius * 2 * smear.spacing / _COARSE), 1, -1)
        last = (x, y)
        places.append((x, y, radius))
    return places


def add_erythrocytes(
    rng: np.random.Generator, slide: Slide, occupied: MaskArray, style: PatientStyle, parameters: Parameters
) -> None:
    """Add one field's erythrocytes to ``slide``; ``occupied`` (h, w) marks the nucleated cells."""
    table = parameters.optics.erythrocyte
    smear = _draw_smear(rng, style, parameters)
    thickness = slide.layers["erythrocyte"]
    for x, y, radius in _places(rng, occupied, smear):
        outline = _outline(rng, 2 * radius, smear.crenated, number(table["tear"]))
        pallor = float(np.clip(smear.pallor + rng.normal(0, 0.15), 0.0, 0.97))
        patch, x0, y0 = disc_patch(rng, outline, (x, y), pallor, smear.pallor_width)
        patch *= np.float32(np.exp(rng.normal(0, number(table["thickness_spread"]))))
        if rng.random() < smear.polychromatic:
            paste(slide.layers["blue"], patch * np.float32(rng.uniform(0.06, 0.2)), x0, y0)
        paste(thickness, patch**smear.power, x0, y0)
    cv2.pow(thickness, 1.0 / smear.power, dst=thickness)
    grain = texture.noise(rng, (slide.height_px, slide.width_px), 0.4 / style.center.um_per_px)
    thickness += 0.03 * thickness * grain
