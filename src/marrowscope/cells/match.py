"""Match predicted contours with expert polygons of the same image, one to one, by contour IoU.

The assignment is optimal: it first maximizes the number of pairs with IoU >= ``min_iou``, then their total
IoU. One linear assignment does both: an admissible pair scores 1 + IoU / (k + 1), where k is the largest possible
number of pairs, so all IoUs together never outweigh one more pair. Cells that no chain of admissible pairs connects
cannot compete. Each connected group is therefore solved separately, and the result is still exact.

A polygon that an expert drew around the nucleus alone cannot reach that IoU with the contour of the whole cell.
``add_nuclei`` pairs such a polygon with the contour that holds it, where there is no doubt which cell it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from marrowscope import geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray

MIN_MATCH_IOU = 0.5
_INSIDE, _MIN_NUCLEUS = 0.9, 0.15
"""Least share of a nucleus's polygon inside the cell's contour, and of the contour's area that a nucleus has."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One match: positions of the predicted and the expert contour, their IoU, and whether it is of a nucleus alone."""

    predicted: int
    expert: int
    iou: float
    nucleus_alone: bool = False


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs, ordered by predicted index, and the unmatched contours of both sides."""

    pairs: tuple[Pair, ...]
    unmatched_predicted: tuple[int, ...]
    unmatched_expert: tuple[int, ...]


def match_contours(
    predicted: Sequence[ContourArray], expert: Sequence[ContourArray], min_iou: float = MIN_MATCH_IOU
) -> Matching:
    """Match contours (n, 2) of one image one to one; either side may be empty."""
    return match_iou_matrix(geometry.iou_matrix(predicted, expert), min_iou)


def match_iou_matrix(iou: NDArray[np.float64], min_iou: float = MIN_MATCH_IOU) -> Matching:
    """Match from an IoU matrix (n_predicted, n_expert); contours with an IoU below ``min_iou`` are never paired."""
    n_predicted, n_expert = iou.shape
    pairs = sorted(_best_pairs(iou, iou >= min_iou), key=lambda pair: pair.predicted)
    used_predicted = {pair.predicted for pair in pairs}
    used_expert = {pair.expert for pair in pairs}
    return Matching(
        pairs=tuple(pairs),
        unmatched_predicted=tuple(index for index in range(n_predicted) if index not in used_predicted),
        unmatched_expert=tuple(index for index in range(n_expert) if index not in used_expert),
    )


def add_nuclei(
    matching: Matching,
    iou: NDArray[np.float64],
    predicted_areas: NDArray[np.float64],
    expert_areas: NDArray[np.float64],
) -> Matching:
    """Pair what is left where a polygon lies inside one contour as a nucleus does, and the contour holds no other.

    At least 0.9 of the polygon is inside the contour and it has at least 0.15 of the contour's area; neither has a
    match, and no other polygon lies by half or more in that contour.
    """
    if not matching.unmatched_predicted or not matching.unmatched_expert:
        return matching
    shared = iou * (predicted_areas[:, None] + expert_areas) / (1 + iou)
    inside = shared / np.maximum(expert_areas, np.finfo(float).tiny)
    holds_one = (inside >= 0.5).sum(axis=1) == 1  # noqa: PLR2004
    fits = (inside >= _INSIDE) & (expert_areas >= _MIN_NUCLEUS * predicted_areas[:, None]) & holds_one[:, None]
    left = np.zeros_like(fits)
    left[np.ix_(matching.unmatched_predicted, matching.unmatched_expert)] = True
    fits &= left
    fits &= fits.sum(axis=0) == 1
    added = [Pair(int(i), int(j), float(iou[i, j]), nucleus_alone=True) for i, j in zip(*np.nonzero(fits), strict=True)]
    predicted, expert = ({getattr(pair, side) for pair in added} for side in ("predicted", "expert"))
    return replace(
        matching,
        pairs=tuple(sorted((*matching.pairs, *added), key=lambda pair: pair.predicted)),
        unmatched_predicted=tuple(index for index in matching.unmatched_predicted if index not in predicted),
        unmatched_expert=tuple(index for index in matching.unmatched_expert if index not in expert),
    )


def _best_pairs(iou: NDArray[np.float64], admissible: NDArray[np.bool_]) -> list[Pair]:
    """Assign each connected group of the admissible pairs (n_predicted, n_expert) separately."""
    n_predicted = len(iou)
    rows, columns = np.nonzero(admissible)
    graph = coo_array((np.ones(len(rows)), (rows, columns + n_predicted)), shape=(sum(iou.shape), sum(iou.shape)))
    _, group_of = connected_components(graph, directed=False)
    order = np.argsort(group_of[rows], kind="stable")
    borders = np.flatnonzero(np.diff(group_of[rows[order]])) + 1
    pairs = []
    for group in np.split(order, borders) if len(order) else ():
        predicted, expert = np.unique(rows[group]), np.unique(columns[group])
        inner = np.ix_(predicted, expert)
        worth = np.where(admissible[inner], 1.0 + iou[inner] / (min(len(predicted), len(expert)) + 1), 0.0)
        for i, j in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
            row, column = int(predicted[i]), int(expert[j])
            if admissible[row, column]:
                pairs.append(Pair(row, column, float(iou[row, column])))
    return pairs
