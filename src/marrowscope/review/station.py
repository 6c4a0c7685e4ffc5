"""A station: runs, the log of their review, and the present state of each patient, for the server and the commands.

The state of a patient is folded once and then goes on with each new event. Decisions are checked here against the
vocabulary and the cells before they reach the log.

Longer than 400 lines: what is bound, read, checked and recorded takes one lock, which only its methods hold.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.errors import InputError, ReviewError, RunError
from marrowscope.review.accounts import ROLES, Account, find_account, permissions_of
from marrowscope.review.audit import FEWEST_DRAWN
from marrowscope.review.binding import bind_runs, read_bindings, refuse_unbound
from marrowscope.review.cell_images import CellImages
from marrowscope.review.clicked_outline import ClickedOutline, ClickFinders
from marrowscope.review.decisions import UNPRINTABLE, Subject, draft_of
from marrowscope.review.disputes import DisputeCounts, count_disputes
from marrowscope.review.events import SETTLING, Draft
from marrowscope.review.fold import Folding, foreseen
from marrowscope.review.kept_comparisons import KeptComparisons
from marrowscope.review.live_estimate import audit_view, drawn_audit, looks_left, n_to_draw
from marrowscope.review.patient_state import Signature
from marrowscope.review.progress import Progress
from marrowscope.review.run_bundle import refuse_other_bundles
from marrowscope.review.run_cells import TwoRunsError
from marrowscope.review.sessions import token_hash
from marrowscope.review.sign import Chart, NotReadyError, checklist, signed_value
from marrowscope.review.slide_tiles import SlideTiles
from marrowscope.review.smears import stated_smears
from marrowscope.review.store import LockedError, ReplacedError, TamperedError, locked_sentence, refuse_unseen
from marrowscope.vocabulary import load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.report.shown_rows import ShownField
    from marrowscope.review.decisions import Decision
    from marrowscope.review.patient_state import PatientState
    from marrowscope.review.run_cells import PatientCells, ReviewedRun, RunCells
    from marrowscope.review.sessions import Session
    from marrowscope.review.single_sign_on import SingleSignOn
    from marrowscope.review.store import Appended, Store

_LOG = logging.getLogger(__name__)
_MOST_FOLDINGS = 64
"""Patients whose folded state stays in memory."""


class UnknownNameError(ReviewError):
    """No patient, field or cell of that name stands in the runs."""


class NotAssignedError(ReviewError):
    """The patient is assigned to other readers."""


@dataclass(frozen=True, slots=True)
class SeenState:
    """A patient as somebody may see it; blinded readers see no call, and no decision but their own."""

    state: PatientState
    is_blinded: bool

    @property
    def sequence(self) -> int:
        """What changes with each change that is seen: the last event, for blinded readers the number of their own.

        The numbers of events are the whole log's, and would tell them how much others decide.
        """
        return self.state.n_own if self.is_blinded else self.state.sequence


class Station:
    """What the server works on. ``lone_reader`` is the name of the one person on a laptop; None with accounts."""

    def __init__(
        self,
        cells: RunCells,
        store: Store,
        *,
        lone_reader: str | None = None,
        images_root: Path | None = None,
        runs_root: Path | None = None,
        single_sign_on: SingleSignOn | None = None,
        reads_only: bool = False,
        bundles: Sequence[Path] = (),
    ) -> None:
        """Bind the log to the runs; see ``binding``. With ``reads_only``, refuse runs that it is not bound to.

        ``bundles`` predicted runs, and were moved since; BundleError for one that predicted none of them.
        """
        refuse_other_bundles(bundles, [run.manifest for run in cells.runs])
        self.cells = cells
        self.store = store
        self.lone_reader = lone_reader
        self.runs_root = runs_root
        self.single_sign_on = single_sign_on
        self.images = CellImages(images_root)
        self.tiles = SlideTiles(self.images.pixels)
        self.finders = ClickFinders(bundles)
        self.vocabulary = load_vocabulary()
        self.progress = Progress(store)
        self.comparisons = KeptComparisons()
        self._foldings: OrderedDict[tuple[str, str | None], tuple[Folding, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()
        self._tokens: set[str] = set()
        self._dispute_counts: dict[str, tuple[int, DisputeCounts]] = {}
        if reads_only:
            refuse_unbound(store, cells.runs)
        self.rebound = () if reads_only else tuple(bind_runs(store, cells.runs, lone_reader or "station"))
        self._bindings = read_bindings(store)

    def close(self) -> None:
        """Record what waits, and close database and slides."""
        self.store.close()
        self.images.close()

    def one_time_token(self) -> str:
        """Return a new token that opens one session, once."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens.add(token_hash(token))
        return token

    def use_token(self, token: str) -> bool:
        """Whether ``token`` opens a session; it never does again."""
        with self._lock:
            known = token_hash(token) in self._tokens
            self._tokens.discard(token_hash(token))
        return known

    def who(self, name: str) -> Account | None:
        """Return the account of that name; a lone reader has every role and no account."""
        if self.lone_reader is None:
            return find_account(self.store.engine, name)
        if name != self.lone_reader:
            return None
        return Account(name, name, frozenset(ROLES), is_active=True, has_password=False)

    @property
    def lone_session(self) -> str:
        """What the sessions of a lone reader are kept under: no account can have this name, and enter with one."""
        return f"\n{self.lone_reader}"

    def entered_as(self, kept: str) -> Account | None:
        """Return the account that a session is kept under; None for one that a station of the other kind began."""
        if self.lone_reader is None:
            return self.who(kept)
        return self.who(self.lone_reader) if kept == self.lone_session else None

    def add_run(self, folder: Path, reader: str) -> list[str]:
        """Review another run as well and return its patients.

        Raises ReviewError where runs may not be added, or ``folder`` leads out of the folder that they may be in.
        """
        if self.runs_root is None:
            message = "this station takes no further runs; start it with --runs-root and the folder that holds them"
            raise ReviewError(message)
        if "\0" in str(folder):
            message = "found a run's name with a character that no path has, expected one below the folder of runs"
            raise ReviewError(message)
        root = self.runs_root.resolve()
        place = (root / folder).resolve()
        if root not in place.parents:
            message = f"found run {str(folder)!r}, expected one below the folder of runs; choose another"
            raise ReviewError(message)
        with self._lock:
            run = self._opened(place, str(folder))
            bind_runs(self.store, [run], reader)
            found = read_bindings(self.store)  # of this run alone: another station may have bound others anew
            self._bindings |= {row.patient_id: found[row.patient_id] for row in run.tables.rows}
            self.cells.add(run)  # last: a run that is not bound has no patients here
        return [row.patient_id for row in run.tables.rows]

    def _opened(self, place: Path, named: str) -> ReviewedRun:
        """Open a run; ReviewError, without a path of this computer, for one that cannot be reviewed."""
        try:
            return self.cells.opened(place)
        except TwoRunsError as error:
            message = f"run {named!r}: found patient {error.patient_id!r}, whom another run here has; add another run"
            raise ReviewError(message) from error
        except (RunError, InputError) as error:
            _LOG.warning("run %r cannot be added: %s", named, error)
            message = (
                f"run {named!r}: found no finished run that can be read, expected one written by `marrowscope predict`"
            )
            raise ReviewError(message) from error

    def patient(self, patient_id: str) -> PatientCells:
        """Return the fields and frozen cells of a patient; UnknownNameError for none of that name."""
        if patient_id not in self.cells.rows:
            n = count_of(len(self.cells.rows), "patient")
            message = f"found no patient {patient_id!r}, expected one of the worklist, which has {n}"
            raise UnknownNameError(message)
        return self.cells.cells(patient_id)

    def field(self, patient_id: str, field_id: str) -> ShownField:
        """Return a field of a patient; UnknownNameError for none of that name."""
        field = self.patient(patient_id).fields.get(field_id)
        if field is None:
            message = f"patient {patient_id!r}: found no field {field_id!r}, expected one of the run"
            raise UnknownNameError(message)
        return field

    def outline_at(
        self, patient_id: str, field_id: str, point_xy: tuple[float, float], state: PatientState
    ) -> ClickedOutline:
        """Return the segmenter's contour at a place of a field; ``state`` tells which cells are there already.

        ReviewError for a place outside the field, LockedError for a signed patient, which takes no cell.
        """
        if state.is_locked:
            raise LockedError(locked_sentence(patient_id))
        field = self.field(patient_id, field_id)
        if not all(0 <= value <= size for value, size in zip(point_xy, (field.width_px, field.height_px), strict=True)):
            message = f"field {field_id!r}: found a click beyond it, expected one inside"
            raise ReviewError(message)
        if field.um_per_px is None:
            return ClickedOutline("no_picture")
        pixels = self.images.pixels_of(field)
        if isinstance(pixels, str):
            return ClickedOutline("no_picture")
        known = [np.reshape(cell.contour_xy, (-1, 2)) for cell in state.present if cell.field_id == field_id]
        return self.finders.outline(self.cells.run_of(patient_id).manifest, pixels, field.um_per_px, point_xy, known)

    def state(self, patient_id: str, only: str | None = None) -> PatientState:
        """Return the present state of a patient, with every event that is committed; with ``only``, of one reader's.

        Raises ReplacedError where another station bound it to another prediction since: its cells are not here.
        """
        frozen, key = self.patient(patient_id).frozen, (patient_id, only)
        with self._lock:
            if key not in self._foldings:
                folding = Folding(patient_id, frozen, self._bindings[patient_id].sequence, only)
                self._foldings[key] = (folding, threading.Lock())
            folding, lock = self._foldings[key]
            self._foldings.move_to_end(key)
            if len(self._foldings) > _MOST_FOLDINGS:
                self._foldings.popitem(last=False)
        with lock:
            is_replaced = False
            for event in self.store.events(patient_id, after=folding.sequence):
                is_replaced |= event.kind == "bind" and event.sequence > self._bindings[patient_id].sequence
                if not is_replaced:
                    folding.apply(event)
            if is_replaced:
                raise ReplacedError(patient_id)
            return folding.state()

    def dispute_counts(self, patient_id: str, sequence: int) -> DisputeCounts:
        """Return the counts of a patient's disputes; ``sequence`` is its last event, by its progress.

        They are kept until there is a later event: a worklist asks again and again, and a fold reads all cells.
        """
        kept = self._dispute_counts.get(patient_id)
        if kept is None or kept[0] != sequence:
            kept = self._dispute_counts[patient_id] = (sequence, count_disputes(self.state(patient_id)))
        return kept[1]

    def _bound(self, *patient_ids: str) -> dict[str, int]:
        """Return the binding of each patient that this station knows; a later one is another prediction's."""
        return {name: self._bindings[name].sequence for name in patient_ids}

    def _unlocked(self, patient_id: str) -> PatientState:
        """Return the present state of a patient that takes decisions; LockedError for a signed one.

        Raises ReplacedError where another station bound it to another prediction.
        """
        state = self.state(patient_id)
        if state.is_locked:
            raise LockedError(locked_sentence(patient_id))
        return state

    def seen_by(self, patient_id: str, session: Session) -> SeenState:
        """Return a patient as somebody may see it: assigned readers see their own decisions and no call.

        Raises NotAssignedError for a reader to whom an assigned patient was not given; signers and auditors see all.
        """
        state = self.state(patient_id)
        if session.reader in state.assigned:
            return SeenState(self.state(patient_id, session.reader), is_blinded=True)
        if state.assigned and not session.permissions & {"sign", "inspect"}:
            message = f"patient {patient_id!r} is assigned to other readers, who must not see each other's decisions"
            raise NotAssignedError(message)
        return SeenState(state, is_blinded=False)

    def assign(self, patient_ids: Sequence[str], readers: Sequence[str], reader: str) -> Appended:
        """Give patients to readers who see neither calls nor each other; no reader ends the assignment.

        One reader alone is hidden the calls. Raises ReviewError for a reader without an account or who opened the
        patient, and for a patient that was decided about or has an audit: what somebody saw cannot be taken back.
        LockedError for a signed one, NotAssignedError for one that ``reader`` reads blinded, ChangedError where
        anything was recorded about one of them meanwhile.
        """
        for name in readers:
            account = self.who(name)
            if account is None or not account.is_active or "decide" not in permissions_of(account.roles):
                message = f"found no reader {name!r}, expected active accounts that may decide"
                raise ReviewError(message)
        drafts, seen = [], self.store.head().sequence
        for patient_id in dict.fromkeys(patient_ids):
            state = self._unlocked(patient_id)
            if reader in state.assigned:
                message = f"patient {patient_id!r} is assigned to {reader}, who cannot change that; another signer can"
                raise NotAssignedError(message)
            if readers and (state.n_reviewed or state.audit is not None):
                found = "decisions" if state.n_reviewed else "a drawn audit"
                message = f"patient {patient_id!r}: found {found}, expected none before blinded readers begin"
                raise ReviewError(message)
            if saw := sorted(self._who_saw(patient_id, state) & set(readers)):
                message = (
                    f"patient {patient_id!r}: {', '.join(saw)} opened it with the calls in sight, expected readers who "
                    "did not; choose others"
                )
                raise ReviewError(message)
            value = {"readers": list(dict.fromkeys(readers))}
            drafts.append(Draft(reader, patient_id, "assign", None, {"readers": list(state.assigned)}, value))
        return self.store.append(drafts, alone_after=seen, bound=self._bound(*patient_ids))

    def _who_saw(self, patient_id: str, state: PatientState) -> set[str]:
        """Return who recorded anything about a patient, or had its page open, without reading it blinded then."""
        saw = set(self.progress.seen_by(patient_id)) - set(state.blinded)
        assigned: set[str] = set()
        for event in self.store.events(patient_id):
            if event.kind == "assign":
                assigned = set(event.new["readers"])
            elif event.kind not in {"bind", "carried", "not_carried"} and event.reader not in assigned:
                saw.add(event.reader)
        return saw

    def decide(
        self, patient_id: str, reader: str, decisions: Sequence[Decision], base: int, *, is_blinded: bool = False
    ) -> Appended:
        """Check decisions and record them together, or none of them.

        ``base`` is the number of the last event that the reader saw. Raises ReviewError for a decision that cannot be,
        LockedError for a signed patient, ConflictError where another reader decided meanwhile; a blinded reader decides
        beside the others, and NotAssignedError is raised for one who adjudicates or takes an adjudication back.
        """
        if not is_blinded and base > (head := self.store.head()).sequence:  # theirs is no number of an event
            refuse_unseen(base, head)
        whole = self._unlocked(patient_id)
        if reader in whole.blinded and any(decision.kind in SETTLING for decision in decisions):
            message = f"patient {patient_id!r}: {reader} read it blinded, and never adjudicates it; another signer does"
            raise NotAssignedError(message)
        state = self.state(patient_id, reader) if is_blinded else whole
        subject = Subject(
            state,
            self.patient(patient_id).fields,
            self.vocabulary,
            None if is_blinded else frozenset(flag.flag for flag in self.cells.rows[patient_id].flags),
            audit_view(state),
            states_place=bool(whole.blinded) and not is_blinded,
        )
        drafts = []
        for decision in decisions:  # each is checked against what those before it leave
            draft = draft_of(subject, reader, decision)
            drafts.append(draft)
            foreseen(subject.state, draft)
        seen = None if is_blinded else base  # who must not see the others is not told that they decided
        return self.store.append(drafts, seen, unsigned_after=whole.sequence, bound=self._bound(patient_id))

    def draw(self, patient_id: str, reader: str) -> Appended:
        """Draw a random audit of a patient and freeze it; LockedError for a signed one, ReviewError for a second one.

        A prediction has one audit: drawing until one pleases would be no random sample, and the looks of a second one
        would break the level that three looks keep. Looks spent on an earlier prediction are not given again.
        """
        state = self._unlocked(patient_id)
        if state.audit is not None or not looks_left(state):
            found = f"{count_of(state.looks_spent, 'look')} spent" if state.audit is None else "an audit that was drawn"
            message = (
                f"patient {patient_id!r}: found {found}, expected one audit of three looks in all, which together keep "
                "the level of 95%; go on with it, or review every cell"
            )
            raise ReviewError(message)
        if not state.cells:
            message = f"patient {patient_id!r}: found no cell, expected some to audit"
            raise ReviewError(message)
        fields = [field.field_id for field in self.patient(patient_id).fields.values() if field.failed is None]
        if (n_left := n_to_draw(state)) < FEWEST_DRAWN:
            message = (
                f"patient {patient_id!r}: found {count_of(n_left, 'cell')} without a name, expected {FEWEST_DRAWN} or "
                "more to draw from; name them all and confirm a full review instead"
            )
            raise ReviewError(message)
        value = drawn_audit(state, fields, secrets.token_hex(32))
        draft = Draft(reader, patient_id, "audit_drawn", None, None, value)
        return self.store.append([draft], alone_after=state.sequence, bound=self._bound(patient_id))

    def sign(self, patient_id: str, reader: str, full_name: str, base: int) -> Appended:
        """Sign a patient as it stood at event ``base``, which the reader saw; it is locked then.

        Raises ReviewError that names what the checklist lacks, ChangedError where anything was recorded meanwhile.
        """
        state = self._unlocked(patient_id)
        chart = self.chart(patient_id, state)
        if lacking := [item for item in checklist(chart) if not item.is_done]:
            raise NotReadyError(patient_id, lacking)
        value = signed_value(chart, full_name, self.store.head())
        old = None if not state.signatures else state.signatures[-1].head_hash
        draft = Draft(reader, patient_id, "sign", None, old, value)
        return self.store.append([draft], alone_after=base, bound=self._bound(patient_id))

    def amend(self, patient_id: str, reader: str, reason: str) -> Appended:
        """Open a signed patient again; the signed version stays, and the next one states ``reason``."""
        state = self.state(patient_id)
        if not state.is_locked:
            message = f"patient {patient_id!r}: found no signed result to amend, expected one; correct it as it is"
            raise ReviewError(message)
        if not reason.strip():
            message = f"patient {patient_id!r}: found no reason for the amendment, expected a sentence"
            raise ReviewError(message)
        if UNPRINTABLE.search(reason):
            message = (
                f"patient {patient_id!r}: found a reason that no document can hold, expected one without control "
                "characters"
            )
            raise ReviewError(message)
        draft = Draft(reader, patient_id, "amend", None, state.signatures[-1].head_hash, {"reason": reason.strip()})
        return self.store.append([draft], alone_after=state.sequence, bound=self._bound(patient_id))

    def signed_version(self, patient_id: str, version: int) -> Signature | None:
        """Return a signed version, read again from the log; None where there is none of that number.

        Raises TamperedError where its event, or the chain from it, does not verify.
        """
        signature = next((item for item in self.state(patient_id).signatures if item.version == version), None)
        if signature is None:
            return None
        event = self.store.signed_event(signature.sequence)
        if event.hash != signature.head_hash or event.patient_id != patient_id or event.kind != "sign":
            message = (
                f"the signed result is not shown: event {event.sequence} is another one than it was; restore a backup"
            )
            raise TamperedError(message)
        return Signature(version, event.sequence, event.reader, event.time_utc, event.hash, event.new or {})

    def chart(self, patient_id: str, state: PatientState | None = None) -> Chart:
        """Return what a patient's checklist and signature are about."""
        fields = self.patient(patient_id).fields.values()
        return Chart(
            state=state or self.state(patient_id),
            row=self.cells.rows[patient_id],
            manifest=self.cells.run_of(patient_id).manifest,
            tables=self._bindings[patient_id].tables,
            n_fields=sum(field.failed is None for field in fields),
            vocabulary=self.vocabulary,
            n_smears=stated_smears(fields),
        )
