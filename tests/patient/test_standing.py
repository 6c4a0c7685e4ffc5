"""What may be printed for a patient, decided by the center's review and the photographs' own mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.patient.depth import Depth
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.quantify.threshold import StudyThreshold
from marrowscope.patient.standing import MeasuredCenter, MeasuredRates, is_open, standing_of
from tests.patient.quantify.patients import N5, N, make_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

RATES = make_rates({N: 0.9, N5: 0.05})
POOLED, OWN = Quantification(source="many", rates=RATES), Quantification(source="own", rates=RATES)
SIMULATED = Quantification(source="drawn", simulated=True, rates=RATES)


REAL, DRAWN = (False, False), (True, True)


def fields(simulated: Sequence[bool | None]) -> pl.DataFrame:
    """Give fields with these marks; one without a mark was not read."""
    status = ["failed" if mark is None else "ok" for mark in simulated]
    return pl.DataFrame({"status": status, "simulated": list(simulated)}, schema={"status": str, "simulated": bool})


@pytest.mark.parametrize(
    ("n_patients", "n_outside", "opened"),
    [(29, 0, False), (30, 2, True), (30, 3, False), (200, 2, True), (0, 0, False)],
)
def test_a_center_opens_by_thirty_patients_with_at_most_two_outside(
    n_patients: int, n_outside: int, *, opened: bool
) -> None:
    assert is_open(n_patients, n_outside) is opened
    measured = MeasuredRates(POOLED, {"A": MeasuredCenter(OWN, n_patients, n_outside)})
    found = standing_of("A", fields(REAL), measured)
    expected = ("validated", "center_measured", OWN) if opened else ("not_validated", "center_not_open", None)
    assert (found.state, found.reason, found.quantification) == expected
    assert found.row()["center_n_reviewed"] == n_patients
    assert found.row()["center_n_outside"] == n_outside


def test_rates_of_other_centers_are_never_applied() -> None:
    measured = MeasuredRates(POOLED, {"A": MeasuredCenter(OWN, 50, 0)})
    for center in ("B", "a", "A "):
        found = standing_of(center, fields(REAL), measured)
        assert (found.state, found.reason, found.quantification) == ("not_validated", "other_centers", None)
    assert standing_of("B", fields(REAL), MeasuredRates()).reason == "no_rates"


@pytest.mark.parametrize(
    ("marks", "pooled", "expected"),
    [
        ((True, True), SIMULATED, ("validated", "simulated")),
        ((True, None), SIMULATED, ("validated", "simulated")),
        ((True, False), SIMULATED, ("not_validated", "mixed_photographs")),
        ((False, False), SIMULATED, ("not_validated", "other_centers")),
        ((None,), SIMULATED, ("not_validated", "other_centers")),
        ((), SIMULATED, ("not_validated", "other_centers")),
        ((True, True), POOLED, ("not_validated", "simulated_photographs")),
        ((True, True), None, ("not_validated", "simulated_photographs")),
    ],
)
def test_simulated_photographs_are_known_by_their_mark(
    marks: tuple[bool | None, ...], pooled: Quantification | None, expected: tuple[str, str]
) -> None:
    found = standing_of("C", fields(marks), MeasuredRates(pooled))
    assert (found.state, found.reason) == expected
    assert (found.quantification is not None) == (expected[0] == "validated")


def test_a_simulated_patient_of_another_specimen_has_no_rates() -> None:
    learned = StudyThreshold(value=0.3, n_aml=17, n_other=33)  # of an older file: marrow
    measured = MeasuredRates(SIMULATED.model_copy(update={"threshold": learned}))
    for specimen in ("Marrow", "unknown", ""):
        found = standing_of("S1", fields((True, True)), measured, specimen=specimen)
        assert (found.state, found.reason, found.is_simulated) == ("validated", "simulated", True)
        assert found.quantification is not None
        assert found.quantification.threshold == learned, specimen
    for specimen in ("blood", "Blood ", "pleural fluid"):
        found = standing_of("S1", fields((True, True)), measured, specimen=specimen)
        assert (found.state, found.reason, found.is_simulated) == ("not_validated", "simulated_specimen", True)
        assert found.quantification is None, specimen


def test_an_open_center_does_not_vouch_for_simulated_photographs() -> None:
    measured = MeasuredRates(POOLED, {"A": MeasuredCenter(OWN, 50, 0)})
    assert standing_of("A", fields(DRAWN), measured).state == "not_validated"


def test_out_of_depth_comes_before_every_other_state() -> None:
    measured = MeasuredRates(SIMULATED, {"A": MeasuredCenter(OWN, 50, 0)})
    for marks in (REAL, DRAWN, (True, False)):
        found = standing_of("A", fields(marks), measured, Depth((), "depth_stain"))
        assert (found.state, found.reason, found.quantification) == ("out_of_depth", "depth_stain", None)
        assert standing_of("A", fields(marks), measured, Depth((), None)) == standing_of("A", fields(marks), measured)


@pytest.mark.parametrize("center", ["unknown", "Unknown ", ""])
def test_rates_of_a_center_that_nobody_stated_hold_for_no_patient(center: str) -> None:
    measured = MeasuredRates(POOLED, {center: MeasuredCenter(OWN, 50, 0)})
    found = standing_of(center, fields(REAL), measured)
    assert (found.state, found.reason, found.quantification) == ("not_validated", "center_unknown", None)
    assert standing_of(center, fields(REAL), MeasuredRates(POOLED)).reason == "other_centers"


@pytest.mark.parametrize("n_patients", [50, 3])
def test_rates_of_one_specimen_are_not_applied_to_another(n_patients: int) -> None:
    measured = MeasuredRates(
        POOLED, {"A": MeasuredCenter(OWN, n_patients, 0), "B": MeasuredCenter(OWN, n_patients, 0, "blood")}
    )
    opened = "center_measured" if n_patients == 50 else "center_not_open"
    for center, own, other in (("A", " Marrow", "blood"), ("B", "BLOOD", "marrow")):
        assert standing_of(center, fields(REAL), measured, specimen=own).reason == opened
        for specimen in (other, "unknown", ""):
            found = standing_of(center, fields(REAL), measured, specimen=specimen)
            assert (found.state, found.reason, found.quantification) == ("not_validated", "other_specimen", None)
            assert found.row()["center_specimen"] == own.strip().casefold()
