"""Agreement of the ratios and coverage of the interval, against the plain functions of ``metrics`` and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate.catalog import Method
from marrowscope.evaluate.patient_scores import aml_figures
from marrowscope.evaluate.ratio_scores import (
    NOT_CORRECTED,
    interval_figures,
    ratio_figures,
    threshold_sentence,
    with_assessment,
)
from marrowscope.runs.parquet import conform
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_over_groups, wilson_interval
from tests.evaluate.patient_rows import CONFIG, by_key, frame, patient, random_patients


def corrected(name: str, truth: float | None, ratio: float | None, lower: float, upper: float) -> dict[str, Any]:
    """Give a patient with a corrected ratio and its interval; the counted ratio is 0.5."""
    row = patient(name, "AML", truth, 0.5, corrected_ratio=ratio, n_fields_unshared=0)
    return row if ratio is None else row | {"corrected_lower": lower, "corrected_upper": upper}


def test_agreement_and_its_interval_are_those_of_the_plain_functions_on_drawn_rows() -> None:
    ratios = random_patients()
    truth, estimate = ratios["true_ratio"].to_numpy(), ratios["predicted_ratio"].to_numpy()
    figures = by_key(ratio_figures(ratios, CONFIG))
    for name, plain in (
        ("patient_ratio_mae", metrics.mean_absolute_error),
        ("patient_ratio_bias", metrics.bias),
        ("patient_ratio_concordance", metrics.concordance),
    ):
        oracle = bootstrap_over_groups(
            ratios["patient_id"].to_list(),
            lambda rows, plain=plain: plain(truth[rows], estimate[rows]),  # type: ignore[misc]
            n_resamples=200,
            seed=3,
        )
        found = figures[name].value
        assert (found.estimate, found.lower, found.upper) == pytest.approx(
            (oracle.estimate, oracle.lower, oracle.upper)
        )


def test_normal_blasts_counted_as_cblc_move_the_truth_only() -> None:
    ratios = frame(
        patient("P1", "AML", 0.5, 0.5),
        patient("P2", "control", 0.0, 0.1, true_ratio_with_normal=0.1, n_true_normal_blasts=4),
    )
    figures = by_key(ratio_figures(ratios, CONFIG))
    assert figures["patient_ratio_mae"].value.estimate == pytest.approx(0.05)
    again = figures["patient_ratio_mae_n0_and_m0_counted_as_cblc"]
    assert again.value.estimate == pytest.approx(0)
    assert again.note == "4 such cells"
    aml = by_key(aml_figures(ratios, CONFIG))
    assert aml["aml_auc_annotated_ratio_n0_and_m0_counted_as_cblc"].note.endswith("4 such cells")


def test_repeat_without_such_a_cell_says_that_it_is_the_same() -> None:
    again = [figure for figure in ratio_figures(random_patients(), CONFIG) if figure.kind.repeats]
    assert len(again) == 3 * 2
    assert all(figure.note.endswith("no such cell: the same figure") for figure in again)


def test_seams_have_figures_of_their_own_where_there_are_any() -> None:
    names = [figure.key for figure in ratio_figures(frame(patient("P1", "AML", 0.2, 0.3)), CONFIG)]
    assert not any("seams" in name for name in names)
    figures = ratio_figures(frame(patient("P1", "AML", 0.2, 0.3, predicted_ratio_no_seams=0.2)), CONFIG)
    assert by_key(figures)["patient_ratio_mae_seams_left_out"].value.estimate == 0


def test_one_patient_has_values_and_no_interval() -> None:
    figures = by_key(ratio_figures(frame(patient("P1", "AML", 0.2, 0.3)), CONFIG))
    mae = figures["patient_ratio_mae"]
    assert mae.value.estimate == pytest.approx(0.1)
    assert math.isnan(mae.value.lower)
    assert figures["patient_ratio_concordance"].undefined == "needs two patients whose ratios differ"


def test_corrected_ratio_stands_beside_the_counted_one_and_the_change_is_paired() -> None:
    generator = np.random.default_rng(5)
    ratios = random_patients().with_columns(corrected_ratio=pl.Series(generator.random(14)))
    found = ratio_figures(ratios, CONFIG)
    assert [figure.key for figure in found[:2]] == ["patient_ratio_mae", "patient_ratio_mae_corrected_ratio"]
    figures = by_key(found)
    truth, counted, other = (ratios[n].to_numpy() for n in ("true_ratio", "predicted_ratio", "corrected_ratio"))
    for name, plain in (
        ("mae", metrics.mean_absolute_error),
        ("bias", metrics.bias),
        ("concordance", metrics.concordance),
    ):
        assert figures[f"patient_ratio_{name}_corrected_ratio"].value.estimate == pytest.approx(plain(truth, other))
    oracle = bootstrap_over_groups(
        ratios["patient_id"].to_list(),
        lambda rows: float(
            metrics.mean_absolute_error(truth[rows], other[rows])
            - metrics.mean_absolute_error(truth[rows], counted[rows])
        ),
        n_resamples=200,
        seed=3,
    )
    change = figures["patient_ratio_mae_corrected_predicted"].value
    assert (change.estimate, change.lower, change.upper) == pytest.approx((oracle.estimate, oracle.lower, oracle.upper))


def test_coverage_counts_annotated_ratios_within_the_limits_and_says_on_which_side_the_others_lie() -> None:
    ratios = frame(
        corrected("P1", 0.2, 0.25, 0.2, 0.4),  # a limit is inside
        corrected("P2", 0.1, 0.25, 0.2, 0.4),
        corrected("P3", 0.9, 0.25, 0.2, 0.4),
        corrected("P4", 0.3, 0.25, 0.1, 0.3),
        corrected("P5", None, 0.25, 0.2, 0.4),  # nothing annotated
        corrected("P6", 0.3, None, 0.0, 0.0),  # nothing counted
    )
    figures = by_key(interval_figures(ratios, CONFIG))
    coverage = figures["annotated_ratio_inside_the_interval"]
    assert coverage.value == wilson_interval(2, 4)
    assert (coverage.n, coverage.kind.method) == (4, Method.WILSON)
    assert coverage.note.startswith(
        "2 of 4; of the others, 1 below and 1 above the interval; the interval is for the patient's"
    )
    assert coverage.note.endswith("2 patients without a ratio on both sides left out")
    width = figures["mean_width_of_the_interval"]
    assert width.value.estimate == pytest.approx(0.2)
    assert width.n == 5


def test_coverage_is_given_again_with_normal_blasts_counted() -> None:
    row = corrected("P1", 0.2, 0.25, 0.2, 0.4) | {"true_ratio_with_normal": 0.5, "n_true_normal_blasts": 3}
    again = by_key(interval_figures(frame(row), CONFIG))[
        "annotated_ratio_inside_the_interval_n0_and_m0_counted_as_cblc"
    ]
    assert again.value.estimate == 0
    assert again.note.endswith("3 such cells")


def test_fields_that_only_one_ratio_stands_on_are_said() -> None:
    ratios = frame(
        corrected("P1", 0.2, 0.25, 0.2, 0.4) | {"n_fields_unshared": 3}, corrected("P2", 0.2, 0.25, 0.2, 0.4)
    )
    said = "3 fields of 1 patient used in only one of the two ratios"
    assert said in by_key(interval_figures(ratios, CONFIG))["annotated_ratio_inside_the_interval"].note
    figures = by_key(ratio_figures(ratios, CONFIG))
    assert figures["patient_ratio_mae_corrected_ratio"].note == said
    assert figures["patient_ratio_mae"].note == ""


def test_run_without_corrected_ratios_says_so_and_keeps_its_other_figures() -> None:
    ratios = random_patients()
    figures = by_key([*ratio_figures(ratios, CONFIG), *interval_figures(ratios, CONFIG)])
    missing = [figure for figure in figures.values() if figure.undefined]
    assert {figure.undefined for figure in missing} == {NOT_CORRECTED}
    assert len(missing) == 2 * 3 + 1 + 3
    assert all(math.isnan(figure.value.estimate) and figure.n == 0 for figure in missing)
    assert figures["patient_ratio_mae"].value.estimate > 0


def test_nobody_with_a_countable_cell_is_no_fault_of_the_bundle() -> None:
    ratios = frame(patient("P1", "AML", 0.3, None))
    figures = by_key([*ratio_figures(ratios, CONFIG), *interval_figures(ratios, CONFIG)])
    assert figures["patient_ratio_mae_corrected_ratio"].undefined == "no patients to measure"
    assert figures["annotated_ratio_inside_the_interval"].undefined == "no patients to measure"


def test_assessment_of_the_run_is_joined_by_patient() -> None:
    ratios = frame(patient("P2", "AML", 0.3, 0.3), patient("P1", "AML", 0.5, 0.5), patient("P3", "AML", None, None))
    run = conform(
        pl.DataFrame(
            {
                "patient_id": ["P1", "P2", "P3"],
                "corrected_ratio": [0.6, 0.3, None],
                "corrected_lower": [0.55, 0.2, None],
                "corrected_upper": [0.7, 0.4, None],
                "threshold": [0.35] * 3,
                "confidence_above": [1.0, 0.2, None],
                "call": ["above", "indeterminate", "no_call"],
                "call_reason": [None, None, "no_countable_cell"],
            }
        ),
        "patients",
    )
    joined = with_assessment(ratios, run)
    assert joined.columns == ratios.columns
    assert joined["patient_id"].to_list() == ["P2", "P1", "P3"]
    assert joined["call"].to_list() == ["indeterminate", "above", "no_call"]
    assert joined["annotated_inside"].to_list() == [True, False, None]
    assert joined["run_threshold"].to_list() == [0.35] * 3
    assert joined["true_ratio"].to_list() == [0.3, 0.5, None]


def test_a_threshold_says_where_it_is_from_and_on_whom_it_was_learned() -> None:
    stated = {"threshold": 0.3, "error_rates": "Study threshold 0.300, learned on 17 simulated patients."}
    assert threshold_sentence(0.3, stated) == f"Threshold 0.300: that of the run's bundle. {stated['error_rates']}"
    assert threshold_sentence(0.2, stated) == "Threshold 0.200: given, not learned."
    assert threshold_sentence(0.3, {"threshold": 0.3}).endswith("does not state on whom it was learned.")
    assert threshold_sentence(None, stated) == ""
