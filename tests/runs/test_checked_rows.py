"""Rows of a run that cannot be used are refused, whatever their types; sound rows of today are read as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from marrowscope.errors import RunError
from marrowscope.runs.checked_rows import CheckedRows, read_rows, scan_rows
from marrowscope.runs.parquet import read_table, write_table
from tests.fake_runs import VOCABULARY, FakeRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.runs.schemas import TableKind

HALVES = [0.5] * 15


@pytest.mark.parametrize("kind", ["fields", "cells", "patients"])
def test_sound_tables_are_read_as_they_are(fake_run: Callable[..., FakeRun], kind: TableKind) -> None:
    folder = fake_run().folder
    expected = read_table(folder / f"{kind}.parquet", kind)
    assert read_rows(folder, kind, VOCABULARY.categories).equals(expected)


def test_rows_that_were_looked_through_are_read_in_part(fake_run: Callable[..., FakeRun]) -> None:
    folder = fake_run().folder
    cells = scan_rows(folder, "cells", VOCABULARY.categories)
    expected = read_table(folder / "cells.parquet", "cells")
    first = pl.col("patient_id") == "P1"
    asked = cells.read(cells.rows.filter(first).select("cell_id"))
    assert 0 < len(asked) < len(expected)
    assert asked.equals(expected.filter(first).select("cell_id"))
    assert CheckedRows.of(expected).read().equals(expected)


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("fields", {"field_id": "P1/field_1"}, "expected each field_id once"),
        ("fields", {"sha256": None}, "expected the SHA-256 of an image that was read"),
        ("patients", {"patient_id": "P2"}, "expected each patient_id once"),
        ("patients", {"call": "above", "threshold": None}, "expected a threshold beside a call"),
        ("patients", {"corrected_ratio": float("nan")}, "expected a finite corrected_ratio"),
        ("patients", {"threshold": -0.5}, "expected a finite corrected_ratio"),
        ("cells", {"contour_xy": [1.0, 2.0, 3.0, 4.0]}, "expected an outline of three points"),
        ("fields", {"width_px": 2**62}, "expected sides of an image from 1 to 10,000,000 px"),
        ("fields", {"height_px": None}, "expected sides of an image from 1 to 10,000,000 px"),
        ("fields", {"region_x_px": 2**40}, "expected sides of an image from 1 to 10,000,000 px"),
        ("cells", {"contour_xy": [1.0, 2.0, 3.0, 4.0, 5.0, 1e300]}, "each within 10,000,000 px"),
        ("cells", {"contour_xy": [1.0, 2.0, 3.0, 4.0, 5.0, -1e8]}, "each within 10,000,000 px"),
        ("cells", {"contour_xy": [1.0] * 7}, "expected an outline of three points"),
        ("cells", {"contour_xy": [1.0, 2.0, 3.0, 4.0, 5.0, None]}, "expected an outline of three points"),
        ("cells", {"contour_xy": [1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]}, "expected an outline of three points"),
        ("cells", {"category": "<b>"}, "expected a category of the vocabulary"),
        ("cells", {"category": None}, "expected a category of the vocabulary"),
        ("cells", {"is_cblc": None}, "expected is_cblc and is_countable"),
        ("cells", {"p_cblc": float("nan")}, "expected probabilities and a score from 0 to 1"),
        ("cells", {"score": float("inf")}, "expected probabilities and a score from 0 to 1"),
        ("cells", {"p_category": HALVES}, "expected 16 probabilities of categories"),
        ("cells", {"p_category": [*HALVES, None]}, "expected 16 probabilities of categories"),
        ("cells", {"p_category": [*HALVES, 2.0]}, "expected 16 probabilities of categories"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(
    fake_run: Callable[..., FakeRun], kind: TableKind, change: dict[str, Any], expected: str
) -> None:
    path = fake_run().folder / f"{kind}.parquet"
    rows = read_table(path, kind).to_dicts()
    rows[0] |= change
    write_table(path, pl.DataFrame(rows, schema=read_table(path, kind).schema), kind)
    with pytest.raises(RunError, match=rf"{kind}\.parquet: found \d rows? that cannot be used.*{expected}.*again"):
        read_rows(path.parent, kind, VOCABULARY.categories)
