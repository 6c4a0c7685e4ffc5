"""An evaluation as files: metrics.json (figures and settings), one CSV a table, metrics.md to read.

The files are written beside their place and moved there; metrics.json, which says that an evaluation is whole, last.
Only a folder that is empty, or of which a marker names every file, is written into.
"""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope import __version__
from marrowscope.disk import (
    MARKER_NAME,
    begin_folder,
    mark_folder,
    name_files,
    refuse_foreign_folder,
    refuse_working_folder,
    write_text,
    written_whole,
)
from marrowscope.errors import InputError
from marrowscope.evaluate.frames import CALL_COLUMNS, RISK_COLUMNS
from marrowscope.evaluate.markdown import as_markdown
from marrowscope.evaluate.scorer import INTERVAL_NATURE
from marrowscope.runs.folder import MADE_FROM_A_RUN, RUN_KIND, refuse_run_folder, staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.evaluate.evaluation import Evaluation
    from marrowscope.evaluate.scorer import Figure
    from marrowscope.evaluate.scores import CenterScores
    from marrowscope.records import Interval, JsonDict

SCHEMA_VERSION = 1
EVALUATION_KIND = "evaluation"
METRICS_NAME = "metrics.json"
RUN_NAME = "run"
"""The run of an evaluated bundle, inside the evaluation's folder."""

TABLE_NAMES = (
    "metrics.csv",
    "per_class.csv",
    "recall_by_class.csv",
    "confusion.csv",
    "reliability.csv",
    "roc.csv",
    "patients.csv",
    "normal_blasts.csv",
    "calls.csv",
    "risk_coverage.csv",
)
MISSED = "missed"
_OWN = frozenset({METRICS_NAME, "metrics.md", "index.html", "figures", RUN_NAME, *TABLE_NAMES})
_FIGURE_COLUMNS = {
    "center": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "all_negative": pl.Float64(),
    "n": pl.Int64(),
    "unit": pl.String(),
    "n_patients": pl.Int64(),
    "marks": pl.String(),
    "interval": pl.String(),
    "group": pl.String(),
    "note": pl.String(),
    "warning": pl.String(),
    "undefined": pl.String(),
}


_PLACE = {"center": pl.String()}


def _with_limits(*names: str) -> dict[str, pl.DataType]:
    return {name + end: pl.Float64() for name in names for end in ("", "_lower", "_upper")}


_SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "per_class.csv": {
        **_PLACE,
        "over": pl.String(),
        "category": pl.String(),
        "n": pl.Int64(),
        "n_called": pl.Int64(),
        "n_patients": pl.Int64(),
        **_with_limits("precision", "recall", "f1"),
    },
    "recall_by_class.csv": {
        **_PLACE,
        "kind": pl.String(),
        "label": pl.String(),
        "n": pl.Int64(),
        "n_patients": pl.Int64(),
        **_with_limits("before_rules", "after_rules"),
    },
    "confusion.csv": {
        **_PLACE,
        "over": pl.String(),
        "true": pl.String(),
        "called": pl.String(),
        "n": pl.Int64(),
    },
    "reliability.csv": {
        **_PLACE,
        "head": pl.String(),
        "bin": pl.Int64(),
        "n": pl.Int64(),
        "mean_probability": pl.Float64(),
        **_with_limits("share"),
    },
    "roc.csv": {
        **_PLACE,
        "curve": pl.String(),
        "false_positive_rate": pl.Float64(),
        "true_positive_rate": pl.Float64(),
        "threshold": pl.Float64(),
    },
}


def check_evaluation_folder(out: Path, *, overwrite: bool) -> None:
    """Raise InputError when ``out`` holds anything but an earlier evaluation, or one that may not be replaced.

    A folder with nothing but a bundle's run counts as one: the evaluation was stopped before its end.
    """
    refuse_working_folder(out, EVALUATION_KIND, error=InputError)
    names_of_a_run = {RUN_NAME, staging_folder(out / RUN_NAME).name}
    if out.is_dir() and set() < {path.name for path in out.iterdir()} <= names_of_a_run:
        refuse_run_folder(out / RUN_NAME, overwrite=overwrite)
        return
    within = (RUN_KIND, *MADE_FROM_A_RUN)
    refuse_foreign_folder(out, EVALUATION_KIND, overwrite=overwrite, error=InputError, within=within)


@contextmanager
def evaluation_folder(out: Path, *, overwrite: bool = False, keep_run: bool = False) -> Iterator[Path]:
    """Give a folder to write an evaluation into; its files move to ``out`` when all went well.

    What an earlier evaluation left in ``out`` is removed then. ``keep_run``: the folder ``run`` in ``out`` belongs to
    this evaluation (a bundle predicted it a moment ago) and stays. Raises InputError as ``check_evaluation_folder``
    does, at once and again before anything is removed.
    """
    check_evaluation_folder(out, overwrite=overwrite or keep_run)
    staging = out.with_name(out.name + ".part")
    begin_folder(staging, EVALUATION_KIND, error=InputError)
    try:
        yield staging
        mark_folder(staging, EVALUATION_KIND)
        check_evaluation_folder(out, overwrite=overwrite or keep_run)
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(_OWN - ({RUN_NAME} if keep_run else frozenset())):
            old = out / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        order = {MARKER_NAME: -1, METRICS_NAME: 1}  # the marker first: what a killed call leaves is named by it
        for path in sorted(staging.iterdir(), key=lambda path: order.get(path.name, 0)):
            path.replace(out / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, the tables and metrics.md into ``folder``, which is made where it is absent."""
    name_files(folder, EVALUATION_KIND, [METRICS_NAME, "metrics.md", *TABLE_NAMES])
    for name, table in tables(evaluation).items():
        with written_whole(folder / name) as temporary:
            table.write_csv(temporary)
    write_text(folder / "metrics.md", as_markdown(evaluation))
    text = json.dumps(as_json(evaluation), indent=2, allow_nan=False)
    write_text(folder / METRICS_NAME, text + "\n")


def tables(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    """Give every table by its file name; NaN becomes null."""
    rows_of: dict[str, Callable[[CenterScores], Iterator[dict[str, Any]]]] = {
        "per_class.csv": _class_rows,
        "recall_by_class.csv": _recall_rows,
        "confusion.csv": lambda scores: _confusion_rows(scores, evaluation.categories),
        "reliability.csv": _reliability_rows,
        "roc.csv": _curve_rows,
    }
    frames = {
        name: pl.DataFrame([row for scores in evaluation.centers for row in rows(scores)], schema=_SCHEMAS[name])
        for name, rows in rows_of.items()
    }
    frames["calls.csv"] = pl.concat([pl.DataFrame(schema=CALL_COLUMNS), *(s.calls for s in evaluation.centers)])
    frames["risk_coverage.csv"] = pl.concat(
        [pl.DataFrame(schema=RISK_COLUMNS), *(s.risk_coverage for s in evaluation.centers)]
    )
    # The last scores are those of all centers, or of the only one: their rows name every center.
    normal = evaluation.centers[-1].normal_blasts if evaluation.centers else ()
    frames |= {
        "patients.csv": evaluation.linked.ratios,
        "normal_blasts.csv": pl.DataFrame(
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
                for row in normal
            ]
        ),
    }
    return {"metrics.csv": figure_table(evaluation)} | frames


def figure_table(evaluation: Evaluation) -> pl.DataFrame:
    """Give every figure as one row; NaN becomes null."""
    rows = [_figure_row(figure) | {"center": s.center} for s in evaluation.centers for figure in s.figures]
    return pl.DataFrame([{"metric": row.pop("name"), **row} for row in rows], schema=_FIGURE_COLUMNS)


def as_json(evaluation: Evaluation) -> JsonDict:
    """Give what was measured, on what and how, as plain values; the tables stand beside it."""
    linked = evaluation.linked
    return {
        "schema_version": SCHEMA_VERSION,
        "marrowscope_version": __version__,
        "run": evaluation.run,
        "config": evaluation.config.model_dump(mode="json"),
        "interval": INTERVAL_NATURE,
        "categories": list(evaluation.categories),
        "n_fields_only_in_run": linked.n_fields_only_in_run,
        "n_fields_only_in_cohort": linked.n_fields_only_in_cohort,
        "centers": [
            {
                "center": scores.center,
                "n_patients": scores.n_patients,
                "n_fields": scores.n_fields,
                "figures": [{"key": figure.key, **_figure_row(figure)} for figure in scores.figures],
            }
            for scores in evaluation.centers
        ],
    }


def _figure_row(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        **_limits(figure.value),
        "all_negative": _finite(figure.reference),
        "n": figure.n,
        "unit": figure.unit,
        "n_patients": figure.n_patients,
        "marks": figure.marks,
        "interval": figure.method,
        "group": figure.group,
        "note": figure.note,
        "warning": figure.warning,
        "undefined": figure.undefined,
    }


def _class_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.class_figures:
        yield {
            "center": scores.center,
            "over": item.over,
            "category": item.label,
            "n": item.n,
            "n_called": item.n_called,
            "n_patients": item.n_patients,
            **_columns("precision", item.precision),
            **_columns("recall", item.recall),
            **_columns("f1", item.f1),
        }


def _recall_rows(scores: CenterScores) -> Iterator[dict[str, Any]]:
    for item in scores.class_recalls:
        yield {
            "center": scores.center,
            "kind": item.kind,
            "label": item.label,
            "n": item.n,
            "n_patients": item.n_patients,
            **_columns("before_rules", item.before_rules),
            **_columns("after_rules", item.after_rules),
        }


def _confusion_rows(scores: CenterScores, categories: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    called = (*categories, MISSED)
    for over, confusion in scores.category_confusion.items():
        for k, counts in enumerate(confusion):
            for j, n in enumerate(counts):
                if n:
                    yield {
                        "center": scores.center,
                        "over": over,
                        "true": categories[k],
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
            **_columns("share", item.share),
        }


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


def _columns(name: str, value: Interval) -> dict[str, float | None]:
    limits = _limits(value)
    return {name: limits["value"], f"{name}_lower": limits["lower"], f"{name}_upper": limits["upper"]}


def _limits(value: Interval) -> dict[str, float | None]:
    return {"value": _finite(value.estimate), "lower": _finite(value.lower), "upper": _finite(value.upper)}


def _finite(value: float | None) -> float | None:
    """Give None for NaN, which JSON does not have."""
    return None if value is None or math.isnan(value) else float(value)
