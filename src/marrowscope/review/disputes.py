"""The cells on which blinded readers disagree, with what each said under a letter instead of a name. Pure.

With them stand cells on which they agree where these wait for a signer as well: what an audit asks for next, and what a
signer wants to decide otherwise.

Who adjudicates should weigh the answers, not who gave them: the letters of a patient follow a hash of patient and
reader, so that no reader is A everywhere, and the names are not told. What was adjudicated stays in the list.
"""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.review.consensus import NO_NAME, NOT_A_CELL, NOT_DRAWN
from marrowscope.review.live_estimate import audit_view

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

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
    """One cell with every reader's answer, by letter; ``is_settled`` once somebody adjudicated it.

    ``is_agreed``: the readers do not dispute it, and nobody has adjudicated it.
    """

    cell: ReviewedCell
    answers: tuple[Answer, ...]
    is_settled: bool
    is_agreed: bool = False


@dataclass(frozen=True, slots=True)
class DisputeCounts:
    """How many cells of a patient are disputed and how many adjudicated; ``blinded`` are those who read it blinded."""

    n_open: int
    n_settled: int
    blinded: frozenset[str]


def count_disputes(state: PatientState) -> DisputeCounts:
    """Count the disputed and the adjudicated cells of a patient."""
    n_settled = len(state.settled & state.opinions.keys())
    return DisputeCounts(len(state.disputed), n_settled, frozenset(state.blinded))


def letters(patient_id: str, readers: Iterable[str]) -> dict[str, str]:
    """Return the letter of each reader of a patient: A, B, ..., in an order that differs between patients."""
    order = sorted(set(readers), key=lambda reader: hashlib.sha256(f"{patient_id}\n{reader}".encode()).digest())
    return dict(zip(order, string.ascii_uppercase, strict=False))


def disputes(state: PatientState, also: Collection[str] = ()) -> list[Dispute]:
    """Return the disputed cells of a patient and those that were adjudicated, in the order of fields and cells.

    Cells that readers named alike are among them where the look at work of an audit waits for them, or ``also`` names
    them: nobody decides about these but by an adjudication.
    """
    asked = {*also, *_awaited(state)}
    named = letters(state.patient_id, state.blinded)
    fields = {field_id: k for k, field_id in enumerate(dict.fromkeys(cell.field_id for cell in state.cells.values()))}
    found = [
        Dispute(
            cell,
            _answers(state.opinions.get(cell.cell_id, {}), named),
            is_settled=cell.cell_id in state.settled,
            is_agreed=cell.cell_id not in state.disputed | state.settled,
        )
        for cell in state.cells.values()
        if cell.cell_id in state.disputed or (cell.cell_id in state.opinions and cell.cell_id in state.settled | asked)
    ]
    return sorted(found, key=lambda item: fields[item.cell.field_id])


def _awaited(state: PatientState) -> frozenset[str]:
    """Return the cells of an audit's look at work that have no answer; of later looks no cell is told."""
    view = audit_view(state)
    if view is None:
        return frozenset()
    until = next((size for size in view.audit.sizes if size > view.n_answered), 0)
    return frozenset(view.order[view.n_answered : until])


def _answers(said: Mapping[str, str], named: Mapping[str, str]) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            letter,
            None if (name := said.get(reader)) is None or name in _WORDS else name,
            UNREAD if name is None else _WORDS.get(name),
        )
        for reader, letter in named.items()
    )
