"""Draw the learning curve of a training as SVG: losses and validation figures by epoch, from metrics.csv.

A thin leader connects every line to its name, so that color is never the only cue. Training is dashed and thin,
validation solid.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from marrowscope.disk import write_text
from marrowscope.errors import InputError
from marrowscope.report.plot import Drawing, Panel, number, text_width
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_TRAIN, _VALIDATION = "train_", "validation_"
_FIGURES = ("_f1", "_auc", "selection")
_ON_PAPER = ("#0b5c9e", "#c2451e", "#00806a", "#8a6700", "#59646d", "#7a1f5c", "#1d2429")
_IN_THE_DARK = ("#7db8ee", "#f09a7c", "#5fcfb4", "#e0bb5a", "#a9b3bb", "#e593cb", "#ecebe6")
_STYLE = (
    "".join(f".plot .s{index} {{ --s: {color}; }}\n" for index, color in enumerate(_ON_PAPER))
    + ".plot .thin { stroke-width: 1.2; stroke-dasharray: 5 3; }\n"
    + ".plot .lead { stroke: var(--s); stroke-width: 0.8; }\n"
    + "@media (prefers-color-scheme: dark) {\n"
    + "".join(f".plot .s{index} {{ --s: {color}; }}\n" for index, color in enumerate(_IN_THE_DARK))
    + "}\n"
)
_TOP, _WIDTH, _HEIGHT, _LEFT = 44, 310, 284, 58
_BELOW, _LABEL_STEP, _LEAD, _GAP = 48, 15, 18, 26


@dataclass(frozen=True)
class _Series:
    """A line of a panel: its name, its class, and its value by epoch (NaN is a gap)."""

    name: str
    css: str
    values: Sequence[float]


def learning_curve(csv_path: Path, out_svg: Path) -> None:
    """Draw a training's metrics.csv: losses (train dashed, validation solid) and validation figures by epoch.

    The file has a column ``epoch``, losses named ``train_*`` and ``validation_*``, and figures that end in ``_f1``
    or ``_auc``; empty cells leave a gap. Raises InputError if there is no epoch or no such column.
    """
    epochs, columns = _read(csv_path)
    losses, figures = _losses(columns), _figures(columns)
    if not losses and not figures:
        message = (
            f"{csv_path}: found columns {list(columns)}, expected train_*, validation_* or *_f1; choose another file"
        )
        raise InputError(message)
    height = max(_HEIGHT, _LABEL_STEP * max(len(losses), len(figures)))
    drawing = Drawing(0, _TOP + height + _BELOW, f"Learning curve over {count_of(len(epochs), 'epoch')}.")
    if losses:
        highest = max((value for series in losses for value in series.values if math.isfinite(value)), default=0.0)
        _draw(drawing, ("Loss", "loss"), epochs, losses, y_range=(0.0, 1.05 * highest or 1.0), height=height)
    if figures:
        panel = _draw(drawing, ("Validation", "figure, 0 to 1"), epochs, figures, y_range=(0.0, 1.02), height=height)
        _mark_best(panel, epochs, columns.get("selection"))
    write_text(out_svg, drawing.standalone(_STYLE))


def _losses(columns: Mapping[str, Sequence[float]]) -> list[_Series]:
    """List the losses; a term has the same color for training and validation."""
    names = [name for name in columns if name.startswith((_TRAIN, _VALIDATION))]
    terms = sorted({name.removeprefix(_TRAIN).removeprefix(_VALIDATION) for name in names})
    found = []
    for name in names:
        term = name.removeprefix(_TRAIN).removeprefix(_VALIDATION)
        is_train = name.startswith(_TRAIN)
        words = f"{term.replace('_', ' ')}, {'training' if is_train else 'validation'}"
        css = _color(terms.index(term)) + (" thin" if is_train else "")
        found.append(_Series(words, css, columns[name]))
    return found


def _figures(columns: Mapping[str, Sequence[float]]) -> list[_Series]:
    names = [name for name in columns if name.endswith(_FIGURES) and not name.startswith((_TRAIN, _VALIDATION))]
    return [_Series(name.replace("_", " "), _color(index), columns[name]) for index, name in enumerate(names)]


def _color(index: int) -> str:
    return f"s{index % len(_ON_PAPER)}"


def _draw(
    drawing: Drawing,
    titles: tuple[str, str],
    epochs: Sequence[int],
    series: Sequence[_Series],
    *,
    y_range: tuple[float, float],
    height: float,
) -> Panel:
    """Add a panel of lines with their names at the ends, on the right; ``titles`` are those of panel and y axis."""
    title, y_label = titles
    ends = (float(epochs[0]), float(epochs[-1]))
    x_range = ends if ends[1] > ends[0] else (ends[0] - 0.5, ends[1] + 0.5)
    panel = Panel(drawing, drawing.width + _LEFT, _TOP, _WIDTH, height, x_range, y_range)
    drawing.text(panel.left, 16, title, "strong")
    panel.axes("epoch", y_label, whole_x=True)
    labeled = []
    for line in series:
        points = [(epoch, value) for epoch, value in zip(epochs, line.values, strict=True) if math.isfinite(value)]
        for part in _unbroken(zip(epochs, line.values, strict=True)):
            steps = " ".join(f"{number(panel.x(x))},{number(panel.y(y))}" for x, y in part)
            drawing.add(
                "polyline", points=steps, css=f"line {line.css}", title=f"{line.name}, {part[-1][1]:.3f} at last"
            )
            if len(part) == 1:
                drawing.mark(panel.x(part[0][0]), panel.y(part[0][1]), "circle", f"dot {line.css.split()[0]}")
        if points:
            labeled.append((panel.y(points[-1][1]), panel.x(points[-1][0]), line))
    right = panel.left + panel.width
    labeled.sort(key=lambda item: item[0])
    heights = _apart([y for y, _, _ in labeled], _LABEL_STEP, panel.top + height)
    for (y, x, line), at in zip(labeled, heights, strict=True):
        steps = f"{number(x)},{number(y)} {number(right + 4)},{number(y)} {number(right + _LEAD)},{number(at)}"
        drawing.add("polyline", points=steps, css=f"lead {line.css.split()[0]}", fill="none")
        sample = f"{number(right + _LEAD)},{number(at)} {number(right + _LEAD + 16)},{number(at)}"
        drawing.add("polyline", points=sample, css=f"line {line.css}")
        drawing.text(right + _LEAD + 21, at + 4, line.name, "ink")
    widest = max((text_width(line.name) for _, _, line in labeled), default=0.0)
    drawing.width = right + _LEAD + 21 + widest + _GAP
    return panel


def _unbroken(points: Iterable[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Split a line where it has no value."""
    runs = groupby(points, key=lambda point: math.isfinite(point[1]))
    return [list(run) for has_value, run in runs if has_value]


def _apart(heights: Sequence[float], least: float, lowest: float) -> list[float]:
    """Move labels, given from top to bottom, apart until they do not touch; none goes below ``lowest``."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + least) if moved else height)
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], lowest - least * (len(moved) - 1 - index))
    return moved


def _mark_best(panel: Panel, epochs: Sequence[int], selection: Sequence[float] | None) -> None:
    """Draw a line at the epoch whose weights were kept, if the file has the selection figure."""
    known = [(value, -epoch) for epoch, value in zip(epochs, selection or (), strict=False) if math.isfinite(value)]
    if known:
        best = -max(known)[1]
        words, x = f"kept: epoch {best}", panel.x(best)
        panel.drawing.line(x, panel.top, x, panel.top + panel.height, "guide", title=words)
        half = text_width(words) / 2
        inside = min(max(x, panel.left + half), panel.left + panel.width - half)
        panel.drawing.text(inside, panel.top - 6, words, "middle")


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
