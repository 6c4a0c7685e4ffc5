"""From a run's cells to its patients table: counts, depth, differential, corrected ratio, call, flags, in this order.

Each part is documented in its own module. This one sets the order, and gives every patient of the input a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.patient.counts import aggregate_patient
from marrowscope.patient.depth import judge_depth, measure_depth
from marrowscope.patient.differential import BLAST_COLUMNS, UNDER_300, declared_condition, nucleated_differential
from marrowscope.patient.erythrocyte_scale import erythrocyte_scale_check
from marrowscope.patient.flags import FlagRules, patient_flags
from marrowscope.patient.quantify.estimate import METHOD, count_fields, estimate_ratio
from marrowscope.patient.quantify.threshold import decide
from marrowscope.patient.standing import MeasuredRates, standing_of
from marrowscope.records import MARROW
from marrowscope.runs.parquet import conform, empty_table
from marrowscope.runs.schemas import CategoryShare, LineageShare, PatientRow, Row, share_columns
from marrowscope.statistics.clusters import ASSUMED_CORRELATION
from marrowscope.statistics.intervals import is_wide
from marrowscope.vocabulary import load_reference_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.patient.depth import Domain
    from marrowscope.patient.learned import Learned
    from marrowscope.patient.quantify.quantification import Quantification
    from marrowscope.patient.standing import Standing
    from marrowscope.records import Patient
    from marrowscope.vocabulary import ReferenceRanges, Vocabulary


_OF_RATIOS = (
    "adequacy", "reference_source", "me_numerator", "me_denominator", "me_ratio", "me_lower", "me_upper",
    "me_reference_low", "me_reference_high", "correction", "correction_note", "design_effect", "interval_wide",
    "threshold_n_patients", "threshold_simulated", "threshold_method", "call", "call_reason",
    "call_depends_on_threshold", "nrbc_per_100", "n_cblc",
)  # fmt: skip
_OF_SHARES = ("reference_mark",)
"""What belongs to a ratio or a share and is none itself; the numerator beside the countable cells is the ratio."""


def assess_patients(
    patients: Sequence[Patient],
    fields: pl.DataFrame,
    cells: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    measured: MeasuredRates | None = None,
    domain: Domain | None = None,
    learned: Learned | None = None,
    flag_rules: FlagRules | None = None,
    ranges: ReferenceRanges | None = None,
) -> pl.DataFrame:
    """Compute the patients table of ``patients``, in their order, from the fields and cells tables of a run.

    A ratio is corrected, a call made and blasts are estimated only where ``measured``, the rates of the bundle, has
    those of the patient's center (``standing``), and blasts only if every code of theirs is known to be ``learned``
    from real cells; simulated photographs need none. A patient beyond the limits of ``domain`` has counts alone.
    """
    flag_rules, measured = flag_rules or FlagRules(), measured or MeasuredRates()
    ranges = ranges or load_reference_ranges()
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
        standing = standing_of(patient.center, own_fields, measured, depth, specimen=patient.specimen)
        rates = standing.quantification
        correlation = rates.rates.correlation if rates else ASSUMED_CORRELATION
        row = aggregate_patient(patient, own_fields, own_cells).row() | standing.row() | depth.row()
        row |= erythrocyte_scale_check(own_fields).row()
        row |= nucleated_differential(patient, kept, vocabulary, known, correlation)
        if standing.is_simulated:
            row["adequacy"] = None  # 300 and 500 are for what a smear holds
        if rates:
            row |= corrected(kept, row["lymphoid_share"], rates, specimen=patient.specimen)
            row |= _agreeing_call(row)
        else:
            row |= dict.fromkeys(BLAST_COLUMNS)
        row["interval_wide"] = _has_wide_interval(row)
        row |= _of_simulated_cells(declared_condition(patient), standing, learned)
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
        learned: Learned | None = None,
        flag_rules: FlagRules | None = None,
        ranges: ReferenceRanges | None = None,
    ) -> None:
        self._patients = {patient.patient_id: patient for patient in patients}
        self._left = dict(self._patients)
        self._vocabulary, self._measured, self._domain, self._flag_rules = vocabulary, measured, domain, flag_rules
        self._learned, self._ranges = learned, ranges
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
                learned=self._learned,
                flag_rules=self._flag_rules,
                ranges=self._ranges,
            )
        )


def without_shares(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a patient out of depth that change: shares, ratios and the numerator of CBLC are null.

    The counts by category stay, as does what CBLC is made of, without its counts: their sum is the numerator.
    """
    blank: dict[str, Any] = dict.fromkeys((*share_columns(PatientRow), *_OF_RATIOS, *BLAST_COLUMNS))
    nested: dict[str, type[Row]] = {
        "differential": CategoryShare,
        "other_parts": CategoryShare,
        "lineages": LineageShare,
    }
    for name, kind in nested.items():
        columns = dict.fromkeys((*share_columns(kind), *_OF_SHARES))
        blank[name] = None if row[name] is None else [item | columns for item in row[name]]
    made_of = row["cblc_by_category"]
    blank["cblc_by_category"] = None if made_of is None else [item | {"n": None} for item in made_of]
    return blank


def _of_simulated_cells(condition: str | None, standing: Standing, learned: Learned | None) -> dict[str, Any]:
    """Return what the bundle learned from simulated cells only, and no blast estimate where it needs such a code.

    Of a bundle that does not state its sources nobody knows that, so it estimates none on real photographs either.
    """
    if learned is None:
        return {} if standing.is_simulated else dict.fromkeys(BLAST_COLUMNS)
    missing = () if standing.is_simulated else learned.blasts_not_learned(condition)
    withheld = dict.fromkeys(BLAST_COLUMNS) | {"who_not_learned": missing} if missing else {}
    return learned.row() | withheld


def _has_wide_interval(row: Mapping[str, Any]) -> bool | None:
    """Whether the interval of the ratio that will be shown is too wide for a figure; None without a ratio."""
    which = "corrected" if row.get("corrected_ratio") is not None else "cblc_ratio"
    lower, upper = row.get(f"{which}_lower"), row.get(f"{which}_upper")
    return None if row.get("cblc_ratio") is None else is_wide(lower, upper)


def _agreeing_call(row: Mapping[str, Any]) -> dict[str, Any]:
    """Withdraw a call on fewer nucleated cells than a marrow differential needs at least: both stand side by side."""
    if row["adequacy"] != UNDER_300 or row.get("call") in {None, "no_call"}:
        return {}
    return {
        "call": "no_call",
        "call_reason": "few_nucleated",
        "call_depends_on_threshold": False,
        "confidence_above": None,  # as after any other reason for no call
    }


def corrected(
    kept: pl.DataFrame, lymphoid_share: float | None, quantification: Quantification, *, specimen: str = MARROW
) -> dict[str, Any]:
    """Return the patient's columns of the corrected ratio and the call."""
    threshold = quantification.threshold
    stated = {
        "threshold": threshold.value if threshold else None,
        "threshold_lower": threshold.lower if threshold else None,
        "threshold_upper": threshold.upper if threshold else None,
        "threshold_n_patients": (threshold.n_aml + threshold.n_other) or None if threshold else None,
        "threshold_simulated": quantification.simulated if threshold else None,
        "threshold_method": threshold.method if threshold else None,
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
        specimen=specimen,
    )
    return row | {
        "confidence_above": call.confidence,
        "call": call.call,
        "call_reason": call.reason,
        "call_depends_on_threshold": call.depends_on_threshold,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
