"""Shared parts of the evaluation drawings: the tables of one center, and marks, legends and words for its patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marrowscope.report.plot import text_width

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from marrowscope.evaluate.document import CenterRecord, FigureRecord
    from marrowscope.report.plot import Drawing, Panel


@dataclass(frozen=True)
class CenterTables:
    """The figures of one center and its rows of the evaluation tables (columns in ``evaluate.frames``)."""

    record: CenterRecord
    confusion: pl.DataFrame
    per_class: pl.DataFrame
    reliability: pl.DataFrame
    roc: pl.DataFrame
    patients: pl.DataFrame
    risk_coverage: pl.DataFrame
    decision_curve: pl.DataFrame
    categories: Sequence[str]
    aml_diagnoses: Sequence[str]
    threshold: float | None

    @property
    def center(self) -> str:
        """The name of the center, or of all centers together."""
        return self.record.center


def axis_end(largest: float) -> float:
    """Return the end of a ratio axis: 1, or less if all ratios are small."""
    return next(end for end in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if largest <= end * 0.97 or end == 1.0)


def is_aml(row: Mapping[str, Any], tables: CenterTables) -> bool:
    """Tell whether a patient's diagnosis counts as AML."""
    names = {name.strip().casefold() for name in tables.aml_diagnoses}
    return (row["diagnosis"] or "").strip().casefold() in names


def aml_legend(drawing: Drawing, rows: Sequence[Mapping[str, Any]], tables: CenterTables, y: float) -> None:
    """Draw the legend of the two marks, with the number of patients of each."""
    n_aml = sum(is_aml(row, tables) for row in rows)
    entries = [("circle", "dot a", f"AML, n {n_aml}"), ("diamond", "open b", f"other diagnoses, n {len(rows) - n_aml}")]
    series_legend(drawing, 58, y, entries)


def threshold_line(panel: Panel, threshold: float | None) -> None:
    """Draw the threshold across a panel of ratios, if there is one and it is on the axis."""
    end = panel.y_range[1]
    if threshold is None or threshold >= end:
        return
    y, right, words = panel.y(threshold), panel.left + panel.width, f"threshold {100 * threshold:.1f}%"
    panel.drawing.line(panel.left, y, right, y, "whisker c dotted", title=words)
    panel.drawing.text(right - 2, y - 5, words, "end")


def series_legend(drawing: Drawing, x: float, y: float, entries: Sequence[tuple[str, str, str]]) -> None:
    """Draw a row of marks with their names; an entry is shape, class and name."""
    for shape, css, words in entries:
        drawing.mark(x + 5, y - 4, shape, css)
        drawing.text(x + 15, y, words)
        x += 15 + text_width(words) + 18


def figure_interval(figure: FigureRecord | None) -> str:
    """Return ``0.910 [0.880, 0.930]`` for a measured figure."""
    return _words(None, None, None) if figure is None else _words(figure.value, figure.lower, figure.upper)


def row_interval(row: Mapping[str, Any], name: str) -> str:
    """Return ``0.910 [0.880, 0.930]`` for a value in a row and its two limits."""
    return _words(row[name], row[f"{name}_lower"], row[f"{name}_upper"])


def _words(value: float | None, lower: float | None, upper: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" if lower is None else f"{value:.3f} [{lower:.3f}, {upper:.3f}]"
