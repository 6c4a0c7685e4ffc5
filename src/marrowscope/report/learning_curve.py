"""Figures as SVG files: the learning curve of a training."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

from marrowscope.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

_TRAIN, _VALIDATION = "train_", "validation_"
_FIGURES = ("_f1", "_auc", "selection")
_COLORS = ("#0b5c9e", "#c2451e", "#00806a", "#a67c00", "#6b7178", "#7a1f5c", "#16a3b8")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9097",
    "axes.grid": True,
    "grid.color": "#e4e0d7",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "marrowscope",  # equal data give equal bytes
    "svg.fonttype": "none",
}


def learning_curve(csv_path: Path, out_svg: Path) -> None:
    """Draw a training's metrics.csv: losses (train dashed, validation solid) and validation figures by epoch.

    The file has a column ``epoch``, losses named ``train_*`` and ``validation_*``, and figures that end in ``_f1``
    or ``_auc``; empty cells leave a gap. Raises InputError when there is no epoch or no such column.
    """
    epochs, columns = _read(csv_path)
    losses = [name for name in columns if name.startswith((_TRAIN, _VALIDATION))]
    figures = [name for name in columns if name.endswith(_FIGURES)]
    if not losses and not figures:
        message = f"{csv_path}: found columns {list(columns)}, expected train_*, validation_* or *_f1; nothing to draw"
        raise InputError(message)
    # Figure without pyplot: no global state, no display, safe in threads.
    from matplotlib import rc_context  # noqa: PLC0415  400 ms, and only this function draws
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context(_STYLE):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        terms = sorted({name.removeprefix(_TRAIN).removeprefix(_VALIDATION) for name in losses})
        for name in losses:
            term = name.removeprefix(_TRAIN).removeprefix(_VALIDATION)
            is_train = name.startswith(_TRAIN)
            left.plot(
                epochs,
                columns[name],
                color=_COLORS[terms.index(term) % len(_COLORS)],
                linestyle="--" if is_train else "-",
                linewidth=1.2 if is_train else 1.8,
                marker="." if len(epochs) == 1 else None,
                label=f"{term.replace('_', ' ')}, {'training' if is_train else 'validation'}",
            )
        left.set(title="Loss", xlabel="epoch", ylim=(0, None))
        for index, name in enumerate(figures):
            right.plot(
                epochs,
                columns[name],
                color=_COLORS[index % len(_COLORS)],
                linewidth=1.8,
                marker="." if len(epochs) == 1 else None,
                label=name.replace("_", " "),
            )
        _mark_best(right, epochs, columns.get("selection"))
        right.set(title="Validation", xlabel="epoch", ylim=(0, 1.02))
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            if axes.lines:
                axes.legend(frameon=False, fontsize=7)
        figure.savefig(out_svg, format="svg", metadata={"Date": None})


def _mark_best(axes: Axes, epochs: Sequence[int], selection: Sequence[float] | None) -> None:
    """Draw a line at the epoch whose weights were kept, where the file names the figure that decides."""
    known = [(value, -epoch) for epoch, value in zip(epochs, selection or (), strict=False) if math.isfinite(value)]
    if known:
        best = -max(known)[1]
        axes.axvline(best, color="#8a9097", linewidth=1, linestyle=":", label=f"kept: epoch {best}")


def _read(csv_path: Path) -> tuple[list[int], dict[str, list[float]]]:
    """Read the epochs and every other column whose cells are numbers or empty (NaN)."""
    try:
        with csv_path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        message = f"{csv_path}: cannot be read ({error.strerror}); expected the metrics.csv of a training"
        raise InputError(message) from error
    if not rows or "epoch" not in rows[0]:
        message = f"{csv_path}: found no epoch, expected the metrics.csv of a training with at least one finished epoch"
        raise InputError(message)
    columns: dict[str, list[float]] = {}
    for name in rows[0]:
        if name == "epoch":
            continue
        try:
            columns[name] = [float(row[name]) if row[name] else math.nan for row in rows]
        except ValueError:
            continue  # a column of words, such as the stage
    return [int(row["epoch"]) for row in rows], columns
