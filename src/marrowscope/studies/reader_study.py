"""Readers of one cohort compared with each other: kappas, confusions and ratios, by the cells that they outlined.

1. In each field, outlines of two readers are one cell if they match (IoU of at least 0.5, one to one, ``cells.match``).
2. A cell that a reader did not outline is *not drawn* there, if the reader's annotation of the field is exhaustive;
   else the reader says nothing of it. A coarse label, which leaves the code open, says nothing either.
3. ``review.reader_comparison`` makes the tables, as of blinded readers of a review.

Only fields that two readers or more annotated enter. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from marrowscope.cells.match import match_contours
from marrowscope.review.consensus import NO_NAME, NOT_DRAWN
from marrowscope.review.reader_comparison import compare_opinions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.cohort import Cohort
    from marrowscope.records import Annotation, Field
    from marrowscope.review.reader_comparison import ReaderComparison
    from marrowscope.vocabulary import Vocabulary

_PAIR = 2


def compare_cohort_readers(cohorts: Mapping[str, Cohort], vocabulary: Vocabulary) -> ReaderComparison:
    """Compare the readers of a cohort; ``cohorts`` is the same one as each of them annotated it.

    Raises ReviewError where no two readers outlined one cell.
    """
    of_field: defaultdict[str, dict[str, Field]] = defaultdict(dict)
    for reader, cohort in cohorts.items():
        for field in (*cohort.fields, *cohort.slides):
            if field.annotated:
                of_field[field.field_id][reader] = field
    opinions: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for field_id, fields in of_field.items():
        if len(fields) < _PAIR:
            continue
        patient_id = next(iter(fields.values())).patient_id
        for k, said in enumerate(_opinions(fields, vocabulary)):
            opinions[patient_id][f"{field_id}#{k}"] = said
    return compare_opinions(opinions, vocabulary)


def _opinions(fields: Mapping[str, Field], vocabulary: Vocabulary) -> list[dict[str, str]]:
    """Return what the readers of one field say of each of its cells."""
    cells: list[dict[str, Annotation]] = []
    for reader, field in fields.items():
        known = list(cells)
        outlines = [next(iter(cell.values())).contour_xy for cell in known]
        pairs = match_contours([drawn.contour_xy for drawn in field.annotations], outlines).pairs
        place = {pair.predicted: pair.expert for pair in pairs}
        for index, drawn in enumerate(field.annotations):
            if index in place:
                known[place[index]][reader] = drawn
            else:
                cells.append({reader: drawn})
    return [
        {
            reader: _said(cell.get(reader), vocabulary)
            for reader, field in fields.items()
            if reader in cell or field.exhaustive
        }
        for cell in cells
    ]


def _said(drawn: Annotation | None, vocabulary: Vocabulary) -> str:
    if drawn is None:
        return NOT_DRAWN
    return drawn.code if drawn.code in vocabulary.codes else NO_NAME
