"""The worklist, and the vocabulary with its default hotkeys, as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from marrowscope.report.strings import LANGUAGES, load_strings
from marrowscope.review.guard import ENTER, SEE, station_of
from marrowscope.review.hotkeys import default_hotkeys
from marrowscope.review.progress import PatientProgress
from marrowscope.review.sessions import Session

router = APIRouter()


@router.get("/api/worklist")
def worklist(request: Request, session: Annotated[Session, Depends(SEE)]) -> list[dict[str, Any]]:
    """Return one line per patient whom this reader may see; no cell is read for it.

    A blinded reader gets no flag and no state, which tell of the calls, and counts his or her own decisions alone.
    """
    station = station_of(request)
    progress = station.progress.patients()
    lines = []
    sees_all = bool(session.permissions & {"sign", "inspect"})
    for row in station.cells.rows.values():
        patient = progress.get(row.patient_id) or PatientProgress()
        is_blinded = session.reader in patient.assigned
        if patient.assigned and not is_blinded and not sees_all:
            continue  # given to others, who must not see each other's decisions
        n_reviewed = patient.n_decided_by.get(session.reader, 0) if is_blinded else patient.n_decided
        own = [session.reader] if is_blinded else None
        n_added = patient.n_added_by.get(session.reader, 0) if is_blinded else patient.n_added
        lines.append(
            {
                "patient_id": row.patient_id,
                "center": row.center,
                "specimen": row.specimen,
                "state": None if is_blinded else row.state,
                "status": patient.status_of(session.reader) if is_blinded else patient.status,
                "flags": [] if is_blinded else [flag.flag for flag in row.flags],
                "opened_by": [name for name in station.progress.opened_by(row.patient_id) if not own or name in own],
                "readers": own or list(patient.readers),
                "assigned": own or list(patient.assigned),
                "readings": [_reading(name, patient, row.n_cells) for name in own or patient.assigned],
                "was_assigned": patient.was_assigned,
                "blinded": is_blinded,
                "n_reviewed": n_reviewed,
                "n_cells": row.n_cells + n_added,
                "n_fields": row.n_fields,
                "has_slides": station.cells.has_slides(row.patient_id),
                "signed": patient.is_locked,
            }
        )
    return lines


def _reading(reader: str, patient: PatientProgress, n_cells: int) -> dict[str, Any]:
    """Return how far one assigned reader is; ``finished`` once he or she said that every cell was seen."""
    return {
        "reader": reader,
        "n_reviewed": patient.n_decided_by.get(reader, 0),
        "n_cells": n_cells + patient.n_added_by.get(reader, 0),
        "finished": reader in patient.finished,
    }


@router.get("/api/vocabulary")
def vocabulary(request: Request, _session: Annotated[Session, Depends(ENTER)]) -> dict[str, Any]:
    """Return codes with their facts and names, categories, and a hotkey of at most two keys for each code."""
    known = station_of(request).vocabulary
    hotkeys = default_hotkeys(known)
    catalogs = {language: load_strings(language) for language in LANGUAGES}
    return {
        "name": known.name,
        "version": known.version,
        "categories": list(known.categories),
        "codes": [
            {
                "code": code.code,
                "names": {language: texts.choose("code", code.code) for language, texts in catalogs.items()},
                "category": code.category,
                "lineage": code.lineage,
                "cblc": code.cblc,
                "countable": code.countable,
                "ndc": code.ndc,
                "hotkey": hotkeys[code.code],
            }
            for code in known.codes.values()
        ],
    }
