"""A run's cells to its patients table: counts, differential, corrected ratio, call, flags - in this order.

What each part means stands in its own stage; here is only the order, and that every patient of the input has a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.aggregate import aggregate_patient
from marrowscope.clusters import ASSUMED_CORRELATION
from marrowscope.differential import nucleated_differential
from marrowscope.flags import FlagRules, patient_flags
from marrowscope.tables import conform
from marrowscope.vocabulary import load_reference_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import Patient
    from marrowscope.vocabulary import Vocabulary


def assess_patients(
    patients: Sequence[Patient],
    fields: pl.DataFrame,
    cells: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    flag_rules: FlagRules | None = None,
) -> pl.DataFrame:
    """Give the patients table of ``patients``, in their order, from the fields and cells tables of a run."""
    flag_rules = flag_rules or FlagRules()
    ranges = load_reference_ranges()
    known = ranges if ranges.vocabulary == vocabulary.name else None
    correlation = ASSUMED_CORRELATION
    rows: list[dict[str, Any]] = []
    for patient in patients:
        of_patient = pl.col("patient_id") == patient.patient_id
        own_fields, own_cells = fields.filter(of_patient), cells.filter(of_patient)
        kept = own_cells.filter(pl.col("reject_reason").is_null())
        counted = aggregate_patient(patient, own_fields, own_cells).row()
        row = counted | nucleated_differential(patient, kept, vocabulary, known, correlation)
        rows.append(row | {"flags": patient_flags(row, own_fields, own_cells, flag_rules)})
    return conform(pl.DataFrame(rows, infer_schema_length=None), "patients")
