"""What blinded readers agree on: each cell of a patient is confirmed, disputed, unseen or removed. Pure.

Readers who were assigned a patient do not see each other, so each has a reading of his or her own, and none replaces
another's. A cell of the run has the name that all who named it gave it; where they differ it has none, until a signer
adjudicates it. A cell that a reader drew is looked for in the other readings by the IoU of outlines (``cells.match``):
one that is not in all of them is disputed as well. What was adjudicated stands, whatever a reader says later.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from marrowscope.cells.match import match_contours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.review.patient_state import PatientState, ReviewedCell

Status = Literal["confirmed", "disputed", "unseen", "removed"]
NOT_A_CELL = "not a cell"
NOT_DRAWN = "not drawn"
"""What a reader says of a cell that another one drew, and that has no like in his or her own reading."""

NO_NAME = "no name"
"""What a reader says of a cell that he or she drew and did not name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One cell with what its readers say: ``names`` by reader are codes, ``NOT_A_CELL``, ``NOT_DRAWN`` or ``split``."""

    cell: ReviewedCell
    status: Status
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The cells as the readers together leave them, and what each reader says of each cell that any of them named."""

    cells: dict[str, ReviewedCell]
    opinions: dict[str, dict[str, str]]
    disputed: frozenset[str]


def agree(
    shared: Mapping[str, ReviewedCell],
    readings: Mapping[str, Mapping[str, ReviewedCell]],
    readers: Sequence[str],
    settled: frozenset[str],
) -> Agreement:
    """Join the readings of a patient, cells by reader.

    ``shared`` are the cells as those left them who see everything; ``settled`` are the adjudicated ones among them.
    ``readers`` are all who were assigned, also those without a reading yet.
    """
    cells: dict[str, ReviewedCell] = {}
    opinions: dict[str, dict[str, str]] = {}
    disputed: set[str] = set()
    for name, cell in shared.items():
        own = {reader: reading[name] for reader, reading in readings.items() if name in reading}
        names = {reader: said for reader, its in own.items() if (said := _said(its)) is not None}
        if names:
            opinions[name] = names
        cells[name] = cell
        if name in settled or cell.origin != "model":
            continue
        if len(set(names.values())) > 1:
            disputed.add(name)
            cells[name] = _unnamed(cell)
        elif not cell.is_seen:
            cells[name] = _joint(cell, own)
    for members in _drawn(readings):
        names = dict.fromkeys(readers, NOT_DRAWN) | {reader: _said(cell) or NO_NAME for reader, cell in members.items()}
        first = next((cell for cell in members.values() if cell.cell_id in shared), next(iter(members.values())))
        opinions[first.cell_id] = names
        if first.cell_id in shared:
            continue  # somebody who sees all readings has decided about it
        if len(set(names.values())) > 1:
            disputed.add(first.cell_id)
            cells[first.cell_id] = _unnamed(first)
        else:
            cells[first.cell_id] = replace(first, decided_by=", ".join(members))
    return Agreement(cells, opinions, frozenset(disputed))


def verdicts(state: PatientState) -> list[Verdict]:
    """Return every cell of a patient with its status."""
    return [_verdict(cell, state) for cell in state.cells.values()]


def _verdict(cell: ReviewedCell, state: PatientState) -> Verdict:
    names = state.opinions.get(cell.cell_id, {})
    if cell.cell_id in state.disputed:
        return Verdict(cell, "disputed", names)
    if cell.removed is not None:
        return Verdict(cell, "removed", names)
    return Verdict(cell, "unseen" if cell.code is None else "confirmed", names)


def _said(cell: ReviewedCell) -> str | None:
    """Return what a reading says of a cell; None where it names nothing."""
    if cell.removed is not None:
        return cell.removed if cell.removed in {"split", "merge"} else NOT_A_CELL
    return cell.code


def _unnamed(cell: ReviewedCell) -> ReviewedCell:
    return replace(cell, code=None, removed=None, decided_by=None, decided_at=None)


def _joint(cell: ReviewedCell, own: Mapping[str, ReviewedCell]) -> ReviewedCell:
    """Return a cell as its readers agree on it, with an outline that one of them drew; unchanged if nobody saw it."""
    seen = {reader: its for reader, its in own.items() if its.is_seen}
    if not seen:
        return cell
    named = next((its for its in seen.values() if _said(its) is not None), cell)
    shape = next((its for its in seen.values() if its.contour_xy != cell.contour_xy), cell)
    return replace(
        cell,
        contour_xy=shape.contour_xy,
        area_um2=shape.area_um2,
        code=named.code,
        removed=named.removed,
        decided_by=", ".join(seen),
        decided_at=max(its.decided_at or 0 for its in seen.values()),
    )


def _drawn(readings: Mapping[str, Mapping[str, ReviewedCell]]) -> list[dict[str, ReviewedCell]]:
    """Group the cells that readers drew, by reader: those of one field whose outlines match are one cell."""
    groups: dict[str, list[dict[str, ReviewedCell]]] = defaultdict(list)
    for reader, reading in readings.items():
        by_field: dict[str, list[ReviewedCell]] = defaultdict(list)
        for cell in reading.values():
            if cell.origin != "model" and cell.removed is None:
                by_field[cell.field_id].append(cell)
        for field_id, drawn in by_field.items():
            known = list(groups[field_id])
            pairs = match_contours(
                [_points(cell) for cell in drawn], [_points(next(iter(group.values()))) for group in known]
            ).pairs
            place = {pair.predicted: pair.expert for pair in pairs}
            for index, cell in enumerate(drawn):
                if index in place:
                    known[place[index]][reader] = cell
                else:
                    groups[field_id].append({reader: cell})
    return [group for found in groups.values() for group in found]


def _points(cell: ReviewedCell) -> NDArray[np.float64]:
    return np.asarray(cell.contour_xy, dtype=np.float64).reshape(-1, 2)
