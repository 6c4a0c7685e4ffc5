"""The standard single-cell crop: one function for training, validation and inference.

A square of fixed physical side around the contour's centroid is taken from the image at its own
resolution and resampled with an area filter to a fixed output size; the background stays, and the cell's
mask comes in the same frame. Beyond the image's edge the border pixels are repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from marrowscope import geometry
from marrowscope.config import StageConfig
from marrowscope.errors import ScaleError
from marrowscope.records import ContourArray, Crop, ImageArray, MaskArray

if TYPE_CHECKING:
    from collections.abc import Sequence


class CropSpec(StageConfig):
    """The crop's physical side and its size in pixels; their ratio is the scale the network sees."""

    side_um: float = Field(default=28.8, gt=0, description="side of the square in micrometres; holds a 25 um monoblast")
    size_px: int = Field(default=96, gt=0, description="side of the resampled crop in pixels")

    @property
    def um_per_px(self) -> float:
        """Scale of the resampled crop in micrometres per pixel."""
        return self.side_um / self.size_px

    def with_margin(self, size_px: int) -> CropSpec:
        """Give a larger crop of the same scale, so that augmentation can rotate without inventing a border."""
        return CropSpec(side_um=self.um_per_px * size_px, size_px=size_px)


def cut_crop(image: ImageArray, contour_xy: ContourArray, um_per_px: float, spec: CropSpec) -> Crop:
    """Cut the crop of one cell.

    ``image`` is RGB uint8 (h, w, 3) at ``um_per_px``; ``contour_xy`` (n, 2) in its pixels. Gives an image
    (s, s, 3) uint8 and a mask (s, s) bool with s = ``spec.size_px``. Raises ScaleError for a scale that is not
    positive.
    """
    if not um_per_px > 0:
        message = f"found a scale of {um_per_px} um per px, expected a positive number; set it with --um-per-px"
        raise ScaleError(message)
    center_xy = geometry.centroid(contour_xy)
    side_px = max(1, round(spec.side_um / um_per_px))
    # An integer patch side keeps the patch exact; the side is off by half a source pixel at most (0.3% here).
    patch = cv2.getRectSubPix(image, (side_px, side_px), center_xy)
    interpolation = cv2.INTER_AREA if side_px >= spec.size_px else cv2.INTER_LINEAR
    resampled = cv2.resize(patch, (spec.size_px, spec.size_px), interpolation=interpolation)
    mask = _mask_in_crop(contour_xy, center_xy, side_px, spec.size_px)
    return Crop(image=np.asarray(resampled, dtype=np.uint8), mask=mask)


def cut_crops(
    image: ImageArray, contours: Sequence[ContourArray], um_per_px: float, spec: CropSpec
) -> tuple[ImageArray, MaskArray]:
    """Cut the crops of all cells of one image: images (n, s, s, 3) uint8 and masks (n, s, s) bool; n may be 0."""
    size = spec.size_px
    images = np.empty((len(contours), size, size, 3), dtype=np.uint8)
    masks = np.empty((len(contours), size, size), dtype=np.bool_)
    for index, contour in enumerate(contours):
        crop = cut_crop(image, contour, um_per_px, spec)
        images[index], masks[index] = crop.image, crop.mask
    return images, masks


def _mask_in_crop(contour_xy: ContourArray, center_xy: tuple[float, float], side_px: int, size_px: int) -> MaskArray:
    """Rasterise the contour in the crop's frame; pixel centres at integers in both frames."""
    scale = size_px / side_px
    patch_xy = contour_xy - np.asarray(center_xy) + (side_px - 1) / 2
    crop_xy = (patch_xy + 0.5) * scale - 0.5
    return geometry.rasterize(crop_xy, size_px, size_px)
