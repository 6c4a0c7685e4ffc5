"""The reliability diagrams of a cross-fit: what calibration changes, by head and center."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from marrowscope.disk import write_text
from marrowscope.errors import InputError
from marrowscope.report.plot import Drawing, Panel
from marrowscope.runs.parquet import readable
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("head", "center", "calibration", "bin", "n", "mean_probability", "share_true")
_SIDE, _LEFT, _TOP, _GAP_X, _GAP_Y = 180.0, 62.0, 62.0, 84.0, 84.0
_STATES = (("before", "b dashed", "open b", "square"), ("after", "a", "dot a", "circle"))


def draw_reliability(csv_path: Path, out_svg: Path) -> None:
    """Draw the bins of a cross-fit's reliability.csv: one column per head, one row for all cells and for each center.

    On the diagonal, probabilities are calibrated; below it, the network is overconfident. Raises InputError for a file
    that cannot be read or has no bins.
    """
    with readable(csv_path, InputError, "expected the reliability.csv of a cross-fit", "cannot be read"):
        bins = pl.read_csv(csv_path)
    if bins.is_empty() or not set(_COLUMNS) <= set(bins.columns):
        message = (
            f"{csv_path}: found {count_of(bins.height, 'row')} of {bins.columns}, expected bins with "
            f"{', '.join(_COLUMNS)}"
        )
        raise InputError(message)
    bins = bins.with_columns(pl.col("center").cast(pl.String))
    write_text(out_svg, _draw(bins).standalone())


def _draw(bins: pl.DataFrame) -> Drawing:
    heads, centers = (bins[name].unique(maintain_order=True).to_list() for name in ("head", "center"))
    drawing = Drawing(
        _LEFT + len(heads) * (_SIDE + _GAP_X),
        _TOP + len(centers) * (_SIDE + _GAP_Y),
        "Reliability of out-of-fold probabilities before and after calibration, by head and center",
    )
    for place, (state, _, mark, shape) in enumerate(_STATES):
        x = _LEFT + 8 + 170 * place
        drawing.mark(x, 18, shape, mark)
        drawing.text(x + 12, 22, f"{state} calibration", "ink")
    for column, head in enumerate(heads):
        for row, center in enumerate(centers):
            chosen = bins.filter((pl.col("head") == head) & (pl.col("center") == center))
            panel = Panel(drawing, _LEFT + column * (_SIDE + _GAP_X), _TOP + row * (_SIDE + _GAP_Y), _SIDE, _SIDE)
            _draw_panel(panel, head, center, chosen)
    return drawing


def _draw_panel(panel: Panel, head: str, center: str, bins: pl.DataFrame) -> None:
    """Draw one head at one center, with n in the title."""
    drawing = panel.drawing
    n = int(bins.filter(pl.col("calibration") == "after")["n"].sum())
    where = "all centers" if center == "all" else center
    drawing.text(panel.left, panel.top - 10, f"{head}, {where}: {count_of(n, 'cell')}", "strong")
    panel.axes("probability", "share true")
    drawing.line(panel.x(0), panel.y(0), panel.x(1), panel.y(1), "guide")
    for state, line, mark, shape in _STATES:
        rows = bins.filter(pl.col("calibration") == state).sort("bin")
        points = list(rows.select("mean_probability", "share_true").iter_rows())
        if len(points) > 1:
            panel.path(points, line)
        for (probability, share), cells in zip(points, rows["n"], strict=True):
            title = f"{state}: probability {probability:.3f}, {share:.3f} of {count_of(cells, 'cell')}"
            drawing.mark(panel.x(probability), panel.y(share), shape, mark, title)
