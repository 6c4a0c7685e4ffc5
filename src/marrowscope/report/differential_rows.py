"""The differential as printed: one line per category and lineage, with bar, reference range and what is outside it.

A share has a firm mark if its whole interval is outside the range, and a loose mark if the interval reaches into the
range; there are two signs because a share of 300 cells is often outside by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.patient.differential import PLASMA_PART, REST_PART
from marrowscope.report.palette import OTHER, category_color, lineage_color
from marrowscope.runs.schemas import LineageShare

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import CategoryShare, PatientRow

SIMULATED_MARK = "†"
_CODE_OF_PART = {PLASMA_PART: "Plasma", REST_PART: OTHER}
_PRINTED = 3
SIGNS = {"high": "▲", "low": "▼", "high_maybe": "△", "low_maybe": "▽"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: counts, share of nucleated cells (0-1) with interval and range, and positions on the bar (0-1).

    ``outside`` is a key of SIGNS or None. ``starts_group``: the lineage differs from that of the line above.
    """

    key: str
    name: str
    color: str
    n: int
    n_cblc: int
    share: float | None
    lower: float | None
    upper: float | None
    reference_low: float | None
    reference_high: float | None
    reference_mark: str | None
    outside: str | None
    scale: float
    starts_group: bool = False
    is_lineage: bool = False
    simulated_only: bool = False

    @property
    def mark(self) -> str:
        """The footnote mark of a category that the bundle learned from simulated cells only."""
        return SIMULATED_MARK if self.simulated_only else ""

    def along(self, share: float | None) -> float:
        """Return the position of a share on the bar's axis, in percent of its length."""
        return round(100 * min(max((share or 0.0) / self.scale, 0.0), 1.0), 2)

    @property
    def code(self) -> str:
        """The code printed before the name: that of the category, empty for a lineage."""
        return "" if self.is_lineage else category_code(self.key)

    @property
    def sign(self) -> str:
        """The sign of a share outside its range; empty inside."""
        return SIGNS.get(self.outside or "", "")


def category_code(key: str) -> str:
    """Return the code of a category, or of a part of Other."""
    return _CODE_OF_PART.get(key, key)


def shown_categories(row: PatientRow) -> tuple[CategoryShare, ...]:
    """Return the differential as printed: plasma cells and the rest stand for Other where they are predicted."""
    if row.other_parts is None:
        return row.differential
    return (*(item for item in row.differential if item.category != OTHER), *row.other_parts)


def is_marked(key: str, simulated_only: Collection[str]) -> bool:
    """Tell whether a category, or a part of Other, was learned from simulated cells only."""
    return (OTHER if key == REST_PART else key) in simulated_only


def category_lines(
    differential: Sequence[CategoryShare],
    n_cblc: Mapping[str, int],
    words: Words,
    simulated_only: Collection[str] = (),
) -> tuple[Line, ...]:
    """Make one line per category in table order; all bars and ranges share one axis."""
    scale = _axis((row.share_nucleated, row.reference_high) for row in differential)
    lines: list[Line] = []
    before: str | None = None
    for row in differential:
        key, lineage = row.category, row.lineage
        lines.append(
            _line(
                row,
                (key, words.category(key)),
                category_color(key, lineage),
                share=row.share_nucleated,
                n=row.n_nucleated,
                scale=scale,
                n_cblc=n_cblc.get(OTHER if key == REST_PART else key, 0),
                starts_group=lineage != before,
                simulated_only=is_marked(key, simulated_only),
            )
        )
        before = lineage
    return tuple(lines)


def lineage_lines(lineages: Sequence[LineageShare], words: Words) -> tuple[Line, ...]:
    """Make one line per lineage; the axis ends at the largest share or range limit."""
    scale = _axis((row.share, row.reference_high) for row in lineages)
    return tuple(
        _line(
            row,
            (row.lineage, words.name("lineage", row.lineage)),
            lineage_color(row.lineage),
            share=row.share,
            n=row.n,
            scale=scale,
        )
        for row in lineages
    )


def n_apart(differential: Sequence[CategoryShare]) -> int:
    """Count the cells of Other that are in neither denominator."""
    return sum(row.n - max(row.n_countable, row.n_nucleated) for row in differential if row.category == OTHER)


def outside_of(
    share: float | None, lower: float | None, upper: float | None, low: float | None, high: float | None
) -> str | None:
    """Tell on which side of its range a share is, and whether its interval reaches into the range.

    The interval is taken as it is printed, to a tenth of a percent: one cell of 134 has an interval from 0.0%, and a
    range of 0.0% is then reached.

    >>> outside_of(0.30, 0.25, 0.36, 0.10, 0.20)
    'high'
    >>> outside_of(0.22, 0.15, 0.30, 0.10, 0.20)
    'high_maybe'
    """
    if share is None or low is None or high is None:
        return None
    if share > high:
        return "high" if lower is not None and round(lower, _PRINTED) > round(high, _PRINTED) else "high_maybe"
    if share < low:
        return "low" if upper is not None and round(upper, _PRINTED) < round(low, _PRINTED) else "low_maybe"
    return None


def _line(
    row: CategoryShare | LineageShare,
    named: tuple[str, str],
    color: str,
    *,
    share: float | None,
    n: int,
    scale: float,
    n_cblc: int = 0,
    starts_group: bool = False,
    simulated_only: bool = False,
) -> Line:
    limits = (row.lower, row.upper, row.reference_low, row.reference_high)
    return Line(
        *named, color, n, n_cblc, share, *limits, row.reference_mark, outside_of(share, *limits), scale,
        starts_group=starts_group, is_lineage=isinstance(row, LineageShare), simulated_only=simulated_only,
    )  # fmt: skip


def _axis(ends: Iterable[tuple[float | None, float | None]]) -> float:
    """Return the end of the axis: the largest share or range limit, so that every range is shown whole."""
    return max([value or 0.0 for pair in ends for value in pair] + [0.01])
