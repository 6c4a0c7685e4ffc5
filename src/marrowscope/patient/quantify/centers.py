"""Error rates of one center, and whether its intervals hold: what opens a center for corrected ratios.

Each reviewed patient of the center is corrected with the rates of the center's other patients, and with the correlation
within fields of all other patients, as a new patient would be; the annotated ratio is compared with the interval.
``standing`` says how many patients open a center.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.patient.quantify.estimate import count_fields, estimate_ratio
from marrowscope.patient.quantify.fit_rates import MIN_PATIENTS
from marrowscope.patient.quantify.rates import TRUTH_COLUMNS, fit_error_rates
from marrowscope.statistics.clusters import pooled_correlation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.patient.quantify.estimate import PatientCounts
    from marrowscope.patient.quantify.rates import ErrorRates
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class CenterReview:
    """A center's rates, its reviewed patients that have a ratio, and those whose annotated ratio was missed."""

    rates: ErrorRates
    n_patients: int
    n_outside: int


def review_centers(
    cells: pl.DataFrame, center_of: Mapping[str, str], vocabulary: Vocabulary, correlation: float
) -> dict[str, CenterReview]:
    """Measure every center that has counted cells of at least three patients.

    ``cells`` is the table of ``fit_rates.fit_quantification``: a row per expert cell, with the columns of
    ``rates.TRUTH_COLUMNS``; ``correlation`` is that of all of them and goes into the rates. A patient without a counted
    cell, or without an annotated countable one, has no interval or no ratio to compare, and counts as outside.
    """
    centers = pl.col("patient_id").replace_strict(dict(center_of), return_dtype=pl.String(), default=None)
    counts = {
        str(patient): count_fields(own, "called_cblc")
        for (patient,), own in cells.filter("counted").group_by("patient_id")
    }
    reviews = {}
    for (center,), own in cells.with_columns(center=centers).group_by("center", maintain_order=True):
        if center is None or own.filter("counted")["patient_id"].n_unique() < MIN_PATIENTS:
            continue
        patients = own["patient_id"].unique().sort().to_list()
        n_outside = sum(not _holds(own, patient, vocabulary, counts) for patient in patients)
        rates = fit_error_rates(own.select(TRUTH_COLUMNS), vocabulary, correlation)
        reviews[str(center)] = CenterReview(rates, len(patients), n_outside)
    return reviews


def _holds(own: pl.DataFrame, patient: str, vocabulary: Vocabulary, counts: Mapping[str, PatientCounts]) -> bool:
    """Whether a patient's annotated ratio lies in the interval made with the rates of the center's others.

    ``counts`` are the counted cells of every patient, of this center or another.
    """
    of_patient = own.filter(pl.col("patient_id") == patient)
    codes = [vocabulary.codes[code] for code in of_patient["code"]]
    n_countable = sum(code.countable for code in codes)
    others = own.filter(pl.col("patient_id") != patient)
    if not n_countable or patient not in counts or not others["counted"].any():
        return False
    left = [found for name, found in counts.items() if name != patient]
    correlation = pooled_correlation(
        [found.cblc_by_field for found in left], [found.countable_by_field for found in left]
    )
    rates = fit_error_rates(others.select(TRUTH_COLUMNS), vocabulary, correlation)
    estimate = estimate_ratio(counts[patient], rates)
    annotated = sum(code.cblc and code.countable for code in codes) / n_countable
    return bool(estimate.lower <= annotated <= estimate.upper)
