"""The tables in an evaluation folder: one row per figure, class, bin, point, patient or diagnosis.

``tables`` makes them, ``read_tables`` reads them back; their columns are in ``frames.WRITTEN_TABLES``.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.errors import InputError
from marrowscope.evaluate.document import across_record, decision_record, figure_record, limits_of, subgroup_record
from marrowscope.evaluate.frames import ACROSS_COLUMNS, MISSED, NORMAL_BLAST_COLUMNS, TABLE_1_COLUMNS, WRITTEN_TABLES
from marrowscope.evaluate.participants import characteristics
from marrowscope.runs.parquet import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.evaluate.evaluation import Evaluation
    from marrowscope.evaluate.patient_scores import NormalBlasts
    from marrowscope.evaluate.scorer import Figure
    from marrowscope.evaluate.scores import CenterScores


_NEVER_NULL = {
    "per_class.csv": {"center", "over", "category", "n", "n_called", "n_patients"},
    "recall_by_class.csv": {"center", "kind", "label", "n", "n_patients"},
    "confusion.csv": {"center", "over", "true", "called", "n"},
    "reliability.csv": {"center", "head", "bin", "n", "mean_probability", "share"},
    "roc.csv": {"center", "curve", "false_positive_rate", "true_positive_rate"},
    "normal_blasts.csv": NORMAL_BLAST_COLUMNS.keys() - {"diagnosis"},
    "across_centers.csv": {"key", "figure", "scale", "n_centers"},
    "table1.csv": {"center", "name"},
    "subgroups.csv": {"center", "attribute", "value", "n_patients", "n_ratio", "n_interval", "n_aml", "n_other"},
    "decision_curve.csv": {"center", "rule", "risk", "n", "n_aml", "n_acted", "net_benefit"},
}
"""Columns that have a value in each row, of the tables whose figures need one; so have the counts of each code."""


def tables(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    """Return every table by its file name; NaN becomes null."""
    rows_of: dict[str, Callable[[CenterScores], Iterator[dict[str, Any]]]] = {
        "metrics.csv": _figure_rows,
        "per_class.csv": _class_rows,
        "recall_by_class.csv": _recall_rows,
        "confusion.csv": lambda scores: _confusion_rows(scores, evaluation.categories),
        "reliability.csv": _reliability_rows,
        "roc.csv": _curve_rows,
        "calls.csv": lambda scores: scores.calls.iter_rows(named=True),
        "risk_coverage.csv": lambda scores: scores.risk_coverage.iter_rows(named=True),
        "subgroups.csv": _subgroup_rows,
        "decision_curve.csv": _decision_rows,
    }
    frames = {
        name: pl.DataFrame([row for scores in evaluation.centers for row in rows(scores)], schema=WRITTEN_TABLES[name])
        for name, rows in rows_of.items()
    }
    # The last scores cover all centers, or the only one, so their rows name every center.
    normal = evaluation.centers[-1].normal_blasts if evaluation.centers else ()
    across = [
        across_record(item).model_dump() | {"left_out": "; ".join(item.left_out)} for item in evaluation.across_centers
    ]
    return frames | {
        "patients.csv": evaluation.linked.ratios,
        "normal_blasts.csv": _normal_blasts(normal),
        "across_centers.csv": pl.DataFrame(across, schema=ACROSS_COLUMNS),
        "table1.csv": pl.DataFrame(
            [asdict(item) for item in characteristics(evaluation.linked)], schema=TABLE_1_COLUMNS
        ),
    }


def read_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Read every table of an evaluation folder by its file name; a patient called 001 stays 001.

    Raises InputError naming a table that does not exist or lacks a column.
    """
    return {name: _read_table(folder / name, columns) for name, columns in WRITTEN_TABLES.items()}


def normal_codes(normal_blasts: pl.DataFrame) -> list[str]:
    """List the codes counted in normal_blasts.csv, one column ``n_<code>`` per code."""
    return [name.removeprefix("n_") for name in normal_blasts.columns if name not in NORMAL_BLAST_COLUMNS]


def _read_table(path: Path, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    found = f"cannot be read as a table with {', '.join(columns)}"
    with readable(path, InputError, "run `marrowscope evaluate` again", found):
        frame = pl.read_csv(path, schema_overrides=columns)
        known = frame.select(columns.keys())
    # The table of normal blasts has one extra column per code of a normal blast.
    table = frame if columns is NORMAL_BLAST_COLUMNS else known
    needed = _NEVER_NULL.get(path.name, set()) | (set(table.columns) - columns.keys())
    for name in sorted(needed):
        if table[name].null_count():
            message = f"{path}: found a row without {name}, expected one in each; run `marrowscope evaluate` again"
            raise InputError(message)
    for name in sorted(set(table.columns) - columns.keys()):
        if not (name.startswith("n_") and table[name].dtype.is_integer()):
            message = (
                f"{path}: found a column {name!r} of {table[name].dtype}, expected {', '.join(columns)} and whole "
                "numbers in n_<code>; run `marrowscope evaluate` again"
            )
            raise InputError(message)
    for name in (column.removesuffix("_lower") for column in table.columns if column.endswith("_lower")):
        lower, upper = table[f"{name}_lower"], table[f"{name}_upper"]
        if (lower.is_null() != upper.is_null()).any():
            message = (
                f"{path}: found one limit of an interval of {name} without the other, expected both or none; "
                "run `marrowscope evaluate` again"
            )
            raise InputError(message)
    return table


def _normal_blasts(rows: tuple[NormalBlasts, ...]) -> pl.DataFrame:
    if not rows:
        return pl.DataFrame(schema=NORMAL_BLAST_COLUMNS)
    return pl.DataFrame(
        [
            {
                "center": row.center,
                "diagnosis": row.diagnosis,
                "n_patients": row.n_patients,
                "n_cells": row.n_cells,
                **{f"n_{code}": n for code, n in row.n_by_code},
                "n_found": row.n_found,
                "n_called_cblc": row.n_called_cblc,
            }
            for row in rows
        ]
    )


def _figure_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for figure in scores.figures:
        yield _figure_row(scores.center, figure)


def _figure_row(center: str, figure: Figure) -> dict[str, Any]:
    record = figure_record(figure)
    row = {name: value for name, value in record.model_dump().items() if name in WRITTEN_TABLES["metrics.csv"]}
    warning = record.warning.text if record.warning else ""
    return row | {"center": center, "metric": record.name, "warning": warning}


def _class_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.class_figures:
        yield {
            "center": scores.center,
            "over": item.over,
            "category": item.label,
            "n": item.n,
            "n_called": item.n_called,
            "n_patients": item.n_patients,
            **limits_of("precision", item.precision),
            **limits_of("recall", item.recall),
            **limits_of("f1", item.f1),
        }


def _recall_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.class_recalls:
        yield {
            "center": scores.center,
            "kind": item.kind,
            "label": item.label,
            "n": item.n,
            "n_patients": item.n_patients,
            **limits_of("before_rules", item.before_rules),
            **limits_of("after_rules", item.after_rules),
        }


def _confusion_rows(scores: CenterScores, categories: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    called = (*categories, MISSED)
    for over, confusion in scores.category_confusion.items():
        exact = zip(categories, confusion, strict=True)
        for true, counts in (*exact, *scores.coarse_confusion[over].items()):
            for j, n in enumerate(counts):
                if n:
                    yield {
                        "center": scores.center,
                        "over": over,
                        "true": true,
                        "called": called[j],
                        "n": int(n),
                    }


def _reliability_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.reliability:
        yield {
            "center": scores.center,
            "head": item.head,
            "bin": item.index,
            "n": item.n,
            "mean_probability": item.mean_probability,
            **limits_of("share", item.share),
        }


def _subgroup_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.subgroups:
        yield {"center": scores.center} | subgroup_record(item).model_dump()


def _decision_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.decision_curve:
        yield {"center": scores.center} | decision_record(item).model_dump()


def _curve_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for name, curve in scores.curves.items():
        points = zip(curve.false_positive_rate, curve.true_positive_rate, curve.threshold, strict=True)
        for false_positive, true_positive, threshold in points:
            yield {
                "center": scores.center,
                "curve": name,
                "false_positive_rate": float(false_positive),
                "true_positive_rate": float(true_positive),
                "threshold": float(threshold) if math.isfinite(threshold) else None,
            }
