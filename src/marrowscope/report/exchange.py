"""A run's tables as CSV, for spreadsheets and statistics programs.

``patients.csv``, ``cells.csv``, ``fields.csv`` and, for slides, ``regions.csv`` have the content of the Parquet tables
with nested columns spread out: one column per category and figure. Contours and reference ranges are only in Parquet
and JSON. A spreadsheet runs a cell that begins like a formula; such text gets a leading apostrophe (OWASP, "CSV
Injection"), plain numbers do not. Every text is quoted, so that a separator inside it does not start a new cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.disk import name_files, refuse_foreign_files, written_whole
from marrowscope.report.patient_tables import read_patients
from marrowscope.report.pdf_text import BIDI_CONTROLS
from marrowscope.report.problems import PatientProblem, tell
from marrowscope.report.run_json import KINDS_WITH_TABLES, TABLES_KIND, write_json
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["flat_cells", "neutralised", "write_csv", "write_json"]

IDENTIFYING = ("patient_id", "field_id", "cell_id", "path")
"""Columns that join the tables, or name a file: unchanged, but for an apostrophe before a formula."""
_FORMULA_START = rf"^['{BIDI_CONTROLS}\x00\x{{feff}}]*[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001  full-width signs open formulas too
"""Characters that are not seen, and an apostrophe, do not hide the sign that follows them."""
_PLAIN_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_OF_CATEGORY = {
    "n": "n",
    "n_countable": "n_countable",
    "share": "share",
    "n_nucleated": "n_nucleated",
    "share_nucleated": "share_nucleated",
    "lower": "share_nucleated_lower",
    "upper": "share_nucleated_upper",
}
_LISTS = ("simulated_only", "simulated_only_codes", "who_not_learned")
"""Columns of lists of names, joined by spaces."""
_OF_LINEAGE = {"n": "n", "share": "share", "lower": "share_lower", "upper": "share_upper"}


def write_csv(
    run_dir: Path, out: Path | None = None, *, on_problem: Callable[[PatientProblem], None] | None = None
) -> list[Path]:
    """Write the tables of ``run_dir`` to ``out`` (default: beside the Parquet files); gives their paths.

    UTF-8 with a byte order mark, without which spreadsheets misread names; a null is an empty cell, an empty text is
    a pair of quotes. A patient whose row cannot be read is left out of ``patients.csv`` and goes to ``on_problem``;
    without it, ReportError is raised at the end. Raises RunError when ``run_dir`` is no finished run, or ``out`` holds
    a file of that name that is not ours.
    """
    reportable_manifest(run_dir)
    folder = out or run_dir
    patients = read_table(run_dir / "patients.parquet", "patients")
    _, problems = read_patients(patients)
    patients = patients.filter(~pl.col("patient_id").is_in([problem.patient_id for problem in problems]))
    frames = {
        "patients": _flat_patients(patients),
        "fields": _flat_fields(read_table(run_dir / "fields.parquet", "fields")),
        "cells": flat_cells(read_table(run_dir / "cells.parquet", "cells"), load_vocabulary().categories),
    }
    if (run_dir / "regions.parquet").is_file():
        frames["regions"] = read_table(run_dir / "regions.parquet", "regions")
    names = [f"{name}.csv" for name in frames]
    refuse_foreign_files(folder, KINDS_WITH_TABLES, names)
    name_files(folder, TABLES_KIND, names)
    paths = []
    for name, frame in frames.items():
        path = folder / f"{name}.csv"
        with written_whole(path) as temporary:
            neutralised(frame.with_columns(pl.col(pl.Float64).fill_nan(None))).write_csv(
                temporary, include_bom=True, quote_style="non_numeric"
            )
        paths.append(path)
    tell(problems, on_problem)
    return paths


def neutralised(frame: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before every text that a spreadsheet would run as a formula; plain numbers are unchanged.

    A text that begins with apostrophes before such a start gets one more, so that no two texts become one, and leaving
    out the first apostrophe of such a text gives it back. Characters that reorder the text around them are left out,
    except from the columns that identify a row.
    """
    ids = [name for name in IDENTIFYING if frame.schema.get(name) == pl.String()]
    rest = pl.col(pl.String).exclude(ids).str.replace_all(f"[{BIDI_CONTROLS}]", "")
    return frame.with_columns(*(_guarded(pl.col(name)) for name in ids)).with_columns(_guarded(rest))


def _guarded(text: pl.Expr) -> pl.Expr:
    runs = text.str.contains(_FORMULA_START) & ~text.str.contains(_PLAIN_NUMBER)
    return pl.when(runs).then(pl.lit("'") + text).otherwise(text).name.keep()


def _flat_patients(patients: pl.DataFrame) -> pl.DataFrame:
    """Spread the nested columns of the patients table: ``share_N``, ``share_lineage_erythroid``, ``n_rejected_edge``.

    These columns follow the plain ones; a category of any patient has columns for all patients. ``flags`` becomes the
    names of the flags, separated by spaces.
    """
    categories = _names(patients["differential"], "category")
    lineages = _names(patients["lineages"], "lineage")
    spread = [
        *(
            _entry("rejected", "reason", reason, "n").fill_null(0).alias(f"n_rejected_{reason}")
            for reason in _in_order(REJECT_REASONS, _names(patients["rejected"], "reason"))
        ),
        *(
            _entry("differential", "category", category, figure).alias(f"{name}_{category}")
            for category in categories
            for figure, name in _OF_CATEGORY.items()
        ),
        *(
            _entry("cblc_by_category", "category", category, "n").alias(f"n_cblc_{category}")
            for category in _names(patients["cblc_by_category"], "category")
        ),
        *(
            _entry("other_parts", "category", part, figure).alias(f"{name}_{part}")
            for part in _names(patients["other_parts"], "category")
            for figure, name in _OF_CATEGORY.items()
        ),
        *(
            _entry("lineages", "lineage", lineage, figure).alias(f"{name}_lineage_{lineage}")
            for lineage in lineages
            for figure, name in _OF_LINEAGE.items()
        ),
    ]
    spread += [
        _entry("depth", "score", score, figure).alias("_".join(["depth", score, *end]))
        for score in _names(patients["depth"], "score")
        for figure, *end in (("value",), *((name, name) for name in ("usual", "lower_limit", "upper_limit")))
    ]
    names = pl.col("flags").list.eval(pl.element().struct.field("flag")).list.join(" ")
    lists = [pl.col(name).list.join(" ") for name in _LISTS]
    nested = ("rejected", "differential", "other_parts", "cblc_by_category", "lineages", "depth")
    return patients.with_columns(names, *lists, *spread).drop(nested)


def _flat_fields(fields: pl.DataFrame) -> pl.DataFrame:
    """Return the fields table with its flags as one text, separated by spaces."""
    return fields.with_columns(pl.col("flags").list.join(" "))


def flat_cells(cells: pl.DataFrame, categories: Sequence[str]) -> pl.DataFrame:
    """Spread the probabilities to ``p_category_<name>``, in vocabulary order, and drop the contours.

    If the run's number of categories differs from ``categories``, the columns are numbered instead of named.
    """
    width = cells["p_category"].list.len().max()
    n = width if isinstance(width, int) else len(categories)
    names = categories if n == len(categories) else [str(index) for index in range(n)]
    spread = [
        pl.col("p_category").list.get(index, null_on_oob=True).alias(f"p_category_{name}")
        for index, name in enumerate(names)
    ]
    return cells.with_columns(spread).drop("contour_xy", "p_category")


def _entry(column: str, key: str, value: str, figure: str) -> pl.Expr:
    """Return ``figure`` of the list entry whose ``key`` is ``value``; null if there is none."""
    matching = pl.element().filter(pl.element().struct.field(key) == value).struct.field(figure)
    return pl.col(column).list.eval(matching).list.first()


def _names(column: pl.Series, key: str) -> list[str]:
    """List the names in a nested column, in order of first occurrence."""
    entries = column.explode().drop_nulls()
    return entries.struct.field(key).unique(maintain_order=True).to_list() if len(entries) else []


def _in_order(known: Iterable[str], found: Iterable[str]) -> list[str]:
    """List the known names in order, followed by any others that were found."""
    return list(dict.fromkeys([*known, *found]))
