"""Which prediction a log is about: the events that bind patients to the tables of a run, by their hashes.

The first event of a log binds the patients of its run. A patient that was predicted again is bound anew, with its
decisions carried to the new cells in the same transaction. A station whose binding is no longer the last one records
nothing more about the patient: its cells are gone. What a reader did for the patient as a whole (full review,
audit, checked fields, answered flags, signature) does not go along, since it was about other cells: ``left_behind``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.errors import ReviewError
from marrowscope.review.carry import carried_drafts
from marrowscope.review.events import Draft
from marrowscope.review.left_behind import left_behind
from marrowscope.review.run_cells import read_patient
from marrowscope.review.store import ChangedError, ReplacedError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from marrowscope.review.left_behind import LeftBehind
    from marrowscope.review.run_cells import ReviewedRun
    from marrowscope.review.store import Store


_MOST_ATTEMPTS = 20
"""Times that a patient is tried to bind anew while others record something about it."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The tables that a patient is bound to, by file name, and the number of the event that says so."""

    sequence: int
    tables: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rebound:
    """A patient that was predicted again: what was carried to its new cells, and what was not."""

    patient_id: str
    n_carried: int
    n_not_carried: int
    was_signed: bool
    """Whether it is signed: it stays locked until somebody amends it."""
    left: tuple[LeftBehind, ...] = ()


def read_bindings(store: Store) -> dict[str, Binding]:
    """Return the last binding of each patient of the log."""
    bound: dict[str, Binding] = {}
    for event in store.events(kind="bind"):
        for patient_id in event.new["patients"]:
            bound[patient_id] = Binding(event.sequence, event.new["tables"])
    return bound


def refuse_unbound(store: Store, runs: Iterable[ReviewedRun]) -> None:
    """Raise ReviewError where the review is about other runs, or about another prediction of one of the patients."""
    bound = read_bindings(store)
    for run in runs:
        own = [row.patient_id for row in run.tables.rows]
        if not any(name in bound for name in own):
            message = f"{run.folder}: found none of its patients in the review, expected the run that was reviewed"
            raise ReviewError(message)
        if changed := [name for name in own if name in bound and bound[name].tables != run.hashes]:
            message = (
                f"{run.folder}: found {count_of(len(changed), 'patient')} ({changed[0]!r} ...) whose review is about "
                "another prediction, expected the run that was reviewed; `marrowscope review` with this run carries "
                "the decisions to it"
            )
            raise ReviewError(message)


def bind_runs(store: Store, runs: Iterable[ReviewedRun], reader: str) -> list[Rebound]:
    """Bind every patient of the runs to its tables; returns those that were bound to other tables before."""
    rebound: list[Rebound] = []
    for run in runs:
        own = [row.patient_id for row in run.tables.rows]
        bound = _bind_new(store, run, own, reader)
        changed = [name for name in own if bound[name].tables != run.hashes]
        rebound += [_rebind(store, run, name, bound[name], reader=reader) for name in changed]
    return rebound


def _bind_new(store: Store, run: ReviewedRun, own: list[str], reader: str) -> dict[str, Binding]:
    """Bind the patients that the log is not about yet; returns the bindings of all, those by other stations too."""
    while new := [name for name in own if name not in (bound := read_bindings(store))]:
        draft = Draft(reader, "", "bind", None, None, _statement(run, new))
        with suppress(ReplacedError):  # another station bound one of them meanwhile
            store.append([draft], bound=dict.fromkeys(new, 0))
    return bound


def _rebind(store: Store, run: ReviewedRun, patient_id: str, before: Binding, *, reader: str) -> Rebound:
    patient, assigned = read_patient(run, patient_id), _assigned(store, patient_id, before)
    bind = Draft(reader, patient_id, "bind", None, {"tables": before.tables}, _statement(run, [patient_id]))
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        events = store.read(patient_id, after=before.sequence)
        drafts = carried_drafts(patient_id, events, patient.frozen, patient.fields, reader, assigned=assigned)
        try:
            store.append(
                [bind, *drafts],
                alone_after=events[-1].sequence if events else before.sequence,
                bound={patient_id: before.sequence},
            )
            break
        except ChangedError:  # a station with the earlier prediction recorded something meanwhile: carry that as well
            if attempt == _MOST_ATTEMPTS:
                raise
    n_carried = sum(draft.kind == "carried" for draft in drafts)
    signs = [event.kind for event in store.events(patient_id) if event.kind in {"sign", "amend"}]
    return Rebound(
        patient_id, n_carried, len(drafts) - n_carried, signs[-1:] == ["sign"], left_behind(events, assigned)
    )


def _assigned(store: Store, patient_id: str, before: Binding) -> list[str]:
    """Return the blinded readers of a patient when it was last bound."""
    given = [event for event in store.events(patient_id, kind="assign") if event.sequence <= before.sequence]
    readers: list[str] = given[-1].new["readers"] if given else []
    return readers


def _statement(run: ReviewedRun, patients: list[str]) -> dict[str, object]:
    return {
        "run": run.folder.name,
        "bundle": run.manifest.bundle.label,
        "input_sha256": run.manifest.input_sha256,
        "tables": run.hashes,
        "patients": patients,
    }
