"""The drawings of an evaluation that compare the predicted ratio of each patient with the annotated ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import COUNTED
from marrowscope.report.evaluation_center import (
    aml_legend,
    axis_end,
    figure_interval,
    is_aml,
    threshold_line,
)
from marrowscope.report.plot import Drawing, Panel
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.report.evaluation_center import CenterTables


def _ratio_agreement(tables: CenterTables) -> Drawing | None:
    """Draw the predicted against the annotated CBLC ratio, one mark per patient; AML filled, other diagnoses open."""
    rows = _paired(tables)
    if not rows:
        return None
    drawing = Drawing(366, 392, "")
    end = axis_end(_largest(rows))
    panel = Panel(drawing, 58, 34, 290, 284, (0.0, end), (0.0, end))
    drawing.text(panel.left, 16, f"CBLC ratio, {count_of(len(rows), 'patient')}", "strong")
    panel.axes("annotated", "predicted", percent=True)
    drawing.line(panel.x(0), panel.y(0), panel.x(end), panel.y(end), "guide")
    threshold_line(panel, tables.threshold)
    for row in rows:
        x, y = panel.x(row["true_ratio"]), panel.y(row["predicted_ratio"])
        with_normal = row["true_ratio_with_normal"]
        if with_normal is not None and with_normal != row["true_ratio"]:
            words = f"{row['patient_id']}: annotated {100 * with_normal:.1f}% with N0 and M0 counted as CBLC"
            drawing.line(x, y, panel.x(with_normal), y, "whisker c", title=words)
        _patient_mark(drawing, x, y, row, tables)
    aml_legend(drawing, rows, tables, 384)
    error = tables.record.figure(f"patient_ratio_mae{COUNTED.key}")
    drawing.label = (
        f"Predicted against annotated CBLC ratio of {count_of(len(rows), 'patient')} at {tables.center}; mean "
        f"absolute error {figure_interval(error)}."
    )
    return drawing


def bland_altman(tables: CenterTables) -> Drawing | None:
    """Draw the difference of the ratios against their mean, with bias and limits of agreement (Bland, Altman 1986)."""
    rows = _paired(tables)
    if not rows:
        return None
    truth = np.array([row["true_ratio"] for row in rows])
    difference = np.array([row["predicted_ratio"] for row in rows]) - truth
    bias = float(difference.mean())
    spread = float(difference.std(ddof=1)) if len(rows) > 1 else math.nan
    lines = [("bias", bias)]
    if len(rows) > 1:
        lines = [("upper limit", bias + 1.96 * spread), *lines, ("lower limit", bias - 1.96 * spread)]
    reach = max(0.05, 1.15 * max(abs(value) for value in (*difference.tolist(), *(value for _, value in lines))))
    drawing = Drawing(744, 392, "")
    panel = Panel(drawing, 58, 34, 534, 284, (0.0, axis_end(_largest(rows))), (-reach, reach))
    drawing.text(panel.left, 16, f"Predicted - annotated ratio, {count_of(len(rows), 'patient')}", "strong")
    panel.axes("mean of predicted and annotated", "predicted - annotated", percent=True)
    drawing.line(panel.left, panel.y(0), panel.left + panel.width, panel.y(0), "axis")
    right = panel.left + panel.width
    heights = _apart([panel.y(value) for _, value in lines], 16)
    for (name, value), height in zip(lines, heights, strict=True):
        css = "whisker a" if name == "bias" else "whisker a dashed"
        drawing.line(panel.left, panel.y(value), right, panel.y(value), css, title=f"{name} {100 * value:+.1f}%")
        drawing.text(right + 8, height + 4, f"{name} {100 * value:+.1f}%", "ink")
    for row, delta in zip(rows, difference, strict=True):
        x = panel.x((row["true_ratio"] + row["predicted_ratio"]) / 2)
        _patient_mark(drawing, x, panel.y(float(delta)), row, tables)
    aml_legend(drawing, rows, tables, 384)
    spoken = ", ".join(f"{name} {100 * value:+.1f}%" for name, value in lines)
    drawing.label = f"Bland-Altman plot of {count_of(len(rows), 'patient')} at {tables.center}: {spoken}."
    return drawing


RATIO_FIGURES: dict[str, tuple[str, Callable[[CenterTables], Drawing | None]]] = {
    "ratio": ("Ratio, predicted against annotated", _ratio_agreement),
    "bland_altman": ("Bland-Altman", bland_altman),
}
"""Title and drawing by file name, in page order."""


def _paired(tables: CenterTables) -> list[dict[str, Any]]:
    rows = tables.patients.filter(pl.col("true_ratio").is_not_null() & pl.col("predicted_ratio").is_not_null())
    return rows.sort("patient_id").to_dicts()


def _largest(rows: Sequence[Mapping[str, Any]]) -> float:
    names = ("true_ratio", "predicted_ratio", "true_ratio_with_normal")
    return float(max(row[name] or 0.0 for row in rows for name in names))


def _patient_mark(drawing: Drawing, x: float, y: float, row: Mapping[str, Any], tables: CenterTables) -> None:
    words = (
        f"{row['patient_id']} ({row['center']}, {row['diagnosis'] or 'no diagnosis'}): "
        f"predicted {row['n_predicted_cblc']} of {row['n_predicted_countable']} ({100 * row['predicted_ratio']:.1f}%), "
        f"annotated {row['n_true_cblc']} of {row['n_true_countable']} ({100 * row['true_ratio']:.1f}%)"
    )
    if is_aml(row, tables):
        drawing.mark(x, y, "circle", "dot a", words)
    else:
        drawing.mark(x, y, "diamond", "open b", words)


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Move labels, given from top to bottom, apart until they do not touch; the middle one stays in place."""
    moved = list(heights)
    middle = len(moved) // 2
    for index in range(middle + 1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + least)
    for index in range(middle - 1, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - least)
    return moved
