"""The standard single-cell crop: one function for training, validation and inference.

A square of fixed physical size around the contour's centroid is cut from the image at full resolution and resampled
with an area filter to a fixed number of pixels. The background is kept, and the cell's mask has the same frame. Beyond
the image's edge, the image is mirrored about its last pixel, as often as it takes.

Invariant: inside its margin, a crop with a margin equals the crop without one, to the bit. Training stores crops with a
margin, so that rotation needs no padding; the network then sees the same center that it sees in prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    side_um: float = Field(default=28.8, gt=0, description="side of the square in micrometers; fits a 25 um monoblast")
    size_px: int = Field(default=96, gt=0, description="side of the resampled crop in pixels")
    seen_um: float | None = Field(
        default=None,
        gt=0,
        description="side of the square around the cell that is seen; beyond it, crops of every source are mirrored",
    )

    @property
    def um_per_px(self) -> float:
        """Scale of the resampled crop in micrometers per pixel."""
        return self.side_um / self.size_px


def cut_crop(
    image: ImageArray, contour_xy: ContourArray, um_per_px: float, spec: CropSpec, *, margin_px: int = 0
) -> Crop:
    """Cut the crop of one cell; see ``cut_crops``."""
    images, masks = cut_crops(image, [contour_xy], um_per_px, spec, margin_px=margin_px)
    return Crop(image=images[0], mask=masks[0])


def cut_crops(
    image: ImageArray,
    contours: Sequence[ContourArray],
    um_per_px: float,
    spec: CropSpec,
    *,
    margin_px: int = 0,
    masks: bool = True,
) -> tuple[ImageArray, MaskArray]:
    """Cut the crops of all cells in one image: images (n, s, s, 3) uint8 and masks (n, s, s) bool; n may be 0.

    ``image`` is RGB uint8 (h, w, 3) at ``um_per_px``; ``contours`` (n, 2) are in its pixels; s is ``spec.size_px`` plus
    ``margin_px`` crop pixels on each side. Without ``masks``, the second array is (0, s, s). Raises ScaleError for a
    scale that is not positive.

    Image and mask share only their frame. The image is averaged over areas, which a remap does not do; the mask follows
    the exact rule of ``geometry.rasterize``, for all cells at once.
    """
    if not um_per_px > 0:
        message = f"found a scale of {um_per_px} um per px, expected a positive number; set the scale with --um-per-px"
        raise ScaleError(message)
    size = spec.size_px + 2 * margin_px
    images = np.empty((len(contours), size, size, 3), dtype=np.uint8)
    if not contours:
        return images, np.empty((0, size, size), dtype=np.bool_)
    # A whole number of source pixels keeps the patch exact; the side is off by at most half a pixel (0.3% here).
    side_px = max(1, round(spec.side_um / um_per_px))
    frame = _Frame(side_px, spec.size_px, margin_px, math.ceil((spec.seen_um or 0.0) / um_per_px / 2))
    rings = geometry.Rings.of(contours)
    centers = geometry.centroids(rings)
    for index, center_xy in enumerate(centers):
        images[index] = _resize(_cut_patch(image, center_xy, frame), frame)
    if not masks:
        return images, np.empty((0, size, size), dtype=np.bool_)
    # Pixel centers are at integers in the image, in the patch and in the crop.
    patch_xy = rings.points_xy - centers[rings.owner] + (side_px - 1) / 2
    crop_xy = (patch_xy + 0.5) * (spec.size_px / side_px) - 0.5 + margin_px
    return images, geometry.rasterize_all(geometry.Rings(crop_xy, rings.offsets), size, size)


def without_margin(crops: ImageArray, masks: MaskArray, margin_px: int) -> tuple[ImageArray, MaskArray]:
    """Remove the margin of crops (n, s, s, 3) and masks (n, s, s): what the network sees."""
    inside = slice(margin_px, crops.shape[1] - margin_px)
    return np.ascontiguousarray(crops[:, inside, inside]), np.ascontiguousarray(masks[:, inside, inside])


@dataclass(frozen=True, slots=True)
class _Frame:
    """Geometry of a crop: ``side_px`` image pixels become ``size_px`` crop pixels, plus ``margin_px`` on each side.

    Farther than ``seen_px`` image pixels from the cell's center nothing of the image is seen; 0 sets no limit.
    """

    side_px: int
    size_px: int
    margin_px: int
    seen_px: int = 0

    @property
    def pad_px(self) -> int:
        """Whole image pixels needed beyond ``side_px`` on each side."""
        # Enlarging interpolates across the crop's edge: with or without a margin, it needs one extra pixel.
        return math.ceil(self.margin_px * self.side_px / self.size_px) + self.enlarges

    @property
    def enlarges(self) -> bool:
        """Whether one image pixel becomes more than one crop pixel."""
        return self.side_px < self.size_px


def _cut_patch(image: ImageArray, center_xy: NDArray[np.float64], frame: _Frame) -> ImageArray:
    """Cut the square of ``frame.side_px`` around a point plus ``frame.pad_px`` on each side, interpolated linearly.

    The whole patch has the same subpixel shift, so a 2 x 2 filter does it. Beyond the image, or beyond what is seen,
    it is mirrored. (``cv2.getRectSubPix`` takes three times as long; one pixel in 1,400 differs, by one gray level.)
    """
    height, width = image.shape[:2]
    left, top = (center_xy - (frame.side_px - 1) / 2).tolist()
    right_share, lower_share = left - math.floor(left), top - math.floor(top)
    side = frame.side_px + 2 * frame.pad_px
    x, y = math.floor(left) - frame.pad_px, math.floor(top) - frame.pad_px
    if x >= 0 and y >= 0 and x + side < width and y + side < height and not frame.seen_px:
        source = image[y : y + side + 1, x : x + side + 1]
    else:
        columns = _mirrored(np.arange(x, x + side + 1), *_seen(center_xy[0], frame.seen_px, width))
        rows = _mirrored(np.arange(y, y + side + 1), *_seen(center_xy[1], frame.seen_px, height))
        source = image[rows[:, None], columns]
    kernel = np.outer([1 - lower_share, lower_share], [1 - right_share, right_share])
    shifted = cv2.filter2D(source, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(shifted[:side, :side], dtype=np.uint8)


def _seen(center: float, seen_px: int, length: int) -> tuple[int, int]:
    """Return the first and the last pixel that is seen of one side of an image, around a center."""
    if not seen_px:
        return 0, length - 1
    # A center outside the image sees its nearest pixel at least.
    middle = min(max(round(center), 0), length - 1)
    return max(0, middle - seen_px), min(length - 1, middle + seen_px)


def _mirrored(positions: NDArray[np.intp], first: int, last: int) -> NDArray[np.intp]:
    """Return positions as those of the pixels from ``first`` to ``last``, mirrored about them as often as needed."""
    period = 2 * max(1, last - first)
    away = np.abs(positions - first) % period
    return np.asarray(first + np.minimum(away, period - away) * (last > first), dtype=np.intp)


def _resize(patch: ImageArray, frame: _Frame) -> ImageArray:
    """Resample a square patch (n, n, 3): area means to shrink it, linear interpolation to enlarge it."""
    size = frame.size_px + 2 * frame.margin_px
    if frame.side_px % frame.size_px == 0:
        return np.asarray(cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    # Same as OpenCV's area means for a fractional factor, to the bit in float32, but several times faster.
    weights = _linear_weights(frame) if frame.enlarges else _area_weights(frame)
    rows = weights @ patch.reshape(len(patch), -1).astype(np.float32)
    turned = cv2.transpose(rows.reshape(size, len(patch), 3))
    both = weights @ np.asarray(turned).reshape(len(patch), -1)
    return np.rint(np.asarray(cv2.transpose(both.reshape(size, size, 3)))).astype(np.uint8)


@lru_cache(maxsize=64)
def _area_weights(frame: _Frame) -> csr_array:
    """Weight of each patch pixel in the mean of each crop pixel, float32 (crop pixels, patch pixels).

    Positions are measured from the left edge of the crop without its margin, so the margin changes no other weight.
    """
    edges = np.linspace(0.0, frame.side_px, frame.size_px + 1)
    beyond = np.arange(1, frame.margin_px + 1) * (frame.side_px / frame.size_px)
    edges = np.concatenate([-beyond[::-1], edges, frame.side_px + beyond])
    pixels = np.arange(-frame.pad_px, frame.side_px + frame.pad_px)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return csr_array((np.clip(shared, 0.0, None) * (frame.size_px / frame.side_px)).astype(np.float32))


@lru_cache(maxsize=64)
def _linear_weights(frame: _Frame) -> csr_array:
    """Weight of each patch pixel in each pixel of an enlarged crop, float32 (crop pixels, patch pixels)."""
    places = (np.arange(-frame.margin_px, frame.size_px + frame.margin_px) + 0.5) * (
        frame.side_px / frame.size_px
    ) - 0.5
    pixels = np.arange(-frame.pad_px, frame.side_px + frame.pad_px)
    inside = np.clip(places, pixels[0], pixels[-1])
    return csr_array(np.clip(1.0 - np.abs(inside[:, None] - pixels), 0.0, None).astype(np.float32))
