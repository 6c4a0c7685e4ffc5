from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shapely import Polygon

from marrowscope.report.marks import CellMark, cell_mark, svg_path
from marrowscope.report.shown_rows import shown_cell

LINEAGES = {"Other": "other", "N": "granulocytic", "L": "lymphoid"}


def mark_of(**changes: object) -> CellMark:
    cell: dict[str, Any] = {
        "cell_id": "0123456789abcdef0123",
        "contour_xy": [10.0, 0.0, 30.0, 0.0, 20.0, 20.0],
        "category": "N",
        "p_category": [0.1, 0.9, 0.0],
        "p_cblc": 0.9,
        "is_cblc": True,
        "is_countable": True,
        "contradiction": False,
        "reject_reason": None,
    }
    return cell_mark(shown_cell({"field_id": "P1/a"} | cell | changes), 1, 750, LINEAGES)


def test_path_puts_pixel_centers_at_half_pixels() -> None:
    assert svg_path(np.array([[0, 0], [2, 0], [2, 1.25]])) == "M0.5,0.5 2.5,0.5 2.5,1.8Z"
    assert svg_path(np.empty((0, 2))) == ""


def test_drawn_contour_has_fewer_points_and_stays_within_its_tolerance() -> None:
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    contour = np.stack([200 + 60 * np.cos(angle), 200 + 45 * np.sin(angle)], axis=1)
    text = svg_path(contour, 0.5)
    drawn = np.array([[float(v) for v in pair.split(",")] for pair in text[1:-1].split(" ")]) - 0.5
    assert len(drawn) < 60
    assert Polygon(drawn).hausdorff_distance(Polygon(contour)) < 0.6


def test_label_stays_inside_the_image_for_a_cell_at_the_top() -> None:
    mark = mark_of()
    assert (mark.label_x, mark.label_y) == (20.5, 10.0)


def test_place_is_the_centroid_and_the_id_is_short() -> None:
    mark = mark_of()
    assert (mark.x, mark.y) == (20, 7)
    assert mark.short_id == "01234567"


def test_probability_is_that_of_the_category_called_not_the_largest() -> None:
    mark = mark_of(category="L", p_category=[0.1, 0.6, 0.3])
    assert mark.p_category == 0.3
    assert mark_of(category="own", p_category=[0.1, 0.6, 0.3]).p_category == 0.6


@pytest.mark.parametrize(
    ("changes", "uncertain"),
    [
        ({}, False),
        ({"p_cblc": 0.6}, True),
        ({"p_cblc": 0.6, "is_cblc": False}, False),
        ({"p_category": [0.4, 0.6, 0.0]}, True),
        ({"contradiction": True}, True),
    ],
)
def test_a_cell_is_uncertain_with_a_low_probability_or_a_contradiction(
    changes: dict[str, object], *, uncertain: bool
) -> None:
    assert mark_of(**changes).uncertain is uncertain
