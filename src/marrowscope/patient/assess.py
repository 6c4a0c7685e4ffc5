"""A run's cells to its patients table: counts, differential, corrected ratio, call, flags - in this order.

What each part means stands in its own stage; here is only the order, and that every patient of the input has a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.patient.counts import aggregate_patient
from marrowscope.patient.differential import nucleated_differential
from marrowscope.patient.flags import FlagRules, patient_flags
from marrowscope.patient.quantify.estimate import METHOD, count_fields, estimate_ratio
from marrowscope.patient.quantify.threshold import decide
from marrowscope.runs.parquet import conform, empty_table
from marrowscope.statistics.clusters import ASSUMED_CORRELATION
from marrowscope.vocabulary import load_reference_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.records import Patient
    from marrowscope.vocabulary import Vocabulary


def assess_patients(
    patients: Sequence[Patient],
    fields: pl.DataFrame,
    cells: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    quantification: Quantification | None = None,
    flag_rules: FlagRules | None = None,
) -> pl.DataFrame:
    """Give the patients table of ``patients``, in their order, from the fields and cells tables of a run.

    Without ``quantification`` (a bundle without error rates) no ratio is corrected and no call is made.
    """
    flag_rules = flag_rules or FlagRules()
    ranges = load_reference_ranges()
    known = ranges if ranges.vocabulary == vocabulary.name else None
    correlation = quantification.rates.correlation if quantification else ASSUMED_CORRELATION
    fields_of, cells_of = (
        {str(key[0]): frame for key, frame in table.group_by("patient_id", maintain_order=True)}
        for table in (fields, cells)
    )
    rows: list[dict[str, Any]] = []
    for patient in patients:
        own_fields = fields_of.get(patient.patient_id, fields.clear())
        own_cells = cells_of.get(patient.patient_id, cells.clear())
        kept = own_cells.filter(pl.col("reject_reason").is_null())
        row = aggregate_patient(patient, own_fields, own_cells).row()
        row |= nucleated_differential(patient, kept, vocabulary, known, correlation)
        if quantification:
            row |= corrected(kept, row["lymphoid_share"], quantification)
        rows.append(row | {"flags": patient_flags(row, own_fields, own_cells, flag_rules)})
    return conform(pl.DataFrame(rows, infer_schema_length=None), "patients")


def assess_parts(
    patients: Sequence[Patient],
    parts: Iterable[tuple[pl.DataFrame, pl.DataFrame]],
    vocabulary: Vocabulary,
    *,
    quantification: Quantification | None = None,
    flag_rules: FlagRules | None = None,
) -> pl.DataFrame:
    """Give the patients table as ``assess_patients`` does, from (fields, cells) tables that come in parts.

    The images of a patient stand together, as ``collect_inputs`` lists them: no more is held than the cells of one
    part and of the patient who is not complete yet.
    """
    left = {patient.patient_id: patient for patient in patients}
    tables: list[pl.DataFrame] = []
    fields, cells = empty_table("fields"), empty_table("cells")

    def assess(patient_ids: Sequence[str]) -> None:
        complete = [left.pop(patient_id) for patient_id in patient_ids]
        tables.append(
            assess_patients(complete, fields, cells, vocabulary, quantification=quantification, flag_rules=flag_rules)
        )

    for new_fields, new_cells in parts:
        fields, cells = pl.concat([fields, new_fields]), pl.concat([cells, new_cells])
        *complete, unfinished = fields["patient_id"].unique(maintain_order=True)
        if complete:
            assess(complete)
            fields, cells = (table.filter(pl.col("patient_id") == unfinished) for table in (fields, cells))
    assess(list(left))  # the last, and those without an image
    rank = {patient.patient_id: index for index, patient in enumerate(patients)}
    return pl.concat(tables).sort(pl.col("patient_id").replace_strict(rank, return_dtype=pl.Int64))


def corrected(kept: pl.DataFrame, lymphoid_share: float | None, quantification: Quantification) -> dict[str, Any]:
    """Give the patient's part of the patients table that belongs to the corrected ratio and the call."""
    threshold = quantification.threshold
    stated = {
        "threshold": threshold.value if threshold else None,
        "threshold_lower": threshold.lower if threshold else None,
        "threshold_upper": threshold.upper if threshold else None,
    }
    counts = count_fields(kept.filter("is_countable"), "is_cblc")
    n_fields = len(counts.countable_by_field)
    if n_fields == 0:
        no_call = {"call": "no_call", "call_reason": "no_countable_cell"} if threshold else {}
        return stated | no_call
    estimate = estimate_ratio(counts, quantification.rates)
    row: dict[str, Any] = stated | {
        "corrected_ratio": _number(estimate.ratio),
        "corrected_lower": _number(estimate.lower),
        "corrected_upper": _number(estimate.upper),
        "correction": METHOD,
        "correction_note": estimate.note,
        "design_effect": estimate.effect,
    }
    if threshold is None:
        return row
    call = decide(
        estimate,
        int(counts.countable_by_field.sum()),
        n_fields,
        lymphoid_share=lymphoid_share,
        threshold=threshold,
        rules=quantification.call_rules,
    )
    return row | {
        "confidence_above": call.confidence,
        "call": call.call,
        "call_reason": call.reason,
        "call_depends_on_threshold": call.depends_on_threshold,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
