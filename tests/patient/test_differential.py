"""The differential of nucleated cells, on tables made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from marrowscope.patient.differential import (
    BLAST_COLUMNS,
    OTHER,
    category_lineages,
    declared_condition,
    is_adult_marrow,
    nucleated_differential,
)
from marrowscope.records import Patient
from marrowscope.runs.parquet import conform
from marrowscope.vocabulary import load_reference_ranges, load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

VOCABULARY = load_vocabulary()
RANGES = load_reference_ranges()
ADULT = Patient("P", "C", "control", specimen="marrow", age_group="adult")
Call = tuple[str, bool, bool]


def cells_of(calls: list[Call], fields: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"field_id": f"P/{i % fields}", "category": c, "is_cblc": x, "is_countable": n}
            for i, (c, x, n) in enumerate(calls)
        ],
        schema={"field_id": pl.String, "category": pl.String, "is_cblc": pl.Boolean, "is_countable": pl.Boolean},
    )


def row_of(calls: list[Call], patient: Patient = ADULT) -> dict[str, Any]:
    return nucleated_differential(patient, cells_of(calls), VOCABULARY, RANGES, 0.0)


N, N5, R2, L, M = ("N", True, True), ("N5", False, True), ("R2", False, True), ("L", False, True), ("M", True, True)
MEGAKARYOBLAST, PLASMA, SMUDGE = ("Other", True, True), ("Other", False, True), ("Other", False, False)


def test_rows_add_up_to_the_nucleated_cells_with_other_last() -> None:
    row = row_of([N5] * 6 + [R2] * 2 + [PLASMA, SMUDGE, SMUDGE])
    lines = row["differential"]
    assert [line["category"] for line in lines] == [*VOCABULARY.categories[1:], OTHER]
    assert row["n_nucleated"] == sum(line["n_nucleated"] for line in lines) == 9
    assert sum(line["share_nucleated"] for line in lines) == pytest.approx(1)
    other = lines[-1]
    assert (other["n"], other["n_countable"], other["n_nucleated"]) == (3, 1, 1)
    assert other["share"] == pytest.approx(1 / 9)
    stored = conform(pl.DataFrame([row], infer_schema_length=None), "patients")
    assert stored["differential"].to_list()[0] == lines


def test_ratio_of_myeloid_to_erythroid_leaves_lymphoid_and_other_cells_out() -> None:
    row = row_of([N5] * 5 + [M] + [R2] * 2 + [L] * 7 + [PLASMA])
    assert (row["me_numerator"], row["me_denominator"], row["me_ratio"]) == (6, 2, 3.0)
    assert row["me_lower"] < 3.0 < row["me_upper"]
    assert (row["me_reference_low"], row["me_reference_high"]) == (1.5, 3.3)


def test_without_an_erythroid_cell_there_is_no_ratio() -> None:
    row = row_of([N5] * 5)
    assert (row["me_ratio"], row["me_numerator"], row["me_denominator"]) == (None, 5, 0)


def test_ranges_of_adult_marrow_are_printed_for_adult_marrow_alone() -> None:
    by_name = {line["category"]: line for line in row_of([N5])["differential"]}
    assert (by_name["N5"]["reference_low"], by_name["N5"]["reference_high"]) == (0.06, 0.12)
    assert by_name["M"]["reference_high"] == by_name["M1"]["reference_high"] == 0.0
    assert by_name["Other"]["reference_low"] is None
    for patient in (
        Patient("P", "C", "control", specimen="blood", age_group="adult"),
        Patient("P", "C", "control", specimen="marrow", age_group="child"),
        Patient("P", "C", "control", specimen="marrow"),
        Patient("P", "C", "control", age_group="adult"),
    ):
        assert not is_adult_marrow(patient)
        row = row_of([N5, R2], patient)
        assert all(line["reference_low"] is None for line in row["differential"])
        assert row["reference_source"] is None


def test_lineage_totals_carry_a_range_only_where_it_covers_the_whole_lineage() -> None:
    by_name = {line["lineage"]: line for line in row_of([N5] * 3 + [R2])["lineages"]}
    assert (by_name["granulocytic"]["n"], by_name["erythroid"]["share"]) == (3, 0.25)
    assert by_name["granulocytic"]["reference_low"] is None
    assert by_name["erythroid"]["reference_low"] == pytest.approx(0.184)
    assert by_name["lymphoid"]["reference_high"] == pytest.approx(0.232)


def test_blast_estimate_is_a_range_from_sure_to_possible_codes() -> None:
    row = row_of([N] * 2 + [M] + [("N1", True, True)] * 4 + [MEGAKARYOBLAST, PLASMA] + [N5])
    assert (row["who_n_least"], row["who_n_most"]) == (3, 5)  # plasma cells stand with N0, megakaryoblasts with J1
    assert row["who_least"] == pytest.approx(0.3)
    assert row["who_lower"] < 0.3 < row["who_most"] < row["who_upper"]
    assert row["who_declared"] is None


@pytest.mark.parametrize(
    ("patient", "least"),
    [
        (Patient("P", "C", "APL", "marrow"), 4),
        (Patient("P", "C", "AML", "marrow", extra={"subtype": "APL"}), 4),
        (Patient("P", "C", "APL with t(15;17)(q24.1;q21.2)/PML::RARA", "marrow"), 4),
        (
            Patient(
                "P", "C", "AML", "marrow", extra={"subtype": "Acute  promyelocytic leukaemia with PML::RARA fusion"}
            ),
            4,
        ),
        (Patient("P", "C", "AML", "marrow"), 0),
        (Patient("P", "C", "AML with PML::RARA", "marrow"), 0),
        (Patient("P", "C", "Pure erythroid leukemia", "marrow"), 2),
    ],
)
def test_promyelocytes_and_proerythroblasts_count_as_blasts_when_declared(patient: Patient, least: int) -> None:
    row = row_of([("N1", True, True)] * 4 + [("R", True, True)] * 2 + [N5] * 4, patient)
    assert row["who_n_least"] == least
    assert row["who_declared"] == declared_condition(patient)


@pytest.mark.parametrize(("n", "mark"), [(299, "under_300"), (300, "300_to_499"), (500, "500_or_more")])
def test_adequacy_marks_stand_at_300_and_500_cells(n: int, mark: str) -> None:
    assert row_of([N5] * n)["adequacy"] == mark


def test_patient_without_cells_has_zeros_and_no_shares() -> None:
    row = row_of([])
    assert (row["n_nucleated"], row["me_ratio"], row["who_least"], row["lymphoid_share"]) == (0, None, None, None)
    assert all(line["share"] is line["lower"] is None for line in row["differential"])


def test_only_other_mixes_lineages() -> None:
    lineages = category_lineages(VOCABULARY)
    assert (lineages["E"], lineages["M1"]) == ("granulocytic", "monocytic")
    assert [category for category, lineage in lineages.items() if lineage == "other"] == [OTHER]


def row_with_plasma(calls: list[Call], plasma: Sequence[bool | None]) -> dict[str, Any]:
    kept = cells_of(calls).with_columns(pl.Series("is_plasma", plasma, dtype=pl.Boolean()))
    return nucleated_differential(ADULT, kept, VOCABULARY, RANGES, 0.0)


def test_plasma_cells_and_the_rest_are_other() -> None:
    row = row_with_plasma([PLASMA] * 3 + [MEGAKARYOBLAST, SMUDGE] + [N5] * 5, [True, True] + [False] * 8)
    plasma, rest = row["other_parts"]
    other = row["differential"][-1]
    assert (plasma["category"], plasma["lineage"], plasma["n"], plasma["n_nucleated"]) == ("plasma", "plasma", 2, 2)
    assert (rest["category"], rest["n"], rest["n_countable"], rest["n_nucleated"]) == ("other_without_plasma", 3, 2, 2)
    for figure in ("n", "n_countable", "n_nucleated", "share", "share_nucleated"):
        assert plasma[figure] + rest[figure] == pytest.approx(other[figure])
    assert (plasma["reference_low"], plasma["reference_high"]) == (0.004, 0.039)
    assert rest["reference_low"] is None
    stored = conform(pl.DataFrame([row], infer_schema_length=None), "patients")
    assert stored["other_parts"].to_list()[0] == [plasma, rest]


def test_other_is_whole_where_plasma_cells_are_not_predicted() -> None:
    assert row_with_plasma([PLASMA, N5], [None, None])["other_parts"] is None
    assert row_of([PLASMA, N5])["other_parts"] is None


@pytest.mark.parametrize("age_group", ["adult", "child", None])
def test_myeloid_to_erythroid_and_adequacy_are_those_of_marrow_at_any_age(age_group: str | None) -> None:
    row = row_of([N5] * 6 + [R2] * 3, Patient("P", "C", "control", specimen="marrow", age_group=age_group))
    assert (row["me_ratio"], row["adequacy"]) == (2.0, "under_300")
    assert (row["me_reference_low"] is not None) == (age_group == "adult")


BLOOD = Patient("P", "C", "control", specimen="blood")


def test_blood_is_shared_among_leukocytes_with_red_cells_beside_them() -> None:
    row = row_of([N] * 2 + [N5] * 6 + [L] * 2 + [R2] * 5 + [SMUDGE], BLOOD)
    by_name = {line["category"]: line for line in row["differential"]}
    assert (row["n_nucleated"], row["n_leukocytes"], row["nrbc_per_100"]) == (15, 10, 50.0)
    assert by_name["N5"]["share_nucleated"] == pytest.approx(0.6)
    assert (by_name["R2"]["n_nucleated"], by_name["R2"]["share_nucleated"], by_name["R2"]["upper"]) == (5, None, None)
    lineages = {line["lineage"]: line for line in row["lineages"]}
    assert (lineages["erythroid"]["n"], lineages["erythroid"]["share"]) == (5, None)
    assert lineages["lymphoid"]["share"] == row["lymphoid_share"] == pytest.approx(0.2)
    assert (row["who_least"], row["who_most"]) == (pytest.approx(0.2), pytest.approx(0.2))
    assert row.keys().isdisjoint({"me_ratio", "me_numerator"})
    assert row["adequacy"] is None
    marrow = row_of([N5, R2])
    assert (marrow["n_leukocytes"], marrow["nrbc_per_100"]) == (None, None)


def test_blood_without_a_leukocyte_has_no_shares() -> None:
    row = row_of([R2] * 3, BLOOD)
    assert (row["n_leukocytes"], row["nrbc_per_100"], row["who_least"], row["who_alt_least"]) == (0, None, None, None)


PROMYELOCYTE = ("N1", True, True)


@pytest.mark.parametrize(
    ("specimen", "diagnosis", "n_promyelocytes", "expected"),
    [
        ("marrow", "AML", 10, (0.05, 0.15)),
        ("marrow", "AML", 9, (0.05, None)),
        ("marrow", "APL", 10, (0.15, 0.05)),
        ("blood", "AML", 2, (0.05, 0.07)),
        ("blood", "AML", 1, (0.05, None)),
    ],
)
def test_many_promyelocytes_give_the_estimate_with_and_without_them(
    specimen: str, diagnosis: str, n_promyelocytes: int, expected: tuple[float, float | None]
) -> None:
    calls = [N] * 5 + [PROMYELOCYTE] * n_promyelocytes + [N5] * (95 - n_promyelocytes)
    row = row_of(calls, Patient("P", "C", diagnosis, specimen=specimen))
    assert row["who_least"] == pytest.approx(expected[0])
    assert row["who_alt_least"] == (None if expected[1] is None else pytest.approx(expected[1]))
    assert row["who_alt_most"] == row["who_alt_least"]
    assert (row["who_alt_lower"] is None) == (row["who_alt_upper"] is None) == (expected[1] is None)


def test_cblc_is_made_of_its_codes() -> None:
    row = row_of([N] * 2 + [("N1", True, True)] + [MEGAKARYOBLAST] * 3 + [PLASMA, N5])
    parts = {"/".join(part["codes"]): part["n"] for part in row["cblc_by_category"]}
    assert parts == {"N": 2, "N1": 1, "M": 0, "M1": 0, "R": 0, "R1": 0, "J/J1": 3}


def test_what_needs_the_specimen_is_not_given_where_it_is_unknown() -> None:
    row = row_of([N] * 2 + [N5, R2], Patient("P", "C", "control", specimen="unknown", age_group="adult"))
    assert (row["n_nucleated"], row["n_leukocytes"]) == (4, None)
    assert all(line["reference_low"] is None for line in row["differential"])
    assert {row[name] for name in ("reference_source", "adequacy", *BLAST_COLUMNS)} == {None}
    assert "me_ratio" not in row
