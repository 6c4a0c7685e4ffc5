"""Decision curves by hand, and the plain formula on drawn patients."""

from __future__ import annotations

import polars as pl
import pytest

from marrowscope.evaluate.decision_curve import EVERYONE, RISKS, DecisionPoint, decision_curve
from marrowscope.statistics.intervals import bootstrap_over_groups
from tests.evaluate.patient_rows import CONFIG, frame, patient, random_patients

AT = CONFIG.model_copy(update={"threshold": 0.5})


def curve(points: tuple[DecisionPoint, ...], rule: str) -> dict[float, DecisionPoint]:
    return {point.risk: point for point in points if point.rule == rule}


def test_net_benefit_by_hand() -> None:
    """Of 4 patients, one of two with AML and one of two others are above 0.5."""
    rows = frame(
        patient("P1", "AML", 0.6, 0.7, call="above"),
        patient("P2", "AML", 0.6, 0.4, call="above"),
        patient("P3", "MDS", 0.1, 0.6, call="indeterminate"),
        patient("P4", "MDS", 0.1, 0.2, call="below"),
        patient("P5", None, 0.1, 0.9, call="above"),
    )
    points = decision_curve(rows, AT)
    counted, called = curve(points, "predicted ratio above the threshold"), curve(points, "called above")
    assert (counted[0.2].n, counted[0.2].n_aml, counted[0.2].n_acted) == (4, 2, 2)
    assert counted[0.2].net_benefit.estimate == pytest.approx(1 / 4 - 1 / 4 * 0.2 / 0.8)
    assert called[0.2].net_benefit.estimate == pytest.approx(2 / 4)
    assert curve(points, "annotated ratio above the threshold")[0.9].net_benefit.estimate == pytest.approx(2 / 4)
    everyone = curve(points, EVERYONE)
    assert everyone[0.5].net_benefit.estimate == pytest.approx(0)
    assert everyone[0.95].net_benefit.estimate == pytest.approx(0.5 - 0.5 * 19)
    assert curve(points, "corrected ratio above the threshold") == {}


def test_interval_is_the_bootstrap_over_patients() -> None:
    rows = random_patients()
    point = curve(decision_curve(rows, AT), "predicted ratio above the threshold")[0.3]
    aml = (rows["diagnosis"] == "AML").to_numpy()
    above = (rows["run_ratio"] > 0.5).to_numpy()
    oracle = bootstrap_over_groups(
        rows["patient_id"].to_list(),
        lambda drawn: float((above & aml)[drawn].mean() - (above & ~aml)[drawn].mean() * 0.3 / 0.7),
        n_resamples=AT.n_resamples,
        seed=AT.seed,
    )
    found = point.net_benefit
    assert (found.estimate, found.lower, found.upper) == pytest.approx((oracle.estimate, oracle.lower, oracle.upper))


def test_without_a_threshold_only_calls_and_everyone_remain() -> None:
    rows = random_patients().with_columns(call=pl.lit("above"))
    assert {point.rule for point in decision_curve(rows, CONFIG)} == {"called above", EVERYONE}


def test_one_kind_of_patients_has_no_curve() -> None:
    assert decision_curve(frame(patient("P1", "AML", 0.5, 0.4)), AT) == ()
    assert decision_curve(frame(), AT) == ()


def test_risks_are_inside_0_and_1() -> None:
    assert (RISKS[0], RISKS[-1], len(RISKS)) == (0.05, 0.95, 19)
