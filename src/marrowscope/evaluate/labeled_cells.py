"""Every labeled cell of a cohort beside the run's call for it, patient by patient, to be looked at.

The matching and the rule for coarse labels are those of every figure (``link``, ``cell_scores``): a call is right where
it lies in the label's set. A cell that was not found has no call. Cells without a label enter nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from marrowscope.evaluate.cell_scores import right_calls
from marrowscope.evaluate.link import link_cells
from marrowscope.runs.checked_rows import read_rows, scan_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.records import ContourArray, Field, Patient
    from marrowscope.runs.schemas import State
    from marrowscope.vocabulary import Vocabulary

Outcome = Literal["cblc_wrong", "category_wrong", "missed", "right"]
"""``cblc_wrong``: the call has the other answer to CBLC. ``category_wrong``: the same answer, in another category."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledCell:
    """One labeled cell: its photograph, the found contour (of a missed cell the annotated one), label and call.

    ``expert`` is a raw code or a coarse label with its set; ``expert_category`` is None where that leaves it open.
    """

    path: Path
    sha256: str
    um_per_px: float | None
    contour_xy: ContourArray
    expert: str
    expert_category: str | None
    called: str | None
    p_called: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True, eq=False)
class LabeledPatient:
    """One patient's labeled cells, how many were found and called right, and the count of all the patient's cells.

    ``n_cblc_stated`` are the found cells whose label says whether they are CBLC. ``n_cblc`` of ``n_countable`` is the
    machine's count over labeled and unlabeled cells; None where ``state`` is out of depth.
    """

    patient_id: str
    center: str
    specimen: str
    n_labeled: int
    n_found: int
    n_category_right: int
    n_cblc_stated: int
    n_cblc_right: int
    n_cblc: int | None
    n_countable: int
    state: State | None
    cells: tuple[LabeledCell, ...]


def label_by_label(
    run: Path, patients: Sequence[Patient], fields: Sequence[Field], vocabulary: Vocabulary
) -> tuple[LabeledPatient, ...]:
    """Compare the run folder ``run`` with the annotated ``fields``, in the order of ``patients``.

    Raises InputError where the run has none of the fields or other images of the same names, RunError where a table of
    the run cannot be used.
    """
    run_cells = scan_rows(run, "cells", vocabulary.categories)
    run_fields = read_rows(run, "fields", vocabulary.categories)
    rows_of = {row["patient_id"]: row for row in read_rows(run, "patients", vocabulary.categories).to_dicts()}
    expert = link_cells(run_fields, run_cells, patients, fields, vocabulary).expert
    cblc_right = pl.col("predicted_cblc").cast(pl.Boolean) == pl.col("cblc")
    expert = expert.with_columns(
        right_calls(expert).alias("category_right"), cblc_right.alias("cblc_right")
    )  # null where the label leaves CBLC open, and for a missed cell
    contour_of = dict(run_cells.read(run_cells.rows.select("cell_id", "contour_xy")).iter_rows())
    field_of = {field.field_id: field for field in fields}
    compared = []
    for patient in patients:
        own = expert.filter(pl.col("patient_id") == patient.patient_id)
        found, row = own.filter(pl.col("found")), rows_of[patient.patient_id]
        compared.append(
            LabeledPatient(
                patient_id=patient.patient_id,
                center=patient.center,
                specimen=patient.specimen,
                n_labeled=own.height,
                n_found=found.height,
                n_category_right=int(found["category_right"].sum()),
                n_cblc_stated=found.height - found["cblc_right"].null_count(),
                n_cblc_right=int(found["cblc_right"].sum()),
                n_cblc=row["n_cblc"],
                n_countable=row["n_countable"],
                state=row["state"],
                cells=tuple(
                    _labeled_cell(cell, field_of[cell["field_id"]], contour_of, vocabulary.categories)
                    for cell in own.to_dicts()
                ),
            )
        )
    return tuple(compared)


def _labeled_cell(
    row: dict[str, Any], field: Field, contour_of: dict[str, list[float]], categories: Sequence[str]
) -> LabeledCell:
    annotated = {annotation.shape_index: annotation.contour_xy for annotation in field.annotations}
    found = contour_of.get(row["cell_id"]) if row["found"] else None
    contour = annotated[row["shape_index"]] if found is None else np.asarray(found, dtype=np.float64).reshape(-1, 2)
    return LabeledCell(
        path=field.path,
        sha256=field.sha256,
        um_per_px=field.um_per_px,
        contour_xy=contour,
        expert=row["coarse"] or row["code"],
        expert_category=None if row["category"] is None else categories[row["category"]],
        called=categories[row["predicted_category"]] if row["found"] else None,
        p_called=row["p_called"],
        outcome=_outcome(row),
    )


def _outcome(row: dict[str, Any]) -> Outcome:
    if not row["found"]:
        return "missed"
    if row["cblc_right"] is False:
        return "cblc_wrong"
    return "right" if row["category_right"] else "category_wrong"
