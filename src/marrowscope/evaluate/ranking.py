"""Decide for each detection of one image, at ten IoU levels, whether it found a cell (following COCO).

At each level, the detections choose in descending order of score; each takes the free expert cell with the highest IoU.
What the quality rules leave out on purpose is not counted: a cut expert cell is not a miss, a detection that matches
one is not a hit, and an unmatched detection near an edge is not an error. Whole cells take precedence over cut ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

IOU_LEVELS = np.arange(50, 100, 5) / 100
"""0.50, 0.55, ... 0.95: AP50 uses the first, AP50-95 is the mean over all."""

HIT, FALSE, IGNORED = 1, 0, -1


def rank_outcomes(
    iou: NDArray[np.float64], score: NDArray[np.float64], cut: NDArray[np.bool_], at_edge: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """Compute the outcome of each detection at each level: (n_detections, n_levels) of HIT, FALSE and IGNORED.

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
    """Return the allowed cell with the largest IoU, whole cells before cut ones."""
    for candidates in (allowed & ~cut, allowed & cut):
        if candidates.any():
            return int(np.argmax(np.where(candidates, iou, -1.0)))
    return None
