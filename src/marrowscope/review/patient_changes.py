"""What each kind of event changes in the state of a patient, other than in its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.review.audit import check_drawn
from marrowscope.review.patient_state import Comment, Signature
from marrowscope.review.smears import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.review.events import Event, Kind
    from marrowscope.review.patient_state import PatientState


def _comment(state: PatientState, event: Event) -> dict[str, Any]:
    value = event.new
    comment = Comment(event.sequence, event.reader, event.time_utc, value["text"], event.cell_id, value.get("about"))
    return {"comments": (*state.comments, comment)}


def _sign(state: PatientState, event: Event) -> dict[str, Any]:
    signature = Signature(
        len(state.signatures) + 1, event.sequence, event.reader, event.time_utc, event.hash, event.new or {}
    )
    return {"signatures": (*state.signatures, signature), "is_locked": True, "amend_reason": None}


def _draw(state: PatientState, event: Event) -> dict[str, Any]:
    """Begin an audit; the looks that were taken at one before it stay spent. ReviewError where it cannot be read."""
    check_drawn(event.new, where=f"event {event.sequence}, audit of patient {event.patient_id!r}")
    return {"audit": event.new, "audit_answers": {}, "looks_spent": state.looks_spent + _looks_taken(state)}


def _looks_taken(state: PatientState) -> int:
    """Count the complete looks of the audit at work: answers come in its order, so their number says it."""
    sizes = () if state.audit is None else state.audit["audit"]["sizes"]
    return sum(len(state.audit_answers) >= size for size in sizes)


def _answered(state: PatientState, event: Event) -> dict[str, Any]:
    """Keep the first answer about a cell of the audit."""
    return {"audit_answers": {event.cell_id or "": event.new, **state.audit_answers}}


def _smears(state: PatientState, event: Event) -> dict[str, Any]:
    """Keep what blinded readers say side by side, until somebody who reads it unblinded says what stands."""
    n = event.new["n"]
    if event.reader not in state.blinded:
        return {"n_smears": n, "smears_said": {SETTLED: n} if state.blinded else {event.reader: n}}
    said = {**state.smears_said, event.reader: n}
    settled = said.get(SETTLED)
    numbers = {number for number in said.values() if number is not None}
    one = numbers.pop() if len(numbers) == 1 else None
    return {"n_smears": one if settled is None else settled, "smears_said": said}


def _bind(state: PatientState, _event: Event) -> dict[str, Any]:
    """Forget what was about the cells of an earlier prediction; comments, signatures and spent looks stay.

    A signed patient stays locked: what was signed is opened again by an amendment, with its reason, and not by a run.
    """
    return {
        "looks_spent": state.looks_spent + _looks_taken(state),
        "audit": None,
        "audit_answers": {},
        "fields_checked": {},
        "flags_answered": {},
        "full_review_by": None,
        "full_review_utc": None,
        "full_review_withdrawn": None,
        "misplaced": (),
        "not_carried": (),
    }


PATIENT_CHANGES: dict[Kind, Callable[[PatientState, Event], dict[str, Any]]] = {
    "bind": _bind,
    "comment": _comment,
    "audit_drawn": _draw,
    "audit_answer": _answered,
    "field_checked": lambda state, event: {
        "fields_checked": {**state.fields_checked, event.new["field_id"]: event.reader}
    },
    "flag_answered": lambda state, event: {
        "flags_answered": {**state.flags_answered, event.new["flag"]: event.new["answer"]}
    },
    "smears_stated": _smears,
    "full_review": lambda _, event: {
        "full_review_by": event.reader if event.new is not False else None,
        "full_review_utc": event.time_utc if event.new is not False else None,
        "full_review_withdrawn": None,
    },
    "sign": _sign,
    "amend": lambda _, event: {"is_locked": False, "amend_reason": event.new["reason"]},
    "assign": lambda state, event: {
        "assigned": tuple(event.new["readers"]),
        "blinded": tuple(dict.fromkeys([*state.blinded, *event.new["readers"]])),
    },
    "not_carried": lambda state, event: {"not_carried": (*state.not_carried, event)},
}
