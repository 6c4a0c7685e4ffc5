"""Decode the raw output of a one-class YOLO segmentation head to boxes, scores and mask coefficients.

Output 0 is (1, 4 + 1 + k, n). For each of n anchors, it has center x, center y, width and height in input pixels
(corner coordinates: the first pixel spans 0 to 1), the score from 0 to 1, and k mask coefficients. Output 1,
(1, k, h / 4, w / 4), has the mask prototypes. Written from the format, without code from Ultralytics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.segment.config import SegmenterConfig

_BOX_AND_SCORE = 5
_PROTOTYPE_STRIDE = 4


@dataclass(frozen=True, slots=True)
class RawCells:
    """The detections that pass the score and overlap tests, best first.

    ``boxes_xyxy`` (m, 4) in corner coordinates, cut to the input, ``scores`` (m,), ``coefficients`` (m, k).
    """

    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    coefficients: NDArray[np.float32]


def decode(output: NDArray[np.float32], prototypes: NDArray[np.float32], config: SegmenterConfig) -> RawCells:
    """Decode the two outputs of one image. The arrays are empty if no anchor reaches the score threshold.

    Raises BundleError if the shapes are not those of a one-class segmentation head, or if values are not numbers: such
    a field would pass for one without cells.
    """
    if output.ndim != 3 or prototypes.ndim != 4 or output.shape[1] != _BOX_AND_SCORE + prototypes.shape[1]:  # noqa: PLR2004
        message = (
            f"found segmenter outputs of shape {output.shape} and {prototypes.shape}, expected (1, 5 + k, n) and "
            "(1, k, h, w) of a one-class YOLO segmentation model; export it again"
        )
        raise BundleError(message)
    if not (np.isfinite(output).all() and np.isfinite(prototypes).all()):
        message = "the segmenter gives NaN or infinite values, expected numbers; do not use its graph, export it again"
        raise BundleError(message)
    candidates = output[0, :, output[0, 4] >= config.confidence]
    boxes = candidates[:, :4].astype(np.float64)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    height, width = (_PROTOTYPE_STRIDE * side for side in prototypes.shape[2:])
    scores = candidates[:, 4].astype(np.float64)
    kept = suppress_overlaps(corners, scores, config.nms_iou)[: config.max_detections]
    inside = np.clip(corners[kept], 0, [width, height, width, height])
    return RawCells(inside, scores[kept], candidates[kept, _BOX_AND_SCORE:])


def suppress_overlaps(boxes_xyxy: NDArray[np.float64], scores: NDArray[np.float64], max_iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: return the indices of the boxes to keep, best score first.

    A box is dropped if its IoU with a kept box exceeds ``max_iou``; ties in score keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes_xyxy.T
    areas = (x1 - x0) * (y1 - y0)
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        shared_x = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])
        shared_y = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])
        shared = np.maximum(shared_x, 0) * np.maximum(shared_y, 0)
        united = areas[best] + areas[rest] - shared
        order = rest[shared <= max_iou * united]
    return np.array(kept, dtype=np.intp)
