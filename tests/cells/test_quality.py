"""The quality rules: each reason made, and the limits where they are said to be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from marrowscope.cells.quality import REJECT_REASONS, QualityRules, apply_quality_rules, judge_contour, judge_contours
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
