"""The figures of an evaluation, drawn from its tables cut to one centre.

Each function gives a drawing, or None where the tables hold nothing to draw. Colour is never the only cue: series
differ in shape or dash too, and every mark has its numbers as a tooltip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.report.plot import Drawing, Panel, text_width

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MATCHED, ALL_EXPERT, MISSED = "matched", "all expert", "missed"
FEW_PATIENTS = 5
"""A class with cells of fewer patients is marked: its interval is too narrow."""

_HEADS = {"cblc": "CBLC", "category": "Category called"}
_DARK_FROM = 0.55
"""Share of a row from which a tile is so dark that its number is printed in the colour of the paper."""


@dataclass(frozen=True)
class CenterTables:
    """The tables of one centre, and its figures by name (value, lower, upper, n, undefined, ...)."""

    center: str
    figures: Mapping[str, Mapping[str, Any]]
    confusion: pl.DataFrame
    per_class: pl.DataFrame
    reliability: pl.DataFrame
    roc: pl.DataFrame
    patients: pl.DataFrame
    risk_coverage: pl.DataFrame
    categories: Sequence[str]
    aml_diagnoses: Sequence[str]
    threshold: float | None


def confusion(tables: CenterTables) -> Drawing | None:
    """Draw the counts by true and called category, misses included, shaded by the share of the true category."""
    counts = tables.confusion.filter(pl.col("over") == ALL_EXPERT)
    if counts.is_empty():
        return None
    n_of = {(row["true"], row["called"]): row["n"] for row in counts.iter_rows(named=True)}
    used = {name for pair in n_of for name in pair}
    names = [name for name in tables.categories if name in used]
    columns = [*names, MISSED]
    total = {name: sum(n for (true, _), n in n_of.items() if true == name) for name in names}
    side, left, top = 36.0, 66.0, 46.0
    gap = 8.0
    width = left + side * len(columns) + gap + 66
    height = top + side * len(names) + 14
    errors = sorted(((n, pair) for pair, n in n_of.items() if pair[0] != pair[1]), reverse=True)
    worst = ", ".join(f"{true} {_called(called)} {n}" for n, (true, called) in errors[:5]) or "none"
    right = sum(n for (true, called), n in n_of.items() if true == called)
    label = (
        f"Confusion matrix of {tables.center}: {right} of {sum(total.values())} expert cells have the expert's "
        f"category. Most frequent errors: {worst}."
    )
    drawing = Drawing(width, height, label)
    drawing.text(left, 14, "called", "ink")
    drawing.text(4, top - 9, "expert", "ink")
    drawing.text(width - 4, top - 9, "n", "end")
    for column, called in enumerate(columns):
        x = left + side * column + (gap if called == MISSED else 0)
        drawing.text(x + side / 2, top - 9, called, "middle ink" if called != MISSED else "middle")
    for row, true in enumerate(names):
        y = top + side * row
        drawing.text(left - 10, y + side / 2 + 4, true, "end strong")
        drawing.text(width - 4, y + side / 2 + 4, f"{total[true]:,}", "end")
        for column, called in enumerate(columns):
            x = left + side * column + (gap if called == MISSED else 0)
            n = n_of.get((true, called), 0)
            share = n / total[true] if total[true] else 0.0
            drawing.add("rect", x=x, y=y, width=side - 1.5, height=side - 1.5, css="blank")
            if n:
                title = f"{true} {_called(called)}: {n} of {total[true]} ({100 * share:.1f}%)"
                opacity = f"{0.12 + 0.88 * share:.2f}"
                drawing.add(
                    "rect",
                    x=x,
                    y=y,
                    width=side - 1.5,
                    height=side - 1.5,
                    css="tile",
                    fill_opacity=opacity,
                    title=title,
                )
                css = "middle on-mark" if share >= _DARK_FROM else "middle ink"
                drawing.text(x + side / 2 - 0.75, y + side / 2 + 3.5, str(n), css)
    return drawing


def per_class_f1(tables: CenterTables) -> Drawing | None:
    """F1 of each category with its interval: a dot over all expert cells, a ring over matched cells."""
    rows = tables.per_class.filter(pl.col("f1").is_not_null())
    names = [name for name in tables.categories if name in set(rows["category"])]
    if not names:
        return None
    by_key = {(row["category"], row["over"]): row for row in rows.iter_rows(named=True)}
    step, top, left = 33.0, 34.0, 104.0
    drawing = Drawing(470, top + step * len(names) + 48, "")
    panel = Panel(drawing, left, top, drawing.width - left - 22, step * len(names))
    _series_legend(drawing, left, 14, [("circle", "dot a", "all expert cells"), ("circle", "open b", "matched cells")])
    bottom = panel.top + panel.height
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.line(panel.x(tick), panel.top, panel.x(tick), bottom, "grid")
        drawing.text(panel.x(tick), bottom + 17, f"{tick:g}", "middle")
    drawing.text(panel.x(0.5), bottom + 38, "F1", "middle ink")
    spoken = []
    for row, name in enumerate(names):
        middle = panel.top + step * (row + 0.5)
        known = by_key.get((name, ALL_EXPERT)) or by_key[name, MATCHED]
        drawing.text(40, middle + 4, name, "end strong")
        drawing.text(left - 12, middle + 4, f"n {known['n']:,}", "end")
        if known["n_patients"] < FEW_PATIENTS:
            drawing.text(left - 11, middle + 4, "*")
        for over, shape, css, offset in ((ALL_EXPERT, "dot", "a", -5.5), (MATCHED, "open", "b", 5.5)):
            item = by_key.get((name, over))
            if item is None:
                continue
            y = middle + offset
            title = f"{name}, {over} cells: F1 {_interval(item, 'f1')}, n {item['n']} of {item['n_patients']} patients"
            if item["f1_lower"] is not None:
                drawing.whisker(panel.x(item["f1_lower"]), y, panel.x(item["f1_upper"]), y, css, title=title)
            drawing.mark(panel.x(item["f1"]), y, "circle", f"{shape} {css}", title)
            if over == ALL_EXPERT:
                spoken.append(f"{name} {item['f1']:.2f}")
    drawing.label = f"F1 of each category at {tables.center}, all expert cells: {', '.join(spoken)}."
    return drawing


def reliability(tables: CenterTables) -> Drawing | None:
    """Share that was so against mean probability, for CBLC and for the called category."""
    if tables.reliability.is_empty():
        return None
    drawing = Drawing(744, 374, "")
    spoken = []
    for index, (head, title) in enumerate(_HEADS.items()):
        bins = tables.reliability.filter(pl.col("head") == head)
        panel = Panel(drawing, 58 + 376 * index, 34, 296, 284)
        error = tables.figures.get(f"{head} calibration error, matched", {}).get("value")
        heading = f"{title}: calibration error {error:.3f}" if error is not None else title
        drawing.text(panel.left, 16, heading, "strong")
        n_cells = int(bins["n"].sum())
        shown = f"n {n_cells:,} cells in {len(bins)} bins"
        panel.axes(
            "probability of CBLC, mean of a bin" if head == "cblc" else "probability of the called category",
            "share CBLC" if head == "cblc" else "share right",
        )
        drawing.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), "guide")
        drawing.text(panel.x(0.98), panel.y(0.04), shown, "end")
        for row in bins.iter_rows(named=True):
            x, y = panel.x(row["mean_probability"]), panel.y(row["share"])
            words = f"mean probability {row['mean_probability']:.3f}, share {_interval(row, 'share')}, n {row['n']}"
            if row["share_lower"] is not None:
                drawing.whisker(x, panel.y(row["share_lower"]), x, panel.y(row["share_upper"]), "a", title=words)
            drawing.mark(x, y, "circle", "dot a", words)
        spoken.append(f"{heading}, {shown}")
    drawing.label = f"Reliability at {tables.center}. {'; '.join(spoken)}. Points on the diagonal are calibrated."
    return drawing


def roc(tables: CenterTables) -> Drawing | None:
    """ROC curves of CBLC by cell and of AML by the patient's ratio."""
    curves = [name for name in _CURVES if name in set(tables.roc["curve"])]
    if not curves:
        return None
    drawing = Drawing(366, 374 + 18 * len(curves), "")
    panel = Panel(drawing, 58, 34, 290, 284)
    drawing.text(panel.left, 16, "Receiver operating characteristic", "strong")
    panel.axes("1 - specificity", "sensitivity")
    drawing.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), "guide")
    spoken = []
    for index, name in enumerate(curves):
        css, figure_name, short = _CURVES[name]
        points = tables.roc.filter(pl.col("curve") == name)
        panel.path(list(points.select("false_positive_rate", "true_positive_rate").iter_rows()), css)
        figure = tables.figures.get(figure_name, {})
        words = f"{short}: AUC {_interval(figure, 'value')}, n {figure.get('n')}" if figure else short
        y = 384 + 18 * index
        drawing.add("polyline", points=f"10,{y - 4} 40,{y - 4}", css=f"line {css}")
        drawing.text(48, y, words, "ink")
        spoken.append(words)
    drawing.label = f"ROC curves at {tables.center}. {'; '.join(spoken)}."
    return drawing


_CURVES = {
    "CBLC of a cell, matched": ("a", "CBLC AUC, matched", "CBLC, cells"),
    "AML by the predicted ratio": ("b dashed", "AML AUC, predicted ratio", "AML, predicted"),
    "AML by the corrected ratio": ("b", "AML AUC, corrected ratio", "AML, corrected"),
    "AML by the annotated ratio": ("c dotted", "AML AUC, annotated ratio", "AML, annotated"),
}


def ratio_agreement(tables: CenterTables) -> Drawing | None:
    """Predicted against annotated CBLC ratio, a mark a patient; AML filled, other diagnoses open."""
    rows = _paired(tables)
    if not rows:
        return None
    drawing = Drawing(366, 392, "")
    end = axis_end(_largest(rows))
    panel = Panel(drawing, 58, 34, 290, 284, (0.0, end), (0.0, end))
    drawing.text(panel.left, 16, f"CBLC ratio, {counted(len(rows))}", "strong")
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
    drawing.label = (
        f"Predicted against annotated CBLC ratio of {counted(len(rows))} at {tables.center}; mean "
        f"absolute error {_interval(tables.figures.get('patient ratio MAE', {}), 'value')}."
    )
    return drawing


def bland_altman(tables: CenterTables) -> Drawing | None:
    """Difference of the ratios against their mean, with bias and limits of agreement (Bland, Altman 1986)."""
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
    drawing.text(panel.left, 16, f"Predicted - annotated ratio, {counted(len(rows))}", "strong")
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
    drawing.label = f"Bland-Altman plot of {counted(len(rows))} at {tables.center}: {spoken}."
    return drawing


FIGURES: dict[str, tuple[str, Callable[[CenterTables], Drawing | None]]] = {
    "confusion": ("Confusion, all expert cells", confusion),
    "per_class_f1": ("F1 by category", per_class_f1),
    "reliability": ("Reliability, matched cells", reliability),
    "roc": ("ROC", roc),
    "ratio": ("Ratio, predicted against annotated", ratio_agreement),
    "bland_altman": ("Bland-Altman", bland_altman),
}
"""File name to title and drawing, in the order of the page."""


def _paired(tables: CenterTables) -> list[dict[str, Any]]:
    rows = tables.patients.filter(pl.col("true_ratio").is_not_null() & pl.col("predicted_ratio").is_not_null())
    return rows.sort("patient_id").to_dicts()


def _largest(rows: Sequence[Mapping[str, Any]]) -> float:
    names = ("true_ratio", "predicted_ratio", "true_ratio_with_normal")
    return float(max(row[name] or 0.0 for row in rows for name in names))


def axis_end(largest: float) -> float:
    """Give the end of a ratio axis: 1, or less where all ratios are small."""
    return next(end for end in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if largest <= end * 0.97 or end == 1.0)


def is_aml(row: Mapping[str, Any], tables: CenterTables) -> bool:
    """Say whether a patient's diagnosis is among those that count as AML."""
    names = {name.strip().casefold() for name in tables.aml_diagnoses}
    return (row["diagnosis"] or "").strip().casefold() in names


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


def aml_legend(drawing: Drawing, rows: Sequence[Mapping[str, Any]], tables: CenterTables, y: float) -> None:
    """Name the two marks, with the patients of each."""
    n_aml = sum(is_aml(row, tables) for row in rows)
    entries = [("circle", "dot a", f"AML, n {n_aml}"), ("diamond", "open b", f"other diagnoses, n {len(rows) - n_aml}")]
    _series_legend(drawing, 58, y, entries)


def threshold_line(panel: Panel, threshold: float | None) -> None:
    """Draw the threshold across a panel of ratios, where there is one and it lies on the axis."""
    end = panel.y_range[1]
    if threshold is None or threshold >= end:
        return
    y, right, words = panel.y(threshold), panel.left + panel.width, f"threshold {100 * threshold:.1f}%"
    panel.drawing.line(panel.left, y, right, y, "whisker c dotted", title=words)
    panel.drawing.text(right - 2, y - 5, words, "end")


def _series_legend(drawing: Drawing, x: float, y: float, entries: Sequence[tuple[str, str, str]]) -> None:
    for shape, css, words in entries:
        drawing.mark(x + 5, y - 4, shape, css)
        drawing.text(x + 15, y, words)
        x += 15 + text_width(words) + 18


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Move labels, given from top to bottom, so far apart that they do not touch; the middle one stays."""
    moved = list(heights)
    middle = len(moved) // 2
    for index in range(middle + 1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + least)
    for index in range(middle - 1, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - least)
    return moved


def _interval(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return "not defined"
    lower = row.get("lower" if name == "value" else f"{name}_lower")
    upper = row.get("upper" if name == "value" else f"{name}_upper")
    return f"{value:.3f}" if lower is None else f"{value:.3f} [{lower:.3f}, {upper:.3f}]"


def _called(name: str) -> str:
    return MISSED if name == MISSED else f"called {name}"


def counted(n_patients: int) -> str:
    """Give ``1 patient``, ``2 patients``."""
    return f"{n_patients} {'patient' if n_patients == 1 else 'patients'}"
