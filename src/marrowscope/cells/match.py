"""Match predicted contours with expert polygons of the same image, one to one, by contour IoU.

The assignment is optimal: it first maximizes the number of pairs with IoU >= ``min_iou``, then their total
IoU. One linear assignment does both: an admissible pair scores 1 + IoU / (k + 1), where k is the largest possible
number of pairs, so all IoUs together never outweigh one more pair. Cells that no chain of admissible pairs connects
cannot compete. Each connected group is therefore solved separately, and the result is still exact.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Pair:
    """One match: positions of the predicted and the expert contour, and their IoU."""

    predicted: int
    expert: int
    iou: float


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
