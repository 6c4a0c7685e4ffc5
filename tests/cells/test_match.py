"""Matching against brute force over every possible assignment, on small random cases."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from marrowscope import geometry
from marrowscope.cells.match import Matching, add_nuclei, match_contours, match_iou_matrix


def brute_force(iou: NDArray[np.float64], min_iou: float) -> tuple[int, float]:
    """Largest number of pairs, then largest total IoU, by trying every one-to-one assignment."""
    n_predicted, n_expert = iou.shape
    best = (0, 0.0)
    for size in range(1, min(n_predicted, n_expert) + 1):
        for rows in combinations(range(n_predicted), size):
            for columns in permutations(range(n_expert), size):
                values = [iou[row, column] for row, column in zip(rows, columns, strict=True)]
                if min(values) >= min_iou:
                    best = max(best, (size, float(sum(values))))
    return best


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1, allow_nan=False, width=32))
    )
)
def test_pairs_are_as_many_and_as_good_as_brute_force_finds(iou: NDArray[np.float64]) -> None:
    matching = match_iou_matrix(iou, min_iou=0.5)
    n_best, total_best = brute_force(iou, 0.5)
    assert len(matching.pairs) == n_best
    assert sum(pair.iou for pair in matching.pairs) == pytest.approx(total_best)
    predicted = [pair.predicted for pair in matching.pairs] + list(matching.unmatched_predicted)
    expert = [pair.expert for pair in matching.pairs] + list(matching.unmatched_expert)
    assert sorted(predicted) == list(range(iou.shape[0]))
    assert sorted(expert) == list(range(iou.shape[1]))


def test_one_more_pair_outweighs_any_iou() -> None:
    # Greedy takes 1.0 and strands the second prediction; two pairs of 0.5 must win.
    matching = match_iou_matrix(np.array([[1.0, 0.5], [0.5, 0.0]]))
    assert [(pair.predicted, pair.expert) for pair in matching.pairs] == [(0, 1), (1, 0)]


def test_contours_match_by_their_overlap_and_the_rest_is_kept() -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], dtype=np.float64)
    matching = match_contours([square + 100, square + 1], [square, square + 50])
    assert [(pair.predicted, pair.expert) for pair in matching.pairs] == [(1, 0)]
    assert matching.pairs[0].iou == pytest.approx(81 / 119)
    assert matching.unmatched_predicted == (0,)
    assert matching.unmatched_expert == (1,)


def test_iou_of_exactly_the_limit_is_a_match() -> None:
    assert len(match_iou_matrix(np.array([[0.5]]), 0.5).pairs) == 1
    assert match_iou_matrix(np.array([[np.nextafter(0.5, 0)]]), 0.5).pairs == ()


def test_empty_sides_match_nothing() -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], dtype=np.float64)
    assert match_contours([], []).pairs == ()
    assert match_contours([square], []).unmatched_predicted == (0,)
    assert match_contours([], [square]).unmatched_expert == (0,)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.3])
def test_groups_assigned_apart_are_the_assignment_of_all(density: float) -> None:
    rng = np.random.default_rng(5)
    iou = np.where(rng.random((60, 70)) < density, rng.random((60, 70)), 0.0)
    worth = np.where(iou >= 0.5, 1.0 + iou / 61, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    made = iou[rows, columns][worth[rows, columns] > 0]
    matching = match_iou_matrix(iou)
    assert len(matching.pairs) == len(made)
    assert sum(pair.iou for pair in matching.pairs) == pytest.approx(made.sum())
    assert [pair.predicted for pair in matching.pairs] == sorted(pair.predicted for pair in matching.pairs)


def nuclei(predicted: list[np.ndarray], expert: list[np.ndarray]) -> Matching:
    iou = geometry.iou_matrix(predicted, expert).reshape(len(predicted), len(expert))
    areas, expert_areas = (np.array([geometry.area(one) for one in many]) for many in (predicted, expert))
    return add_nuclei(match_iou_matrix(iou), iou, areas, expert_areas)


def box(x: float, y: float, side: float) -> np.ndarray:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=float)


def test_a_nucleus_is_paired_with_the_contour_that_holds_it() -> None:
    found = nuclei([box(0, 0, 20), box(50, 0, 20)], [box(5, 5, 10), box(51, 1, 18)])
    assert [(pair.predicted, pair.expert, pair.nucleus_alone) for pair in found.pairs] == [(0, 0, True), (1, 1, False)]
    assert found.pairs[0].iou == pytest.approx(0.25)
    assert (found.unmatched_predicted, found.unmatched_expert) == ((), ())


@pytest.mark.parametrize(
    ("predicted", "expert"),
    [
        ([box(0, 0, 20)], [box(5, 5, 7)]),  # 0.12 of the contour: a speck
        ([box(0, 0, 20)], [box(12, 5, 10)]),  # a fifth of it outside
        ([box(0, 0, 20)], [box(1, 1, 8), box(11, 11, 8)]),  # two nuclei in one contour
        ([box(0, 0, 20), box(0, 0, 21)], [box(5, 5, 10)]),  # two contours around it
        ([box(0, 0, 20)], [box(0, 0, 16), box(2, 2, 9)]),  # the contour has its cell already
        ([], [box(0, 0, 5)]),
        ([box(0, 0, 20)], []),
    ],
)
def test_no_nucleus_is_paired_where_it_is_not_clear_whose_it_is(
    predicted: list[np.ndarray], expert: list[np.ndarray]
) -> None:
    assert not any(pair.nucleus_alone for pair in nuclei(predicted, expert).pairs)
