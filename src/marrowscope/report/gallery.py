"""The galleries: each category's cells, most certain first, and the cells that came closest to being called CBLC.

The number of pictures is limited, since a page is one file; the cells between the most and the least certain are links
to their place in the fields. Ties are broken by the cell's id, so that a report is the same each time it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.report.marks import CellMark

CBLC_LIMITS = (48, 16)
"""Numbers of most and least certain cells of a category with cells called CBLC, which determine the ratio."""

OTHER_LIMITS = (12, 6)
"""The same for every other category."""

N_NEAR_MISSES = 24


@dataclass(frozen=True, slots=True)
class Gallery:
    """One category's cells by certainty, all in ``most_certain`` if they fit; those in ``between`` have no picture."""

    category: str
    color: str
    n: int
    n_cblc: int
    most_certain: tuple[CellMark, ...]
    between: tuple[CellMark, ...]
    least_certain: tuple[CellMark, ...]

    @property
    def n_shown(self) -> int:
        """Number of cells with a picture."""
        return len(self.most_certain) + len(self.least_certain)


def galleries(kept: Iterable[CellMark], order: Sequence[str]) -> tuple[Gallery, ...]:
    """Make one gallery per category that has cells, in the given order."""
    by_category: dict[str, list[CellMark]] = {category: [] for category in order}
    for mark in kept:
        by_category.setdefault(mark.category, []).append(mark)
    return tuple(_gallery(category, marks) for category, marks in by_category.items() if marks)


def near_misses(kept: Iterable[CellMark]) -> tuple[CellMark, ...]:
    """List the cells not called CBLC that have the highest CBLC probability."""
    others = sorted((mark for mark in kept if not mark.is_cblc), key=lambda mark: (-mark.p_cblc, mark.cell_id))
    return tuple(others[:N_NEAR_MISSES])


def _gallery(category: str, marks: Sequence[CellMark]) -> Gallery:
    ranked = sorted(marks, key=lambda mark: (-mark.p_category, mark.cell_id))
    n_cblc = sum(mark.is_cblc for mark in marks)
    n_most, n_least = CBLC_LIMITS if n_cblc else OTHER_LIMITS
    fits = len(ranked) <= n_most + n_least
    return Gallery(
        category=category,
        color=ranked[0].color,
        n=len(ranked),
        n_cblc=n_cblc,
        most_certain=tuple(ranked if fits else ranked[:n_most]),
        between=() if fits else tuple(ranked[n_most:-n_least]),
        least_certain=() if fits else tuple(ranked[-n_least:]),
    )
