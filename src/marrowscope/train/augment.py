"""Random changes of a crop that a smear, a stainer or a camera could have made.

Steps: one affine warp (mirror, rotation, size, shift) from the stored crop, whose margin holds real pixels, to the
network's crop; then stain and lamp in optical density, where dyes add up; then a slight blur. The invariant: the
result is a function of (pixels, configuration, seed, stage, epoch, row) alone, so a resumed training sees equal
batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from marrowscope.records import ImageArray
    from marrowscope.train.config import AugmentConfig

# Optical density of each 8-bit value over a white of 255; 0 is read as half a grey level, since its log has no end.
_DENSITY = -np.log(np.maximum(np.arange(256), 0.5) / 255).astype(np.float32)


def center_crop(image: ImageArray, size_px: int) -> ImageArray:
    """Give the central ``size_px`` square of a crop (s, s, 3) or mask (s, s): a view, not a copy."""
    start = (image.shape[0] - size_px) // 2
    return image[start : start + size_px, start : start + size_px]


def augment_crop(image: ImageArray, size_px: int, config: AugmentConfig, key: tuple[int, ...]) -> ImageArray:
    """Change one stored crop (s, s, 3) uint8 at random and give (size_px, size_px, 3) uint8.

    ``key`` is (seed, stage, epoch, row): equal keys give equal crops. Pixels beyond the stored crop are mirrored.
    """
    random = np.random.default_rng(key)
    # A fixed number of draws in a fixed order: switching one change off leaves the others as they were.
    flips, unit = random.random(2) < 0.5, random.uniform(-1, 1, 17)  # noqa: PLR2004  half of the crops
    blur_draw, blur_size = random.random(2)
    crop = _warp(image, size_px, config, flips, unit[:4])
    if config.stain or config.stain_mix or config.brightness:
        crop = _restain(crop, config, unit[4:])
    if blur_draw < config.blur_chance and config.blur_sigma_px > 0:
        crop = cv2.GaussianBlur(crop, (0, 0), max(0.1, config.blur_sigma_px * blur_size)).astype(np.uint8, copy=False)
    return crop


def _warp(
    image: ImageArray,
    size_px: int,
    config: AugmentConfig,
    flips: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    unit: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> ImageArray:
    """Mirror, turn, scale and shift about the crop's centre in one linear interpolation."""
    angle = np.deg2rad(config.rotation_deg * unit[0])
    scale = 1 + config.scale * unit[1]
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if config.flips:
        turn = turn @ np.diag(np.where(flips, -1.0, 1.0))
    stored_center, center = (image.shape[0] - 1) / 2, (size_px - 1) / 2
    offset = stored_center - turn @ np.full(2, center) + config.shift_px * unit[2:4]
    matrix = np.column_stack([turn, offset])
    warped = cv2.warpAffine(
        image,
        matrix,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return warped.astype(np.uint8, copy=False)


def _restain(
    image: ImageArray, config: AugmentConfig, unit: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> ImageArray:
    """Scale and mix the optical densities of the channels, and add a common one for the lamp."""
    mix = config.stain_mix * unit[:9].reshape(3, 3)
    np.fill_diagonal(mix, 1 + config.stain * unit[9:12])
    matrix = np.column_stack([mix, np.full(3, config.brightness * unit[12])]).astype(np.float32)
    density = cv2.transform(cv2.LUT(image, _DENSITY), matrix)
    return cv2.convertScaleAbs(cv2.exp(-np.maximum(density, 0)), alpha=255.0).astype(np.uint8, copy=False)
