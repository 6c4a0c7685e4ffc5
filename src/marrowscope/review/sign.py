"""Sign-off: what must be done first, and what a signature states. Pure.

A signed value stands in its event and holds every figure of the documents made of it, so that they stay the same
whatever is predicted or decided later. It states what was confirmed by eye and what was predicted; machine and person
are never added up in silence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from marrowscope.review.live_estimate import audit_view, estimate, unnamed_cells
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.review.events import Head
    from marrowscope.review.fold import PatientState
    from marrowscope.runs.manifest import Manifest
    from marrowscope.runs.schemas import PatientRow
    from marrowscope.vocabulary import Vocabulary

ADEQUACY = "adequacy"
"""What the comment on adequacy is about; the checklist asks for one."""

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


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """One thing to do before signing; ``sentence`` says what is lacking, or what was done."""

    key: ItemKey
    is_done: bool
    sentence: str


def checklist(chart: Chart) -> tuple[ChecklistItem, ...]:
    """Return what must be done before a patient is signed, in the order to do it."""
    state = chart.state
    is_full = state.full_review_by is not None
    unnamed = unnamed_cells(state, drawn_only=not is_full)
    whose = "cell" if is_full else "drawn cell"
    view = audit_view(state)
    is_audited = view is not None and view.look is not None
    answered = f"{view.n_answered} of {view.audit.sizes[0]} cells are named" if view else "none was drawn"
    open_flags = [flag.flag for flag in chart.row.flags if flag.flag not in state.flags_answered]
    comments = [comment for comment in state.comments if comment.about == ADEQUACY]
    return (
        ChecklistItem(
            "named",
            not unnamed,
            f"{count_of(len(unnamed), whose)} without a name" if unnamed else f"every {whose} has a name",
        ),
        *([ChecklistItem("disputes", not state.disputed, _disputes(len(state.disputed)))] if state.blinded else []),
        ChecklistItem(
            "reviewed",
            is_full or is_audited,
            "every cell was reviewed"
            if is_full
            else "a random audit is done"
            if is_audited
            else f"neither a full review nor a random audit is done ({answered})",
        ),
        ChecklistItem(
            "adequacy", bool(comments), "adequacy has a comment" if comments else "no comment on adequacy is there"
        ),
        ChecklistItem(
            "flags",
            not open_flags,
            f"no answer to {', '.join(open_flags)}" if open_flags else "every flag has an answer",
        ),
    )


def _disputes(n: int) -> str:
    return f"{count_of(n, 'cell')} that readers dispute" if n else "no cell is disputed"


def signed_value(chart: Chart, full_name: str, head: Head) -> dict[str, Any]:
    """Return what a signature states of a patient; ``head`` is that of the chain before it."""
    state, row, vocabulary = chart.state, chart.row, chart.vocabulary
    figures = estimate(state, chart.n_fields, vocabulary)
    present = state.present
    named = [cell for cell in present if cell.code is not None]
    return {
        "version": len(state.signatures) + 1,
        "status": "amended" if state.signatures else "final",
        "reason": state.amend_reason,
        "full_name": full_name,
        "patient": {
            "patient_id": row.patient_id,
            "center": row.center,
            "specimen": row.specimen,
            "n_fields": chart.n_fields,
        },
        "how": "full_review" if state.full_review_by is not None else "audit",
        "cells": {
            "present": len(present),
            "named_by_eye": len(named),
            "predicted_only": len(present) - len(named),
            "changed_by_eye": sum(
                cell.model_category is not None and vocabulary.codes[cell.code or ""].category != cell.model_category
                for cell in named
            ),
            "added": sum(cell.origin == "added" for cell in present),
            "removed": sum(cell.removed is not None and cell.origin == "model" for cell in state.cells.values()),
        },
        "codes": dict(sorted(Counter(cell.code for cell in named if cell.code is not None).items())),
        "categories": _by_category(chart),
        "figures": figures,
        "adequacy": [comment.text for comment in state.comments if comment.about == ADEQUACY][-1],
        "flags": [{"flag": flag.flag, "answer": state.flags_answered.get(flag.flag)} for flag in row.flags],
        "not_carried": len(state.not_carried),
        "vocabulary": {"name": vocabulary.name, "version": vocabulary.version, "sha256": vocabulary.sha256},
        "bundle": chart.manifest.bundle.label,
        "tables": dict(chart.tables),
        "head_before": {"sequence": head.sequence, "hash": head.hash},
    }


def _by_category(chart: Chart) -> dict[str, dict[str, int]]:
    """Count cells by category: those named by eye, and those that the machine alone called."""
    counts = {name: {"named_by_eye": 0, "predicted_only": 0} for name in chart.vocabulary.categories}
    for cell in chart.state.present:
        if cell.code is not None:
            counts[chart.vocabulary.codes[cell.code].category]["named_by_eye"] += 1
        elif cell.model_category is not None:
            counts[cell.model_category]["predicted_only"] += 1
    return counts
