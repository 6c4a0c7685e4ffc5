from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from marrowscope.evaluate.ranking import FALSE, HIT, IGNORED, IOU_LEVELS, rank_outcomes


def outcomes_by_hand(
    iou: np.ndarray, score: np.ndarray, cut: np.ndarray, at_edge: np.ndarray, level: float
) -> list[int]:
    """COCO's matching as its text says it: in order of score, the best free object, ignored objects last."""
    taken: set[int] = set()
    result = [FALSE] * len(score)
    for row in sorted(range(len(score)), key=lambda row: -score[row]):
        offers = [(not cut[j], iou[row, j], -j) for j in range(iou.shape[1]) if j not in taken and iou[row, j] >= level]
        if offers:
            is_whole, _, place = max(offers)
            taken.add(-place)
            result[row] = HIT if is_whole else IGNORED
        elif at_edge[row]:
            result[row] = IGNORED
    return result


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 6), st.integers(0, 6))
def test_outcomes_are_those_of_the_written_rule(data: st.DataObject, n_detections: int, n_expert: int) -> None:
    grid = st.integers(0, 20).map(lambda value: value / 20)
    iou = data.draw(st_numpy.arrays(np.float64, (n_detections, n_expert), elements=grid))
    score = data.draw(st_numpy.arrays(np.float64, n_detections, elements=grid, unique=True))
    cut = data.draw(st_numpy.arrays(np.bool_, n_expert))
    at_edge = data.draw(st_numpy.arrays(np.bool_, n_detections))
    found = rank_outcomes(iou, score, cut, at_edge)
    assert found.shape == (n_detections, len(IOU_LEVELS))
    for column, level in enumerate(IOU_LEVELS):
        assert found[:, column].tolist() == outcomes_by_hand(iou, score, cut, at_edge, level)


def test_the_surer_detection_takes_the_cell_and_the_other_is_false() -> None:
    iou = np.array([[0.9], [0.7]])
    first = rank_outcomes(iou, np.array([0.5, 0.8]), np.zeros(1, bool), np.zeros(2, bool))
    assert first[:, 0].tolist() == [FALSE, HIT]
    assert first[:, 5].tolist() == [HIT, FALSE]  # at IoU 0.75 the surer one finds nothing, so the cell is free


@pytest.mark.parametrize(("cut", "at_edge", "expected"), [(True, False, IGNORED), (False, True, HIT)])
def test_a_cut_cell_is_no_find_and_an_edge_takes_no_find_away(cut: bool, at_edge: bool, expected: int) -> None:  # noqa: FBT001
    found = rank_outcomes(np.array([[0.9]]), np.array([0.9]), np.array([cut]), np.array([at_edge]))
    assert found[0, 0] == expected
    assert found[0, -1] == (IGNORED if at_edge else FALSE)  # IoU 0.95 is not reached
