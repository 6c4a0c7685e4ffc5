"""The contour of the cell in the center of a single-cell photograph.

Steps: surround the picture by its own mirror image, so that the segmenter sees a field and no frame; find the cells;
take the one over the picture's center and cut it to the picture; judge it by the quality rules. Where that gives no
whole cell, the bare picture is tried as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope import geometry
from marrowscope.cells.quality import judge_contours

if TYPE_CHECKING:
    from marrowscope.cells.quality import QualityRules
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.segment.segmenter import Segmenter

NOT_FOUND = "not_found"
_SURROUNDING_UM = 12.0
"""Half the side of the smallest public pictures (24 um). Of 48 marrow cells in such pictures, 41 have a whole contour
with it, 33 with half as much, and 26 without: the demonstration segmenter then follows the picture's frame."""


@dataclass(frozen=True, slots=True)
class CenterCell:
    """The contour over the picture's center, None where there is none, and why it is not used ("" where it is)."""

    contour_xy: ContourArray | None
    reason: str


def find_center_cell(pixels: ImageArray, um_per_px: float, segmenter: Segmenter, rules: QualityRules) -> CenterCell:
    """Find the cell in the center of a picture, RGB uint8 (h, w, 3); the contour is in its pixels.

    The reason is ``not_found`` or that of the quality rules: edge, too_small, too_large, not_round. Raises ScaleError
    for a scale too coarse for the network.
    """
    pad_px = round(_SURROUNDING_UM / um_per_px)
    found = _look(pixels, um_per_px, segmenter, rules, min(pad_px, *(side - 1 for side in pixels.shape[:2])))
    if not found.reason or not pad_px:
        return found
    bare = _look(pixels, um_per_px, segmenter, rules, 0)
    return found if bare.reason and found.contour_xy is not None else bare


def _look(pixels: ImageArray, um_per_px: float, segmenter: Segmenter, rules: QualityRules, pad_px: int) -> CenterCell:
    height, width = pixels.shape[:2]
    seen = pixels
    if pad_px:
        seen = np.asarray(
            cv2.copyMakeBorder(pixels, pad_px, pad_px, pad_px, pad_px, cv2.BORDER_REFLECT_101), dtype=np.uint8
        )
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    for detection in segmenter.detect(seen, um_per_px):  # best score first
        contour = detection.contour_xy - pad_px
        if _contains(contour, center):
            inside = geometry.clip_to_image(contour, width, height)
            if inside is not None:
                reason = judge_contours([inside], rules, width, height, um_per_px)[0].reason
                return CenterCell(inside, reason or "")
    return CenterCell(None, NOT_FOUND)


def _contains(contour_xy: ContourArray, point_xy: ContourArray) -> bool:
    """Say whether a point lies inside a closed contour (n, 2)."""
    if not len(contour_xy):
        return False
    moved = (contour_xy - point_xy).astype(np.float32)
    return bool(cv2.pointPolygonTest(moved, (0.0, 0.0), measureDist=False) >= 0)
