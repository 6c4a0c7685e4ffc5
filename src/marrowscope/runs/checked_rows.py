"""The tables of a run as an evaluation or an export reads them: rows that cannot be used are refused beforehand.

Types and columns are checked where a table is read; here it is what stands in them: each field, cell and patient once,
a kept cell with an outline and the whole of its call, probabilities from 0 to 1, coordinates and sides within
MAX_COORDINATE_PX. (The report reads patient by patient, and refuses by patient.) ``CheckedRows`` holds none of the rows
in memory: the cells of 1,000 patients are half a gigabyte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.errors import RunError
from marrowscope.geometry import MAX_COORDINATE_PX
from marrowscope.runs.parquet import collected, scan_table
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.runs.schemas import TableKind

_ID_OF: dict[TableKind, str] = {"fields": "field_id", "cells": "cell_id", "patients": "patient_id"}
_NEVER_NULL: dict[TableKind, tuple[str, ...]] = {
    "fields": ("field_id", "patient_id", "path"),
    "cells": ("cell_id", "field_id", "patient_id"),
    "patients": ("patient_id",),
}
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The rows of a table that can all be used: in a file, of which only what is asked for is read, or in memory."""

    rows: pl.LazyFrame
    path: Path | None = None

    @classmethod
    def of(cls, table: pl.DataFrame) -> CheckedRows:
        """Take a table in memory as it is."""
        return cls(table.lazy())

    def read(self, rows: pl.LazyFrame | None = None) -> pl.DataFrame:
        """Read what ``rows``, made of ``self.rows``, asks for; None reads all. Raises RunError for a damaged file."""
        asked = self.rows if rows is None else rows
        return asked.collect() if self.path is None else collected(asked, self.path)


def read_rows(run: Path, kind: TableKind, categories: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table of the run folder ``run``; ``categories`` are those of its vocabulary, None where any may stand.

    Raises RunError as ``read_table`` does, and for the first row that cannot be used.
    """
    return scan_rows(run, kind, categories).read()


def scan_rows(run: Path, kind: TableKind, categories: Sequence[str] | None = None) -> CheckedRows:
    """Look through the rows of a table as ``read_rows`` does, with the same errors, and keep none of them."""
    path = run / f"{kind}.parquet"
    table = scan_table(path, kind)
    name = _ID_OF[kind]
    rules = {
        f"{' and '.join(_NEVER_NULL[kind])} in each row": pl.all_horizontal(pl.col(_NEVER_NULL[kind]).is_not_null()),
        f"each {name} once": pl.col(name).is_unique(),
    }
    if kind == "fields":
        rules |= _rules_of_fields()
    elif kind == "cells":
        rules |= _rules_of_cells(categories)
    elif kind == "patients":
        rules["a finite corrected_ratio and its limits"] = pl.all_horizontal(
            pl.col(column).is_null() | pl.col(column).is_between(0, 1)
            for column in ("corrected_ratio", "corrected_lower", "corrected_upper", "confidence_above", "threshold")
        )
        rules["a threshold beside a call"] = pl.col("call").is_null() | pl.col("threshold").is_not_null()
    for expected, holds in rules.items():
        wrong = collected(table.filter(~holds.fill_null(value=False)).select(name), path)
        if len(wrong):
            row = f"{name} {str(wrong[name][0])[:_MAX_SHOWN]!r}"
            message = (
                f"{path}: found {count_of(len(wrong), 'row')} that cannot be used, the first {row}, expected "
                f"{expected}; run "
                "`marrowscope predict` again"
            )
            raise RunError(message)
    return CheckedRows(table, path)


def _rules_of_fields() -> dict[str, pl.Expr]:
    """Return what must hold of every row of the fields table; an image that could not be read has no size."""
    unread = (pl.col("status") != "ok") | pl.col("error").is_not_null()
    sides = [pl.col(name).is_between(1, MAX_COORDINATE_PX) for name in ("width_px", "height_px")]
    corner = ("region_x_px", "region_y_px")
    places = [pl.col(name).is_null() | pl.col(name).is_between(0, MAX_COORDINATE_PX) for name in corner]
    return {
        "the SHA-256 of an image that was read": unread | pl.col("sha256").is_not_null(),
        f"sides of an image from 1 to {MAX_COORDINATE_PX:,} px": unread | pl.all_horizontal(*sides, *places),
    }


def _rules_of_cells(categories: Sequence[str] | None) -> dict[str, pl.Expr]:
    """Return what must hold of every row of the cells table; a refused contour has no call."""
    refused = pl.col("reject_reason").is_not_null()
    points, p = pl.col("contour_xy"), pl.col("p_category")
    is_pixel = pl.element().is_between(-MAX_COORDINATE_PX, MAX_COORDINATE_PX).fill_null(value=False)
    rules = {
        f"an outline of three points or more, each within {MAX_COORDINATE_PX:,} px": (points.list.len() >= 6)  # noqa: PLR2004 - three pairs
        & (points.list.len() % 2 == 0)
        & points.list.eval(is_pixel).list.all(),
        "is_cblc and is_countable": refused | (pl.col("is_cblc").is_not_null() & pl.col("is_countable").is_not_null()),
        "probabilities and a score from 0 to 1": pl.all_horizontal(
            pl.col(column).is_null() | pl.col(column).is_between(0, 1)
            for column in ("p_cblc", "p_countable", "p_plasma", "score")
        ),
    }
    if categories is None:
        return rules
    each = p.list.eval(pl.element().is_between(0, 1).fill_null(value=False)).list.all()
    return rules | {
        "a category of the vocabulary": refused | pl.col("category").is_in(list(categories)),
        f"{count_of(len(categories), 'probability', 'probabilities')} of categories from 0 to 1": refused
        | p.is_null()
        | (p.list.len() == 0)
        | ((p.list.len() == len(categories)) & each),
    }
