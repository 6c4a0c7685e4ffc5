"""The drawings of an evaluation that count cells: confusion, F1 by category, reliability, ROC.

Each function returns a drawing, or None if the tables have nothing to draw. Color is never the only cue: series also
differ in shape or dash, and every mark has its numbers as a tooltip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from marrowscope.evaluate.catalog import BY_ANNOTATED, BY_PREDICTED, CORRECTED, ON_MATCHED
from marrowscope.evaluate.frames import (
    ALL_EXPERT,
    CATEGORY_HEAD,
    CBLC_HEAD,
    MATCHED,
    MISSED,
    ROC_ANNOTATED,
    ROC_CBLC,
    ROC_CORRECTED,
    ROC_PREDICTED,
)
from marrowscope.evaluate.scorer import FEW_PATIENTS
from marrowscope.report.evaluation_center import figure_interval, row_interval, series_legend
from marrowscope.report.plot import Drawing, Panel
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.report.evaluation_center import CenterTables

_HEADS = {CBLC_HEAD: "CBLC", CATEGORY_HEAD: "Category called"}
_CURVES = {
    ROC_CBLC: ("a", f"cblc_auc{ON_MATCHED.key}", "CBLC, cells"),
    ROC_PREDICTED: ("b dashed", f"aml_auc{BY_PREDICTED.key}", "AML, predicted"),
    ROC_CORRECTED: ("b", f"aml_auc{CORRECTED.key}", "AML, corrected"),
    ROC_ANNOTATED: ("c dotted", f"aml_auc{BY_ANNOTATED.key}", "AML, annotated"),
}
"""The drawn curves: class, key of the area under the curve, name in the legend."""

_DARK_FROM = 0.55
"""Share of a row from which a tile is dark enough to print its number in the background color."""


def confusion(tables: CenterTables) -> Drawing | None:
    """Draw the counts by true and called category, including misses, shaded by the share of the true category.

    Coarse labels have rows below the categories and no column.
    """
    counts = tables.confusion.filter(pl.col("over") == ALL_EXPERT)
    if counts.is_empty():
        return None
    n_of = {(row["true"], row["called"]): row["n"] for row in counts.iter_rows(named=True)}
    used = {name for pair in n_of for name in pair}
    names = [name for name in tables.categories if name in used]
    columns = [*names, MISSED]
    coarse = sorted({true for true, _ in n_of} - {*tables.categories})
    rows = [*names, *coarse]
    total = {name: sum(n for (true, _), n in n_of.items() if true == name) for name in rows}
    side, left, top = 36.0, max(66.0, *(20 + 7 * len(name) for name in rows)), 46.0
    gap = 8.0
    width = left + side * len(columns) + gap + 66
    height = top + side * len(rows) + 14
    errors = sorted(((n, pair) for pair, n in n_of.items() if pair[0] in names and pair[0] != pair[1]), reverse=True)
    worst = ", ".join(f"{true} {_called(called)} {n}" for n, (true, called) in errors[:5]) or "none"
    right = sum(n for (true, called), n in n_of.items() if true == called)
    cells = count_of(sum(total[name] for name in names), "expert cell")
    label = f"Confusion matrix of {tables.center}: {right} of {cells} with the expert's category."
    label += f" Most frequent errors: {worst}."
    if coarse:
        label += f" Coarse labels have rows of their own: {count_of(sum(total[name] for name in coarse), 'cell')}."
    drawing = Drawing(width, height, label)
    drawing.text(left, 14, "called", "ink")
    drawing.text(4, top - 9, "expert", "ink")
    drawing.text(width - 4, top - 9, "n", "end")
    for column, called in enumerate(columns):
        x = left + side * column + (gap if called == MISSED else 0)
        drawing.text(x + side / 2, top - 9, called, "middle ink" if called != MISSED else "middle")
    for row, true in enumerate(rows):
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
    """Draw F1 of each category with its interval: a dot for all expert cells, a ring for matched cells."""
    rows = tables.per_class.filter(pl.col("f1").is_not_null())
    names = [name for name in tables.categories if name in set(rows["category"])]
    if not names:
        return None
    by_key = {(row["category"], row["over"]): row for row in rows.iter_rows(named=True)}
    step, top, left = 33.0, 34.0, 104.0
    drawing = Drawing(470, top + step * len(names) + 48, "")
    panel = Panel(drawing, left, top, drawing.width - left - 22, step * len(names))
    series_legend(drawing, left, 14, [("circle", "dot a", "all expert cells"), ("circle", "open b", "matched cells")])
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
            title = (
                f"{name}, {over} cells: F1 {row_interval(item, 'f1')}, n {item['n']} of "
                f"{count_of(item['n_patients'], 'patient')}"
            )
            if item["f1_lower"] is not None:
                drawing.whisker(panel.x(item["f1_lower"]), y, panel.x(item["f1_upper"]), y, css, title=title)
            drawing.mark(panel.x(item["f1"]), y, "circle", f"{shape} {css}", title)
            if over == ALL_EXPERT:
                spoken.append(f"{name} {item['f1']:.2f}")
    drawing.label = f"F1 of each category at {tables.center}, all expert cells: {', '.join(spoken)}."
    return drawing


def reliability(tables: CenterTables) -> Drawing | None:
    """Draw the observed share against the mean probability, for CBLC and for the called category."""
    if tables.reliability.is_empty():
        return None
    drawing = Drawing(744, 374, "")
    spoken = []
    for index, (head, title) in enumerate(_HEADS.items()):
        bins = tables.reliability.filter(pl.col("head") == head)
        panel = Panel(drawing, 58 + 376 * index, 34, 296, 284)
        figure = tables.record.figure(f"{head}_calibration_error{ON_MATCHED.key}")
        error = None if figure is None else figure.value
        heading = f"{title}: calibration error {error:.3f}" if error is not None else title
        drawing.text(panel.left, 16, heading, "strong")
        n_cells = int(bins["n"].sum())
        shown = f"n {count_of(n_cells, 'cell')} in {count_of(len(bins), 'bin')}"
        panel.axes(
            "mean probability of CBLC in a bin" if head == CBLC_HEAD else "probability of the called category",
            "share CBLC" if head == CBLC_HEAD else "share correct",
        )
        drawing.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), "guide")
        drawing.text(panel.x(0.98), panel.y(0.04), shown, "end")
        for row in bins.iter_rows(named=True):
            x, y = panel.x(row["mean_probability"]), panel.y(row["share"])
            words = f"mean probability {row['mean_probability']:.3f}, share {row_interval(row, 'share')}, n {row['n']}"
            if row["share_lower"] is not None:
                drawing.whisker(x, panel.y(row["share_lower"]), x, panel.y(row["share_upper"]), "a", title=words)
            drawing.mark(x, y, "circle", "dot a", words)
        spoken.append(f"{heading}, {shown}")
    drawing.label = f"Reliability at {tables.center}. {'; '.join(spoken)}. Points on the diagonal are calibrated."
    return drawing


def roc(tables: CenterTables) -> Drawing | None:
    """Draw the ROC curves of CBLC by cell and of AML by the patient's ratio."""
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
        css, key, short = _CURVES[name]
        points = tables.roc.filter(pl.col("curve") == name)
        panel.path(list(points.select("false_positive_rate", "true_positive_rate").iter_rows()), css)
        figure = tables.record.figure(key)
        words = f"{short}: AUC {figure_interval(figure)}, n {figure.n}" if figure else short
        y = 384 + 18 * index
        drawing.add("polyline", points=f"10,{y - 4} 40,{y - 4}", css=f"line {css}")
        drawing.text(48, y, words, "ink")
        spoken.append(words)
    drawing.label = f"ROC curves at {tables.center}. {'; '.join(spoken)}."
    return drawing


CELL_FIGURES: dict[str, tuple[str, Callable[[CenterTables], Drawing | None]]] = {
    "confusion": ("Confusion, all expert cells", confusion),
    "per_class_f1": ("F1 by category", per_class_f1),
    "reliability": ("Reliability, matched cells", reliability),
    "roc": ("ROC", roc),
}
"""Title and drawing by file name, in page order."""


def _called(name: str) -> str:
    return MISSED if name == MISSED else f"called {name}"
