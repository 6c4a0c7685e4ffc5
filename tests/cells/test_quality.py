"""The quality rules: each reason made, and the limits where they are said to be."""

from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from marrowscope.cells.quality import (
    REJECT_REASONS,
    QualityRules,
    apply_quality_rules,
    judge_contour,
    judge_contours,
    refuse_overlaps,
)
from marrowscope.records import Detection

UM_PER_PX = 0.25


def _ellipse(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


@pytest.mark.parametrize(
    ("contour", "reason"),
    [
        (_ellipse(100, 100, 24, 24), None),
        (_ellipse(100, 100, 8, 8), "too_small"),
        (_ellipse(100, 100, 90, 90), None),  # 45 um across: a promegakaryocyte counts
        (_ellipse(150, 150, 105, 105), "too_large"),
        (_ellipse(100, 100, 60, 15), "not_round"),
        (_ellipse(20, 100, 24, 24), "edge"),
        (_ellipse(4, 100, 8, 8), "edge"),
        (np.zeros((0, 2)), "too_small"),
    ],
)
def test_each_reason(contour: NDArray[np.float64], reason: str | None) -> None:
    assert reason is None or reason in REJECT_REASONS
    assert judge_contour(contour, QualityRules(), 300, 300, UM_PER_PX) == reason


def test_reasons_come_in_the_order_of_the_detections() -> None:
    contours = [_ellipse(100, 100, 24, 24), _ellipse(100, 100, 2, 2), _ellipse(198, 100, 24, 24)]
    detections = [Detection(contour, (0, 0, 1, 1), 0.9) for contour in contours]
    assert apply_quality_rules(detections, QualityRules(), 200, 200, UM_PER_PX) == [None, "too_small", "edge"]
    assert apply_quality_rules([], QualityRules(), 200, 200, UM_PER_PX) == []


def test_area_is_judged_in_micrometers() -> None:
    """A circle of 5.0 um across is 19.6 um2, one of 5.1 um 20.4 um2: the limit is 20 at any scale."""
    for um_per_px in (0.1, 0.3):
        for diameter_um, reason in ((5.0, "too_small"), (5.1, None)):
            contour = _ellipse(100, 100, diameter_um / um_per_px / 2, diameter_um / um_per_px / 2)
            assert judge_contour(contour, QualityRules(), 200, 200, um_per_px) == reason


def test_the_edge_margin_is_exact() -> None:
    """The image spans -0.5 to 199.5; with a margin of 2 px a cell may reach 1.5 and 197.5, and no further."""
    rules = QualityRules(edge_margin_um=2 * UM_PER_PX)
    assert judge_contour(_ellipse(21.5, 100, 20, 20), rules, 200, 200, UM_PER_PX) is None
    assert judge_contour(_ellipse(21.4, 100, 20, 20), rules, 200, 200, UM_PER_PX) == "edge"
    assert judge_contour(_ellipse(177.5, 100, 20, 20), rules, 200, 200, UM_PER_PX) is None
    assert judge_contour(_ellipse(100, 177.6, 20, 20), rules, 200, 200, UM_PER_PX) == "edge"


def test_circularity_limit() -> None:
    """4 pi area / perimeter^2 of a rectangle of sides 1 and r is pi r / (1 + r)^2: 0.65 lies at r = 2.43."""
    rules = QualityRules()
    for ratio, reason in ((2.2, None), (2.7, "not_round")):
        corners = np.array([[50, 50], [50 + 40 * ratio, 50], [50 + 40 * ratio, 90], [50, 90]], dtype=np.float64)
        assert judge_contour(corners, rules, 400, 400, UM_PER_PX) == reason


def test_contours_judged_together_are_those_judged_alone() -> None:
    contours = [_ellipse(100, 100, 24, 24), np.zeros((0, 2)), _ellipse(100, 100, 60, 15), _ellipse(4, 100, 8, 8)]
    together = judge_contours(contours, QualityRules(), 200, 200, UM_PER_PX)
    assert [item.reason for item in together] == [None, "too_small", "not_round", "edge"]
    for item, contour in zip(together, contours, strict=True):
        assert item == judge_contours([contour], QualityRules(), 200, 200, UM_PER_PX)[0]
    assert together[0].area_px == pytest.approx(np.pi * 24**2, rel=1e-3)
    assert together[0].circularity == pytest.approx(1, abs=2e-3)


def _refused(contours: list[NDArray[np.float64]], rules: QualityRules | None = None) -> list[str | None]:
    rules = rules or QualityRules()
    judged = judge_contours(contours, rules, 400, 400, UM_PER_PX)
    return [item.reason for item in refuse_overlaps(judged, contours, rules)]


def test_the_second_contour_of_a_cell_is_refused() -> None:
    cell, same, nucleus = _ellipse(100, 100, 30, 30), _ellipse(103, 100, 33, 28), _ellipse(100, 100, 15, 15)
    assert _refused([cell, same]) == [None, "overlap"]
    assert _refused([same, cell]) == [None, "overlap"]
    assert _refused([cell, nucleus]) == [None, "overlap"]  # IoU 0.25: no comparison of boxes by IoU sees it
    assert _refused([cell, same], QualityRules(max_overlap=1)) == [None, None]


def test_the_limit_of_overlap_is_the_share_of_the_smaller() -> None:
    """A square of 40 px on one of 60: their common strip is 40 high, and half of the small one at 20 px."""

    def square(x: float, y: float, side: float) -> NDArray[np.float64]:
        return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=np.float64)

    large = square(100, 100, 60)
    assert _refused([large, square(160 - 19.9, 110, 40)]) == [None, None]
    assert _refused([large, square(160 - 20.1, 110, 40)]) == [None, "overlap"]


def test_touching_cells_are_not_replaced_by_one_outline_of_both() -> None:
    left, right = _ellipse(100, 100, 30, 30), _ellipse(158, 100, 30, 30)
    both = _ellipse(129, 100, 62, 32)
    assert _refused([both, left, right]) == ["overlap", None, None]
    assert _refused([left, both, right]) == [None, "overlap", None]


def test_lobes_of_one_nucleus_do_not_replace_their_cell() -> None:
    """Two lobes cover less than half of their cell; they are refused, as a nucleus alone would be."""
    cell, lobes = _ellipse(100, 100, 40, 40), [_ellipse(82, 100, 16, 16), _ellipse(118, 100, 16, 16)]
    assert _refused([cell, *lobes]) == [None, "overlap", "overlap"]


def test_a_contour_that_is_refused_for_itself_refuses_no_other() -> None:
    too_long, cell = _ellipse(100, 100, 80, 16), _ellipse(100, 100, 20, 20)
    assert _refused([too_long, cell]) == ["not_round", None]


def test_no_contours_and_one_alone() -> None:
    assert _refused([]) == []
    assert _refused([np.zeros((0, 2)), _ellipse(100, 100, 30, 30)]) == ["too_small", None]


@given(
    st.lists(st.tuples(st.floats(50, 350), st.floats(50, 350), st.floats(12, 40), st.floats(0.7, 1)), max_size=25),
)
def test_what_is_kept_never_overlaps_and_what_is_refused_does(cells: list[tuple[float, float, float, float]]) -> None:
    """Against all pairs, one by one: no two that are kept are one cell, and nothing is refused without a reason."""
    contours = [_ellipse(x, y, radius, radius * ratio) for x, y, radius, ratio in cells]
    rules = QualityRules()
    before = [item.reason for item in judge_contours(contours, rules, 400, 400, UM_PER_PX)]
    after = _refused(contours)
    shapes = [shapely.Polygon(contour) for contour in contours]

    def one_cell(one: int, other: int) -> bool:
        smaller = min(shapes[one].area, shapes[other].area)
        return bool(shapes[one].intersection(shapes[other]).area > rules.max_overlap * smaller)

    kept = [index for index, reason in enumerate(after) if reason is None]
    assert not [pair for pair in combinations(kept, 2) if one_cell(*pair)]
    for index, (reason, now) in enumerate(zip(before, after, strict=True)):
        assert now in (reason, "overlap")
        if now == "overlap":
            assert reason is None
            assert any(one_cell(index, other) for other, found in enumerate(before) if found is None and other != index)
