"""Rates and threshold from cells, and that no patient corrects itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from marrowscope.patient.quantify.fit_rates import fit_quantification
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.rates import ErrorRates
from marrowscope.patient.quantify.threshold import StudyThreshold
from tests.patient.quantify.patients import N5, VOCABULARY, N, make_rates


def outcomes(shares: dict[str, float], *, n: int = 100, tpr: float = 0.9, fpr: float = 0.05) -> pl.DataFrame:
    """Give cells N and N5 of patients with the given shares of N, calls at exact rates, in fields of 20."""
    rows: list[dict[str, Any]] = []
    for patient, share in shares.items():
        for code, number, rate in (("N", round(n * share), tpr), ("N5", n - round(n * share), fpr)):
            for index in range(number):
                called = index < round(number * rate)
                rows.append(
                    {
                        "patient_id": patient,
                        "field_id": f"{patient}/{len(rows) % 5}",
                        "code": code,
                        "counted": True,
                        "called_category": "N" if called else "N5",
                        "called_cblc": called,
                    }
                )
    return pl.DataFrame(rows)


SHARES = {f"A{i}": 0.5 + 0.02 * i for i in range(12)} | {f"C{i}": 0.02 * i for i in range(12)}
DIAGNOSES: dict[str, str | None] = {name: "AML" if name.startswith("A") else "control" for name in SHARES}


def test_threshold_is_learned_on_corrected_ratios() -> None:
    found = fit_quantification(outcomes(SHARES), DIAGNOSES, VOCABULARY, source="a test")
    assert found.threshold is not None
    assert found.threshold.separable
    assert found.threshold.value == pytest.approx((0.22 + 0.5) / 2, abs=0.02)  # of true ratios, not of called ones
    assert found.threshold.n_by_diagnosis == {"AML": 12, "control": 12}
    assert "learned on 12 patients with AML and 12 without" in found.sentence()
    drawn = found.model_copy(update={"simulated": True})
    assert "learned on 12 simulated patients with AML and 12 without" in drawn.card()
    assert len(found.rates.counted) == 24
    assert Quantification.model_validate_json(found.as_json()) == found


def test_the_threshold_is_learned_on_the_specimen_of_most_patients() -> None:
    blood = {f"B{i}": 0.9 - 0.001 * i for i in range(12)}  # controls whose blood would raise it
    table = pl.concat([outcomes(SHARES), outcomes(blood, fpr=0.4)])
    diagnoses = DIAGNOSES | dict.fromkeys(blood, "control")
    specimen_of = dict.fromkeys(SHARES, "Marrow") | dict.fromkeys(blood, "blood")
    marrow = fit_quantification(outcomes(SHARES), DIAGNOSES, VOCABULARY, source="a test").threshold
    found = fit_quantification(table, diagnoses, VOCABULARY, source="a test", specimen_of=specimen_of)
    assert marrow is not None
    assert found.threshold is not None
    assert found.threshold.value == pytest.approx(marrow.value, abs=0.01)
    assert (found.threshold.specimen, found.threshold.n_other) == ("marrow", 12)
    assert "(AML 12, control 12), all marrow: no call is made on another specimen." in found.card()
    assert found.of_specimen("marrow") == found
    assert found.of_specimen("blood").threshold is None
    unstated = dict.fromkeys(specimen_of, "unknown")
    mixed = fit_quantification(table, diagnoses, VOCABULARY, source="a test", specimen_of=unstated)
    assert mixed.threshold is not None
    assert mixed.threshold.specimen == "unknown"
    assert "whose specimen is not stated." in mixed.sentence()
    assert mixed.of_specimen("marrow").threshold is None
    given = fit_quantification(table, diagnoses, VOCABULARY, source="a test", threshold=0.3, specimen_of=specimen_of)
    assert given.of_specimen("blood") == given


def test_patient_is_corrected_with_the_rates_of_others() -> None:
    """One group has a classifier of its own: what corrects it must not come from it."""
    easy, hard = dict(list(SHARES.items())[:20]), dict(list(SHARES.items())[20:])
    table = pl.concat([outcomes(easy), outcomes(hard, fpr=0.3)])
    grouped = table.with_columns(group=pl.col("patient_id").is_in(list(hard)).cast(pl.Int64))
    found = fit_quantification(grouped, DIAGNOSES, VOCABULARY, source="a test")
    assert found.threshold is not None
    assert found.threshold.value > 0.4  # 30% false calls corrected as if they were 5%


def test_too_few_patients_of_one_side_leave_no_threshold_and_say_so() -> None:
    diagnoses: dict[str, str | None] = dict.fromkeys(SHARES, "AML")
    found = fit_quantification(outcomes(SHARES), diagnoses, VOCABULARY, source="a test")
    assert found.threshold is None
    assert "24 patients with AML and 0 without" in found.threshold_missing
    assert "no study threshold" in found.sentence()


@pytest.mark.parametrize("nothing", [(None, " "), ("", "Unknown")])
def test_patients_without_a_diagnosis_learn_no_threshold(nothing: tuple[str | None, str | None]) -> None:
    diagnoses: dict[str, str | None] = DIAGNOSES | {"C0": nothing[0], "C1": nothing[1]}
    found = fit_quantification(outcomes(SHARES), diagnoses, VOCABULARY, source="a test")
    assert found.threshold is not None
    assert found.threshold.n_other == 10


def test_diagnosis_of_one_or_two_patients_is_not_kept() -> None:
    diagnoses: dict[str, str | None] = DIAGNOSES | {"C0": "control of Miller", "C1": "rare"}
    found = fit_quantification(outcomes(SHARES), diagnoses, VOCABULARY, source="a test")
    assert found.threshold is not None
    assert (found.threshold.n_other, found.threshold.n_by_diagnosis) == (12, {"AML": 12, "control": 10})


def test_given_threshold_is_taken_as_it_is() -> None:
    found = fit_quantification(outcomes(SHARES), DIAGNOSES, VOCABULARY, source="a test", threshold=0.31)
    assert found.threshold is not None
    assert (found.threshold.value, found.threshold.lower, found.threshold.upper) == (0.31, None, None)
    assert found.threshold.learned_on == "given, not learned"


def test_fewer_than_three_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="counted cells of 2 patients, expected at least 3"):
        fit_quantification(outcomes({"A1": 0.5, "A2": 0.3}), DIAGNOSES, VOCABULARY, source="a test")


def test_no_name_of_a_patient_is_kept() -> None:
    stored = fit_quantification(outcomes(SHARES), DIAGNOSES, VOCABULARY, source="a test").as_json().decode()
    assert not any(f'"{name}"' in stored for name in SHARES)


def test_fields_that_differ_give_a_correlation() -> None:
    table = outcomes(SHARES)
    even = fit_quantification(table, DIAGNOSES, VOCABULARY, source="a test").rates.correlation
    apart = table.with_columns(
        field_id=pl.col("patient_id") + pl.when("called_cblc").then(pl.lit("/x")).otherwise(pl.lit("/y"))
    )
    assert fit_quantification(apart, DIAGNOSES, VOCABULARY, source="a test").rates.correlation > 0.9
    assert even < 0.2
    assert np.isfinite(even)


def test_a_coarse_label_counts_where_it_decides_and_is_left_out_elsewhere() -> None:
    """Blasts without lineage are CBLC of category N, as N itself; what leaves CBLC open is in no rate."""
    exact = outcomes(SHARES)
    blast = exact.with_columns(pl.col("code").replace("N", "BLA{N,M,J,L; mainly N; cblc yes}"))
    undecided = outcomes({"A1": 1.0}).with_columns(pl.lit("IG{N1,N2,N3}").alias("code"))
    found = fit_quantification(pl.concat([blast, undecided]), DIAGNOSES, VOCABULARY, source="a test").rates
    wanted = fit_quantification(exact, DIAGNOSES, VOCABULARY, source="a test").rates
    assert found.model_copy(update={"correlation": wanted.correlation}) == wanted
    uncounted = exact.with_columns(pl.col("code").replace("N", "X{V,0}"))
    rates = fit_quantification(uncounted, DIAGNOSES, VOCABULARY, source="a test").rates
    assert sum(rates.wrongly_counted) == exact.filter(pl.col("code") == "N").height


@pytest.mark.parametrize(
    "change",
    [
        {"called": ((0,),)},
        {"counted": ()},
        {"wrongly_counted": (1, 2, 3, 4, 5, 6, 7, 8, 9)},
        {"wrong_calls": ()},
        {"wrongly_counted": None},
        {"annotated": None},
    ],
)
def test_rates_whose_tables_do_not_fit_each_other_are_refused(change: dict[str, object]) -> None:
    values = make_rates({N: 0.9, N5: 0.05}).model_dump()
    for name, value in change.items():
        less = [[-1] * len(row) for row in values[name]] if name == "annotated" else [-1] * len(values[name])
        values[name] = less if value is None else value
    with pytest.raises(ValidationError, match=r"have not the same patients|has not one number|less than no"):
        ErrorRates.model_validate(values)


@pytest.mark.parametrize("n_patients", [-1, 2**63])
def test_a_threshold_of_an_impossible_number_of_patients_is_refused(n_patients: int) -> None:
    with pytest.raises(ValidationError, match="n_aml"):
        StudyThreshold(value=0.2, n_aml=n_patients)
