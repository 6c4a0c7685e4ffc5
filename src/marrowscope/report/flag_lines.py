"""Quality flags in words: what is wrong, the measured value, and the limit it broke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.report.words import integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.report.marks import FieldPage
    from marrowscope.report.words import Words
    from marrowscope.runs.tables import RaisedFlag

_COUNTS = frozenset({"few_cells"})
"""Flags whose value and limit are counts; those of all others are shares (0-1)."""

_OF_FIELDS = "_fields"


@dataclass(frozen=True, slots=True)
class FlagLine:
    """One flag of a patient; ``fields`` are the numbers of the fields that raised it."""

    flag: str
    name: str
    measured: str
    fields: tuple[int, ...]


def flag_lines(flags: Sequence[RaisedFlag], fields: Sequence[FieldPage], words: Words) -> tuple[FlagLine, ...]:
    """Put the flags of one patient in words, in the table's order."""
    return tuple(_line(item, fields, words) for item in flags)


def _line(item: RaisedFlag, fields: Sequence[FieldPage], words: Words) -> FlagLine:
    flag, value, limit = item.flag, item.value, item.limit
    measured = ""
    if value is not None and limit is not None:
        shown = (integer(round(value)), integer(round(limit))) if flag in _COUNTS else (
            words.percent(value), words.percent(limit))  # fmt: skip
        measured = words.text("flags.measured", value=shown[0], limit=shown[1])
    of_field = flag.removesuffix(_OF_FIELDS)
    numbers = tuple(page.number for page in fields if of_field in page.flags)
    return FlagLine(flag, words.name("flag", flag), measured, numbers)
