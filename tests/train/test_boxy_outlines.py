"""The share of an outline along its box: known for rectangles, circles and circles that a line cuts."""

import numpy as np
import pytest

from marrowscope.records import ContourArray
from marrowscope.train.boxy_outlines import box_share


def _circle(radius_px: float, center: float = 100.0) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return center + radius_px * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_a_rectangle_is_straight_all_around() -> None:
    rectangle = np.array([[10.0, 20], [90, 20], [90, 60], [10, 60]])
    assert box_share(rectangle, 0.15) > 0.95
    turned = rectangle @ np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    assert box_share(turned, 0.15) == 0


@pytest.mark.parametrize("um_per_px", [0.1, 0.15, 0.3])
@pytest.mark.parametrize("radius_um", [4.0, 6.0, 9.0])
def test_a_circle_touches_its_box_over_a_seventh(radius_um: float, um_per_px: float) -> None:
    assert box_share(_circle(radius_um / um_per_px), um_per_px) == pytest.approx(0.14, abs=0.06)


def test_a_circle_cut_by_a_line_gains_the_chord() -> None:
    """Radius 40 px, cut 24 px from the center: a chord of 2 * 32 px, and an arc of 2 * (pi - acos(0.6)) * 40 px."""
    circle = _circle(40.0)
    cut = np.minimum(circle, [124.0, np.inf])
    chord, arc = 64.0, 2 * (np.pi - np.arccos(0.6)) * 40
    assert box_share(cut, 0.15) == pytest.approx(chord / (chord + arc) + 0.14 * 3 / 4, abs=0.05)
    at_the_edge = cut + np.array([875.0, 0.0])  # an image 1000 px wide ends where the cell is cut
    assert box_share(at_the_edge, 0.15, (1000, 800)) < 0.15 < box_share(at_the_edge, 0.15, (1050, 800))
    slanted = (cut - 100) @ np.array([[0.8, -0.6], [0.6, 0.8]]) + 100
    assert box_share(slanted, 0.15) < 0.2


def test_an_empty_contour_has_none() -> None:
    assert box_share(np.zeros((0, 2)), 0.15) == 0
    assert box_share(np.zeros((5, 2)), 0.15) == 0
