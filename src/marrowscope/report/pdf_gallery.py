"""The cells that a patient's PDF shows: which ones, in which order, and the text below each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marrowscope.report.marks import UNCERTAIN_BELOW
from marrowscope.report.palette import OTHER, category_color
from marrowscope.report.pdf_text import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.report.shown_rows import ShownCell
    from marrowscope.report.words import Words

TILE_MM, GAP_MM = 13.6, 1.5
TILES_PER_ROW, TILES_PER_GROUP, GROUPS_PER_ROW = 12, 3, 4
N_CERTAIN, _N_LEAST_CERTAIN, N_NEAR_MISSES = 2 * TILES_PER_ROW, TILES_PER_ROW, TILES_PER_ROW


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cells of the galleries, as rows of the cells table, each kind with the most informative first."""

    certain: tuple[ShownCell, ...]
    least_certain: tuple[ShownCell, ...]
    near_misses: tuple[ShownCell, ...]
    by_category: Mapping[str, tuple[ShownCell, ...]]

    @property
    def every(self) -> tuple[ShownCell, ...]:
        """Every chosen cell once."""
        called = (*self.certain, *self.least_certain)
        cells = (*called, *self.near_misses, *(cell for group in self.by_category.values() for cell in group))
        return tuple({cell.cell_id: cell for cell in cells}.values())


def choose_cells(cells: Sequence[ShownCell], categories: Sequence[str]) -> Chosen:
    """Choose the cells to show: most and least certain CBLC, near misses, and the most certain of each category.

    Ties are broken by the cell's id, so that a page is the same each time it is made.
    """
    kept = [cell for cell in cells if cell.reject_reason is None]
    by_cblc = sorted(kept, key=lambda cell: (-cell.p_cblc, cell.cell_id))
    by_category = sorted(kept, key=lambda cell: (-certainty(cell), cell.cell_id))
    called = tuple(cell for cell in by_cblc if cell.is_cblc)
    return Chosen(
        certain=called[:N_CERTAIN],
        least_certain=called[N_CERTAIN:][-_N_LEAST_CERTAIN:],
        near_misses=tuple(cell for cell in by_cblc if not cell.is_cblc)[:N_NEAR_MISSES],
        by_category={
            name: tuple(cell for cell in by_category if cell.category == name)[:TILES_PER_GROUP] for name in categories
        },
    )


def certainty(cell: ShownCell) -> float:
    """Return the probability of the cell's most likely category, 0-1."""
    return max(cell.p_category or (0.0,))


def tile(cell: ShownCell, lineage_of: Mapping[str, str], words: Words, key: str) -> dict[str, Any]:
    """Return one cell: its picture's key, the text below it (``key`` selects the probability), its description."""
    category, p, p_cblc = cell.category or OTHER, certainty(cell), cell.p_cblc
    uncertain = cell.contradiction or p < UNCERTAIN_BELOW or (cell.is_cblc and p_cblc < UNCERTAIN_BELOW)
    label = f"{words.code(category)} {p_cblc if key == 'p_cblc' else p:.2f}"
    called = words.strings(
        "cell.is_cblc" if cell.is_cblc else "cell.is_countable" if cell.is_countable else "cell.not_countable"
    )
    told = {"category": words.code(category), "p": f"{p:.2f}", "p_cblc": f"{p_cblc:.2f}", "called": called}
    return {
        "path": cell.cell_id,
        "label": one_line(label + (" ?" if uncertain else "")),
        "mark": uncertain,
        "color": category_color(category, lineage_of.get(category, "other")),
        "alt": one_line(plain(words.text("cell.called", **told))),
    }
