"""Detections of one image, the surest first, each asked at ten IoU levels whether it found a cell (after COCO).

At each level the detections choose in order of their score: each takes the free expert cell it covers best. What the
quality rules leave out on purpose counts neither way: an expert cell cut by the image's edge is no miss, a detection
on it no find, and a detection near an edge that found nothing no error. A whole cell is preferred to a cut one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

IOU_LEVELS = np.arange(50, 100, 5) / 100
"""0.50, 0.55, ... 0.95: AP50 stands at the first, AP50-95 is the mean over all."""

HIT, FALSE, IGNORED = 1, 0, -1


def rank_outcomes(
    iou: NDArray[np.float64], score: NDArray[np.float64], cut: NDArray[np.bool_], at_edge: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """Give the outcome of each detection at each level: (n_detections, n_levels) of HIT, FALSE and IGNORED.

    ``iou`` (n_detections, n_expert), ``cut`` (n_expert,), ``at_edge`` (n_detections,). Either side may be empty.
    """
    n_detections, n_expert = iou.shape
    outcomes = np.full((n_detections, len(IOU_LEVELS)), FALSE, dtype=np.int8)
    outcomes[at_edge] = IGNORED
    order = np.argsort(-score, kind="stable")
    for column, level in enumerate(IOU_LEVELS):
        free = np.ones(n_expert, dtype=bool)
        for row in order if n_expert else ():
            best = _best_cell(iou[row], free & (iou[row] >= level), cut)
            if best is not None:
                free[best] = False
                outcomes[row, column] = IGNORED if cut[best] else HIT
    return outcomes


def _best_cell(iou: NDArray[np.float64], allowed: NDArray[np.bool_], cut: NDArray[np.bool_]) -> int | None:
    """Give the allowed cell of the largest IoU, whole cells before cut ones."""
    for candidates in (allowed & ~cut, allowed & cut):
        if candidates.any():
            return int(np.argmax(np.where(candidates, iou, -1.0)))
    return None
