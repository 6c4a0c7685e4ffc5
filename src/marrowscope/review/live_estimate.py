"""The figures of a patient under review, from the state alone: the machine's count, the audit's looks, the full review.

The frame of an audit holds what the machine found, and the parts into which readers split or merged it. Cells that a
reader added are none of it: they speak through whole fields drawn at random (``missed_fields``), or the figure says
that it knows of found cells only. Only an audit whose look is complete, or a full review, gives an estimate.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.review.audit import CBLC, NOT_COUNTABLE, OTHER, Audit, FrameCell, count_answers, draw_audit, side_of
from marrowscope.review.audited_ratio import audit_interval
from marrowscope.review.full_review import full_review_interval, machine_count, review_progress
from marrowscope.review.looks import LOOK_LEVEL, take_look
from marrowscope.review.missed_fields import FEWEST_FIELDS, check_fields, draw_fields
from marrowscope.statistics.clusters import ASSUMED_CORRELATION, design_effect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.review.audited_ratio import AuditedRatio
    from marrowscope.review.events import Head
    from marrowscope.review.fold import PatientState, ReviewedCell
    from marrowscope.review.missed_fields import CheckedFields
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class AuditView:
    """A drawn audit and how far it is: the cells of all looks in the order to name them, and how many are named."""

    audit: Audit
    order: tuple[str, ...]
    fields: tuple[str, ...]
    n_answered: int

    @property
    def look(self) -> int | None:
        """The last look whose cells are all named; None before the first."""
        done = [index for index, size in enumerate(self.audit.sizes) if self.n_answered >= size]
        return done[-1] if done else None

    @property
    def next_cell(self) -> str | None:
        """The cell to name next; None where all are named."""
        return self.order[self.n_answered] if self.n_answered < len(self.order) else None


def drawn_audit(state: PatientState, fields: Iterable[str], head: Head) -> dict[str, Any]:
    """Draw an audit of a patient as it stands; returns what its event stores.

    The seed is made of the head of the chain, which no reader chooses. Raises ValueError for a patient without a cell.
    """
    seed = hashlib.sha256(f"{head.hash}:{state.patient_id}".encode()).hexdigest()
    audit = draw_audit(frame_of(state), seed)
    return {"audit": audit.model_dump(mode="json"), "fields": list(draw_fields(fields, seed))}


def audit_view(state: PatientState) -> AuditView | None:
    """Read the audit of a patient; None where none was drawn."""
    if state.audit is None:
        return None
    audit = Audit.model_validate(state.audit["audit"])
    order = tuple(cell_id for look in range(len(audit.sizes)) for cell_id in audit.cells_of_look(look))
    n_answered = next((index for index, name in enumerate(order) if name not in state.audit_answers), len(order))
    return AuditView(audit, order, tuple(state.audit["fields"]), n_answered)


def hidden_cells(state: PatientState) -> frozenset[str]:
    """Return the cells whose calls a reader must not see yet: those of the audit that nobody has named."""
    view = audit_view(state)
    return frozenset() if view is None else frozenset(view.order[view.n_answered :])


def frame_of(state: PatientState) -> list[FrameCell]:
    """Return the frame of an audit drawn now."""
    return [
        FrameCell(
            cell_id=cell.cell_id,
            called_cblc=bool(cell.model_is_cblc),
            called_countable=bool(cell.model_is_countable),
            p_cblc=cell.p_cblc or 0.0,
            reviewed=cell.is_seen,
        )
        for cell in state.cells.values()
        if cell.origin != "added"
    ]


def sides_of_seen(state: PatientState, vocabulary: Vocabulary) -> dict[str, int]:
    """Return the side of each cell that somebody named or removed."""
    return {
        cell.cell_id: side_of(cell.code if cell.removed is None else None, vocabulary)
        for cell in state.cells.values()
        if cell.code is not None or cell.removed is not None
    }


def side_now(cell: ReviewedCell, vocabulary: Vocabulary) -> int:
    """Return the side on which a cell counts now: by its code, else by the machine's call."""
    if cell.removed is not None:
        return NOT_COUNTABLE
    if cell.code is not None:
        return side_of(cell.code, vocabulary)
    if not cell.model_is_countable:
        return NOT_COUNTABLE
    return CBLC if cell.model_is_cblc else OTHER


def unnamed_cells(state: PatientState, *, drawn_only: bool) -> list[ReviewedCell]:
    """Return the cells that are there without a code; of those that readers drew only, or of all."""
    return [cell for cell in state.present if cell.code is None and (cell.origin != "model" or not drawn_only)]


def estimate(state: PatientState, n_fields: int, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the figures of a patient as plain values; ``full`` and ``audit`` are None where they do not apply."""
    sides = sides_of_seen(state, vocabulary)
    machine = machine_count(frame_of(state), sides)
    effect = _effect(state, vocabulary)
    named = Counter(
        vocabulary.codes[cell.code].category
        for cell in state.present
        if cell.code is not None and vocabulary.codes[cell.code].ndc
    )
    return {
        "machine": {**asdict(machine), "is_estimate": False},
        "full": _full(state, n_fields, vocabulary, effect),
        "audit": _audit(state, n_fields, vocabulary, effect),
        "progress": _plain(asdict(review_progress(named, 1, effect=effect))),
    }


def _full(state: PatientState, n_fields: int, vocabulary: Vocabulary, effect: float) -> dict[str, Any] | None:
    if state.full_review_by is None:
        return None
    if n_unnamed := len(unnamed_cells(state, drawn_only=False)):
        return {"confirmed_by": state.full_review_by, "n_unnamed": n_unnamed, "ratio": None}
    missed = _missed(state, n_fields, vocabulary)
    counted = [side_now(cell, vocabulary) for cell in state.present if missed is None or cell.origin != "added"]
    x, n = counted.count(CBLC), counted.count(CBLC) + counted.count(OTHER)
    ratio = full_review_interval(x, n, effect=effect, missed=missed)
    return {"confirmed_by": state.full_review_by, "n_unnamed": 0, "ratio": _plain(asdict(ratio))}


def _audit(state: PatientState, n_fields: int, vocabulary: Vocabulary, effect: float) -> dict[str, Any] | None:
    view = audit_view(state)
    if view is None:
        return None
    made: dict[str, Any] = {
        "sizes": list(view.audit.sizes),
        "n_cells": view.audit.n_cells,
        "n_answered": view.n_answered,
        "look": view.look,
        "fields": list(view.fields),
        "fields_checked": [name for name in view.fields if name in state.fields_checked],
        "level": LOOK_LEVEL,
        "ratio": None,
        "advice": None,
        "next": None,
    }
    if view.look is None:
        return made
    counts = count_answers(view.audit, sides_of_seen(state, vocabulary), view.look)
    look = take_look(view.audit, counts, view.look, effect=effect)
    missed = _missed(state, n_fields, vocabulary)
    ratio = look.ratio if missed is None else audit_interval(counts, level=LOOK_LEVEL, effect=effect, missed=missed)
    following = None if look.next is None else _plain(asdict(look.next))
    return made | {"ratio": _ratio(ratio), "advice": look.advice, "next": following}


def _missed(state: PatientState, n_fields: int, vocabulary: Vocabulary) -> CheckedFields | None:
    """Return the cells added in fields drawn at random and checked whole; None until all of these are checked.

    Without a draw, only a patient whose every field is checked has such fields.
    """
    drawn = tuple(state.audit["fields"]) if state.audit else ()
    if len(state.fields_checked) == n_fields:
        drawn = tuple(state.fields_checked)
    is_done = all(name in state.fields_checked for name in drawn)
    if not drawn or not is_done or len(drawn) < min(FEWEST_FIELDS, n_fields):
        return None
    added: dict[str, Counter[int]] = {name: Counter() for name in drawn}
    for cell in state.present:
        if cell.origin == "added" and cell.field_id in added:
            added[cell.field_id][side_now(cell, vocabulary)] += 1
    return check_fields([(counts[CBLC], counts[OTHER]) for counts in added.values()], n_fields)


def _effect(state: PatientState, vocabulary: Vocabulary) -> float:
    """Return the design effect of the ratio by the patient's own fields, as counted now; 1 without a cell."""
    by_field: dict[str, Counter[int]] = {}
    for cell in state.present:
        by_field.setdefault(cell.field_id, Counter())[side_now(cell, vocabulary)] += 1
    x = np.array([counts[CBLC] for counts in by_field.values()], dtype=np.float64)
    n = x + np.array([counts[OTHER] for counts in by_field.values()], dtype=np.float64)
    return float(design_effect(x, n, ASSUMED_CORRELATION)) if n.sum() > 0 else 1.0


def _ratio(ratio: AuditedRatio) -> dict[str, Any]:
    made: dict[str, Any] = _plain(asdict(ratio))
    return made


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    """Return a value that JSON has: NaN, an estimate that is not there, becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
