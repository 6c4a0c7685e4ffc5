"""Error rates and study threshold, from cells of held-out patients.

The threshold is learned on corrected ratios. No patient corrects itself: the ratios of a group of patients (a fold) are
corrected with the rates of all other groups. The stored rates are those of all patients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.patient.quantify.estimate import METHOD, count_fields, estimate_ratio
from marrowscope.patient.quantify.main_specimen import main_specimen
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.rates import TRUTH_COLUMNS, fit_error_rates
from marrowscope.patient.quantify.threshold import StudyThreshold, learn_threshold
from marrowscope.records import UNKNOWN
from marrowscope.statistics.clusters import pooled_correlation
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from marrowscope.patient.quantify.estimate import PatientCounts
    from marrowscope.vocabulary import Vocabulary

MIN_PATIENTS, _FEWEST_OF_A_DIAGNOSIS = 3, 3
_N_GROUPS = 10


def fit_quantification(
    cells: pl.DataFrame,
    diagnosis_of: Mapping[str, str | None],
    vocabulary: Vocabulary,
    *,
    source: str,
    aml_diagnoses: Collection[str] = ("AML",),
    threshold: float | None = None,
    simulated: bool = False,
    specimen_of: Mapping[str, str] | None = None,
) -> Quantification:
    """Measure the error rates on ``cells`` and learn the threshold, or use a given one.

    ``cells`` has a row per expert cell, the columns of ``rates.TRUTH_COLUMNS`` and optionally ``group``: patients of
    one group are corrected with the rates of the others (without it, ten groups in order of name). A threshold needs 10
    patients with AML and 10 without; if there are fewer, ``threshold_missing`` says so. ``simulated`` says that every
    photograph was. With ``specimen_of`` the threshold is learned on the patients of one specimen, the one most of them
    have, and their ratios are corrected with the rates of that specimen. Raises ValueError if fewer than three patients
    have counted cells.
    """
    counted = cells.filter("counted")
    if counted["patient_id"].n_unique() < MIN_PATIENTS:
        message = (
            f"found counted cells of {count_of(counted['patient_id'].n_unique(), 'patient')}, expected at least "
            f"{MIN_PATIENTS}: "
            "the variation between patients cannot be measured on fewer; add patients"
        )
        raise ValueError(message)
    counts = {
        str(patient): count_fields(frame, "called_cblc")
        for (patient,), frame in counted.group_by("patient_id", maintain_order=True)
    }
    correlation = pooled_correlation(
        [item.cblc_by_field for item in counts.values()], [item.countable_by_field for item in counts.values()]
    )
    rates = fit_error_rates(cells.select(TRUTH_COLUMNS), vocabulary, correlation)
    if threshold is not None:
        return Quantification(source=source, simulated=simulated, rates=rates, threshold=_given(threshold))
    specimen = None
    if specimen_of is not None:
        specimen = main_specimen(specimen_of[patient] for patient in counts)
        of_it = {name for name, stated in specimen_of.items() if stated.strip().casefold() == specimen}
        cells = cells if specimen is None else cells.filter(pl.col("patient_id").is_in(of_it))
    ratios = _held_out_ratios(cells, counts, vocabulary, correlation)
    learned, missing = _learn(ratios, diagnosis_of, aml_diagnoses, source)
    if learned is not None and specimen_of is not None:
        learned = learned.model_copy(update={"specimen": specimen or UNKNOWN})
    return Quantification(source=source, simulated=simulated, rates=rates, threshold=learned, threshold_missing=missing)


def _held_out_ratios(
    cells: pl.DataFrame, counts: Mapping[str, PatientCounts], vocabulary: Vocabulary, correlation: float
) -> dict[str, float]:
    """Correct each patient's ratio with the rates of all other groups; NaN if there is none."""
    patients = cells["patient_id"].unique().sort().to_list()
    if "group" in cells.columns:
        group_of = dict(cells.select("patient_id", "group").unique().iter_rows())
    else:
        group_of = {patient: index % _N_GROUPS for index, patient in enumerate(patients)}
    ratios = dict.fromkeys(patients, float("nan"))
    for group in sorted(set(group_of.values())):
        members = [patient for patient in patients if group_of[patient] == group]
        others = cells.filter(~pl.col("patient_id").is_in(members))
        if not others["counted"].any():
            continue
        rates = fit_error_rates(others.select(TRUTH_COLUMNS), vocabulary, correlation)
        ratios |= {patient: estimate_ratio(counts[patient], rates).ratio for patient in members if patient in counts}
    return ratios


def _learn(
    ratios: Mapping[str, float], diagnosis_of: Mapping[str, str | None], aml_diagnoses: Collection[str], source: str
) -> tuple[StudyThreshold | None, str]:
    """Learn the threshold on the patients whose diagnosis is stated, or return why that is not possible."""
    names = {name.strip().casefold() for name in aml_diagnoses}
    stated = {patient: (diagnosis_of.get(patient) or "").strip() for patient in ratios}
    known = {
        patient: diagnosis
        for patient, diagnosis in stated.items()
        if diagnosis.casefold() not in {"", UNKNOWN} and np.isfinite(ratios[patient])
    }
    values = np.array([ratios[patient] for patient in known])
    is_aml = np.array([diagnosis.casefold() in names for diagnosis in known.values()], dtype=bool)
    named = pl.Series("diagnosis", list(known.values()), dtype=pl.String()).value_counts().sort("diagnosis")
    diagnoses = named.filter(pl.col("count") >= _FEWEST_OF_A_DIAGNOSIS)  # a rare entry may identify a person
    try:
        return (
            learn_threshold(values, is_aml, diagnoses=dict(diagnoses.iter_rows()), learned_on=source),
            "",
        )
    except ValueError as error:
        return None, str(error)


def _given(threshold: float) -> StudyThreshold:
    """Use a threshold that a person chose: it was not learned and has no interval."""
    return StudyThreshold(value=threshold, learned_on="given, not learned", method=METHOD)
