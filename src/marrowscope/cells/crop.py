"""The standard single-cell crop: one function for training, validation and inference.

A square of fixed physical side around the contour's centroid is taken from the image at its own
resolution and resampled with an area filter to a fixed output size; the background stays, and the cell's
mask comes in the same frame. Beyond the image's edge the border pixels are repeated.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from marrowscope import geometry
from marrowscope.config import StageConfig
from marrowscope.errors import ScaleError
from marrowscope.records import ContourArray, Crop, ImageArray, MaskArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
    """Cut the crop of one cell, see ``cut_crops``."""
    images, masks = cut_crops(image, [contour_xy], um_per_px, spec)
    return Crop(image=images[0], mask=masks[0])


def cut_crops(
    image: ImageArray, contours: Sequence[ContourArray], um_per_px: float, spec: CropSpec, *, masks: bool = True
) -> tuple[ImageArray, MaskArray]:
    """Cut the crops of all cells of one image: images (n, s, s, 3) uint8 and masks (n, s, s) bool; n may be 0.

    ``image`` is RGB uint8 (h, w, 3) at ``um_per_px``; ``contours`` (n, 2) are in its pixels; s is ``spec.size_px``.
    Without ``masks`` the second array is (0, s, s). Raises ScaleError for a scale that is not positive.

    Image and mask share the frame and nothing else: the image is averaged over areas, which no remap does, and the mask
    follows the exact rule of ``geometry.rasterize``, for all cells at once.
    """
    if not um_per_px > 0:
        message = f"found a scale of {um_per_px} um per px, expected a positive number; set it with --um-per-px"
        raise ScaleError(message)
    size = spec.size_px
    images = np.empty((len(contours), size, size, 3), dtype=np.uint8)
    if not contours:
        return images, np.empty((0, size, size), dtype=np.bool_)
    # An integer patch side keeps the patch exact; the side is off by half a source pixel at most (0.3% here).
    side_px = max(1, round(spec.side_um / um_per_px))
    rings = geometry.Rings.of(contours)
    centers = geometry.centroids(rings)
    for index, center_xy in enumerate(centers):
        images[index] = _resize(_cut_patch(image, center_xy, side_px), size)
    if not masks:
        return images, np.empty((0, size, size), dtype=np.bool_)
    # Pixel centres are at integers in the image, in the patch and in the crop.
    patch_xy = rings.points_xy - centers[rings.owner] + (side_px - 1) / 2
    crop_xy = (patch_xy + 0.5) * (size / side_px) - 0.5
    return images, geometry.rasterize_all(geometry.Rings(crop_xy, rings.offsets), size, size)


def _cut_patch(image: ImageArray, center_xy: NDArray[np.float64], side_px: int) -> ImageArray:
    """Give the square of ``side_px`` around a point, linearly interpolated; the border pixels are repeated outside.

    One shift holds for the whole patch, so that it is a filter of two by two pixels. (``cv2.getRectSubPix`` gives the
    same within one grey level in a pixel of 1,400, and takes three times as long.)
    """
    height, width = image.shape[:2]
    left, top = (center_xy - (side_px - 1) / 2).tolist()
    x, y = math.floor(left), math.floor(top)
    if x >= 0 and y >= 0 and x + side_px < width and y + side_px < height:
        source = image[y : y + side_px + 1, x : x + side_px + 1]
    else:
        rows = np.clip(np.arange(y, y + side_px + 1), 0, height - 1)
        columns = np.clip(np.arange(x, x + side_px + 1), 0, width - 1)
        source = image[rows[:, None], columns]
    kernel = np.outer([1 - (top - y), top - y], [1 - (left - x), left - x])
    shifted = cv2.filter2D(source, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(shifted[:side_px, :side_px], dtype=np.uint8)


def _resize(patch: ImageArray, size_px: int) -> ImageArray:
    """Resample a square patch (n, n, 3) to ``size_px``: area means, or linear interpolation where it is enlarged."""
    side_px = len(patch)
    if side_px < size_px:
        return np.asarray(cv2.resize(patch, (size_px, size_px), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    if side_px % size_px == 0:
        return np.asarray(cv2.resize(patch, (size_px, size_px), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    # OpenCV's area means at a factor that is not whole, to the bit in float32, but several times as fast.
    weights = _area_weights(side_px, size_px)
    rows = weights @ patch.reshape(side_px, -1).astype(np.float32)
    turned = cv2.transpose(rows.reshape(size_px, side_px, 3))
    both = weights @ np.asarray(turned).reshape(side_px, -1)
    return np.rint(np.asarray(cv2.transpose(both.reshape(size_px, size_px, 3)))).astype(np.uint8)


@lru_cache(maxsize=64)
def _area_weights(side_px: int, size_px: int) -> csr_array:
    """Share of each of ``side_px`` pixels in the mean of each of ``size_px``, float32 (size_px, side_px)."""
    edges = np.linspace(0.0, side_px, size_px + 1)
    pixels = np.arange(side_px)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return csr_array((np.clip(shared, 0.0, None) * (size_px / side_px)).astype(np.float32))
