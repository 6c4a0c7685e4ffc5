"""Slides that the tests write themselves: simulated smears, stitched from fields, as pyramidal TIFF."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate import draw_center, draw_patient_style, load_parameters, render_field
from marrowscope.slides.large_image import shrink

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray
    from marrowscope.simulate.optics import PatientStyle

CODES = ("N", "N1", "N3", "N5", "E", "M2", "R2", "R3", "L")


def scanner(seed: int, um_per_px: float) -> PatientStyle:
    """One patient's stain seen by a scanner: even light, a lens that blurs by 0.2 um."""
    rng = np.random.default_rng(seed)
    parameters = load_parameters()
    center = draw_center(rng, "S1", parameters)
    center = replace(center, um_per_px=um_per_px, blur_px=0.2 / um_per_px, falloff=0.0)
    return draw_patient_style(rng, center, parameters)


def smear(seed: int, style: PatientStyle, n_cells: int, width_px: int, height_px: int) -> ImageArray:
    """One simulated field of a well spread smear."""
    rng = np.random.default_rng(seed)
    codes = list(rng.choice(CODES, n_cells))
    return render_field(rng, codes, style, width_px=width_px, height_px=height_px).image


def write_pyramid(path: Path, image: ImageArray, um_per_px: float | None, tile_px: int = 256) -> None:
    """Write a tiled TIFF with levels of half the size each, as scanners' software exports it."""
    import tifffile

    resolution = None if um_per_px is None else (10_000 / um_per_px, 10_000 / um_per_px)
    with tifffile.TiffWriter(path) as writer:
        level, first = image, True
        while first or min(level.shape[:2]) >= tile_px:
            writer.write(
                level,
                tile=(tile_px, tile_px),
                photometric="rgb",
                compression="zlib",
                subfiletype=0 if first else 1,
                metadata=None,
                resolution=resolution if first else None,
                resolutionunit="CENTIMETER" if first and resolution else None,
            )
            level, first = shrink(level, 2), False


def stack(layers: list[ImageArray]) -> ImageArray:
    """Lay fields on each other: their densities add up, as in a thick smear or a particle."""
    white = np.quantile(layers[0], 0.95, axis=(0, 1))
    light = np.prod([np.minimum(layer / white, 1.0) for layer in layers], axis=0)
    return np.asarray(np.clip(light * white, 0, 255), dtype=np.uint8)
