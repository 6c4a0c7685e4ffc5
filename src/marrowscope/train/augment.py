"""Random augmentation of a crop, within what a smear, a stainer or a camera could have caused.

Steps: one affine warp (mirror, rotate, scale, shift) from the stored crop, whose margin has real pixels, to the
network's crop; then stain (another source's, then changes of it), lamp and uneven illumination in optical density,
where dyes add up; then a slight blur, the sensor's noise and JPEG compression. The cell's mask gets the same warp and
grows or shrinks as predicted contours do. The invariant: the result is a function of (pixels, configuration, seed,
stage, epoch, row) and of how often the epoch drew the row before, so a resumed training sees the same batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope.train.border import dilate_masks
from marrowscope.train.stain import StainChange, transform_density

if TYPE_CHECKING:
    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.config import AugmentConfig, Interpolation
    from marrowscope.train.stain import CropStains

Matrix = NDArray[np.float64]

_BEST_JPEG = 95
_HALF = 127
_ON_DENSITY = ("stain", "stain_mix", "density", "brightness", "cast", "illumination")
_KERNELS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}


def center_crop(image: ImageArray, size_px: int) -> ImageArray:
    """Return the central ``size_px`` square of a crop (s, s, 3) or mask (s, s): a view, not a copy."""
    start = (image.shape[0] - size_px) // 2
    return image[start : start + size_px, start : start + size_px]


def augment_crop(
    image: ImageArray,
    size_px: int,
    config: AugmentConfig,
    key: tuple[int, ...],
    mask: MaskArray | None = None,
    *,
    stains: tuple[CropStains, int] | None = None,
) -> tuple[ImageArray, MaskArray | None]:
    """Augment one stored crop (s, s, 3) uint8 at random; return (size_px, size_px, 3) uint8 and its mask, if given.

    ``key`` is (seed, stage, epoch, row) and, for a row drawn again in an epoch, the number of its earlier draws: equal
    keys give equal crops. A stored crop larger by the square root of 2 has every pixel that is needed. ``stains`` are
    those of the training crops, with this crop's row; without them, no stain is swapped.
    """
    random = np.random.default_rng(key)
    # A fixed number of draws in a fixed order: turning off one change leaves the others as they were.
    flips, unit = random.random(2) < 0.5, random.uniform(-1, 1, 17)  # noqa: PLR2004  half of the crops
    blur_draw, blur_size, slope, jpeg_draw, jpeg_size, growth = random.random(6)
    tint, swap_draw, swap_unit, noise_draw, noise_size = (
        random.uniform(-1, 1, 4), random.random(), random.random(3), random.random(), random.random()
    )  # fmt: skip
    matrix = _placement(image.shape[0], size_px, config, flips, unit[:4])
    crop = _warp(image, matrix, size_px, config.interpolation)
    swap = None if stains is None or swap_draw >= config.stain_swap else stains[0].draw(stains[1], swap_unit)
    if swap or any(
        (config.stain, config.stain_mix, config.density, config.brightness, config.cast, config.illumination)
    ):
        crop = transform_density(crop, _density_matrix(config, unit[4:], tint, swap), config.illumination * slope)
    if blur_draw < config.blur_chance and config.blur_sigma_px > 0:
        crop = cv2.GaussianBlur(crop, (0, 0), max(0.1, config.blur_sigma_px * blur_size)).astype(np.uint8, copy=False)
    if noise_draw < config.noise_chance and config.noise_levels > 0:
        crop = _with_noise(crop, config.noise_levels * noise_size, random)
    if jpeg_draw < config.jpeg_chance:
        crop = _recompress(crop, round(config.jpeg_quality + (_BEST_JPEG - config.jpeg_quality) * jpeg_size))
    if mask is None:
        return crop, None
    turned = _warp(np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255), matrix, size_px, "linear") > _HALF
    return crop, _grow(turned, config.contour_px * (2 * growth - 1))


def _placement(
    stored_px: int,
    size_px: int,
    config: AugmentConfig,
    flips: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    unit: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> Matrix:
    """Mirror, turn, scale and shift about the crop's center: (2, 3), from the network's crop to the stored one.

    The rotation is used as drawn; enlargement and shift are reduced together until the corners fit in the margin.
    """
    angle = np.deg2rad(config.rotation_deg * unit[0])
    change, shift = config.scale * unit[1], config.shift_px * unit[2:4]
    kept = _share_that_fits(stored_px, size_px, angle, change, shift)
    scale, shift = 1 + change * (kept if change > 0 else 1.0), kept * shift
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if config.flips:
        turn = turn @ np.diag(np.where(flips, -1.0, 1.0))
    stored_center, center = (stored_px - 1) / 2, (size_px - 1) / 2
    offset = stored_center - turn @ np.full(2, center) + shift
    return np.column_stack([turn, offset])


def _share_that_fits(
    stored_px: int, size_px: int, angle: float, change: float, shift: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    """Return the share (0-1) of an enlargement and a shift at which no corner leaves the stored crop.

    ``change`` is the relative change of size; a negative one makes room and is not reduced. A stored crop that is too
    small for the rotation alone (less than the square root of 2 larger) gives 0, and its corners are mirrored.
    """
    reach = (size_px - 1) / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)))  # of a corner, along either axis
    room = (stored_px - 1) / 2 - reach * (1 + min(change, 0.0))
    needed = reach * max(change, 0.0) + np.abs(shift).max()
    return 1.0 if needed <= room else max(0.0, float(room / needed))


def _warp(image: ImageArray, matrix: Matrix, size_px: int, interpolation: Interpolation) -> ImageArray:
    """Resample by ``matrix`` in one interpolation."""
    warped = cv2.warpAffine(
        image,
        matrix,
        (size_px, size_px),
        flags=_KERNELS[interpolation] | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return warped.astype(np.uint8, copy=False)


def _density_matrix(
    config: AugmentConfig,
    unit: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    tint: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    swap: StainChange | None,
) -> NDArray[np.float32]:
    """Return the map (3, 4) of optical densities: another source's stain, then scaled, mixed and shifted channels.

    Lamp and cast are added to every pixel, as light is. The crop was rotated at random before, so the gradient of the
    illumination, added with the map, always runs from left to right.
    """
    mix = config.stain_mix * unit[:9].reshape(3, 3)
    np.fill_diagonal(mix, 1 + config.stain * unit[9:12])
    mix = mix * (1 + config.density * tint[0])
    shift = np.full(3, config.brightness * unit[12]) + config.cast * tint[1:]
    if swap is not None:
        mix, shift = mix * swap.gain, mix @ swap.shift + shift
    return np.column_stack([mix, shift]).astype(np.float32)


def _with_noise(image: ImageArray, levels: float, random: np.random.Generator) -> ImageArray:
    """Add the noise of a sensor: Gaussian, independent in every pixel and channel, of that many gray levels."""
    noisy = image + np.float32(levels) * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _recompress(image: ImageArray, quality: int) -> ImageArray:
    """Compress the crop as a JPEG of ``quality`` and decode it; OpenCV's channels are blue, green, red."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    stored = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _grow(mask: MaskArray, pixels: float) -> MaskArray:
    """Grow (or shrink, if negative) a mask (s, s) by a number of pixels, rounded."""
    return np.asarray(dilate_masks(mask[None], pixels)[0], dtype=np.bool_)
