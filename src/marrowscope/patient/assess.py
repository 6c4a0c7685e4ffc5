"""From a run's cells to its patients table: counts, depth, differential, corrected ratio, call, flags, in this order.

Each part is documented in its own module. This one sets the order, and gives every patient of the input a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.patient.counts import aggregate_patient
from marrowscope.patient.depth import judge_depth, measure_depth
from marrowscope.patient.differential import BLAST_COLUMNS, nucleated_differential
from marrowscope.patient.erythrocyte_scale import erythrocyte_scale_check
from marrowscope.patient.flags import FlagRules, patient_flags
from marrowscope.patient.quantify.estimate import METHOD, count_fields, estimate_ratio
from marrowscope.patient.quantify.threshold import decide
from marrowscope.patient.standing import MeasuredRates, standing_of
from marrowscope.runs.parquet import conform, empty_table
from marrowscope.statistics.clusters import ASSUMED_CORRELATION
from marrowscope.vocabulary import load_reference_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.patient.depth import Domain
    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.records import Patient
    from marrowscope.vocabulary import Vocabulary


_SHARE_COLUMNS = (
    "cblc_ratio", "cblc_ratio_lower", "cblc_ratio_upper", "ratio_all_unclassified_not_cblc",
    "ratio_all_unclassified_cblc", "adequacy", "reference_source", "me_numerator", "me_denominator", "me_ratio",
    "me_lower", "me_upper", "me_reference_low", "me_reference_high", "lymphoid_share",
)  # fmt: skip
_LINEAGE_SHARES = ("share", "lower", "upper", "reference_low", "reference_high", "reference_mark")
_CATEGORY_SHARES = (*_LINEAGE_SHARES, "share_nucleated")
"""What is null for a patient out of depth: what a share, a ratio or a range is, or belongs to one."""


def assess_patients(
    patients: Sequence[Patient],
    fields: pl.DataFrame,
    cells: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    measured: MeasuredRates | None = None,
    domain: Domain | None = None,
    flag_rules: FlagRules | None = None,
) -> pl.DataFrame:
    """Compute the patients table of ``patients``, in their order, from the fields and cells tables of a run.

    A ratio is corrected, a call made and blasts are estimated only where ``measured``, the rates of the bundle, has
    those of the patient's center (``standing``). A patient beyond the limits of ``domain`` has counts alone.
    """
    flag_rules, measured = flag_rules or FlagRules(), measured or MeasuredRates()
    ranges = load_reference_ranges()
    known = ranges if ranges.vocabulary == vocabulary.name else None
    fields_of, cells_of = (
        {str(key[0]): frame for key, frame in table.group_by("patient_id", maintain_order=True)}
        for table in (fields, cells)
    )
    rows: list[dict[str, Any]] = []
    for patient in patients:
        own_fields = fields_of.get(patient.patient_id, fields.clear())
        own_cells = cells_of.get(patient.patient_id, cells.clear())
        kept = own_cells.filter(pl.col("reject_reason").is_null())
        depth = judge_depth(measure_depth(own_fields, kept), domain)
        standing = standing_of(patient.center, own_fields, measured, depth)
        rates = standing.quantification
        correlation = rates.rates.correlation if rates else ASSUMED_CORRELATION
        row = aggregate_patient(patient, own_fields, own_cells).row() | standing.row() | depth.row()
        row |= erythrocyte_scale_check(own_fields).row()
        row |= nucleated_differential(patient, kept, vocabulary, known, correlation)
        if rates:
            row |= corrected(kept, row["lymphoid_share"], rates)
        else:
            row |= dict.fromkeys(BLAST_COLUMNS)
        if standing.state == "out_of_depth":
            row |= without_shares(row)
        rows.append(row | {"flags": patient_flags(row, own_fields, own_cells, flag_rules)})
    return conform(pl.DataFrame(rows, infer_schema_length=None), "patients")


class PatientAssessor:
    """Assesses patients one by one, as the tables of a run arrive in parts.

    The images of a patient are consecutive, as ``collect_inputs`` lists them. Only the cells of one part and of one
    incomplete patient are in memory.
    """

    def __init__(
        self,
        patients: Sequence[Patient],
        vocabulary: Vocabulary,
        *,
        measured: MeasuredRates | None = None,
        domain: Domain | None = None,
        flag_rules: FlagRules | None = None,
    ) -> None:
        self._patients = {patient.patient_id: patient for patient in patients}
        self._left = dict(self._patients)
        self._vocabulary, self._measured, self._domain, self._flag_rules = vocabulary, measured, domain, flag_rules
        self._fields, self._cells = empty_table("fields"), empty_table("cells")
        self._assessed: list[pl.DataFrame] = []

    def add(self, fields: pl.DataFrame, cells: pl.DataFrame) -> None:
        """Take the next part; all patients in it but the last are complete, and are assessed."""
        self._fields, self._cells = pl.concat([self._fields, fields]), pl.concat([self._cells, cells])
        *complete, unfinished = self._fields["patient_id"].unique(maintain_order=True)
        if complete:
            self._assess(complete)
            of_unfinished = pl.col("patient_id") == unfinished
            self._fields, self._cells = self._fields.filter(of_unfinished), self._cells.filter(of_unfinished)

    def finish(self) -> pl.DataFrame:
        """Assess the last patient and those without images; returns the patients table in input order."""
        self._assess(list(self._left))
        rank = {patient_id: index for index, patient_id in enumerate(self._patients)}
        order = pl.col("patient_id").replace_strict(rank, return_dtype=pl.Int64())
        return pl.concat(self._assessed).sort(order)

    def _assess(self, patient_ids: Sequence[str]) -> None:
        patients = [self._left.pop(patient_id) for patient_id in patient_ids]
        self._assessed.append(
            assess_patients(
                patients,
                self._fields,
                self._cells,
                self._vocabulary,
                measured=self._measured,
                domain=self._domain,
                flag_rules=self._flag_rules,
            )
        )


def without_shares(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a patient out of depth that change: every share and ratio is null, the counts stay."""
    blank = dict.fromkeys(_SHARE_COLUMNS) | dict.fromkeys(BLAST_COLUMNS)
    for name, columns in (("differential", _CATEGORY_SHARES), ("lineages", _LINEAGE_SHARES)):
        blank[name] = [item | dict.fromkeys(columns) for item in row[name] or ()]
    return blank


def corrected(kept: pl.DataFrame, lymphoid_share: float | None, quantification: Quantification) -> dict[str, Any]:
    """Return the patient's columns of the corrected ratio and the call."""
    threshold = quantification.threshold
    stated = {
        "threshold": threshold.value if threshold else None,
        "threshold_lower": threshold.lower if threshold else None,
        "threshold_upper": threshold.upper if threshold else None,
        "threshold_n_patients": (threshold.n_aml + threshold.n_other) or None if threshold else None,
        "threshold_simulated": quantification.simulated if threshold else None,
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
