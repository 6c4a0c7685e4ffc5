"""Rows of the tables become records: what of a slide a field is, and what is missing."""

from __future__ import annotations

from typing import Any

from marrowscope.report.shown_rows import CELL_COLUMNS, shown_cell, shown_field
from marrowscope.runs.schemas import CELLS, FIELDS
from marrowscope.slides import window

FIELD: dict[str, Any] = dict.fromkeys(FIELDS) | {
    "field_id": "P1/slide", "patient_id": "P1", "path": "slide.tif", "status": "ok",
    "region_x_px": 10, "region_y_px": 20, "width_px": 100, "height_px": 80,
}  # fmt: skip


def test_the_region_of_a_row_has_its_core_where_the_row_says_it() -> None:
    assert shown_field(FIELD).region == window(10, 20, 110, 100)
    core = {"core_x0_px": 30, "core_y0_px": 40, "core_x1_px": 90, "core_y1_px": 80}
    region = shown_field(FIELD | core).region
    assert region is not None
    assert (region.x_px, region.width_px, region.x0, region.y1) == (10, 100, 30, 80)
    assert shown_field(FIELD | {"region_x_px": None}).region is None
    assert shown_field(FIELD | {"width_px": None}).region is None  # its pixels could not be read


def test_a_field_that_was_not_read_says_why_even_where_the_row_does_not() -> None:
    assert shown_field(FIELD).failed is None
    assert shown_field(FIELD | {"status": "failed", "error": "empty"}).failed == "empty"
    assert shown_field(FIELD | {"status": "failed"}).failed == "could not be read"
    assert shown_field(FIELD).name == "slide"


def test_a_refused_contour_has_no_call() -> None:
    assert set(CELL_COLUMNS) <= set(CELLS)
    row = dict.fromkeys(CELL_COLUMNS) | {"cell_id": "c", "field_id": "f", "contour_xy": [0, 1, 2, 3, 4, 5]}
    cell = shown_cell(row | {"reject_reason": "edge"})
    assert cell.contour_xy.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (cell.category, cell.p_category, cell.p_cblc, cell.is_cblc) == (None, (), 0.0, False)
