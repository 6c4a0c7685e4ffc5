"""How far the review of each patient is, counted from the log alone, so that a worklist reads no cell of any run."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from marrowscope.review.events import DECIDING
from marrowscope.review.fold import withdraws_review

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.review.events import Event
    from marrowscope.review.store import Store

Status = Literal["new", "in_review", "signed", "amending"]
_OPEN_FOR_S = 180.0


@dataclass(frozen=True, slots=True)
class PatientProgress:
    """The review of one patient so far, in counts. ``n_added`` are cells that the run does not have."""

    n_decided: int = 0
    n_added: int = 0
    n_decided_by: Mapping[str, int] = field(default_factory=dict)
    n_added_by: Mapping[str, int] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()
    blinded: frozenset[str] = frozenset()
    """Everybody who was ever assigned."""
    finished: frozenset[str] = frozenset()
    """Readers who said that they saw every cell."""
    n_signatures: int = 0
    is_locked: bool = False
    sequence: int = 0
    """The last event about the patient."""

    @property
    def was_assigned(self) -> bool:
        """Whether blinded readers were ever given the patient."""
        return bool(self.blinded)

    @property
    def status(self) -> Status:
        """Where the review stands."""
        if self.is_locked:
            return "signed"
        if self.n_signatures:
            return "amending"
        return "in_review" if self.n_decided or self.readers else "new"

    def status_of(self, reader: str) -> Status:
        """Where the review stands for a blinded reader, who is not told whether another one has begun."""
        if self.is_locked or self.n_signatures:
            return self.status
        return "in_review" if self.n_decided_by.get(reader) or reader in self.readers else "new"


@dataclass(slots=True)
class _Counted:
    """What is counted of one patient; it changes with each event and never leaves this module."""

    decided: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)
    added_by: dict[str, set[str]] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)
    decided_by: dict[str, set[str]] = field(default_factory=dict)
    assigned: tuple[str, ...] = ()
    blinded: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    n_signatures: int = 0
    is_locked: bool = False
    sequence: int = 0

    def shown(self) -> PatientProgress:
        return PatientProgress(
            n_decided=len(self.decided),
            n_added=len(self.added),
            n_decided_by={reader: len(cells) for reader, cells in self.decided_by.items()},
            n_added_by={reader: len(cells) for reader, cells in self.added_by.items()},
            readers=tuple(sorted(self.readers)),
            assigned=self.assigned,
            finished=frozenset(self.finished),
            blinded=frozenset(self.blinded),
            n_signatures=self.n_signatures,
            is_locked=self.is_locked,
            sequence=self.sequence,
        )


class Progress:
    """The progress of every patient, kept up with the log; usable from several threads."""

    def __init__(self, store: Store) -> None:
        """Begin before any event; the log is read when somebody asks."""
        self._store = store
        self._lock = threading.Lock()
        self._sequence = 0
        self._patients: dict[str, _Counted] = {}
        self._present: dict[str, dict[str, float]] = {}

    def patients(self) -> dict[str, PatientProgress]:
        """Return the progress of the patients that the log is about."""
        with self._lock:
            for event in self._store.events(after=self._sequence):
                self._count(event)
                self._sequence = event.sequence
            return {patient_id: counted.shown() for patient_id, counted in self._patients.items()}

    def is_here(self, patient_id: str, reader: str) -> None:
        """Note that ``reader`` looks at a patient now."""
        with self._lock:
            self._present.setdefault(patient_id, {})[reader] = time.monotonic()

    def opened_by(self, patient_id: str) -> list[str]:
        """Return who looked at a patient in the last three minutes."""
        since = time.monotonic() - _OPEN_FOR_S
        with self._lock:
            return sorted(reader for reader, seen in self._present.get(patient_id, {}).items() if seen >= since)

    def seen_by(self, patient_id: str) -> list[str]:
        """Return who looked at a patient since the station was started."""
        with self._lock:
            return sorted(self._present.get(patient_id, {}))

    def _count(self, event: Event) -> None:
        if not event.patient_id:
            return
        patient = self._patients.setdefault(event.patient_id, _Counted())
        patient.sequence = event.sequence
        _count_cells(patient, event)
        if event.kind == "bind":  # predicted again: what was decided stands in the events that carry it
            patient.decided.clear()
            patient.decided_by.clear()
            patient.added.clear()
            patient.added_by.clear()
            patient.finished.clear()
        elif event.kind == "sign":
            patient.n_signatures += 1
            patient.is_locked = True
        elif event.kind == "amend":
            patient.is_locked = False
        elif event.kind == "full_review":
            (patient.finished.add if event.new is not False else patient.finished.discard)(event.reader)
        elif event.kind == "assign":
            patient.assigned = tuple(event.new["readers"])
            patient.blinded |= set(patient.assigned)
        if withdraws_review(event, is_blinded=bool(patient.blinded)):
            patient.finished -= {event.reader} if event.reader in patient.assigned else set(patient.finished)
        if event.kind not in {"assign", "bind", "carried", "not_carried"}:
            patient.readers.add(event.reader)


def _count_cells(patient: _Counted, event: Event) -> None:
    """Count the cells that an event decides about, and those that it draws."""
    if event.kind not in DECIDING or event.cell_id is None:
        return
    if event.kind == "withdraw":  # what its readers named stays decided
        for reader in patient.decided_by.keys() - patient.blinded:
            patient.decided_by[reader].discard(event.cell_id)
        if not any(event.cell_id in cells for cells in patient.decided_by.values()):
            patient.decided.discard(event.cell_id)
        return
    is_drawn = event.kind in {"add", "merge"} or (event.kind == "carried" and "drawn" in event.new)
    drawn = {event.cell_id} if is_drawn else set()
    if event.kind == "split":
        drawn = {part["cell_id"] for part in event.new["parts"]}
    reader = event.new["decided_by"] or "" if event.kind == "carried" else event.reader
    patient.added |= drawn
    patient.added_by.setdefault(reader, set()).update(drawn)
    for cells in (patient.decided, patient.decided_by.setdefault(reader, set())):
        if event.new is None and event.kind == "relabel":
            cells.discard(event.cell_id)
        else:
            cells |= {event.cell_id, *drawn}
