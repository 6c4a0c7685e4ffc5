"""The present state of a patient: the frozen cells of the run, and the events of the review folded over them.

Pure: no database, no clock. The same events in the same order give the same state. ``Folding`` goes on from where it
stands, so that a server folds each event once; ``fold`` does all of them at once. What an event changes stands in
``cell_changes`` and ``patient_changes``, the records in ``patient_state``.

Decisions of readers who were assigned a patient, and do not see each other, go to a reading of each reader; the cells
are what these readings agree on (``consensus``), and what those decided who see everything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from marrowscope.review.cell_changes import CELL_CHANGES, NoCellError, unname
from marrowscope.review.consensus import agree
from marrowscope.review.events import DECIDING, SETTLING, Head, chained
from marrowscope.review.left_behind import ABOUT_PATIENT, left_behind
from marrowscope.review.patient_changes import PATIENT_CHANGES
from marrowscope.review.patient_state import DecidedCells, PatientState, ReviewedCell, lacks_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.review.consensus import Agreement
    from marrowscope.review.events import Draft, Event, Kind
    from marrowscope.review.patient_state import FrozenCell

_EVERYBODYS: frozenset[Kind] = frozenset({"bind", "assign"})
"""Kinds that a reader sees who does not see the others' decisions."""

_LOCKING: frozenset[Kind] = frozenset({"sign", "amend"})
"""Kinds that end such a reader's work and let it go on."""


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
        of every other reader: what a reader sees who must not see the others. A signature locks the patient there too.
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
            self._pass_over(event)
            return
        n_own = self._state.n_own + int(event.kind != "assign")  # which may be about others
        self._state = replace(self._state, n_own=n_own)
        if event.sequence > self._since and event.kind in CELL_CHANGES:
            try:
                self._change(event)
            except NoCellError:
                self._state = replace(self._state, misplaced=(*self._state.misplaced, event), sequence=event.sequence)
                return
            self._count_decided(event)
        more = PATIENT_CHANGES[event.kind](self._state, event) if event.kind in PATIENT_CHANGES else {}
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

    def _pass_over(self, event: Event) -> None:
        """Take of an event that is not shown its number alone, and of a signature that the patient is locked."""
        locks = event.kind in _LOCKING
        self._state = replace(
            self._state,
            sequence=event.sequence,
            n_own=self._state.n_own + int(locks),
            is_locked=event.kind == "sign" if locks else self._state.is_locked,
        )

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
        change = CELL_CHANGES[event.kind]
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
            unname(self._cells, event)

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


def settles(event: Event) -> bool:
    """Whether an event adjudicates a cell, or carries one that was."""
    return event.kind == "adjudicate" or (event.kind == "carried" and bool(event.new.get("adjudicated")))


def _is_shown(event: Event, reader: str) -> bool:
    """Whether a blinded reader sees an event: his or her own, also where it was carried to another prediction.

    What a signature states is hidden, whoever signed: it is about all readers' decisions.
    """
    if event.kind in _LOCKING:
        return False
    if event.kind in {"carried", "not_carried"}:
        value = event.new if event.kind == "carried" else event.old
        return bool(value.get("decided_by") == reader)
    return event.reader == reader or event.kind in _EVERYBODYS


def foreseen(state: PatientState, draft: Draft) -> None:
    """Change the cells of ``state``, which nobody else may hold, as ``draft`` will once it is recorded."""
    if (change := CELL_CHANGES.get(draft.kind)) is not None:
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
