"""Check what a reader decided, and make it what is recorded. Pure: the state, the vocabulary and the fields come in.

The first decision about a cell also records its contour and its image, so that the log can be carried to another
prediction, and trained from, without the run it was made on.

Longer than 400 lines: it has one check for each kind of decision, a few lines each, and what they share.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import shapely

from marrowscope import geometry
from marrowscope.errors import ReviewError
from marrowscope.review.events import DECIDING, SETTLING, Draft, canonical
from marrowscope.review.patient_state import REPLACED, SEGMENTER, lacks_names
from marrowscope.review.smears import MOST_SMEARS
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from marrowscope.records import ContourArray
    from marrowscope.report.shown_rows import ShownField
    from marrowscope.review.events import Kind
    from marrowscope.review.live_estimate import AuditView
    from marrowscope.review.patient_state import PatientState, ReviewedCell
    from marrowscope.vocabulary import Vocabulary

_LONGEST_TEXT = 4000
UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that neither a string of FHIR nor a message of HL7 may have: control characters, halves of pairs."""
_MOST_POINTS = 2000
_LEAST_POINTS = 3
_LEAST_PARTS = 2
_FARTHEST_PX = 1e9
_OUTSIDE_PX = 2.0
"""How far beyond the edge of its field a drawn contour may reach."""


class NeedsAdjudicationError(ReviewError):
    """Blinded readers named the cell: a signer adjudicates it before anybody else decides about it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision as a reader sends it; what ``new`` is depends on the kind."""

    kind: str
    cell_id: str | None = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What decisions are checked against: a patient as it stands, its fields, and the codes that exist."""

    state: PatientState
    fields: Mapping[str, ShownField]
    vocabulary: Vocabulary
    flags: frozenset[str] | None = frozenset()
    """Flags that the run raised; None for a blinded reader, whom they would tell of the calls."""
    audit: AuditView | None = None
    answered: list[str] = field(default_factory=list)
    """Cells of the audit that this request answered so far."""
    withdrawn: set[str] = field(default_factory=set)
    """Cells whose adjudication this request took back so far."""
    states_place: bool = False
    """Whether every decision states where its cell lies; where blinded readings are joined, the log of one reader
    alone does not."""

    @property
    def next_in_audit(self) -> str | None:
        """The cell of the audit to be named next, after those of this request."""
        if self.audit is None:
            return None
        done = {*self.state.audit_answers, *self.answered}
        return next((cell_id for cell_id in self.audit.order if cell_id not in done), None)


def draft_of(subject: Subject, reader: str, decision: Decision) -> Draft:
    """Return what is to be recorded of a decision; ReviewError, one sentence, for one that cannot be."""
    check = _CHECKS.get(decision.kind)
    if check is None:
        _refuse(f"a decision of kind {decision.kind!r}", f"one of {', '.join(_CHECKS)}")
    draft = check(subject, reader, decision)
    touched = {draft.cell_id, *(draft.new["cells"] if draft.kind == "merge" else ())}
    named = subject.state.opinions.keys() - (subject.state.settled - subject.withdrawn)
    if draft.kind == "withdraw":
        subject.withdrawn.add(decision.cell_id or "")
    elif draft.kind in DECIDING - SETTLING and touched & named:
        message = (
            "found a decision about a cell that blinded readers named, expected one of kind 'adjudicate', by a signer; "
            "nothing was recorded"
        )
        raise NeedsAdjudicationError(message)
    if decision.kind == "audit_answer":
        subject.answered.append(decision.cell_id or "")
        return draft
    if subject.audit is not None and draft.kind in DECIDING:
        pending = set(subject.audit.order) - set(subject.state.audit_answers) - set(subject.answered)
        if draft.kind in SETTLING:
            pending -= named  # they are adjudicated first, and answered then
        if touched & pending:
            _refuse("a decision about a cell of the audit that nobody has named yet", "an answer in the audit first")
    return draft


def model_value(cell: ReviewedCell, field: ShownField, *, states_place: bool = False) -> dict[str, Any]:
    """Return what the model said of a cell, and with the first decision about it, or if asked for, where it lies."""
    said: dict[str, Any] = {"category": cell.model_category, "certainty": cell.certainty, "p_cblc": cell.p_cblc}
    if states_place or not cell.is_seen:
        said |= {**image_of(field), "contour_xy": list(cell.contour_xy)}
        said |= {} if cell.origin == "model" else {"origin": cell.origin}
    return said


def _relabel(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _cell(subject, decision)
    if decision.new is not None:
        _code(subject, decision.new)
    return _about(subject, reader, decision, cell, old=cell.code)


def _withdraw(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _cell(subject, decision)
    if cell.cell_id not in subject.state.settled - subject.withdrawn:
        _refuse(f"cell {cell.cell_id!r}, which nobody has adjudicated", "one whose adjudication can be taken back")
    if cell.removed in REPLACED:
        _refuse(
            f"cell {cell.cell_id!r}, which others replaced since ({cell.removed})",
            "one that is there; restore it first",
        )
    return _about(subject, reader, decision, cell, old=cell.code, new=None)


def _audit_answer(subject: Subject, reader: str, decision: Decision) -> Draft:
    view = subject.audit
    if view is None or decision.cell_id not in view.order:
        _refuse(f"an audit answer about cell {decision.cell_id!r}", "a cell of the audit that was drawn")
    if decision.cell_id in subject.state.audit_answers or decision.cell_id in subject.answered:
        _refuse(f"a second answer about cell {decision.cell_id!r}", "one: the first counts; relabel the cell instead")
    if decision.cell_id != subject.next_in_audit:
        _refuse(f"an answer about cell {decision.cell_id!r}", "one about the next cell: none is skipped")
    cell = _cell(subject, decision)
    if decision.new is not None:
        _code(subject, decision.new)
    return _about(subject, reader, decision, cell, old=cell.code)


def _remove(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _present(subject, decision)
    return _about(subject, reader, decision, cell, old=cell.code, new=decision.new)


def _restore(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _cell(subject, decision)
    if cell.removed is None:
        _refuse(f"cell {cell.cell_id!r}, which is not removed", "a removed cell")
    return _about(subject, reader, decision, cell, old=cell.removed)


def _redraw(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _present(subject, decision)
    field = subject.fields[cell.field_id]
    contour = _contour(_object(decision).get("contour_xy"), field)
    return _about(subject, reader, decision, cell, old=list(cell.contour_xy), new=_drawn(contour, field))


def _add(subject: Subject, reader: str, decision: Decision) -> Draft:
    value = _object(decision)
    field = _field(subject, value)
    contour = _contour(value.get("contour_xy"), field)
    new = _part(subject, field, contour, value)
    return Draft(reader, subject.state.patient_id, "add", _new_id(subject, new), None, new, image_of(field))


def _split(subject: Subject, reader: str, decision: Decision) -> Draft:
    cell = _present(subject, decision)
    field = subject.fields[cell.field_id]
    parts = _object(decision).get("parts")
    if not isinstance(parts, list) or len(parts) < _LEAST_PARTS:
        _refuse(f"parts {parts!r}", "two or more outlines")
    made: list[dict[str, Any]] = []
    for value in parts:
        if not isinstance(value, dict):
            _refuse(f"a part {value!r}", "an object with contour_xy")
        part = _part(subject, field, _contour(value.get("contour_xy"), field), value)
        made.append({**part, "cell_id": _new_id(subject, part)})
    if len({part["cell_id"] for part in made}) < len(made):
        _refuse("two parts with one outline", "parts that differ")
    return _about(subject, reader, decision, cell, old=cell.code, new={"parts": made})


def _merge(subject: Subject, reader: str, decision: Decision) -> Draft:
    value = _object(decision)
    names = value.get("cells")
    if not isinstance(names, list) or len(set(map(str, names))) < _LEAST_PARTS:
        _refuse(f"cells {names!r}", "two or more cells to merge")
    if not all(isinstance(name, str) for name in names):
        _refuse(f"cells {names!r}", "names of cells")
    cells = [_present(subject, Decision("merge", str(name))) for name in dict.fromkeys(names)]
    if len({cell.field_id for cell in cells}) > 1:
        _refuse("cells of several fields", "cells of one field")
    field = subject.fields[cells[0].field_id]
    given = value.get("contour_xy")
    contour = _joined(cells) if given is None else _contour(given, field)
    new = {**_part(subject, field, contour, value), "cells": [cell.cell_id for cell in cells]}
    stated = {cell.cell_id: model_value(cell, field, states_place=subject.states_place) for cell in cells}
    said = {"cells": stated, **image_of(field)}
    old = {cell.cell_id: cell.code for cell in cells}
    return Draft(reader, subject.state.patient_id, "merge", _new_id(subject, new), old, new, said)


def _comment(subject: Subject, reader: str, decision: Decision) -> Draft:
    value = _object(decision)
    new = {"text": _text(value.get("text"), "text"), "about": value.get("about")}
    if new["about"] is not None and not isinstance(new["about"], str):
        _refuse(f"about {new['about']!r}", "text or null")
    if decision.cell_id is not None:
        _cell(subject, decision)
    return Draft(reader, subject.state.patient_id, "comment", decision.cell_id, None, new)


def _field_checked(subject: Subject, reader: str, decision: Decision) -> Draft:
    field = _field(subject, _object(decision))
    return Draft(reader, subject.state.patient_id, "field_checked", None, None, {"field_id": field.field_id})


def _flag_answered(subject: Subject, reader: str, decision: Decision) -> Draft:
    value = _object(decision)
    if subject.flags is None:
        _refuse("an answer to a flag by a reader who does not see the calls", "one by somebody who sees the flags")
    if not isinstance(value.get("flag"), str) or value["flag"] not in subject.flags:
        _refuse(f"flag {value.get('flag')!r}", f"a flag of this patient ({', '.join(sorted(subject.flags)) or 'none'})")
    new = {"flag": value["flag"], "answer": _text(value.get("answer"), "answer")}
    old = subject.state.flags_answered.get(value["flag"])
    return Draft(reader, subject.state.patient_id, "flag_answered", None, old, new)


def _smears_stated(subject: Subject, reader: str, decision: Decision) -> Draft:
    n = _object(decision).get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_SMEARS):
        _refuse(f"number of smears {n!r}", f"a number from 1 to {MOST_SMEARS}, or null for unknown")
    old = {"n": subject.state.n_smears}
    return Draft(reader, subject.state.patient_id, "smears_stated", None, old, {"n": n})


def _full_review(subject: Subject, reader: str, decision: Decision) -> Draft:
    done = decision.new is not False
    if done and lacks_names(subject.state):
        n = sum(cell.code is None for cell in subject.state.present)
        _refuse(f"a full review with {count_of(n, 'cell')} without a name", "a name for every cell first")
    return Draft(reader, subject.state.patient_id, "full_review", None, subject.state.full_review_by, done)


def _open(subject: Subject, reader: str, _decision: Decision) -> Draft:
    return Draft(reader, subject.state.patient_id, "open")


_CHECKS: dict[str, Callable[[Subject, str, Decision], Draft]] = {
    "open": _open,
    "relabel": _relabel,
    "not_a_cell": _remove,
    "delete": _remove,
    "restore": _restore,
    "redraw": _redraw,
    "add": _add,
    "split": _split,
    "merge": _merge,
    "comment": _comment,
    "audit_answer": _audit_answer,
    "field_checked": _field_checked,
    "flag_answered": _flag_answered,
    "full_review": _full_review,
    "smears_stated": _smears_stated,
    "adjudicate": _relabel,
    "withdraw": _withdraw,
}
"""Every kind that a reader may send; the others are recorded by the station itself."""


def _about(
    subject: Subject,
    reader: str,
    decision: Decision,
    cell: ReviewedCell,
    *,
    old: Any,  # noqa: ANN401 - any value of JSON
    new: Any = ...,  # noqa: ANN401
) -> Draft:
    return Draft(
        reader=reader,
        patient_id=subject.state.patient_id,
        kind=cast("Kind", decision.kind),
        cell_id=cell.cell_id,
        old=old,
        new=decision.new if new is ... else new,
        model_value=model_value(cell, subject.fields[cell.field_id], states_place=subject.states_place),
    )


def _cell(subject: Subject, decision: Decision) -> ReviewedCell:
    cell = subject.state.cells.get(decision.cell_id or "")
    if cell is None:
        _refuse(f"cell {decision.cell_id!r}", "a cell of this patient")
    return cell


def _present(subject: Subject, decision: Decision) -> ReviewedCell:
    cell = _cell(subject, decision)
    if cell.removed is not None:
        _refuse(f"cell {cell.cell_id!r}, which is removed ({cell.removed})", "a cell that is there; restore it first")
    return cell


def _code(subject: Subject, code: object) -> str:
    if not isinstance(code, str) or code not in subject.vocabulary.codes:
        _refuse(f"code {code!r}", "a code of the vocabulary")
    return code


def _object(decision: Decision) -> dict[str, Any]:
    if not isinstance(decision.new, dict):
        _refuse(f"{decision.kind} with {decision.new!r}", "an object in new")
    return decision.new


def _field(subject: Subject, value: Mapping[str, Any]) -> ShownField:
    field = subject.fields.get(str(value.get("field_id")))
    if field is None or field.failed is not None:
        _refuse(f"field {value.get('field_id')!r}", "a field of this patient that could be read")
    return field


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        _refuse(f"no {name}", "some text")
    if UNPRINTABLE.search(value):
        _refuse(f"{name} that no document can hold", "text without control characters")
    if len(value) > _LONGEST_TEXT:
        _refuse(f"{name} of {count_of(len(value), 'character')}", f"at most {_LONGEST_TEXT}")
    return value


def _contour(value: object, field: ShownField) -> ContourArray:
    """Read x0, y0, x1, y1, ... of a drawn outline: simple, of some points, and inside its field."""
    numbers = value if isinstance(value, list) else []
    are_numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    if not are_numbers:
        _refuse("an outline with something that is no number", f"x and y of {_LEAST_POINTS} to {_MOST_POINTS} points")
    if len(numbers) % 2 or not _LEAST_POINTS <= len(numbers) // 2 <= _MOST_POINTS:
        _refuse(
            f"an outline of {count_of(len(numbers), 'number')}", f"x and y of {_LEAST_POINTS} to {_MOST_POINTS} points"
        )
    if any(abs(number) > _FARTHEST_PX for number in numbers):  # also whole numbers that no float holds
        _refuse("an outline beyond its field", f"points inside {field.width_px} x {field.height_px} px")
    contour = np.asarray(numbers, dtype=np.float64).reshape(-1, 2)
    inside = (contour >= -_OUTSIDE_PX) & (contour <= np.array([field.width_px, field.height_px]) + _OUTSIDE_PX)
    if not inside.all():
        _refuse("an outline beyond its field", f"points inside {field.width_px} x {field.height_px} px")
    if not geometry.is_valid(contour) or geometry.area(contour) <= 0:
        _refuse("an outline that crosses itself or has no area", "a simple outline; draw it again")
    return contour


def _joined(cells: list[ReviewedCell]) -> ContourArray:
    """Return the outline around several cells: their union where they touch, else its convex hull."""
    shapes = [shapely.make_valid(shapely.Polygon(np.reshape(cell.contour_xy, (-1, 2)))) for cell in cells]
    union = shapely.union_all(shapes)
    shape = union if isinstance(union, shapely.Polygon) else shapely.convex_hull(union)
    return np.asarray(shapely.get_coordinates(shapely.get_exterior_ring(shape))[:-1], dtype=np.float64)


def _drawn(contour: ContourArray, field: ShownField) -> dict[str, Any]:
    area = None if field.um_per_px is None else geometry.area(contour) * field.um_per_px**2
    return {"contour_xy": contour.ravel().tolist(), "area_um2": area}


def _part(subject: Subject, field: ShownField, contour: ContourArray, value: Mapping[str, Any]) -> dict[str, Any]:
    code = value.get("code")
    return {
        "field_id": field.field_id,
        **_drawn(contour, field),
        "code": None if code is None else _code(subject, code),
        **({"outlined_by": SEGMENTER} if value.get("outlined_by") == SEGMENTER else {}),
    }


def image_of(field: ShownField) -> dict[str, Any]:
    """Return which image a contour lies in, and for a slide where the field's pixels begin in it."""
    place = {} if field.region is None else {"origin_xy": [field.region.x_px, field.region.y_px]}
    return {"field_id": field.field_id, "image_sha256": field.sha256, **place}


def _new_id(subject: Subject, value: Mapping[str, Any]) -> str:
    """Return the id of a drawn cell, made of its place and outline; ReviewError where it is there already."""
    text = canonical([value["field_id"], value["contour_xy"]])
    name = f"drawn-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    known = subject.state.cells.get(name)
    if known is not None and known.removed is None:
        _refuse("an outline that was drawn before", "another outline")
    return name


def _refuse(found: str, expected: str) -> NoReturn:
    message = f"found {found}, expected {expected}; nothing was recorded"
    raise ReviewError(message)
