"""The figures of the agreement page: kappas with intervals, a pair's confusion, and Bland's and Altman's plot. Pure.

Each is drawn from the rows of ``reader_comparison`` alone, in the words of one language. Nothing is told by color
alone: every mark has its numbers beside it or as its tooltip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from marrowscope.report.evaluation_center import axis_end
from marrowscope.report.palette import OTHER
from marrowscope.report.plot import Drawing, Panel, text_width, ticks
from marrowscope.review.consensus import NOT_A_CELL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.report.strings import Strings
    from marrowscope.review.reader_comparison import ConfusionRow, KappaRow, RatioAgreementRow, RatioRow

_NO_CELL = "\N{MULTIPLICATION SIGN}"
_DARK_FROM = 0.55
"""Share of a row from which a tile is dark enough to print its number in the background color."""
_ROW, _TILE, _LABELS, _VALUES = 22.0, 32.0, 206.0, 132.0
_LEAST_REACH = 0.05
_LINES = ("upper_limit", "bias", "lower_limit")


def name_of(row: KappaRow, t: Strings) -> str:
    """Name what a kappa is about: all categories, one of them by its code, or a lineage."""
    if not row.name:
        return t(f"review.agreement.all_{row.level}")
    if row.name == NOT_A_CELL:
        return t("review.removed.not_a_cell")
    if row.level == "lineage":
        own = t.choose("lineage", row.name)
        return t.choose("review.agreement.lineage", row.name) if own == row.name else own
    words = t.choose("category", row.name)
    return words if row.name in {OTHER, words} else f"{row.name} {words}"


def limits_of(row: KappaRow) -> tuple[float, float]:
    """Return the interval to show: whole patients resampled where there is one, else that of independent cells."""
    by_patients = (row.patients_lower, row.patients_upper)
    return (row.lower, row.upper) if math.isnan(by_patients[0]) else by_patients


def in_order(rows: Iterable[KappaRow]) -> list[KappaRow]:
    """Sort the kappas of one group: all names first, then lineages, then categories; *not a cell* once.

    Names that nobody used have none.
    """
    kept = [row for row in rows if row.level == "category" or row.name != NOT_A_CELL]
    kept = [row for row in kept if not row.name or not math.isnan(row.kappa)]
    return sorted(kept, key=lambda row: (bool(row.name), (row.level == "category") == bool(row.name)))


def two(value: float) -> str:
    """Print a number with two decimals; zero has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def kappa_figure(rows: Sequence[KappaRow], t: Strings) -> Drawing:
    """Draw the kappas of one group of readers, one line each; a kappa that is not defined has no line."""
    shown = [row for row in rows if not math.isnan(row.kappa)]
    low = min([0.0, *(limit for row in shown if not math.isnan(limit := limits_of(row)[0]))])
    low = math.floor(low * 5) / 5
    drawing = Drawing(744, 28 + _ROW * len(shown) + 46, "")
    panel = Panel(drawing, _LABELS, 12, drawing.width - _LABELS - _VALUES, 8 + _ROW * len(shown), (low, 1.0))
    bottom = panel.top + panel.height
    for tick in ticks(low, 1.0):
        drawing.line(panel.x(tick), panel.top, panel.x(tick), bottom, "grid")
        drawing.text(panel.x(tick), bottom + 17, f"{tick:g}", "middle")
    drawing.line(panel.x(0), panel.top, panel.x(0), bottom, "axis")
    drawing.text(panel.x((low + 1) / 2), bottom + 38, t("review.agreement.kappa"), "middle ink")
    for k, row in enumerate(shown):
        y, words = panel.top + 4 + _ROW * (k + 0.5), _kappa_words(row)
        css = "b" if row.level == "lineage" else "a"
        drawing.text(
            _LABELS - 12, y + 4, _short(name_of(row, t), _LABELS - 16), "end ink" if row.name else "end strong"
        )
        lower, upper = limits_of(row)
        if not math.isnan(lower):
            drawing.whisker(panel.x(lower), y, panel.x(upper), y, css, title=words)
        shape = "square" if row.level == "lineage" else "circle"
        drawing.mark(panel.x(row.kappa), y, shape, f"{'open' if row.name else 'dot'} {css}", words)
        drawing.text(drawing.width - _VALUES + 14, y + 4, words, "ink" if row.name else "strong")
    spoken = "; ".join(f"{name_of(row, t)} {_kappa_words(row)}" for row in shown)
    drawing.label = f"{t('review.agreement.kappa')}: {spoken}"
    return drawing


def confusion_figure(rows: Sequence[ConfusionRow], order: Sequence[str], t: Strings) -> Drawing:
    """Draw the cells of a pair by what each called them, shaded by the share of the first reader's category.

    ``order`` are all categories; those that neither called are left out.
    """
    counts = {(row.name_first, row.name_second): row.n_cells for row in rows}
    used = {name for pair in counts for name in pair}
    names = [name for name in (*order, NOT_A_CELL) if name in used]
    total = {name: sum(n for (first, _), n in counts.items() if first == name) for name in names}
    first, second = rows[0].first, rows[0].second
    left, top = 62.0, 46.0
    drawing = Drawing(max(left + _TILE * len(names) + 44, left + text_width(second)), top + _TILE * len(names) + 14, "")
    drawing.text(left, 14, second, "ink")
    drawing.text(4, top - 9, _short(first, left - 8), "ink")
    edge = left + _TILE * len(names) + 38
    drawing.text(edge, top - 9, "n", "end")
    for k, name in enumerate(names):
        drawing.text(left + _TILE * (k + 0.5), top - 9, _code(name), "middle ink")
    for i, of_first in enumerate(names):
        y = top + _TILE * i
        drawing.text(left - 10, y + _TILE / 2 + 4, _code(of_first), "end strong")
        drawing.text(edge, y + _TILE / 2 + 4, f"{total[of_first]:,}", "end")
        for j, of_second in enumerate(names):
            _tile(drawing, (left + _TILE * j, y), counts.get((of_first, of_second), 0), total[of_first])
    agreed = sum(n for (one, other), n in counts.items() if one == other)
    drawing.label = t("review.agreement.confusion_said", first=first, second=second, x=agreed, n=sum(counts.values()))
    return drawing


def bland_altman_figure(
    pair: tuple[str, str], ratios: Sequence[RatioRow], measured: Sequence[RatioAgreementRow], t: Strings
) -> Drawing | None:
    """Draw each patient's difference of two readers' ratios against their mean; None where there is no bias to draw.

    ``measured`` are the rows of the pair, with bias and limits.
    """
    lines = {row.measure: row for row in measured if row.measure in _LINES}
    if not lines:
        return None
    both = _ratios_of_both(pair, ratios)
    values = [*(first.cblc_ratio - second.cblc_ratio for first, second in both), *(row.value for row in lines.values())]
    reach = max(_LEAST_REACH, 1.15 * max(abs(value) for value in values))
    drawing = Drawing(620, 340, "")
    end = axis_end(max(row.cblc_ratio for rows in both for row in rows))
    panel = Panel(drawing, 62, 14, 410, 262, (0.0, end), (-reach, reach))
    panel.axes(t("review.agreement.mean"), f"{pair[0]} - {pair[1]}", percent=True)
    drawing.line(panel.left, panel.y(0), panel.left + panel.width, panel.y(0), "axis")
    _limit_lines(panel, [lines[measure] for measure in _LINES if measure in lines], t)
    for first, second in both:
        words = "; ".join(f"{row.reader} {row.n_cblc} / {row.n_countable}" for row in (first, second))
        x, y = (first.cblc_ratio + second.cblc_ratio) / 2, first.cblc_ratio - second.cblc_ratio
        drawing.mark(panel.x(x), panel.y(y), "circle", "dot a", f"{first.patient_id}: {words}")
    spoken = "; ".join(f"{t(f'review.agreement.{name}')} {100 * row.value:+.1f}%" for name, row in lines.items())
    drawing.label = f"{t('review.agreement.bland_altman')}: {spoken}"
    return drawing


def _ratios_of_both(pair: tuple[str, str], ratios: Sequence[RatioRow]) -> list[tuple[RatioRow, RatioRow]]:
    of: dict[str, dict[str, RatioRow]] = {}
    for row in ratios:
        if row.n_countable and row.reader in pair:
            of.setdefault(row.patient_id, {})[row.reader] = row
    return [(own[pair[0]], own[pair[1]]) for own in of.values() if len(own) == len(pair)]


def _limit_lines(panel: Panel, lines: Sequence[RatioAgreementRow], t: Strings) -> None:
    """Draw bias and limits across a panel, each with its interval beside it; ``lines`` from top to bottom."""
    drawing, right = panel.drawing, panel.left + panel.width
    for row, height in zip(lines, _apart([panel.y(row.value) for row in lines]), strict=True):
        name, value = t(f"review.agreement.{row.measure}"), f"{100 * row.value:+.1f}%"
        limits = f"{100 * row.lower:+.1f} - {100 * row.upper:+.1f}%"
        css = "whisker a" if row.measure == "bias" else "whisker a dashed"
        y = panel.y(row.value)
        drawing.line(panel.left, y, right, y, css, title=f"{name} {value} ({limits})")
        drawing.text(right + 8, height - 2, name, "ink")
        drawing.text(right + 8, height + 12, f"{value} ({100 * row.lower:+.0f}, {100 * row.upper:+.0f})")


def _tile(drawing: Drawing, place: tuple[float, float], n: int, total: int) -> None:
    x, y, side = *place, _TILE - 1.5
    drawing.add("rect", x=x, y=y, width=side, height=side, css="blank")
    if not n:
        return
    share = n / total
    drawing.add(
        "rect",
        x=x,
        y=y,
        width=side,
        height=side,
        css="tile",
        fill_opacity=f"{0.12 + 0.88 * share:.2f}",
        title=f"{n} / {total} ({100 * share:.0f}%)",
    )
    css = "middle on-mark" if share >= _DARK_FROM else "middle ink"
    drawing.text(x + side / 2, y + side / 2 + 4, str(n), css)


def _kappa_words(row: KappaRow) -> str:
    lower, upper = limits_of(row)
    return two(row.kappa) if math.isnan(lower) else f"{two(row.kappa)} ({two(lower)} - {two(upper)})"


def _code(name: str) -> str:
    return _NO_CELL if name == NOT_A_CELL else name


def _short(words: str, width: float) -> str:
    """Cut a label to its place; a letter of Chinese takes twice that of English."""
    shown, room = "", width
    for letter in words:
        room -= text_width("xx") if ord(letter) > 0x2E80 else text_width("x")  # noqa: PLR2004  the first of its signs
        if room < 0:
            return f"{shown[:-1]}…"
        shown += letter
    return shown


def _apart(heights: Sequence[float], least: float = 34.0) -> list[float]:
    """Move labels, given from top to bottom, apart until they do not touch; the middle one stays in place."""
    moved = list(heights)
    for k in range(len(moved) // 2 + 1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] + least)
    for k in range(len(moved) // 2 - 1, -1, -1):
        moved[k] = min(moved[k], moved[k + 1] - least)
    return moved
