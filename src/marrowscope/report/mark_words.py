"""The words about one cell: its calls with their probabilities, its number and its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.report.marks import CellMark
    from marrowscope.report.words import Words


@dataclass(frozen=True, slots=True)
class MarkWords:
    """The words of one cell or left-out contour, for tooltips, pictures and screen readers."""

    called: str
    traced: str
    alt: str
    place: str


def mark_words(mark: CellMark, words: Words) -> MarkWords:
    """Put one cell in words; a page has hundreds of cells, so this is done once per cell."""
    called = _called(mark, words)
    return MarkWords(
        called=called,
        traced=words.plain("cell.traced", sentence=called, id=mark.short_id, x=mark.x, y=mark.y),
        alt=words.plain("cell.alt", id=mark.short_id, field=mark.field_number, sentence=called),
        place=words.plain("cell.place", field=mark.field_number, x=mark.x, y=mark.y),
    )


def words_by_cell(marks: Iterable[CellMark], words: Words) -> dict[str, MarkWords]:
    """Return the words of each cell by cell id."""
    return {mark.cell_id: mark_words(mark, words) for mark in marks}


def _called(mark: CellMark, words: Words) -> str:
    if mark.reject_reason is not None:
        return words.plain("cell.left_out", reason=words.name("reason", mark.reject_reason))
    kind = "is_cblc" if mark.is_cblc else "is_countable" if mark.is_countable else "not_countable"
    sentence = words.plain(
        "cell.called",
        category=words.code(mark.category),
        p=f"{mark.p_category:.2f}",
        p_cblc=f"{mark.p_cblc:.2f}",
        called=words.plain(f"cell.{kind}"),
    )
    return words.plain("cell.heads_contradict", sentence=sentence) if mark.contradiction else sentence
