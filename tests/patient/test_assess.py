"""A run's cells to its patients table."""

from __future__ import annotations

import polars as pl
import pytest

from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.patient.assess import PatientAssessor, assess_patients
from marrowscope.patient.depth import Domain, DomainScore
from marrowscope.patient.learned import Learned, learned_from
from marrowscope.patient.quantify.estimate import count_fields
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.threshold import StudyThreshold
from marrowscope.patient.standing import MeasuredCenter, MeasuredRates
from marrowscope.predict import count_run
from marrowscope.records import BLOOD, MARROW, Patient
from marrowscope.runs.parquet import conform
from marrowscope.runs.schemas import CALL_REASONS, CALLS, CELLS, CORRECTION_NOTES, FIELDS
from marrowscope.vocabulary import find_reference_ranges
from tests.patient.quantify.patients import N5, VOCABULARY, N, make_rates

THRESHOLD = StudyThreshold(
    value=0.2, lower=0.15, upper=0.25, youden=0.2, separable=True, sensitivity=1.0, specificity=1.0,
    n_aml=20, n_other=20,
)  # fmt: skip
RATES = make_rates({N: 0.9, N5: 0.05}, spread=0.01)


def tables(patients: dict[str, tuple[int, int, int]], fields: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give fields and cells of patients with so many N, N5 and L."""
    rows, images = [], []
    for patient, numbers in patients.items():
        images += [{"field_id": f"{patient}/{i}", "patient_id": patient, "status": "ok"} for i in range(fields)]
        for category, cblc, number in zip(("N", "N5", "L"), (True, False, False), numbers, strict=True):
            rows += [
                {
                    "field_id": f"{patient}/{i % fields}",
                    "patient_id": patient,
                    "category": category,
                    "is_cblc": cblc,
                    "is_countable": True,
                    "contradiction": False,
                }
                for i in range(number)
            ]
    cells = pl.DataFrame(rows, schema_overrides=CELLS) if rows else pl.DataFrame(schema=CELLS)
    return conform(pl.DataFrame(images, schema_overrides=FIELDS), "fields"), conform(cells, "cells")


def assess(
    patients: dict[str, tuple[int, int, int]],
    quantification: Quantification | None,
    *,
    learned: Learned | None = None,
    simulated: bool = False,
    specimen: str = "marrow",
) -> pl.DataFrame:
    people = [Patient(name, "C", "AML", specimen=specimen) for name in patients]
    measured_on = BLOOD if specimen == BLOOD else MARROW
    centers = {"C": MeasuredCenter(quantification, 30, 2, measured_on)} if quantification else {}
    measured = MeasuredRates(quantification, centers)
    fields, cells = tables(patients)
    fields = fields.with_columns(pl.lit(simulated).alias("simulated"))
    return assess_patients(people, fields, cells, VOCABULARY, measured=measured, learned=learned)


def test_every_patient_has_a_row_with_its_correction_and_call() -> None:
    measured = Quantification(source="a test", rates=RATES, threshold=THRESHOLD)
    table = assess({"high": (150, 150, 0), "low": (12, 288, 0), "few": (4, 20, 0), "none": (0, 0, 0)}, measured)
    assert table["patient_id"].to_list() == ["high", "low", "few", "none"]
    assert table["call"].to_list() == ["above", "below", "no_call", "no_call"]
    assert table["call_reason"].to_list() == [None, None, "few_cells", "no_countable_cell"]
    assert table["threshold"].to_list() == [0.2] * 4
    assert table["corrected_ratio"][0] == pytest.approx((0.5 - 0.05) / 0.85, abs=0.03)
    assert table["corrected_ratio"][3] is None
    assert table["confidence_above"].is_null().to_list() == [False, False, True, True]
    assert set(table["call"]) <= set(CALLS)
    assert set(table["call_reason"].drop_nulls()) <= set(CALL_REASONS)
    assert set(table["correction_note"].drop_nulls()) <= set(CORRECTION_NOTES)


LEARNED = learned_from([(False, dict.fromkeys(VOCABULARY.codes, 9))], VOCABULARY)


def test_a_patient_out_of_depth_has_counts_and_no_share() -> None:
    score = DomainScore(mean=0.1, standard_deviation=0.1, square_root=True, upper_limit=0.25, n=20)
    domain = Domain(measured_on="a test", n_patients=20, max_distance=4.0, scores={"contradictions": score})
    measured = Quantification(source="a test", rates=RATES, threshold=THRESHOLD)
    centers = MeasuredRates(measured, {"C": MeasuredCenter(measured, 30, 2)})
    people = [
        Patient("near", "C", "AML", specimen="marrow", age_group="adult"),
        Patient("far", "C", "AML", specimen="marrow", age_group="adult"),
    ]
    fields, cells = tables({"near": (150, 140, 10), "far": (150, 140, 10)})
    odd = pl.col("contradiction") | ((pl.col("patient_id") == "far") & (pl.col("category") == "N"))
    cells = cells.with_columns(contradiction=odd)
    near, far = assess_patients(
        people, fields, cells, VOCABULARY, measured=centers, domain=domain, learned=LEARNED
    ).to_dicts()
    assert (near["state"], near["call"]) == ("validated", "above")
    assert (far["state"], far["state_reason"], far["call"]) == ("out_of_depth", "depth_contradictions", None)
    counts = ("n_countable", "n_nucleated", "n_cells")
    assert [far[name] for name in counts] == [near[name] for name in counts]
    assert (near["n_cblc"], far["n_cblc"]) == (150, None)
    assert [item["n"] for item in far["cblc_by_category"]] == [None] * len(near["cblc_by_category"])
    both = assess_patients(people, fields, cells, VOCABULARY, measured=centers, domain=domain, learned=LEARNED)
    rejected = {f"n_rejected_{reason}": pl.lit(0) for reason in REJECT_REASONS}
    counted = fields.with_columns(n_contours=pl.lit(30), **rejected)  # 600 cells in 20 fields
    assert count_run(counted, both, 0).cblc == 150  # of the patient within, whose numerator may be printed
    assert [item["n_nucleated"] for item in far["differential"]] == [
        item["n_nucleated"] for item in near["differential"]
    ]
    shares = {name for name, value in near.items() if isinstance(value, float) and 0 <= value <= 1}
    assert {"cblc_ratio", "corrected_ratio", "threshold", "who_most", "lymphoid_share"} <= shares
    assert not {name for name in shares if far[name] is not None}
    for name in ("differential", "lineages"):
        assert not [value for item in far[name] for value in item.values() if isinstance(value, float)]
    assert "lymphoid_high" not in [flag["flag"] for flag in far["flags"]]
    assert "unchecked" in [flag["flag"] for flag in far["flags"]]  # seven scores have no limit here


def test_below_is_withheld_from_a_lymphoid_marrow() -> None:
    measured = Quantification(source="a test", rates=RATES, threshold=THRESHOLD)
    table = assess({"lymphoid": (0, 180, 120)}, measured)
    assert (table["call"][0], table["call_reason"][0]) == ("withheld", "lymphoid")


@pytest.mark.parametrize(
    ("specimen", "n_lymphoid", "call", "flagged"),
    [
        ("marrow", 105, "withheld", True),  # 35%
        ("blood", 105, "below", False),
        ("blood", 160, "withheld", True),
        ("unknown", 105, "withheld", False),
        ("unknown", 160, "withheld", True),
    ],
)
def test_how_many_lymphoid_cells_are_many_goes_by_the_specimen(
    specimen: str,
    n_lymphoid: int,
    call: str,
    flagged: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    learned = THRESHOLD.model_copy(update={"specimen": None if specimen == "unknown" else specimen})
    measured = Quantification(source="a test", rates=RATES, threshold=learned, simulated=True)
    patients = {"P": (0, 300 - n_lymphoid, n_lymphoid)}
    (row,) = assess(patients, measured, specimen=specimen, simulated=True).to_dicts()
    assert row["call"] == call
    assert ("lymphoid_high" in [flag["flag"] for flag in row["flags"]]) == flagged


def test_without_error_rates_nothing_is_corrected_and_nothing_called() -> None:
    row = assess({"P": (50, 250, 0)}, None).row(0, named=True)
    assert row["cblc_ratio"] == pytest.approx(50 / 300)
    assert all(row[name] is None for name in ("corrected_ratio", "correction", "call", "threshold", "confidence_above"))


def test_without_a_threshold_the_ratio_is_corrected_and_nothing_called() -> None:
    row = assess({"P": (50, 250, 0)}, Quantification(source="a test", rates=RATES)).row(0, named=True)
    assert row["corrected_lower"] < row["corrected_ratio"] < row["corrected_upper"]
    assert (row["call"], row["threshold"], row["correction"]) == (None, None, "posterior")


def test_large_correction_is_flagged() -> None:
    rates = make_rates({N: 0.5, N5: 0.01}, spread=0.01)
    row = assess({"P": (100, 200, 0)}, Quantification(source="a test", rates=rates)).row(0, named=True)
    assert "correction_large" in [flag["flag"] for flag in row["flags"]]


def test_counts_are_by_field() -> None:
    _, cells = tables({"P": (30, 60, 10)}, fields=5)
    counts = count_fields(cells, "is_cblc")
    assert counts.countable_by_field.tolist() == [20.0] * 5
    assert counts.cblc_by_field.tolist() == [6.0] * 5


def test_tables_in_parts_give_what_whole_tables_give() -> None:
    fields, cells = tables({"P1": (30, 60, 10), "P2": (5, 50, 0), "P3": (1, 20, 1)}, fields=5)
    patients = [Patient(name, "C1", "control") for name in ("P1", "empty", "P2", "P3")]
    whole = assess_patients(patients, fields, cells, VOCABULARY)
    for size in (1, 2, 7, 100):
        pieces = [fields[first : first + size] for first in range(0, fields.height, size)]
        parts = [(piece, cells.filter(pl.col("field_id").is_in(piece["field_id"].to_list()))) for piece in pieces]
        assessor = PatientAssessor(patients, VOCABULARY)
        for part in parts:
            assessor.add(*part)
        assert assessor.finish().equals(whole), size


@pytest.mark.parametrize(
    ("n", "specimen", "simulated", "expected"),
    [
        (299, "marrow", False, ("no_call", "few_nucleated", "under_300")),
        (300, "marrow", False, ("above", None, "300_to_499")),
        (299, "blood", False, ("above", None, None)),
        (299, "marrow", True, ("above", None, None)),
    ],
)
def test_no_call_stands_beside_fewer_cells_than_a_differential_needs(
    n: int, specimen: str, *, simulated: bool, expected: tuple[str, str | None, str | None]
) -> None:
    measured = Quantification(source="a test", rates=RATES, threshold=THRESHOLD, simulated=True)
    row = assess({"P": (n - 100, 100, 0)}, measured, simulated=simulated, specimen=specimen).row(0, named=True)
    assert (row["call"], row["call_reason"], row["adequacy"]) == expected
    assert (row["confidence_above"] is None) == (row["call"] == "no_call")


REAL = {"N": 5, "M": 5, "M1": 5, "J": 5}


@pytest.mark.parametrize(
    ("real", "simulated", "missing"),
    [
        (REAL, False, None),
        (REAL | {"J": 0}, False, ["J"]),
        ({"N": 5}, False, ["M", "M1", "J"]),
        ({"N": 5}, True, None),
    ],
)
def test_no_blasts_are_estimated_that_were_not_learned_from_real_cells(
    real: dict[str, int], *, simulated: bool, missing: list[str] | None
) -> None:
    learned = learned_from([(False, real), (True, {"N": 9, "M": 9, "M1": 9, "J": 9, "R1": 9})], VOCABULARY)
    assert learned is not None
    measured = Quantification(source="a test", rates=RATES, simulated=True)
    row = assess({"P": (50, 350, 0)}, measured, learned=learned, simulated=simulated).row(0, named=True)
    assert row["who_not_learned"] == missing
    assert (row["who_least"] is None) == (missing is not None)
    assert row["corrected_ratio"] is not None
    assert "R1" in row["simulated_only"]
    assert tuple(row["simulated_only_codes"]) == learned.row()["simulated_only_codes"]


@pytest.mark.parametrize("simulated", [True, False])
def test_a_bundle_without_sources_marks_nothing_and_estimates_no_blasts_of_real_cells(*, simulated: bool) -> None:
    measured = Quantification(source="a test", rates=RATES, simulated=simulated)
    row = assess({"P": (50, 350, 0)}, measured, simulated=simulated).row(0, named=True)
    assert (row["simulated_only"], row["simulated_only_codes"], row["who_not_learned"]) == (None, None, None)
    assert row["corrected_ratio"] is not None
    assert {row[name] is None for name in ("who_least", "who_most", "who_lower", "who_upper")} == {not simulated}


def test_reference_ranges_are_those_that_were_chosen() -> None:
    adult = Patient("P", "C", "AML", specimen="marrow", age_group="adult")
    fields, cells = tables({"P": (50, 350, 0)})
    for name, low in (("wintrobe", None), ("theml", 0.05)):
        row = assess_patients([adult], fields, cells, VOCABULARY, ranges=find_reference_ranges(name)).row(0, named=True)
        by_name = {item["category"]: item for item in row["differential"]}
        assert by_name["N2"]["reference_low"] == (low or pytest.approx(0.082))
        assert row["reference_source"].startswith("Theml" if name == "theml" else "Wintrobe")
