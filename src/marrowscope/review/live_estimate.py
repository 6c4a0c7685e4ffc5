"""The figures of a patient under review, from the state alone: the machine's count, the audit's looks, the full review.

The frame of an audit holds what the machine found, and the parts into which readers split or merged it. Cells that a
reader added are none of it: they speak through whole fields drawn at random (``missed_fields``), or the figure says
that it knows of found cells only. Only an audit whose look is complete, or a full review, gives an estimate.

Invariant: an audit is counted from what it froze when it was drawn, the names of then and the frame, and from the first
answer about each of its cells. What readers do to these cells later changes the cells, never the audit.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.review.audit import (
    CBLC,
    FEWEST_DRAWN,
    LOOKS,
    NOT_COUNTABLE,
    OTHER,
    Audit,
    FrameCell,
    count_answers,
    draw_audit,
    side_of,
    sides_of,
)
from marrowscope.review.audited_ratio import audit_interval
from marrowscope.review.full_review import census_ratio, full_review_interval, machine_count, review_progress
from marrowscope.review.looks import LOOK_LEVEL, take_look
from marrowscope.review.missed_fields import FEWEST_FIELDS, check_fields, draw_fields
from marrowscope.statistics.clusters import ASSUMED_CORRELATION, design_effect
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from marrowscope.review.audited_ratio import AuditedRatio
    from marrowscope.review.full_review import FullReview
    from marrowscope.review.missed_fields import CheckedFields
    from marrowscope.review.patient_state import PatientState, ReviewedCell
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class AuditView:
    """A drawn audit and how far it is: the cells of all looks in the order to name them, and how many are named.

    ``n_looks`` is how many of its looks may be taken: those that earlier audits of the patient left.
    """

    audit: Audit
    order: tuple[str, ...]
    fields: tuple[str, ...]
    n_answered: int
    n_looks: int = len(LOOKS)

    @property
    def look(self) -> int | None:
        """The last look whose cells are all named; None before the first. One of fewer than 50 cells is none."""
        allowed = enumerate(self.audit.sizes[: self.n_looks])
        done = [index for index, size in allowed if self.n_answered >= size >= FEWEST_DRAWN]
        return done[-1] if done else None

    @property
    def n_closed(self) -> int:
        """Cells of the looks that are complete; the calls of all others are hidden."""
        return max((size for size in self.audit.sizes if self.n_answered >= size), default=0)

    @property
    def next_cell(self) -> str | None:
        """The cell to name next; None where all are named."""
        return self.order[self.n_answered] if self.n_answered < len(self.order) else None


def drawn_audit(state: PatientState, fields: Iterable[str], seed: str) -> dict[str, Any]:
    """Draw an audit of a patient as it stands; returns what its event stores, the names of reviewed cells included.

    ``seed`` must come from a source that nobody foresees. Raises ValueError for a patient without a cell, and where
    fewer than 50 are left to draw from.
    """
    if (n_left := n_to_draw(state)) < FEWEST_DRAWN:
        message = f"found {count_of(n_left, 'cell')} without a name, expected {FEWEST_DRAWN} or more to draw from"
        raise ValueError(message)
    audit = draw_audit(frame_of(state), seed, LOOKS[: looks_left(state)])
    named = {name: name_of(state.cells[name]) for name in audit.reviewed}
    return {"audit": audit.model_dump(mode="json"), "fields": list(draw_fields(fields, seed)), "named": named}


def n_to_draw(state: PatientState) -> int:
    """Return how many cells of the frame have no name yet: those that an audit drawn now could draw from."""
    return sum(not cell.reviewed for cell in frame_of(state))


def looks_left(state: PatientState) -> int:
    """Return how many looks a new audit of this patient may have: three over all of its audits."""
    return max(0, len(LOOKS) - state.looks_spent)


def audit_view(state: PatientState) -> AuditView | None:
    """Read the audit of a patient; None where none was drawn."""
    if state.audit is None:
        return None
    audit = Audit.model_validate(state.audit["audit"])
    order = tuple(cell_id for look in range(len(audit.sizes)) for cell_id in audit.cells_of_look(look))
    n_answered = next((index for index, name in enumerate(order) if name not in state.audit_answers), len(order))
    return AuditView(audit, order, tuple(state.audit["fields"]), n_answered, looks_left(state))


def hidden_cells(state: PatientState) -> frozenset[str]:
    """Return the cells whose calls a reader must not see yet: those of the audit's looks that are not complete.

    A cell that was answered stays hidden until its look is: who sees that an answer was the machine's, or was not,
    names the next cells otherwise.
    """
    view = audit_view(state)
    return frozenset() if view is None else frozenset(view.order[view.n_closed :])


def frame_of(state: PatientState) -> list[FrameCell]:
    """Return the frame of an audit drawn now."""
    return [
        FrameCell(
            cell_id=cell.cell_id,
            called_cblc=bool(cell.model_is_cblc),
            called_countable=bool(cell.model_is_countable),
            p_cblc=cell.p_cblc or 0.0,
            reviewed=cell.code is not None or cell.removed is not None,
        )
        for cell in state.cells.values()
        if cell.origin != "added"
    ]


def name_of(cell: ReviewedCell) -> str | None:
    """Return the code of a cell that somebody named or removed; None for what is not a cell."""
    return cell.code if cell.removed is None else None


def audit_names(state: PatientState, audit: Audit) -> dict[str, str | None]:
    """Return the name of each cell of an audit: those that it froze, and the first answers; None is not a cell."""
    named = (state.audit or {}).get("named")
    if named is None:  # drawn by a version that did not freeze them: the names of now are all there is
        named = {name: name_of(state.cells[name]) for name in audit.reviewed if name in state.cells}
    return {**named, **state.audit_answers}


def audit_sides(state: PatientState, audit: Audit, vocabulary: Vocabulary) -> dict[str, int]:
    """Return the side of each cell of an audit by the names that it froze and the first answers."""
    return sides_of(audit_names(state, audit), vocabulary)


def sides_of_seen(state: PatientState, vocabulary: Vocabulary) -> dict[str, int]:
    """Return the side of each cell that somebody named or removed, as it stands now."""
    named = (cell for cell in state.cells.values() if cell.code is not None or cell.removed is not None)
    return sides_of({cell.cell_id: name_of(cell) for cell in named}, vocabulary)


def side_now(cell: ReviewedCell, vocabulary: Vocabulary) -> int:
    """Return the side on which a cell counts now: by its code, else by the machine's call."""
    if cell.removed is not None:
        return NOT_COUNTABLE
    if cell.code is not None:
        return side_of(cell.code, vocabulary)
    return side_called(cell)


def side_called(cell: ReviewedCell) -> int:
    """Return the side of the machine's call; a cell that a reader drew has none, and counts for nothing."""
    if not cell.model_is_countable:
        return NOT_COUNTABLE
    return CBLC if cell.model_is_cblc else OTHER


def unnamed_cells(state: PatientState, *, drawn_only: bool) -> list[ReviewedCell]:
    """Return the cells that are there without a code; of those that readers drew only, or of all."""
    return [cell for cell in state.present if cell.code is None and (cell.origin != "model" or not drawn_only)]


def estimate(
    state: PatientState,
    n_fields: int,
    vocabulary: Vocabulary,
    *,
    is_out_of_depth: bool = False,
    n_smears: int | None = None,
) -> dict[str, Any]:
    """Return the figures of a patient as plain values; ``full`` and ``audit`` are None where they do not apply.

    ``n_smears`` is what the files state of the smears; what a reader said of them is taken first, and where
    blinded readers disagree there is no number.

    ``machine`` is None out of depth, until a review gives a ratio: nothing is made of calls that nobody can vouch for.
    """
    hidden = hidden_cells(state)  # a corrected count that moves with an answer would tell the call
    sides = {name: side for name, side in sides_of_seen(state, vocabulary).items() if name not in hidden}
    machine = machine_count(frame_of(state), sides)
    effect = _effect((cell.field_id, side_now(cell, vocabulary)) for cell in state.present)
    named = Counter(
        vocabulary.codes[cell.code].category
        for cell in state.present
        if cell.code is not None and vocabulary.codes[cell.code].ndc
    )
    full = _full(state, n_fields, vocabulary, effect)
    audit = _audit(state, n_fields, vocabulary)
    if audit is not None and full is not None and full["ratio"] is not None:
        # One ratio a patient: every cell was named, and the audit's interval is about cells that were not.
        audit |= {"ratio": None, "advice": "all_named", "next": None}
    smears = None if state.disputed_smears else state.n_smears or n_smears
    is_reviewed = any(figure is not None and figure["ratio"] is not None for figure in (full, audit))
    return {
        "machine": {**asdict(machine), "is_estimate": False} if is_reviewed or not is_out_of_depth else None,
        "full": full,
        "audit": audit,
        "progress": {
            **_plain(asdict(review_progress(named, smears, effect=effect))),
            "disputed_smears": list(state.disputed_smears),
        },
    }


def _full(state: PatientState, n_fields: int, vocabulary: Vocabulary, effect: float) -> dict[str, Any] | None:
    if state.full_review_by is None:
        return None
    if n_unnamed := len(unnamed_cells(state, drawn_only=False)):
        return {"confirmed_by": state.full_review_by, "n_unnamed": n_unnamed, "ratio": None}
    ratio = reviewed_ratio(state, n_fields, vocabulary, effect)
    return {"confirmed_by": state.full_review_by, "n_unnamed": 0, "ratio": _plain(asdict(ratio))}


def is_fully_reviewed(state: PatientState) -> bool:
    """Whether a reader said that the patient is reviewed in full, and every cell that is there has a name."""
    return state.full_review_by is not None and not unnamed_cells(state, drawn_only=False)


def reviewed_ratio(state: PatientState, n_fields: int, vocabulary: Vocabulary, effect: float = 1.0) -> FullReview:
    """Return the ratio of a fully reviewed patient; ``effect`` is the design effect of the smear's interval."""
    missed = _missed(state, n_fields, vocabulary)
    counted = [side_now(cell, vocabulary) for cell in state.present if missed is None or cell.origin != "added"]
    x, n = counted.count(CBLC), counted.count(CBLC) + counted.count(OTHER)
    return full_review_interval(x, n, effect=effect, missed=missed)


def _audit(state: PatientState, n_fields: int, vocabulary: Vocabulary) -> dict[str, Any] | None:
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
    later = set(view.order[view.n_closed :])  # answers of a look that is not complete say nothing yet
    sides = {name: side for name, side in audit_sides(state, view.audit, vocabulary).items() if name not in later}
    counts, effect = count_answers(view.audit, sides, view.look), _frozen_effect(state, sides)
    look = take_look(view.audit, counts, view.look, effect=effect)
    missed = _missed(state, n_fields, vocabulary)
    if look.advice == "all_named":
        ratio = census_ratio(counts, level=LOOK_LEVEL, effect=effect, missed=missed)
    elif missed is None:
        ratio = look.ratio
    else:
        ratio = audit_interval(counts, level=LOOK_LEVEL, effect=effect, missed=missed)
    following = None if look.next is None else _plain(asdict(look.next))
    return made | {"ratio": _ratio(ratio), "advice": look.advice, "next": following}


def searched_fields(state: PatientState, n_fields: int) -> tuple[str, ...]:
    """Return the fields that were drawn at random and checked whole; none until all that were drawn are checked.

    Without a draw, only a patient whose every field is checked has such fields.
    """
    drawn = tuple(state.audit["fields"]) if state.audit else ()
    if len(state.fields_checked) == n_fields:
        drawn = tuple(state.fields_checked)
    is_done = all(name in state.fields_checked for name in drawn)
    return drawn if is_done and len(drawn) >= min(FEWEST_FIELDS, n_fields) else ()


def _missed(state: PatientState, n_fields: int, vocabulary: Vocabulary) -> CheckedFields | None:
    """Return the cells added in fields that were drawn and checked whole; None where there are no such fields."""
    drawn = searched_fields(state, n_fields)
    if not drawn:
        return None
    added: dict[str, Counter[int]] = {name: Counter() for name in drawn}
    for cell in state.present:
        if cell.origin == "added" and cell.field_id in added:
            added[cell.field_id][side_now(cell, vocabulary)] += 1
    return check_fields([(counts[CBLC], counts[OTHER]) for counts in added.values()], n_fields)


def _effect(sides: Iterable[tuple[str, int]]) -> float:
    """Return the design effect by the patient's own fields, from field and side of each cell; 1 without a cell."""
    by_field: dict[str, Counter[int]] = {}
    for field_id, side in sides:
        by_field.setdefault(field_id, Counter())[side] += 1
    x = np.array([counts[CBLC] for counts in by_field.values()], dtype=np.float64)
    n = x + np.array([counts[OTHER] for counts in by_field.values()], dtype=np.float64)
    return float(design_effect(x, n, ASSUMED_CORRELATION)) if n.sum() > 0 else 1.0


def _frozen_effect(state: PatientState, sides: Mapping[str, int]) -> float:
    """Return the design effect by the answers of an audit and, for the other cells of the run, the machine's calls."""
    cells = (cell for cell in state.cells.values() if cell.origin == "model" or cell.cell_id in sides)
    return _effect((cell.field_id, sides.get(cell.cell_id, side_called(cell))) for cell in cells)


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
