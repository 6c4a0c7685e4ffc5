"""The content of a patient's page, as a record made from a run's tables, without pixels or HTML.

It has everything a reader needs to check the ratio: the numerator, the denominator, what was left out and why, and
each cell with its probabilities, its number and its position.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.imaging.names import file_names
from marrowscope.report.depth_words import no_flags
from marrowscope.report.differential_rows import n_apart
from marrowscope.report.figures import PatientFigures, patient_figures
from marrowscope.report.first_screen import Item, first_screen
from marrowscope.report.flag_lines import FlagLine, flag_lines
from marrowscope.report.gallery import Gallery, galleries, near_misses
from marrowscope.report.marks import CellMark, FieldPage, field_pages
from marrowscope.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.report.shown_rows import ShownCell, ShownField
    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow


@dataclass(frozen=True, slots=True)
class PatientPage:
    """The page of one patient; ``row`` is the patient's row of the patients table."""

    row: PatientRow
    file_name: str
    verdict: Verdict
    first_screen: tuple[Item, ...]
    fields: tuple[FieldPage, ...]
    flags: tuple[FlagLine, ...]
    no_flags: str
    figures: PatientFigures
    n_other_apart: int
    galleries: tuple[Gallery, ...]
    near_misses: tuple[CellMark, ...]

    @property
    def failures(self) -> tuple[FieldPage, ...]:
        """Fields that could not be read."""
        return tuple(page for page in self.fields if page.failed is not None)

    @property
    def in_gallery(self) -> frozenset[str]:
        """Ids of the cells in the category galleries, as pictures or as links."""
        return frozenset(
            mark.cell_id for item in self.galleries for mark in (*item.most_certain, *item.between, *item.least_certain)
        )

    @property
    def pictured(self) -> tuple[CellMark, ...]:
        """Every cell that needs a picture, once."""
        of_categories = (mark for item in self.galleries for mark in (*item.most_certain, *item.least_certain))
        return tuple({mark.cell_id: mark for mark in (*of_categories, *self.near_misses)}.values())


def patient_page(
    row: PatientRow,
    file_name: str,
    fields: Sequence[ShownField],
    cells: Sequence[ShownCell],
    *,
    words: Words,
    categories: Sequence[str],
) -> PatientPage:
    """Make one patient's page from the patient's rows of the run's tables.

    ``categories`` are those of the vocabulary, in the order of the cells' ``p_category``.
    """
    lineages = {line.category: line.lineage for line in row.differential}
    pages = field_pages(fields, cells, {category: lineages.get(category, "other") for category in categories})
    kept = [mark for page in pages for mark in page.kept]
    said = verdict(row, words)
    return PatientPage(
        row=row,
        file_name=file_name,
        verdict=said,
        first_screen=first_screen(row, said, words),
        fields=pages,
        flags=flag_lines(row, pages, words),
        no_flags=no_flags(row, words),
        figures=patient_figures(row, said, words, Counter(mark.category for mark in kept if mark.is_cblc)),
        n_other_apart=n_apart(row.differential),
        galleries=galleries(kept, list(lineages)),
        near_misses=near_misses(kept),
    )


def page_names(patient_ids: Iterable[str], suffix: str = ".html") -> dict[str, str]:
    """Return a file name per patient, in ASCII: pages link to each other by it."""
    return file_names(patient_ids, suffix, plain=True, nameless="patient")
