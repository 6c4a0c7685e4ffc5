"""The present state of a patient: the frozen cells of the run, and the events of the review folded over them.

Pure: no database, no clock. The same events in the same order give the same state. ``Folding`` goes on from where it
stands, so that a server folds each event once; ``fold`` does all of them at once.

Decisions of readers who were assigned a patient, and do not see each other, go to a reading of each reader; the cells
are what these readings agree on (``consensus``), and what those decided who see everything.

A cell counts by its ``code`` once somebody named it, else by the model's category. A removed cell (not a cell, deleted,
split, merged into another) stays in the state, so that a later event can restore it.

Longer than 400 lines: each kind of event changes the state in one place, and these changes hold only together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from marrowscope.errors import ReviewError
from marrowscope.review.audit import check_drawn
from marrowscope.review.consensus import agree
from marrowscope.review.events import DECIDING, SETTLING, Head, chained
from marrowscope.review.left_behind import ABOUT_PATIENT, left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from marrowscope.review.consensus import Agreement
    from marrowscope.review.events import Draft, Event, Kind
    from marrowscope.review.left_behind import LeftBehind

Origin = Literal["model", "added", "split", "merged"]
REPLACED = frozenset({"split", "merge", "delete"})
"""Ways of being removed that an answer about the former outline does not take back."""

SEGMENTER = "segmenter"
"""Who outlined a cell that a reader added by a click."""

_EVERYBODYS: frozenset[Kind] = frozenset({"bind", "assign"})
"""Kinds that a reader sees who does not see the others' decisions."""

Contour = tuple[float, ...]
"""x0, y0, x1, y1, ... in pixels of the field."""


@dataclass(frozen=True, slots=True)
class FrozenCell:
    """One kept cell of the run, as the prediction left it. ``certainty`` is the probability of its category."""

    cell_id: str
    field_id: str
    contour_xy: Contour
    category: str
    certainty: float
    p_cblc: float
    is_cblc: bool
    is_countable: bool
    area_um2: float | None


@dataclass(frozen=True, slots=True)
class ReviewedCell:
    """One cell as it stands now.

    ``model_category`` and the model's probabilities are None for a cell that a reader added. ``code`` is the raw code a
    reader gave, None while nobody did. ``removed`` is the kind of the event that removed it.
    """

    cell_id: str
    field_id: str
    contour_xy: Contour
    origin: Origin
    model_category: str | None
    certainty: float | None
    p_cblc: float | None
    model_is_cblc: bool | None
    model_is_countable: bool | None
    area_um2: float | None
    code: str | None = None
    removed: str | None = None
    decided_by: str | None = None
    decided_at: int | None = None
    outlined_by: str | None = None
    """``segmenter`` for a cell that a reader found and whose outline is the network's; None for all others."""

    @property
    def is_seen(self) -> bool:
        """Whether a reader decided something about this cell."""
        return self.decided_at is not None


@dataclass(frozen=True, slots=True)
class Comment:
    """A remark on the patient, or on one cell. ``about`` is its subject, ``adequacy`` for example."""

    sequence: int
    reader: str
    time_utc: str
    text: str
    cell_id: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """One signed version of a patient's result. ``version`` counts from 1; ``head_hash`` is the event's own hash."""

    version: int
    sequence: int
    reader: str
    time_utc: str
    head_hash: str
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DecidedCells:
    """About how many cells of a patient a reader decided, and when first and last; times are ISO 8601 in UTC."""

    reader: str
    n_cells: int
    first_utc: str
    last_utc: str


class NoCellError(ReviewError):
    """An event is about a cell that is not there."""


@dataclass(frozen=True, slots=True)
class PatientState:
    """A patient as reviewed until event ``sequence``, 0 before any."""

    patient_id: str
    sequence: int
    cells: Mapping[str, ReviewedCell]
    comments: tuple[Comment, ...] = ()
    audit: Mapping[str, Any] | None = None
    audit_answers: Mapping[str, str | None] = field(default_factory=dict)
    """The first answer about each cell of the audit; the audit is counted from these, whatever is named later."""
    looks_spent: int = 0
    """Looks that were taken at earlier audits of this patient, also of an earlier prediction."""
    fields_checked: Mapping[str, str] = field(default_factory=dict)
    flags_answered: Mapping[str, str] = field(default_factory=dict)
    n_smears: int | None = None
    """Smears that a reader says the fields are of; None where nobody did. It stays with a new prediction."""
    full_review_by: str | None = None
    signatures: tuple[Signature, ...] = ()
    is_locked: bool = False
    amend_reason: str | None = None
    """Why the last signed version was opened again; the next one states it."""
    assigned: tuple[str, ...] = ()
    blinded: tuple[str, ...] = ()
    """Everybody who was ever assigned: none of them adjudicates this patient, also when the assignment has ended."""
    opinions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What assigned readers say of each cell that any of them named, by reader."""
    disputed: frozenset[str] = frozenset()
    """Cells of which they say different things, and that nobody has adjudicated."""
    settled: frozenset[str] = frozenset()
    """Cells that were adjudicated: they have this name, whatever a reader says later."""
    full_review_withdrawn: tuple[str, str] | None = None
    """Whose full review a later decision withdrew, and who decided that; None where one stands, or was never said."""
    full_review_utc: str | None = None
    """When the full review that stands was said to be done."""
    decided: tuple[DecidedCells, ...] = ()
    """Everybody who decided about cells of this prediction, in the order of their first decision."""
    misplaced: tuple[Event, ...] = ()
    """Events about cells that this prediction does not have: a station recorded them that still had another one."""
    n_own: int = 0
    """Events that this fold took in: of a reading of one reader it tells nothing of what others record."""
    not_carried: tuple[Event, ...] = ()
    left_behind: tuple[LeftBehind, ...] = ()
    """What was about the cells of earlier predictions: audits, full reviews, checked fields, answers to flags."""

    @property
    def present(self) -> list[ReviewedCell]:
        """The cells that are not removed, in the order of the run, added ones last."""
        return [cell for cell in self.cells.values() if cell.removed is None]

    @property
    def n_reviewed(self) -> int:
        """Cells that a reader decided something about, removed ones included."""
        return sum(cell.is_seen for cell in self.cells.values())


def fold(patient_id: str, frozen: Iterable[FrozenCell], events: Iterable[Event]) -> PatientState:
    """Fold the events of a patient, in their order, over the cells of the run; those of other patients are skipped."""
    folding = Folding(patient_id, frozen)
    for event in events:
        folding.apply(event)
    return folding.state()


def blind_reader(event: Event, assigned: Sequence[str]) -> str | None:
    """Return the reader to whose own reading an event belongs, None for one that all share.

    ``assigned`` are the readers to whom the patient was given when the event was recorded.
    """
    if event.kind in {"carried", "not_carried"}:
        value = event.new if event.kind == "carried" else event.old
        return value["decided_by"] if value.get("blind") else None
    return event.reader if event.reader in assigned and event.kind not in SETTLING else None


class Folding:
    """A fold that goes on: ``apply`` each event once, in order; ``state`` gives what stands."""

    def __init__(self, patient_id: str, frozen: Iterable[FrozenCell], since: int = 0, only: str | None = None) -> None:
        """Begin before any event. ``since`` is the event that bound the patient to the prediction of ``frozen``.

        Decisions before it were about the cells of an earlier prediction, and are left out. With ``only``, so are those
        of every other reader: what a reader sees who must not see the others.
        """
        self._since = since
        self._only = only
        self._state = PatientState(patient_id, 0, {})
        self._frozen = {cell.cell_id: _unreviewed(cell) for cell in frozen}
        self._cells: dict[str, ReviewedCell] = dict(self._frozen)
        self._readings: dict[str, dict[str, ReviewedCell]] = {}
        self._readers: tuple[str, ...] = ()
        self._settled: dict[str, ReviewedCell | None] = {}  # each as it stood before; None where no one else drew it
        self._reviewed_in_full: set[str] = set()
        self._about_patient: list[Event] = []  # of this prediction
        self._decided: dict[str, tuple[set[str], list[str]]] = {}  # by reader: cells, times
        self._agreement: Agreement | None = None

    @property
    def sequence(self) -> int:
        """Number of the last event applied; 0 before any."""
        return self._state.sequence

    def state(self) -> PatientState:
        """Return what stands now; later events do not change it."""
        state = replace(
            self._state,
            cells=dict(self._cells),
            settled=frozenset(self._settled),
            decided=tuple(
                DecidedCells(reader, len(cells), min(times), max(times))
                for reader, (cells, times) in self._decided.items()
            ),
        )
        if self._readings:
            found = self._agreed()
            state = replace(state, cells=dict(found.cells), opinions=found.opinions, disputed=found.disputed)
        if state.full_review_by is not None and lacks_names(state):
            return replace(state, full_review_by=None, full_review_utc=None)
        return state

    def apply(self, event: Event) -> None:
        """Apply one event; one about a cell that is not there changes nothing, and is kept under ``misplaced``."""
        if event.patient_id != self._state.patient_id or event.sequence <= self._state.sequence:
            return
        if self._only is not None and not _is_shown(event, self._only):
            self._state = replace(self._state, sequence=event.sequence)
            return
        n_own = self._state.n_own + int(event.kind != "assign")  # which may be about others
        self._state = replace(self._state, n_own=n_own)
        if event.sequence > self._since and event.kind in _CELL_CHANGES:
            try:
                self._change(event)
            except NoCellError:
                self._state = replace(self._state, misplaced=(*self._state.misplaced, event), sequence=event.sequence)
                return
            self._count_decided(event)
        more = _PATIENT_CHANGES[event.kind](self._state, event) if event.kind in _PATIENT_CHANGES else {}
        if event.kind == "assign" and event.new["readers"]:
            self._readers = tuple(event.new["readers"])
        if event.kind in ABOUT_PATIENT:
            self._about_patient.append(event)
        if event.kind == "bind":
            more = {**more, "left_behind": (*self._state.left_behind, *left_behind(self._about_patient))}
            self._about_patient.clear()
            self._reviewed_in_full.clear()
            self._decided.clear()
        if event.kind == "full_review" and self._only is None and event.reader in self._state.assigned:
            by = self._full_review(event)
            more = {"full_review_by": by, "full_review_utc": event.time_utc if by else None}
        if withdraws_review(event, is_blinded=bool(self._readings)):
            more = {**more, **self._withdrawn_review(event)}
        self._state = replace(self._state, sequence=event.sequence, **more)

    def _count_decided(self, event: Event) -> None:
        """Note who decided about which cells, and when; what was taken back is no decision."""
        if event.kind == "withdraw" or (event.kind == "relabel" and event.new is None):
            return
        value = event.new if event.kind == "carried" else {}
        cells, times = self._decided.setdefault(value.get("decided_by") or event.reader, (set(), []))
        cells.add(event.cell_id or "")
        times.append(value.get("decided_utc") or event.time_utc)
        del times[1:-1]  # recorded in their order, but for carried ones, whose first and last are enough as well

    def _withdrawn_review(self, event: Event) -> dict[str, Any]:
        """Withdraw the full review that a decision comes after: of a blinded reader, that reader's word alone."""
        reader = None if self._only is not None else blind_reader(event, self._state.assigned)
        withdrawn = {reader} if reader is not None else {item.reader for item in self._about_patient}
        self._reviewed_in_full -= withdrawn
        self._about_patient = [
            item for item in self._about_patient if item.kind != "full_review" or item.reader not in withdrawn
        ]
        by = self._state.full_review_by
        if by is None:
            return {}
        return {"full_review_by": None, "full_review_utc": None, "full_review_withdrawn": (by, event.reader)}

    def _change(self, event: Event) -> None:
        """Change the cells that all share, or those of the reading to which the event belongs."""
        change = _CELL_CHANGES[event.kind]
        self._agreement = None
        reader = None if self._only is not None else blind_reader(event, self._state.assigned)
        if reader is not None:
            change(self._readings.setdefault(reader, dict(self._frozen)), event)
            return
        if event.kind == "withdraw":
            self._withdraw(event)
            return
        if settles(event):
            self._settled.setdefault(event.cell_id or "", self._cells.get(event.cell_id or ""))
        for name in (event.cell_id or "", *(event.new["cells"] if event.kind == "merge" else ())):
            if self._readings and name not in self._cells and name in (agreed := self._agreed().cells):
                self._cells[name] = agreed[name]  # drawn in a reading, and now decided about by one who sees all
        self._agreement = None
        change(self._cells, event)

    def _withdraw(self, event: Event) -> None:
        """Give a cell that was adjudicated back to its readers, as it stood before."""
        name = event.cell_id or ""
        if name not in self._settled:
            return
        before = self._settled.pop(name)
        if before is not None:
            self._cells[name] = before
        elif any(name in reading for reading in self._readings.values()):
            self._cells.pop(name)
        else:
            _unname(self._cells, event)

    def _agreed(self) -> Agreement:
        if self._agreement is None:
            readers = tuple(dict.fromkeys([*self._readers, *self._readings]))
            self._agreement = agree(self._cells, self._readings, readers, frozenset(self._settled))
        return self._agreement

    def _full_review(self, event: Event) -> str | None:
        """Return who reviewed a patient in full: the assigned readers, once every one of them has."""
        done = self._reviewed_in_full
        done.discard(event.reader)
        if event.new is not False:
            done.add(event.reader)
        return ", ".join(self._state.assigned) if done >= set(self._state.assigned) else None


def withdraws_review(event: Event, *, is_blinded: bool) -> bool:
    """Whether a full review said before ``event`` no longer stands: something was decided about a cell since.

    What a signer settles between blinded readers withdraws nothing: their names are what was reviewed.
    """
    return event.kind in DECIDING and event.kind != "carried" and not (is_blinded and event.kind in SETTLING)


def lacks_names(state: PatientState) -> bool:
    """Whether a cell that is there has no name, other than one that blinded readers dispute."""
    return any(cell.code is None and cell.cell_id not in state.disputed for cell in state.present)


def settles(event: Event) -> bool:
    """Whether an event adjudicates a cell, or carries one that was."""
    return event.kind == "adjudicate" or (event.kind == "carried" and bool(event.new.get("adjudicated")))


def _is_shown(event: Event, reader: str) -> bool:
    """Whether a blinded reader sees an event: his or her own, also where it was carried to another prediction."""
    if event.kind in {"carried", "not_carried"}:
        value = event.new if event.kind == "carried" else event.old
        return bool(value.get("decided_by") == reader)
    return event.reader == reader or event.kind in _EVERYBODYS


def foreseen(state: PatientState, draft: Draft) -> None:
    """Change the cells of ``state``, which nobody else may hold, as ``draft`` will once it is recorded."""
    if (change := _CELL_CHANGES.get(draft.kind)) is not None:
        change(cast("dict[str, ReviewedCell]", state.cells), chained(draft, Head(state.sequence, ""), ""))


def _unreviewed(cell: FrozenCell) -> ReviewedCell:
    return ReviewedCell(
        cell_id=cell.cell_id,
        field_id=cell.field_id,
        contour_xy=cell.contour_xy,
        origin="model",
        model_category=cell.category,
        certainty=cell.certainty,
        p_cblc=cell.p_cblc,
        model_is_cblc=cell.is_cblc,
        model_is_countable=cell.is_countable,
        area_um2=cell.area_um2,
    )


def drawn_cell(cell_id: str, value: Mapping[str, Any], origin: Origin, event: Event) -> ReviewedCell:
    """Make the cell that a reader drew: ``value`` has field_id, contour_xy, and code and area_um2 where known."""
    return ReviewedCell(
        cell_id=cell_id,
        field_id=value["field_id"],
        contour_xy=tuple(value["contour_xy"]),
        origin=origin,
        model_category=None,
        certainty=None,
        p_cblc=None,
        model_is_cblc=None,
        model_is_countable=None,
        area_um2=value.get("area_um2"),
        code=value.get("code"),
        decided_by=event.reader,
        decided_at=event.sequence,
        outlined_by=value.get("outlined_by"),
    )


def _set(
    cells: dict[str, ReviewedCell],
    event: Event,
    cell_id: str | None = None,
    **changes: Any,  # noqa: ANN401 - whatever a cell has
) -> None:
    name = cell_id or event.cell_id or ""
    cell = cells.get(name)
    if cell is None:
        message = f"event {event.sequence} ({event.kind}): found no cell {name!r} of patient {event.patient_id!r}"
        raise NoCellError(message)
    cells[name] = replace(cell, **{"decided_by": event.reader, "decided_at": event.sequence, **changes})


def _relabel(cells: dict[str, ReviewedCell], event: Event) -> None:
    if event.new is None:  # taken back: nobody has decided, as before
        _set(cells, event, code=None, decided_by=None, decided_at=None)
        return
    _set(cells, event, code=event.new, removed=None)


def _answer(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Take the answer about a cell of an audit, or an adjudication: a code, or null for what is not a cell.

    A cell whose place others have taken (split, merged, deleted) stays away: the answer is the audit's alone.
    """
    cell = cells.get(event.cell_id or "")
    if cell is not None and cell.removed in REPLACED:
        return
    if event.new is None:
        _set(cells, event, code=None, removed="not_a_cell")
    else:
        _set(cells, event, code=event.new, removed=None)


def _unname(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Take the name of a cell away, for what is checked next; how it stood before is the fold's to know."""
    _set(cells, event, code=None, removed=None, decided_by=None, decided_at=None)


def _carry(cells: dict[str, ReviewedCell], event: Event) -> None:
    """Give a cell what was decided on an earlier prediction; who decided stays the reader of then."""
    value = event.new
    changes: dict[str, Any] = {"code": value.get("code"), "removed": value.get("removed")}
    if value.get("contour_xy") is not None:
        changes |= {"contour_xy": tuple(value["contour_xy"]), "area_um2": value.get("area_um2")}
    if value.get("drawn"):
        name = event.cell_id or ""
        cells[name] = replace(drawn_cell(name, value, value["drawn"], event), removed=value.get("removed"))
    _set(cells, event, decided_by=value.get("decided_by"), **changes)


def _remove(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed=event.kind)


def _restore(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed=None)


def _add(cells: dict[str, ReviewedCell], event: Event) -> None:
    name = event.cell_id or ""
    cells[name] = drawn_cell(name, event.new, "added", event)


def _split(cells: dict[str, ReviewedCell], event: Event) -> None:
    _set(cells, event, removed="split")
    for part in event.new["parts"]:
        cells[part["cell_id"]] = drawn_cell(part["cell_id"], part, "split", event)


def _merge(cells: dict[str, ReviewedCell], event: Event) -> None:
    if missing := [name for name in event.new["cells"] if name not in cells]:
        message = f"event {event.sequence} (merge): found no cell {missing[0]!r} of patient {event.patient_id!r}"
        raise NoCellError(message)
    for name in event.new["cells"]:
        _set(cells, event, name, removed="merge")
    name = event.cell_id or ""
    cells[name] = drawn_cell(name, event.new, "merged", event)


def _redraw(cells: dict[str, ReviewedCell], event: Event) -> None:
    changes = {"area_um2": event.new["area_um2"]} if "area_um2" in event.new else {}
    _set(cells, event, contour_xy=tuple(event.new["contour_xy"]), outlined_by=None, **changes)


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


_CELL_CHANGES: dict[Kind, Callable[[dict[str, ReviewedCell], Event], None]] = {
    "relabel": _relabel,
    "audit_answer": _answer,
    "adjudicate": _answer,
    "withdraw": _unname,
    "carried": _carry,
    "not_a_cell": _remove,
    "delete": _remove,
    "restore": _restore,
    "add": _add,
    "split": _split,
    "merge": _merge,
    "redraw": _redraw,
}
_PATIENT_CHANGES: dict[Kind, Callable[[PatientState, Event], dict[str, Any]]] = {
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
    "smears_stated": lambda _, event: {"n_smears": event.new["n"]},
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
