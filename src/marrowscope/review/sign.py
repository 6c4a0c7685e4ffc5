"""Sign-off: what must be done first, what a signature states, and what stands before one. Pure.

A signed value stands in its event and holds every figure of the documents made of it, so that they stay the same
whatever is predicted or decided later. It states what was confirmed by eye and what was predicted; machine and person
are never added up in silence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from marrowscope.errors import ReviewError
from marrowscope.report.cohort_page import simulated_only_names
from marrowscope.report.verdict import is_out_of_depth
from marrowscope.report.words import load_words
from marrowscope.review.audit import FEWEST_DRAWN
from marrowscope.review.live_estimate import audit_view, estimate, hidden_cells, n_to_draw, unnamed_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from marrowscope.report.words import Words
    from marrowscope.review.events import Head
    from marrowscope.review.patient_state import PatientState, ReviewedCell
    from marrowscope.runs.manifest import Manifest
    from marrowscope.runs.schemas import PatientRow
    from marrowscope.vocabulary import Vocabulary

ADEQUACY = "adequacy"
"""What the comment on adequacy is about; the checklist asks for one."""

_FIGURES = {"full_review": "full", "audit": "audit"}

ItemKey = Literal["named", "disputes", "reviewed", "adequacy", "flags"]


@dataclass(frozen=True, slots=True)
class Chart:
    """A patient as it stands, with the row of the run, its manifest and the hashes of the tables it is bound to."""

    state: PatientState
    row: PatientRow
    manifest: Manifest
    tables: Mapping[str, str]
    n_fields: int
    vocabulary: Vocabulary
    n_smears: int | None = None
    """Smears that the files state (``smears``); None where they state none."""


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """One thing to do before signing; ``said`` names the sentence of what is lacking, or was done, with its values."""

    key: ItemKey
    is_done: bool
    said: str
    values: Mapping[str, int | str | tuple[str, ...]] = field(default_factory=dict)

    def sentence(self, words: Words) -> str:
        """Return what is lacking, or what was done; a value of flags is a list of their names."""
        said: dict[str, object] = {}
        for name, value in self.values.items():
            if isinstance(value, tuple):
                said[name] = ", ".join(words.name("flag", flag) for flag in value)
            else:
                said[name] = (
                    words.count(name, value) if isinstance(value, int) and words.has(f"count.{name}.one") else value
                )
        return words.plain(f"checklist.{self.said}", **said)


class NotReadyError(ReviewError):
    """The checklist lacks something, so that the patient cannot be signed."""

    def __init__(self, patient_id: str, lacking: Sequence[ChecklistItem]) -> None:
        """Say what it lacks."""
        words = load_words()
        said = "; ".join(item.sentence(words) for item in lacking)
        super().__init__(f"patient {patient_id!r} cannot be signed: {said}")
        self.patient_id = patient_id
        self.lacking = tuple(lacking)


def checklist(chart: Chart) -> tuple[ChecklistItem, ...]:
    """Return what must be done before a patient is signed, in the order to do it."""
    state = chart.state
    is_full = state.full_review_by is not None
    n_unnamed = len(unnamed_cells(state, drawn_only=not is_full))
    of = "full" if is_full else "added"
    open_flags = tuple(flag.flag for flag in chart.row.flags if flag.flag not in state.flags_answered)
    has_comment = any(comment.about == ADEQUACY for comment in state.comments)
    n_disputed = len(state.disputed)
    return (
        _lacking("named", f"unnamed.{of}", cell=n_unnamed) if n_unnamed else _done("named", f"named.{of}"),
        *([_lacking("disputes", "disputed", cell=n_disputed)] if n_disputed else []),
        *([_done("disputes", "agreed")] if state.blinded and not n_disputed else []),
        _reviewed(state),
        _done("adequacy", "adequacy") if has_comment else _lacking("adequacy", "no_adequacy"),
        _lacking("flags", "open_flags", flags=open_flags) if open_flags else _done("flags", "flags"),
    )


def _reviewed(state: PatientState) -> ChecklistItem:
    if state.full_review_by is not None:
        return _done("reviewed", "reviewed.full")
    view = audit_view(state)
    if state.full_review_withdrawn is not None and (view is None or view.look is None):
        by, decided_by = state.full_review_withdrawn
        return _lacking("reviewed", "reviewed.withdrawn", reader=by, other=decided_by)
    n_drawn = n_to_draw(state) if view is None else view.audit.sizes[0]
    if n_drawn < FEWEST_DRAWN:
        is_few = n_to_draw(state) > 0
        return (
            _lacking("reviewed", "reviewed.few", fewest=FEWEST_DRAWN)
            if is_few
            else _lacking("reviewed", "reviewed.unconfirmed")
        )
    if view is None:
        return _lacking("reviewed", "reviewed.none")
    if view.look is None:
        return _lacking("reviewed", "reviewed.begun", named=view.n_answered, cell=view.audit.sizes[0])
    return _done("reviewed", "reviewed.audit")


def _done(key: ItemKey, said: str) -> ChecklistItem:
    return ChecklistItem(key, is_done=True, said=said)


def _lacking(key: ItemKey, said: str, **values: int | str | tuple[str, ...]) -> ChecklistItem:
    return ChecklistItem(key, is_done=False, said=said, values=values)


def figures_of(chart: Chart) -> dict[str, Any]:
    """Return the figures of a patient; out of depth, without a count of the machine's until a review gives a ratio."""
    return estimate(
        chart.state,
        chart.n_fields,
        chart.vocabulary,
        is_out_of_depth=is_out_of_depth(chart.row),
        n_smears=chart.n_smears,
    )


def signed_value(chart: Chart, full_name: str, head: Head) -> dict[str, Any]:
    """Return what a signature states of a patient; ``head`` is that of the chain before it."""
    status = "amended" if chart.state.signatures else "final"
    how = "full_review" if chart.state.full_review_by is not None else "audit"
    return _stated(chart, full_name, head) | {"status": status, "how": how}


def preliminary_value(chart: Chart, full_name: str, head: Head) -> dict[str, Any]:
    """Return what can be said of a patient that is not signed: ``how`` is None while no ratio can be stated.

    Cells of an audit's open look stand in none of the counts by code and category (``undisclosed`` says how many): a
    count that moves with an answer would tell the call.
    """
    figures = figures_of(chart)
    done = next((how for how, key in _FIGURES.items() if figures[key] is not None and figures[key]["ratio"]), None)
    hidden = hidden_cells(chart.state)
    n_undisclosed = sum(cell.cell_id in hidden for cell in chart.state.present)
    stated = _stated(chart, full_name, head, hidden)
    return stated | {"status": "preliminary", "how": done, "undisclosed": n_undisclosed}


def _stated(chart: Chart, full_name: str, head: Head, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    state, row, vocabulary = chart.state, chart.row, chart.vocabulary
    present = state.present
    named = [cell for cell in present if cell.code is not None]
    shown = [cell for cell in present if cell.cell_id not in hidden]
    shown_codes = [cell.code for cell in shown if cell.code is not None]
    return {
        "version": len(state.signatures) + 1,
        "reason": state.amend_reason,
        "full_name": full_name,
        "patient": {
            "patient_id": row.patient_id,
            "center": row.center,
            "specimen": row.specimen,
            "n_fields": chart.n_fields,
        },
        "cells": {
            "present": len(present),
            "named_by_eye": len(named),
            "predicted_only": len(present) - len(named),
            "changed_by_eye": sum(
                cell.model_category is not None and vocabulary.codes[cell.code].category != cell.model_category
                for cell in shown
                if cell.code is not None
            ),
            "added": sum(cell.origin == "added" for cell in present),
            "removed": sum(cell.removed is not None and cell.origin == "model" for cell in state.cells.values()),
        },
        "codes": dict(sorted(Counter(shown_codes).items())),
        "categories": _by_category(shown, vocabulary),
        "simulated_only": list(simulated_only_names([row])),
        "figures": figures_of(chart),
        "confirmed": [asdict(item) for item in state.decided],
        "full_review_utc": state.full_review_utc,
        "adequacy": next((comment.text for comment in reversed(state.comments) if comment.about == ADEQUACY), None),
        "flags": [{"flag": flag.flag, "answer": state.flags_answered.get(flag.flag)} for flag in row.flags],
        "not_carried": len(state.not_carried),
        "vocabulary": {"name": vocabulary.name, "version": vocabulary.version, "sha256": vocabulary.sha256},
        "bundle": chart.manifest.bundle.label,
        "tables": dict(chart.tables),
        "head_before": {"sequence": head.sequence, "hash": head.hash},
    }


def _by_category(cells: Iterable[ReviewedCell], vocabulary: Vocabulary) -> dict[str, dict[str, int]]:
    """Count cells by category: those named by eye, and those that the machine alone called."""
    counts = {name: {"named_by_eye": 0, "predicted_only": 0} for name in vocabulary.categories}
    for cell in cells:
        if cell.code is not None:
            counts[vocabulary.codes[cell.code].category]["named_by_eye"] += 1
        elif cell.model_category is not None:
            counts[cell.model_category]["predicted_only"] += 1
    return counts
