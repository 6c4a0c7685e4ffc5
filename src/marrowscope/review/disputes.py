"""The cells on which blinded readers disagree, with what each said under a letter instead of a name. Pure.

Who adjudicates should weigh the answers, not who gave them: the letters of a patient follow a hash of patient and
reader, so that no reader is A everywhere, and the names are not told. What was adjudicated stays in the list.
"""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.review.consensus import NO_NAME, NOT_A_CELL, NOT_DRAWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from marrowscope.review.patient_state import PatientState, ReviewedCell

UNREAD = "unread"
_WORDS = {NOT_A_CELL: "not_a_cell", NOT_DRAWN: "not_drawn", NO_NAME: "no_name", "split": "split", "merge": "merge"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one reader says of a cell: a code, else what ``said`` names (``unread``: nothing yet)."""

    letter: str
    code: str | None
    said: str | None


@dataclass(frozen=True, slots=True)
class Dispute:
    """One cell with every reader's answer, by letter; ``is_settled`` once somebody adjudicated it."""

    cell: ReviewedCell
    answers: tuple[Answer, ...]
    is_settled: bool


@dataclass(frozen=True, slots=True)
class DisputeCounts:
    """How many cells of a patient are disputed and how many adjudicated; ``blinded`` are those who read it blinded."""

    n_open: int
    n_settled: int
    blinded: frozenset[str]


def count_disputes(state: PatientState) -> DisputeCounts:
    """Count the disputed and the adjudicated cells of a patient."""
    found = disputes(state)
    n_settled = sum(item.is_settled for item in found)
    return DisputeCounts(len(found) - n_settled, n_settled, frozenset(state.blinded))


def letters(patient_id: str, readers: Iterable[str]) -> dict[str, str]:
    """Return the letter of each reader of a patient: A, B, ..., in an order that differs between patients."""
    order = sorted(set(readers), key=lambda reader: hashlib.sha256(f"{patient_id}\n{reader}".encode()).digest())
    return dict(zip(order, string.ascii_uppercase, strict=False))


def disputes(state: PatientState) -> list[Dispute]:
    """Return the disputed cells of a patient and those that were adjudicated, in the order of fields and cells."""
    named = letters(state.patient_id, state.blinded)
    fields = {field_id: k for k, field_id in enumerate(dict.fromkeys(cell.field_id for cell in state.cells.values()))}
    found = [
        Dispute(cell, _answers(state.opinions.get(cell.cell_id, {}), named), cell.cell_id in state.settled)
        for cell in state.cells.values()
        if cell.cell_id in state.disputed or (cell.cell_id in state.settled and cell.cell_id in state.opinions)
    ]
    return sorted(found, key=lambda item: fields[item.cell.field_id])


def _answers(said: Mapping[str, str], named: Mapping[str, str]) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            letter,
            None if (name := said.get(reader)) is None or name in _WORDS else name,
            UNREAD if name is None else _WORDS.get(name),
        )
        for reader, letter in named.items()
    )
