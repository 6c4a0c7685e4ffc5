"""Draw small plots as SVG text: scales, axes, marks. Equal data give equal bytes.

Colors are CSS variables, so that a drawing follows the page into dark mode; a standalone file includes the same
variables. Nothing here knows what is plotted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

STYLE = """
.plot { font: 12px Inter, "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Arial, sans-serif; }
.plot text { fill: var(--soft); pointer-events: none; }
.plot .ink { fill: var(--ink); }
.plot .strong { fill: var(--ink); font-weight: 600; }
.plot .on-mark { fill: var(--on-mark); }
.plot .end { text-anchor: end; }
.plot .middle { text-anchor: middle; }
.plot .grid { stroke: var(--hair); }
.plot .axis { stroke: var(--rule); }
.plot .guide { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
.plot .a { --s: var(--plum); }
.plot .b { --s: var(--blue); }
.plot .c { --s: var(--soft); }
.plot .line { stroke: var(--s); fill: none; stroke-width: 2; stroke-linejoin: round; }
.plot .dashed { stroke-dasharray: 7 4; }
.plot .dotted { stroke-dasharray: 2 3; }
.plot .whisker { stroke: var(--s); stroke-width: 1.5; fill: none; }
.plot .dot { fill: var(--s); stroke: var(--sheet); stroke-width: 1; }
.plot .open { fill: var(--sheet); stroke: var(--s); stroke-width: 1.8; }
.plot .tile { fill: var(--plum); }
.plot .blank { fill: var(--hair); fill-opacity: 0.55; }
.plot .sheet { fill: var(--sheet); }
"""
_OWN_COLORS = """
svg { --sheet: #fffefb; --ink: #1d2429; --soft: #59646d; --rule: #b9b3a5; --hair: #e8e4da; --plum: #74195a;
  --blue: #0b5c9e; --on-mark: #fff; }
@media (prefers-color-scheme: dark) { svg { --sheet: #1b2024; --ink: #ecebe6; --soft: #a9b3bb; --rule: #4a535a;
  --hair: #2c3338; --plum: #e593cb; --blue: #7db8ee; --on-mark: #14181b; } }
"""


@dataclass
class Drawing:
    """An SVG under construction; ``label`` is its text alternative."""

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def add(self, element: str, *, title: str = "", text: str | None = None, **attributes: object) -> None:
        """Append an element; ``title`` becomes its tooltip, ``css`` its class, ``_`` in names a hyphen."""
        words = [element]
        for name, value in attributes.items():
            if value == "":
                continue
            shown = number(value) if isinstance(value, float) else str(value)
            words.append(f"{'class' if name == 'css' else name.replace('_', '-')}={quoteattr(shown)}")
        inside = (f"<title>{escape(title)}</title>" if title else "") + escape(text or "")
        self.parts.append(f"<{' '.join(words)}>{inside}</{element}>" if inside else f"<{' '.join(words)}/>")

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, *, title: str = "") -> None:
        """Draw a straight line."""
        self.add("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), css=css, title=title)

    def text(self, x: float, y: float, words: str, css: str = "", *, transform: str = "") -> None:
        """Write one line of text that the pointer passes through; ``y`` is its baseline."""
        self.add("text", x=float(x), y=float(y), text=words, css=css, transform=transform)

    def mark(self, x: float, y: float, shape: str, css: str, title: str = "") -> None:
        """Draw a mark of 9 px: ``circle``, ``square`` or ``diamond``."""
        if shape == "circle":
            self.add("circle", cx=float(x), cy=float(y), r=4.5, css=css, title=title)
        elif shape == "square":
            self.add("rect", x=x - 4.0, y=y - 4.0, width=8.0, height=8.0, css=css, title=title)
        else:
            points = " ".join(
                f"{number(x + dx)},{number(y + dy)}" for dx, dy in ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0))
            )
            self.add("polygon", points=points, css=css, title=title)

    def whisker(self, x1: float, y1: float, x2: float, y2: float, css: str, *, title: str = "") -> None:
        """Draw an interval with short ends across it."""
        across_x, across_y = (0.0, 3.5) if y1 == y2 else (3.5, 0.0)
        path = "".join(
            f"M{number(x - across_x)},{number(y - across_y)}L{number(x + across_x)},{number(y + across_y)}"
            for x, y in ((x1, y1), (x2, y2))
        )
        whole = f"M{number(x1)},{number(y1)}L{number(x2)},{number(y2)}{path}"
        self.add("path", d=whole, css=f"whisker {css}", title=title)

    def inline(self) -> str:
        """Return the SVG for a page that has ``STYLE`` and the colors."""
        head = (
            f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(self.label)} '
            f'viewBox="0 0 {number(self.width)} {number(self.height)}" '
            f'width="{number(self.width)}" height="{number(self.height)}">'
        )
        return "\n".join([head, *self.parts, "</svg>"])

    def standalone(self, more_style: str = "") -> str:
        """Return the SVG as a standalone file, with style, colors and background; ``more_style`` comes last."""
        head, *rest = self.inline().split("\n")
        background = '<rect class="sheet" width="100%" height="100%"/>'
        return "\n".join([head, f"<style>{_OWN_COLORS}{STYLE}{more_style}</style>", background, *rest, ""])


@dataclass(frozen=True)
class Panel:
    """A rectangle of a drawing with linear scales on both axes."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)

    def x(self, value: float) -> float:
        """Place a value on the horizontal axis."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        """Place a value on the vertical axis; large is up."""
        low, high = self.y_range
        return self.top + self.height - (value - low) / (high - low) * self.height

    def axes(self, x_label: str, y_label: str, *, percent: bool = False, whole_x: bool = False) -> None:
        """Draw grid, tick labels and the names of both axes; ``whole_x``: ticks of the x axis at whole numbers only."""
        drawing, right, bottom = self.drawing, self.left + self.width, self.top + self.height
        form = (lambda value: f"{100 * value:.0f}%") if percent else _tick_text
        for tick in ticks(*self.x_range, least_step=1.0 if whole_x else 0.0):
            drawing.line(self.x(tick), self.top, self.x(tick), bottom, "grid")
            drawing.text(self.x(tick), bottom + 17, form(tick), "middle")
        for tick in ticks(*self.y_range):
            drawing.line(self.left, self.y(tick), right, self.y(tick), "grid")
            drawing.text(self.left - 7, self.y(tick) + 4, form(tick), "end")
        drawing.line(self.left, bottom, right, bottom, "axis")
        drawing.line(self.left, self.top, self.left, bottom, "axis")
        drawing.text(self.left + self.width / 2, bottom + 36, x_label, "middle ink")
        middle = self.top + self.height / 2
        drawing.text(0, 0, y_label, "middle ink", transform=f"translate({self.left - 44:.0f} {middle:.0f}) rotate(-90)")

    def path(self, points: list[tuple[float, float]], css: str) -> None:
        """Draw a line through data points."""
        steps = " ".join(f"{number(self.x(x))},{number(self.y(y))}" for x, y in points)
        self.drawing.add("polyline", points=steps, css=f"line {css}")


def ticks(low: float, high: float, about: int = 5, *, least_step: float = 0.0) -> list[float]:
    """List round values (1, 2 or 5 times a power of ten) from ``low`` to ``high``, about ``about`` of them."""
    raw = max((high - low) / about, least_step)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw - 1e-12)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]


def number(value: object) -> str:
    """Return a coordinate with at most one decimal."""
    text = f"{float(str(value)):.1f}"
    return text.removesuffix(".0")


def text_width(words: str, size_px: float = 12) -> float:
    """Estimate the width of a line of text; a sans-serif letter is about 0.56 of its size wide."""
    return 0.56 * size_px * len(words)


def _tick_text(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") or "0"
