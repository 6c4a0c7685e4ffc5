"""Optics of centers and patients: dyes, slide, lens, lamp, camera, file.

``develop`` turns optical density into the camera's image: Beer-Lambert (I = I0 exp(-density)), lamp falloff, blur,
sharpening, noise, tone curve, 8 bits. Every center draws its own values; its patients vary slightly around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.parameters import number, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.records import ImageArray
    from marrowscope.simulate.parameters import Parameters
    from marrowscope.simulate.texture import Floats

_CREAM = np.array([1.0, 0.902, 0.808])
"""White of the slide in pack blood-control (255, 230, 206) as a share of full scale."""


@dataclass(frozen=True)
class CenterStyle:
    """What all patients of one center share."""

    name: str
    um_per_px: float
    white: Floats
    dyes: Mapping[str, Floats]
    erythrocyte: Floats
    blur_px: float
    sharpen: float
    noise: float
    falloff: float
    lamp_xy: tuple[float, float]
    saturation: float
    gamma: float
    jpeg_quality: int
    blood_like: bool
    background: float
    overlap_power: float
    pallor: float


@dataclass(frozen=True)
class PatientStyle:
    """A center's style with one patient's stain, and the variation of cells within it."""

    center: CenterStyle
    white: Floats
    dyes: Mapping[str, Floats]
    erythrocyte: Floats
    chromatin_factor: float
    blue_factor: float
    pink_factor: float
    diameter_factor: float
    chromatin_spread: float
    cytoplasm_spread: float
    parachromatin: float


def draw_center(rng: np.random.Generator, name: str, parameters: Parameters) -> CenterStyle:
    """Draw one center's style from optics.toml."""
    table = parameters.optics.center

    def draw(key: str) -> float:
        return float(rng.uniform(*span(table[key])))

    um_per_px = round(draw("um_per_px"), 4)
    red, warmth = draw("white_red"), draw("white_warmth")
    tint = rng.normal(1.0, 0.012, 3)
    white = red * (warmth * _CREAM + (1.0 - warmth) * np.array([0.985, 0.985, 0.985])) * tint
    strength, spread = draw("stain_strength"), number(table["dye_spread"])
    dyes = {
        key: (strength * np.array(vector) * np.exp(rng.normal(0, spread, 3))).astype(np.float32)
        for key, vector in parameters.optics.dye.items()
    }
    gray, thickness = draw("erythrocyte_gray"), draw("erythrocyte_strength")
    gray_vector = np.array(table["erythrocyte_gray_vector"])
    mixed = (1.0 - gray) * np.array(parameters.optics.dye["erythrocyte"]) + gray * gray_vector
    return CenterStyle(
        name=name,
        um_per_px=um_per_px,
        white=np.clip(white, 0, 255).astype(np.float32),
        dyes=dyes,
        erythrocyte=(thickness * mixed * np.exp(rng.normal(0, 0.6 * spread, 3))).astype(np.float32),
        blur_px=draw("blur_um") / um_per_px,
        sharpen=draw("sharpen"),
        noise=draw("noise"),
        falloff=draw("falloff"),
        lamp_xy=(float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.65))),
        saturation=draw("saturation"),
        gamma=draw("gamma"),
        jpeg_quality=int(draw("jpeg_quality")),
        blood_like=bool(rng.random() < number(table["blood_like"])),
        background=draw("background_stain"),
        overlap_power=float(rng.uniform(*span(parameters.optics.erythrocyte["overlap_power"]))),
        pallor=float(rng.uniform(*span(parameters.optics.erythrocyte["pallor"]))),
    )


def draw_patient_style(rng: np.random.Generator, center: CenterStyle, parameters: Parameters) -> PatientStyle:
    """Vary a center's style for one patient's slide."""
    table, cell = parameters.optics.patient, parameters.optics.cell
    strength = np.exp(rng.normal(0, table["stain_strength"]))
    dyes = {
        key: (strength * vector * np.exp(rng.normal(0, table["dye"], 3))).astype(np.float32)
        for key, vector in center.dyes.items()
    }
    return PatientStyle(
        center=center,
        white=np.clip(center.white * np.exp(rng.normal(0, table["white"])), 0, 255).astype(np.float32),
        dyes=dyes,
        erythrocyte=(center.erythrocyte * np.exp(rng.normal(0, 1.5 * table["dye"]))).astype(np.float32),
        chromatin_factor=float(np.exp(rng.normal(0, table["stain_strength"]))),
        blue_factor=float(np.exp(rng.normal(0, table["cytoplasm"]))),
        pink_factor=float(np.exp(rng.normal(0, table["cytoplasm"]))),
        diameter_factor=float(np.exp(rng.normal(0, table["diameter"]))),
        chromatin_spread=cell["chromatin"],
        cytoplasm_spread=cell["cytoplasm"],
        parachromatin=cell["parachromatin"],
    )


def develop(rng: np.random.Generator, density: Floats, style: PatientStyle) -> ImageArray:
    """Turn optical density (h, w, 3) into the camera's RGB uint8 image."""
    center = style.center
    height, width = density.shape[:2]
    light: Floats = np.asarray(cv2.exp(-density)) * (style.white / np.float32(255.0))
    y = (np.arange(height, dtype=np.float32) / height - center.lamp_xy[1]) ** 2
    x = (np.arange(width, dtype=np.float32) / width - center.lamp_xy[0]) ** 2
    light *= (1.0 - 2.0 * center.falloff * (y[:, None] + x[None, :]))[..., None]
    focus = center.blur_px * float(np.exp(rng.normal(0, 0.2)))
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), max(focus, 0.35)))
    if center.sharpen > 0.05:  # noqa: PLR2004 - below, not visible
        soft = cv2.GaussianBlur(light, (0, 0), 1.4 * max(focus, 0.8))
        light = np.asarray(cv2.addWeighted(light, 1.0 + center.sharpen, soft, -center.sharpen, 0.0))
    for channel in range(3):
        grain = texture.noise(rng, (height, width), 0.8)
        light[..., channel] += center.noise * grain * np.sqrt(np.clip(light[..., channel], 0.05, 1.0))
    mix = (1.0 - center.saturation) / 3.0 * np.ones((3, 3)) + center.saturation * np.eye(3)
    light = np.clip(cv2.transform(light, mix.astype(np.float32)), 0.0, 1.0)
    image: ImageArray = (cv2.pow(light, center.gamma) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
    return image
