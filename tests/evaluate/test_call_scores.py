"""Calls against diagnoses: counted by hand, against scikit-learn, and the risk-coverage curve by brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate.call_scores import call_figures, call_table, forced_figures, risk_coverage
from marrowscope.evaluate.ratio_scores import NOT_CORRECTED
from marrowscope.statistics.intervals import bootstrap_over_groups, wilson_interval
from tests.evaluate.patient_rows import CONFIG, by_key, frame, patient

AT = CONFIG.model_copy(update={"threshold": 0.3})


def called(name: str, diagnosis: str | None, call: str | None, **other: Any) -> dict[str, Any]:  # noqa: ANN401
    row = patient(name, diagnosis, 0.2, 0.2, call=call, run_threshold=None if call is None else 0.3)
    return row | {"corrected_ratio": 0.2, "confidence_above": 0.1} | other


def some_calls() -> pl.DataFrame:
    return frame(
        called("P1", "AML", "above"),
        called("P2", "AML", "below"),
        called("P3", " aml", "indeterminate"),
        called("P4", "MDS", "below"),
        called("P5", "MDS", "above"),
        called("P6", "MDS", "below"),
        called("P7", "ALL", "withheld"),
        called("P8", None, "above"),
        called("P9", "control", "no_call"),
    )


def random_calls(n: int = 40) -> pl.DataFrame:
    """Make up patients whose ratios follow the diagnosis loosely; confidences are steps of 0.1, so many are equal."""
    generator = np.random.default_rng(2)
    rows = []
    for k in range(n):
        aml = bool(generator.random() < 0.5)
        counted, other = generator.normal(0.4 if aml else 0.2, 0.15, 2).clip(0, 1)
        confidence = round(float(np.clip(other + generator.normal(0.2, 0.2), 0, 1)), 1)
        row = called(f"P{k:02d}", "AML" if aml else "MDS", "indeterminate", run_ratio=float(counted))
        rows.append(row | {"corrected_ratio": float(other), "confidence_above": confidence})
    return frame(*rows)


def test_calls_are_counted_by_diagnosis_and_group() -> None:
    table = call_table(some_calls(), "A", CONFIG)
    assert table["diagnosis"].to_list() == ["AML", "aml", None, "ALL", "MDS", "control", None, None]
    assert table["group"].to_list() == ["AML"] * 3 + ["other"] * 4 + ["not stated"]
    counts = {(row["group"], row["diagnosis"]): row for row in table.iter_rows(named=True)}
    assert table.filter(pl.col("diagnosis").is_not_null() | (pl.col("group") == "not stated"))["n_patients"].sum() == 9
    every = ("n_above", "n_below", "n_indeterminate", "n_no_call", "n_withheld")
    assert all(sum(row[name] for name in every) == row["n_patients"] for row in table.iter_rows(named=True))
    mds, aml, other = counts["other", "MDS"], counts["AML", None], counts["other", None]
    assert [mds[name] for name in every] == [1, 2, 0, 0, 0]
    assert (mds["measure"], mds["n_right"], mds["n_decided"]) == ("specificity", 2, 3)
    interval = wilson_interval(2, 3)
    assert (mds["right"], mds["right_lower"], mds["right_upper"]) == (interval.estimate, interval.lower, interval.upper)
    assert (aml["measure"], aml["n_right"], aml["n_decided"], aml["n_indeterminate"]) == ("sensitivity", 1, 2, 1)
    assert (other["n_patients"], other["n_withheld"], other["n_no_call"]) == (5, 1, 1)
    assert (counts["other", "ALL"]["n_decided"], counts["other", "ALL"]["right"]) == (0, None)
    assert counts["not stated", None]["measure"] is None


def test_figures_of_the_calls_are_shares_with_wilson_intervals() -> None:
    figures = by_key(call_figures(some_calls(), AT))
    expected = {
        "calls_share_indeterminate": (1, 9),
        "calls_share_without_a_call": (2, 9),
        "calls_error_among_decided": (2, 5),
        "calls_sensitivity_among_decided": (1, 2),
        "calls_specificity_among_decided": (2, 3),
    }
    assert {name: figure.value for name, figure in figures.items()} == {
        name: wilson_interval(*counts) for name, counts in expected.items()
    }
    assert {name: figure.n for name, figure in figures.items()} == {name: n for name, (_, n) in expected.items()}
    assert figures["calls_error_among_decided"].note == "2 of 5, wrong; called at the run's threshold 0.300"


def test_another_threshold_does_not_move_a_call_and_the_note_says_so() -> None:
    figures = by_key(call_figures(some_calls(), CONFIG.model_copy(update={"threshold": 0.9})))
    error = figures["calls_error_among_decided"]
    assert error.value == wilson_interval(2, 5)
    assert error.note.endswith("called at the run's threshold 0.300, not at 0.900")


def test_nobody_decided_is_said_by_group() -> None:
    figures = by_key(call_figures(frame(called("P1", "AML", "indeterminate"), called("P2", "MDS", "below")), AT))
    assert figures["calls_sensitivity_among_decided"].undefined == "no patient with AML is called above or below"
    assert figures["calls_specificity_among_decided"].value.estimate == 1


def test_forced_error_is_that_of_scikit_learn_and_the_difference_is_paired() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    ratios = random_calls()
    truth = ratios["diagnosis"].to_numpy() == "AML"
    decided = {name: ratios[name].to_numpy() > 0.3 for name in ("run_ratio", "corrected_ratio")}
    figures = by_key(forced_figures(ratios, AT))
    for title, name in (("predicted", "run_ratio"), ("corrected", "corrected_ratio")):
        found = figures[f"forced_decision_error_{title}_ratio"]
        assert found.value.estimate == pytest.approx(1 - sklearn_metrics.accuracy_score(truth, decided[name]))
        assert found.value == wilson_interval(int((truth != decided[name]).sum()), 40)
    oracle = bootstrap_over_groups(
        ratios["patient_id"].to_list(),
        lambda rows: float(
            (truth != decided["corrected_ratio"])[rows].mean() - (truth != decided["run_ratio"])[rows].mean()
        ),
        n_resamples=200,
        seed=3,
    )
    change = figures["forced_decision_error_corrected_predicted"]
    interval = change.value
    assert (interval.estimate, interval.lower, interval.upper) == pytest.approx(
        (oracle.estimate, oracle.lower, oracle.upper)
    )
    wrong = {name: truth != above for name, above in decided.items()}
    mended = int((wrong["run_ratio"] & ~wrong["corrected_ratio"]).sum())
    spoilt = int((wrong["corrected_ratio"] & ~wrong["run_ratio"]).sum())
    assert mended != spoilt
    assert change.note.startswith(f"the correction fixes {mended} and spoils {spoilt} decisions")


def test_ratio_at_the_threshold_is_not_above_it() -> None:
    ratios = frame(called("P1", "AML", "above", corrected_ratio=0.3), called("P2", "MDS", "below", corrected_ratio=0.3))
    forced = by_key(forced_figures(ratios, AT))["forced_decision_error_corrected_ratio"]
    assert forced.value == wilson_interval(1, 2)
    assert forced.note == "1 of 2: 1 with AML not above 0.300, 0 others above"
    curve = risk_coverage(ratios.filter(pl.col("diagnosis") == "AML"), "A", AT)
    assert curve["n_wrong"].to_list() == [1]


def test_risk_coverage_is_the_error_of_everyone_at_least_as_certain() -> None:
    ratios = random_calls()
    curve = risk_coverage(ratios, "A", AT)
    certainty = 0.5 + np.abs(ratios["confidence_above"].to_numpy() - 0.5)
    wrong = (ratios["corrected_ratio"].to_numpy() > 0.3) != (ratios["diagnosis"].to_numpy() == "AML")
    levels = sorted({round(value, 6) for value in certainty.tolist()}, reverse=True)
    assert len(curve) == len(levels) < 40
    for level, row in zip(levels, curve.iter_rows(named=True), strict=True):
        kept = certainty >= level - 1e-6
        assert (row["n"], row["n_wrong"]) == (int(kept.sum()), int(wrong[kept].sum()))
        assert (row["coverage"], row["error"]) == pytest.approx((kept.mean(), wrong[kept].mean()))
        interval = wilson_interval(int(wrong[kept].sum()), int(kept.sum()))
        assert (row["error_lower"], row["error_upper"]) == (interval.lower, interval.upper)
    last = curve.row(-1, named=True)
    assert last["coverage"] == 1
    forced = by_key(forced_figures(ratios, AT))["forced_decision_error_corrected_ratio"]
    assert last["error"] == forced.value.estimate


def test_risk_coverage_does_not_depend_on_the_order_of_the_patients() -> None:
    ratios = random_calls()
    assert risk_coverage(ratios, "A", AT).equals(risk_coverage(ratios.reverse(), "A", AT))


def test_risk_coverage_leaves_out_who_has_no_diagnosis_or_no_confidence() -> None:
    ratios = frame(
        called("P1", "AML", "above"), called("P2", None, "above"), called("P3", "AML", "no_call", confidence_above=None)
    )
    assert risk_coverage(ratios, "A", AT)["n_patients"].to_list() == [1]


def test_run_without_calls_says_why_and_writes_no_row() -> None:
    plain = frame(patient("P1", "AML", 0.5, 0.5), patient("P2", "MDS", 0.1, 0.4))
    assert call_table(plain, "A", AT).is_empty()
    assert risk_coverage(plain, "A", AT).is_empty()
    for figure in call_figures(plain, AT):
        assert figure.undefined == (
            "the run has no calls, because its bundle states no threshold, or no error rates that hold here"
        )
        assert math.isnan(figure.value.lower)
        assert figure.note == ""
    forced = by_key(forced_figures(plain, AT))
    assert forced["forced_decision_error_predicted_ratio"].value == wilson_interval(1, 2)
    for name in ("corrected_ratio", "corrected_predicted"):
        assert forced[f"forced_decision_error_{name}"].undefined == NOT_CORRECTED


def test_without_a_threshold_no_decision_is_forced() -> None:
    for figure in forced_figures(some_calls(), CONFIG):
        assert figure.undefined.startswith("no threshold: the bundle states none, and --threshold was not given")
        assert math.isnan(figure.value.estimate)


def test_nobody_at_all_has_figures_that_say_so() -> None:
    empty = frame()
    assert all(figure.undefined for figure in [*call_figures(empty, AT), *forced_figures(empty, AT)])
    assert call_table(empty, "A", AT).is_empty()
    assert risk_coverage(empty, "A", AT).is_empty()


@pytest.mark.parametrize(("diagnosis", "side", "who"), [("AML", "above", "AML"), ("MDS", "below", "another diagnosis")])
def test_patients_of_one_side_have_no_error_rate(diagnosis: str, side: str, who: str) -> None:
    ratios = frame(*(called(f"P{k}", diagnosis, side) for k in range(4)), called("P9", None, "above"))
    found = by_key([*call_figures(ratios, AT), *forced_figures(ratios, AT)])
    for key in ("calls_error_among_decided", "forced_decision_error_corrected_ratio"):
        assert math.isnan(found[key].value.estimate)
        assert found[key].undefined == f"every such patient has {who}: calling all of them {side} would never be wrong"
        assert found[key].note == ""
    assert found["calls_share_indeterminate"].value.estimate == 0
    share = "sensitivity" if diagnosis == "AML" else "specificity"
    assert found[f"calls_{share}_among_decided"].value.estimate == 1
