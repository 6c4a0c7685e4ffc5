"""A patient as reviewed, as frozen records: what the run left, what people decided, and who signed it.

A cell counts by its ``code`` once somebody named it, else by the model's category. A removed cell (not a cell, deleted,
split, merged into another) stays in the state, so that a later event can restore it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.review.events import Event
    from marrowscope.review.left_behind import LeftBehind

Origin = Literal["model", "added", "split", "merged"]

REPLACED = frozenset({"split", "merge", "delete"})
"""Ways of being removed that an answer about the former outline does not take back."""

SEGMENTER = "segmenter"
"""Who outlined a cell that a reader added by a click."""

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
    smears_said: Mapping[str, int | None] = field(default_factory=dict)
    """What each reader said of the smears; under ``smears.SETTLED`` what was said of readers who disagree."""
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
    """Events that this fold took in: of a reading of one reader it tells nothing of what others decide."""
    not_carried: tuple[Event, ...] = ()
    left_behind: tuple[LeftBehind, ...] = ()
    """What was about the cells of earlier predictions: audits, full reviews, checked fields, answers to flags."""

    @property
    def disputed_smears(self) -> tuple[int, ...]:
        """The numbers of smears that blinded readers state, where they differ and nobody else says which is right."""
        numbers = {n for n in self.smears_said.values() if n is not None}
        return tuple(sorted(numbers)) if self.n_smears is None and len(numbers) > 1 else ()

    @property
    def present(self) -> list[ReviewedCell]:
        """The cells that are not removed, in the order of the run, added ones last."""
        return [cell for cell in self.cells.values() if cell.removed is None]

    @property
    def n_reviewed(self) -> int:
        """Cells that a reader decided something about, removed ones included."""
        return sum(cell.is_seen for cell in self.cells.values())


def lacks_names(state: PatientState) -> bool:
    """Whether a cell that is there has no name, other than one that blinded readers dispute."""
    return any(cell.code is None and cell.cell_id not in state.disputed for cell in state.present)
