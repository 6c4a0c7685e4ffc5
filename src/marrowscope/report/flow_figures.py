"""The flow diagrams of an evaluation: boxes from top to bottom, and beside each arrow what was left out, by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.report.plot import Drawing, text_width

if TYPE_CHECKING:
    from marrowscope.evaluate.document import FlowRecord

FLOW_TITLES = {
    "patients_ratio": "Patients, for the ratio",
    "patients_aml": "Patients, for AML",
    "expert_cells": "Expert cells",
    "contours": "Contours",
}
"""Title of each flow, by its key."""

_LEFT, _GAP, _LINE, _PAD = 12.0, 40.0, 18.0, 10.0
_LEAST_WIDTH = 220.0


def flow_diagram(flow: FlowRecord) -> Drawing:
    """Draw one flow; reasons for which nothing was left out are not drawn."""
    names = [f"{box.n:,} {box.name}" for box in flow.boxes]
    reasons = [[f"{row.reason}: {row.n:,}" for row in box.left_out if row.n] for box in flow.boxes]
    width = max(_LEAST_WIDTH, *(text_width(name) + 2 * _PAD for name in names))
    aside = max((text_width(line) + 2 * _PAD for lines in reasons for line in lines), default=0.0)
    middle, right = _LEFT + width / 2, _LEFT + width + _GAP
    y = 12.0
    drawing = Drawing(right + aside + _LEFT if aside else _LEFT * 2 + width, 0, "")
    for name, lines in zip(names, reasons, strict=True):
        if y > 12.0:  # noqa: PLR2004  every box but the first has an arrow above it
            end = y + max(_GAP, 2 * _PAD + _LINE * len(lines))
            drawing.line(middle, y, middle, end, "axis")
            drawing.add("polygon", points=_arrow(middle, end), css="dot c")
            if lines:
                top = y + (end - y - _PAD - _LINE * len(lines)) / 2
                drawing.line(middle, (y + end) / 2, right, (y + end) / 2, "axis")
                _box(drawing, right, top, aside, lines)
            y = end
        _box(drawing, _LEFT, y, width, [name])
        y += _PAD + _LINE
    drawing.height = y + 12.0
    left_out = "; ".join(line for lines in reasons for line in lines)
    drawing.label = f"{FLOW_TITLES[flow.key]}: {', then '.join(names)}; left out: {left_out or 'none'}."
    return drawing


def _box(drawing: Drawing, x: float, y: float, width: float, lines: list[str]) -> None:
    drawing.add("rect", x=x, y=y, width=width, height=_PAD + _LINE * len(lines), css="open c")
    for index, line in enumerate(lines):
        drawing.text(x + _PAD, y + _PAD / 2 + _LINE * index + 13, line, "ink")


def _arrow(x: float, y: float) -> str:
    return " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in ((-4, -7), (4, -7), (0, 0)))
