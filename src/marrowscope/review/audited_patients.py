"""What people named at one patient, as a record that a site's error rates are measured on: state in, record out.

A fully reviewed patient gives every cell of the frame with weight 1. Of an audit, the last complete look counts: the
cells drawn until then by their first answers, each with 1 / its probability of being drawn, and the cells named before
the draw by the names of that moment, with weight 1. Everything else that was named has no weight and stays outside.

Cells that readers added are missed cells, and only those of fields that were drawn and checked whole enter. Parts of a
split contour, and a merged one, were not found as they are: they have no call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.review.live_estimate import audit_names, audit_view, is_fully_reviewed, name_of, searched_fields
from marrowscope.review.site_rates import AuditedCell, AuditedPatient

if TYPE_CHECKING:
    from marrowscope.review.patient_state import PatientState, ReviewedCell


def audited_patient(state: PatientState, n_fields: int) -> AuditedPatient | None:
    """Return the named cells of a patient with their weights; None without a full review or a complete look.

    ``n_fields`` are the fields of the patient that could be read.
    """
    cells = _all_cells(state) if is_fully_reviewed(state) else _cells_of_look(state)
    if not cells:
        return None
    searched = searched_fields(state, n_fields)
    missed = tuple(
        cell.code
        for cell in state.present
        if cell.origin == "added" and cell.field_id in searched and cell.code is not None
    )
    called, counted = _calls_by_field(state)
    return AuditedPatient(
        patient_id=state.patient_id,
        cells=tuple(cells),
        called_by_field=called,
        counted_by_field=counted,
        missed=missed if searched else None,
        missed_weight=n_fields / len(searched) if searched else 1.0,
    )


def _all_cells(state: PatientState) -> list[AuditedCell]:
    return [_named(cell, name_of(cell), 1.0) for cell in state.cells.values() if cell.origin != "added"]


def _cells_of_look(state: PatientState) -> list[AuditedCell]:
    """Return the cells of the last complete look, and those named before the audit; none before the first look."""
    view = audit_view(state)
    if view is None or view.look is None:
        return []
    names = audit_names(state, view.audit)
    weights = dict.fromkeys(view.audit.reviewed, 1.0)
    for stratum in view.audit.strata:
        drawn = stratum.drawn[: stratum.n_by_look[view.look]]
        weights |= {cell_id: 1 / stratum.inclusion(view.look) for cell_id in drawn}
    return [_named(state.cells.get(cell_id), names[cell_id], weight) for cell_id, weight in weights.items()]


def _named(cell: ReviewedCell | None, code: str | None, weight: float) -> AuditedCell:
    """Return a named cell with its call; one that a reader drew has none, and was not counted."""
    if cell is None or cell.model_category is None:
        return AuditedCell(code, called_countable=False, called_category="", called_cblc=False, weight=weight)
    return AuditedCell(
        code,
        called_countable=bool(cell.model_is_countable),
        called_category=cell.model_category,
        called_cblc=bool(cell.model_is_cblc),
        weight=weight,
    )


def _calls_by_field(state: PatientState) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the machine's CBLC, and its countable cells, of each field that has any."""
    called: dict[str, int] = {}
    counted: dict[str, int] = {}
    for cell in state.cells.values():
        if cell.origin == "model" and cell.model_is_countable:
            counted[cell.field_id] = counted.get(cell.field_id, 0) + 1
            called[cell.field_id] = called.get(cell.field_id, 0) + bool(cell.model_is_cblc)
    return tuple(called.values()), tuple(counted.values())
