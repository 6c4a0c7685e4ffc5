"""Quality flags in words: what is wrong, the measured value, and the limit that it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.patient.flags import PATIENT_FLAGS
from marrowscope.report.depth_words import unchecked_names
from marrowscope.report.words import integer
from marrowscope.wording import decimals_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.report.marks import FieldPage
    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow, RaisedFlag

_RULES = {flag.key: flag for flag in PATIENT_FLAGS}


@dataclass(frozen=True, slots=True)
class FlagLine:
    """One flag of a patient; ``fields`` are the numbers of the fields that raised it."""

    flag: str
    name: str
    measured: str
    fields: tuple[int, ...]


UNCHECKED = "unchecked"


def flag_lines(row: PatientRow, fields: Sequence[FieldPage], words: Words) -> tuple[FlagLine, ...]:
    """Put the flags of one patient in words, in table order; an unknown flag is named by its key."""
    return tuple(flag_line(item, row, fields, words) for item in row.flags or ())


def flag_line(item: RaisedFlag, row: PatientRow, fields: Sequence[FieldPage], words: Words) -> FlagLine:
    """Put one flag of the patient ``row`` in words."""
    if item.flag == UNCHECKED:
        named = words.strings("join.clauses").join(unchecked_names(row, words))
        return FlagLine(item.flag, words.name("flag", item.flag), named, ())
    rule = _RULES.get(item.flag)
    measured = ""
    if item.value is not None and item.limit is not None:
        is_count = rule is not None and rule.printed == "count"
        digits = decimals_apart(100 * item.value, 100 * item.limit, 1)
        shown = [integer(round(x)) if is_count else words.percent(x, digits) for x in (item.value, item.limit)]
        measured = words.text("flags.measured", value=shown[0], limit=shown[1])
    of_field = None if rule is None else rule.of_field
    numbers = tuple(page.number for page in fields if of_field in page.flags)
    return FlagLine(item.flag, words.name("flag", item.flag), measured, numbers)
