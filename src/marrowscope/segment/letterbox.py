"""Bring a field to the network's scale and grid, and map points back to the field.

The field is resampled to the network's um/px and placed in the top left of a canvas whose sides are multiples of
the stride. The transform is exact: pixel centers are whole numbers in both frames, so resampling by a factor
f maps x to (x + 0.5) f - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.errors import ScaleError

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.segment.config import SegmenterConfig


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The transform of one field: scale factors in x and y, and its width and height on the canvas."""

    factor_x: float
    factor_y: float
    width_px: int
    height_px: int

    def to_canvas(self, points_xy: ContourArray) -> ContourArray:
        """Map field pixels (n, 2) to canvas pixels."""
        return (points_xy + 0.5) * [self.factor_x, self.factor_y] - 0.5

    def to_field(self, points_xy: ContourArray) -> ContourArray:
        """Map canvas pixels (n, 2) to field pixels."""
        return (points_xy + 0.5) / [self.factor_x, self.factor_y] - 0.5


def letterbox(image: ImageArray, um_per_px: float, config: SegmenterConfig) -> tuple[ImageArray, Letterbox]:
    """Return the network's input (1, h, w, 3), RGB uint8, and the transform that produced it.

    Raises ScaleError for a scale that is not positive, or so coarse that the image would be enlarged too much.
    """
    if not np.isfinite(um_per_px) or um_per_px <= 0 or um_per_px / config.um_per_px > config.max_upscale:
        limit = config.um_per_px * config.max_upscale
        message = f"found {um_per_px:g} um per px, expected more than 0 and at most {limit:g}; check the image's scale"
        raise ScaleError(message)
    height, width = image.shape[:2]
    factor = um_per_px / config.um_per_px
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    shrinks = new_width < width
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    stride = config.stride
    canvas = np.full(
        (-(-new_height // stride) * stride, -(-new_width // stride) * stride, 3), config.pad_value, dtype=np.uint8
    )
    canvas[:new_height, :new_width] = resized
    return canvas[None], Letterbox(new_width / width, new_height / height, new_width, new_height)
