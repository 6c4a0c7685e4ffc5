"""An evaluation as files: metrics.json (everything), metrics.csv (a row per figure), metrics.md (to read)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.evaluate.compare import Evaluation
    from marrowscope.evaluate.scores import CenterScores, Figure
    from marrowscope.records import Interval, JsonDict

_COLUMNS = {
    "center": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "all_negative": pl.Float64(),
    "n": pl.Int64(),
    "unit": pl.String(),
    "n_patients": pl.Int64(),
    "note": pl.String(),
}


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write metrics.json, metrics.csv, metrics.md and the per-patient ratios (ratios.csv) into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(evaluation), indent=2, allow_nan=False)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    figure_table(evaluation).write_csv(out / "metrics.csv")
    evaluation.linked.ratios.write_csv(out / "ratios.csv")
    (out / "metrics.md").write_text(as_markdown(evaluation), encoding="utf-8")


def figure_table(evaluation: Evaluation) -> pl.DataFrame:
    """Give every figure, and the recall of every class, as one row each; NaN becomes null."""
    rows = [_figure_row(scores.center, figure) for scores in evaluation.centers for figure in scores.figures]
    for scores in evaluation.centers:
        for item in scores.class_recalls:
            for when, value in (("before quality rules", item.before_rules), ("after quality rules", item.after_rules)):
                name = f"recall of {item.kind} {item.label}, {when}"
                rows.append({"center": scores.center, "metric": name, "n": item.n, "unit": "cells", **_limits(value)})
    return pl.DataFrame(rows, schema=_COLUMNS)


def as_json(evaluation: Evaluation) -> JsonDict:
    """Give the evaluation as plain values."""
    linked = evaluation.linked
    return {
        "run": evaluation.run,
        "config": evaluation.config.model_dump(mode="json"),
        "interval": "95% percentile bootstrap over patients",
        "n_fields_only_in_run": linked.n_fields_only_in_run,
        "n_fields_only_in_cohort": linked.n_fields_only_in_cohort,
        "centers": [_center_json(scores, evaluation.categories) for scores in evaluation.centers],
    }


def _center_json(scores: CenterScores, categories: tuple[str, ...]) -> JsonDict:
    return {
        "center": scores.center,
        "n_patients": scores.n_patients,
        "n_fields": scores.n_fields,
        "figures": [_figure_row(scores.center, figure) for figure in scores.figures],
        "recall_by_class": [
            {
                "kind": item.kind,
                "label": item.label,
                "n": item.n,
                "before_rules": _limits(item.before_rules),
                "after_rules": _limits(item.after_rules),
            }
            for item in scores.class_recalls
        ],
        "categories_matched": {
            name: {"n": score.n, "precision": score.precision, "recall": score.recall, "f1": score.f1}
            for name, score in zip(categories, scores.category_scores, strict=True)
        },
        "confusion_matched": {"order": list(categories), "rows_true": scores.category_confusion[:, :-1].tolist()},
    }


def as_markdown(evaluation: Evaluation) -> str:
    """Give the evaluation as tables to read."""
    linked = evaluation.linked
    lines = [
        "# Evaluation",
        "",
        "Value [95% bootstrap interval over patients]. For research use; it does not diagnose.",
        f"Fields only in the run: {linked.n_fields_only_in_run}; only in the cohort: {linked.n_fields_only_in_cohort}.",
    ]
    for scores in evaluation.centers:
        lines += ["", f"## {_cell(scores.center)}: {scores.n_patients} patients, {scores.n_fields} fields", ""]
        lines += ["| figure | value | all negative | n | patients | note |", "|---|---|---|---|---|---|"]
        for figure in scores.figures:
            reference = "" if figure.reference is None else _number(figure.reference)
            lines.append(
                f"| {figure.name} | {_interval(figure.value)} | {reference} | {figure.n} {figure.unit} "
                f"| {figure.n_patients} | {_cell(figure.note)} |"
            )
        lines += ["", "| class | n | recall before rules | recall after rules |", "|---|---|---|---|"]
        lines += [
            f"| {item.kind} {_cell(item.label)} | {item.n} | {_interval(item.before_rules)} "
            f"| {_interval(item.after_rules)} |"
            for item in scores.class_recalls
        ]
        lines += ["", "| category, matched cells | n | precision | recall | F1 |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {score.n} | {_number(score.precision)} | {_number(score.recall)} | {_number(score.f1)} |"
            for name, score in zip(evaluation.categories, scores.category_scores, strict=True)
            if score.n
        ]
    return "\n".join(lines) + "\n"


def _figure_row(center: str, figure: Figure) -> dict[str, Any]:
    return {
        "center": center,
        "metric": figure.name,
        **_limits(figure.value),
        "all_negative": _finite(figure.reference),
        "n": figure.n,
        "unit": figure.unit,
        "n_patients": figure.n_patients,
        "note": figure.note,
    }


def _limits(value: Interval) -> dict[str, float | None]:
    return {"value": _finite(value.estimate), "lower": _finite(value.lower), "upper": _finite(value.upper)}


def _finite(value: float | None) -> float | None:
    """Give None for NaN, which JSON does not have."""
    return None if value is None or math.isnan(value) else float(value)


def _interval(value: Interval) -> str:
    if math.isnan(value.estimate):
        return "not defined"
    if math.isnan(value.lower):
        return f"{_number(value.estimate)} [no interval]"
    return f"{_number(value.estimate)} [{_number(value.lower)}, {_number(value.upper)}]"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _cell(text: str) -> str:
    """Keep user-given text inside its table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
