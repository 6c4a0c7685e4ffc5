"""The figures of the corrected ratio and of the calls, drawn from the evaluation tables of one center."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.report.evaluation_center import aml_legend, axis_end, is_aml, series_legend, threshold_line
from marrowscope.report.plot import Drawing, Panel
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from marrowscope.report.evaluation_center import CenterTables

_HALF = 0.5


def corrected_ratio(tables: CenterTables) -> Drawing | None:
    """Draw the corrected ratio with its interval against the annotated ratio, one mark per patient."""
    known = tables.patients.filter(pl.col("true_ratio").is_not_null() & pl.col("corrected_ratio").is_not_null())
    rows = known.sort("patient_id").to_dicts()
    if not rows:
        return None
    drawing = Drawing(366, 392, "")
    end = axis_end(max(max(row["true_ratio"], row["corrected_upper"]) for row in rows))
    panel = Panel(drawing, 58, 34, 290, 284, (0.0, end), (0.0, end))
    drawing.text(panel.left, 16, f"Corrected ratio, {count_of(len(rows), 'patient')}", "strong")
    panel.axes("annotated", "corrected, 95% interval", percent=True)
    drawing.line(panel.x(0), panel.y(0), panel.x(end), panel.y(end), "guide")
    threshold_line(panel, tables.threshold)
    for row in rows:
        x, words = panel.x(row["true_ratio"]), _words(row)
        css = "a" if is_aml(row, tables) else "b"
        drawing.whisker(x, panel.y(row["corrected_lower"]), x, panel.y(row["corrected_upper"]), css, title=words)
        shape, kind = ("circle", "dot a") if css == "a" else ("diamond", "open b")
        drawing.mark(x, panel.y(row["corrected_ratio"]), shape, kind, words)
    aml_legend(drawing, rows, tables, 384)
    held = sum(bool(row["annotated_inside"]) for row in rows)
    drawing.label = (
        f"Corrected against annotated CBLC ratio of {count_of(len(rows), 'patient')} at {tables.center}; the interval "
        "contains "
        f"the annotated ratio in {held} of {len(rows)}."
    )
    return drawing


def risk_coverage(tables: CenterTables) -> Drawing | None:
    """Draw the error of the forced decision among the most certain patients, from the most certain one to all."""
    rows = tables.risk_coverage.sort("n").to_dicts()
    if not rows:
        return None
    drawing = Drawing(744, 374, "")
    seen = [row["error"] for row in rows] + [row["error_upper"] for row in rows if row["coverage"] >= _HALF]
    end = axis_end(max(seen))
    panel = Panel(drawing, 58, 34, 660, 284, (0.0, 1.0), (0.0, end))
    n, wrong = rows[-1]["n_patients"], rows[-1]["n_wrong"]
    drawing.text(
        panel.left, 16, f"Error against share decided, {count_of(n, 'patient')}, {wrong} decided wrongly", "strong"
    )
    panel.axes("share of patients decided, most certain first", "share decided wrongly", percent=True)
    for limit in ("error_lower", "error_upper"):
        panel.path([(row["coverage"], row[limit]) for row in rows if row[limit] <= end], "c dotted")
    panel.path([(row["coverage"], row["error"]) for row in rows], "a")
    for row in rows:
        drawing.mark(panel.x(row["coverage"]), panel.y(row["error"]), "circle", "dot a", _risk_words(row))
    drawing.label = (
        f"Risk-coverage curve at {tables.center}: share of forced decisions that are wrong among the most certain "
        f"patients. {'; '.join(_risk_words(row) for row in (rows[0], rows[-1]))}."
    )
    return drawing


def decision_curve(tables: CenterTables) -> Drawing | None:
    """Draw the net benefit of each rule against the risk from which one would act; acting on no one has 0."""
    rows = tables.decision_curve.sort("risk").to_dicts()
    if not rows:
        return None
    names = list(dict.fromkeys(tables.decision_curve["rule"]))
    end = axis_end(max(row["net_benefit"] for row in rows))
    low = -0.25 * end
    drawing = Drawing(744, 374 + 20 * len(names), "")
    panel = Panel(drawing, 58, 34, 660, 284, (0.0, 1.0), (low, end))
    n, n_aml = rows[0]["n"], rows[0]["n_aml"]
    drawing.text(panel.left, 16, f"Net benefit, {count_of(n, 'patient')}, {n_aml} with AML", "strong")
    panel.axes("risk of AML from which one would act", "net benefit per patient")
    drawing.line(panel.left, panel.y(0), panel.left + panel.width, panel.y(0), "axis", title="acting on no one")
    for index, name in enumerate(names):
        shape, css, line = _RULE_STYLES[index % len(_RULE_STYLES)]
        seen = [row for row in rows if row["rule"] == name and row["net_benefit"] >= low]
        if seen:
            panel.path([(row["risk"], row["net_benefit"]) for row in seen], line)
        for row in seen:
            drawing.mark(panel.x(row["risk"]), panel.y(row["net_benefit"]), shape, css, _decision_words(row))
        series_legend(drawing, panel.left, 380 + 20 * index, [(shape, css, name)])
    said = [_decision_words(row) for row in rows if row["risk"] == _HALF]
    drawing.label = f"Decision curve at {tables.center}: {'; '.join(said)}."
    return drawing


_RULE_STYLES = (
    ("circle", "dot a", "a"),
    ("square", "open b", "b"),
    ("diamond", "open a", "a dashed"),
    ("square", "dot b", "b dashed"),
    ("diamond", "dot c", "c dotted"),
)
"""Mark, its class and the class of the line of each rule."""

CALL_FIGURES: dict[str, tuple[str, Callable[[CenterTables], Drawing | None]]] = {
    "corrected": ("Corrected ratio with its interval", corrected_ratio),
    "risk_coverage": ("Risk and coverage", risk_coverage),
    "decision_curve": ("Decision curve", decision_curve),
}
"""Title and drawing by file name, in page order."""


def _words(row: Mapping[str, Any]) -> str:
    low, high = 100 * row["corrected_lower"], 100 * row["corrected_upper"]
    call = f", call {row['call'].replace('_', ' ')}" if row["call"] else ""
    return (
        f"{row['patient_id']} ({row['center']}, {row['diagnosis'] or 'no diagnosis'}): corrected "
        f"{100 * row['corrected_ratio']:.1f}% ({low:.1f} to {high:.1f}%), annotated {row['n_true_cblc']} of "
        f"{row['n_true_countable']} ({100 * row['true_ratio']:.1f}%){call}"
    )


def _risk_words(row: Mapping[str, Any]) -> str:
    return (
        f"{row['n']} of {row['n_patients']} decided, certainty {row['certainty']:.3f} or more: {row['n_wrong']} wrong "
        f"({row['error']:.3f} [{row['error_lower']:.3f}, {row['error_upper']:.3f}])"
    )


def _decision_words(row: Mapping[str, Any]) -> str:
    low, high = row["net_benefit_lower"], row["net_benefit_upper"]
    limits = "no interval" if low is None else f"{low:.3f} to {high:.3f}"
    return (
        f"{row['rule']}, at a risk of {100 * row['risk']:.0f}%: net benefit {row['net_benefit']:.3f} ({limits}), "
        f"acts on {row['n_acted']} of {row['n']}"
    )
