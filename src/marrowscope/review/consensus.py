"""What readers agree on: each cell of a patient is confirmed, disputed, unseen or removed. Pure.

Only readers who were assigned a patient, and so do not see each other's decisions, can dispute a cell; a signer then
adjudicates it. Anyone else who names a cell again sees the name that it has, and replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.review.events import Event, Kind
    from marrowscope.review.fold import PatientState, ReviewedCell

Status = Literal["confirmed", "disputed", "unseen", "removed"]
_NAMES: frozenset[Kind] = frozenset({"relabel", "audit_answer"})
_REMOVES: frozenset[Kind] = frozenset({"not_a_cell", "delete"})
NOT_A_CELL = "not a cell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One cell with what its readers say; ``names`` are the codes by reader, ``NOT_A_CELL`` for a removal."""

    cell: ReviewedCell
    status: Status
    names: dict[str, str]


def names_by_reader(events: Iterable[Event], readers: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what each of ``readers`` last said of each cell, by cell; what was adjudicated since is left out."""
    wanted = set(readers)
    said: dict[str, dict[str, str]] = {}
    for event in events:
        name = event.cell_id or ""
        if event.kind == "adjudicate":
            said.pop(name, None)
        elif event.reader in wanted and event.kind in _NAMES | _REMOVES | {"restore"}:
            opinions = said.setdefault(name, {})
            removes = event.kind in _REMOVES or (event.kind == "audit_answer" and event.new is None)
            if removes:
                opinions[event.reader] = NOT_A_CELL
            elif event.new is None:
                opinions.pop(event.reader, None)
            else:
                opinions[event.reader] = str(event.new)
    return said


def verdicts(state: PatientState, events: Iterable[Event]) -> list[Verdict]:
    """Return every cell of a patient with its status; ``events`` are those since it was bound to its run."""
    said = names_by_reader(events, state.assigned)
    return [_verdict(cell, said.get(cell.cell_id, {})) for cell in state.cells.values()]


def _verdict(cell: ReviewedCell, names: dict[str, str]) -> Verdict:
    if len(set(names.values())) > 1:
        return Verdict(cell, "disputed", names)
    if cell.removed is not None:
        return Verdict(cell, "removed", names)
    return Verdict(cell, "unseen" if cell.code is None else "confirmed", names)
