"""Paired figures against the plain paired bootstrap, and tests against those of ``statistics``."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate.frames import DETECTION_COLUMNS, EXPERT_COLUMNS
from marrowscope.evaluate.paired_scores import PairedDecisions, PairedFigure, Side, paired_decisions, paired_figures
from marrowscope.statistics import metrics
from marrowscope.statistics.delong import auc_difference
from marrowscope.statistics.intervals import bootstrap_difference
from marrowscope.statistics.mcnemar import mcnemar_exact
from marrowscope.vocabulary import load_vocabulary
from tests.evaluate.patient_rows import CONFIG, frame, patient, random_patients

VOCABULARY = load_vocabulary()
CATEGORIES = VOCABULARY.categories


def cells(seed: int, n: int = 120) -> pl.DataFrame:
    """Give the same expert cells of ten patients, found and called as the seed says."""
    expert, calls = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for k in range(n):
        code = str(expert.choice(["N", "N5", "L2", "R2"]))
        facts = VOCABULARY.lookup(code)
        called = facts if calls.random() < 0.8 else VOCABULARY.lookup("N1")
        found = bool(calls.random() < 0.9)
        row = {"patient_id": f"P{k % 10}", "center": "A", "field_id": "f", "shape_index": k, "code": code}
        row |= {"category": VOCABULARY.category_index(code), "cblc": facts.cblc, "countable": facts.countable}
        row |= {"normal_blast": False, "cut": False, "network_contour": False, "exhaustive": True, "found": found}
        if found:
            row |= {"predicted_category": VOCABULARY.category_index(called.code), "predicted_cblc": int(called.cblc)}
        rows.append(row)
    return pl.DataFrame(rows, schema=EXPERT_COLUMNS)


def detections(expert: pl.DataFrame, n_false: int) -> pl.DataFrame:
    found = expert.filter("found").select("patient_id", "center", "field_id").with_columns(matched=pl.lit(value=True))
    false = expert.head(n_false).select("patient_id", "center", "field_id").with_columns(matched=pl.lit(value=False))
    rows = pl.concat([found, false]).with_columns(
        ignored=pl.lit(value=False), network_contour=pl.lit(value=False), exhaustive=pl.lit(value=True)
    )
    return pl.DataFrame(rows.to_dicts(), schema=DETECTION_COLUMNS)


def side(seed: int, ratios: pl.DataFrame, threshold: float | None = 0.5, n_false: int = 5) -> Side:
    expert = cells(seed)
    return Side(expert, detections(expert, n_false), ratios, threshold)


def ratios(seed: int) -> pl.DataFrame:
    """Give the patients of ``random_patients`` with ratios of their own, and calls for some."""
    generator = np.random.default_rng(seed)
    base = random_patients()
    predicted = np.clip(base["true_ratio"].to_numpy() + generator.normal(0, 0.2, len(base)), 0, 1)
    calls = ["above" if value > 0.5 else "below" if value < 0.4 else "indeterminate" for value in predicted]
    return base.with_columns(
        predicted_ratio=pl.Series(predicted), run_ratio=pl.Series(predicted), call=pl.Series(calls, dtype=pl.String())
    )


def by_key(rows: list[PairedFigure]) -> dict[str, PairedFigure]:
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: row for row in rows}


A, B = side(1, ratios(1)), side(2, ratios(2), n_false=20)


def test_f1_and_its_difference_are_those_of_the_plain_paired_bootstrap() -> None:
    found = by_key(paired_figures(A, B, CATEGORIES, CONFIG))["cblc_weighted_f1_all_expert"]
    frames = [one.expert for one in (A, B)]

    def statistic(rows: np.ndarray, number: int) -> float:
        part = frames[number][rows]
        called = part["predicted_cblc"].fill_null(metrics.NO_PREDICTION).to_numpy()
        return metrics.weighted_f1(metrics.confusion_matrix(part["cblc"].cast(pl.Int64).to_numpy(), called, 2))

    oracle = bootstrap_difference(
        frames[0]["patient_id"].to_list(),
        lambda rows: statistic(rows, 0),
        frames[1]["patient_id"].to_list(),
        lambda rows: statistic(rows, 1),
        n_resamples=CONFIG.n_resamples,
        seed=CONFIG.seed,
    )
    everything = np.arange(120)
    assert (found.a, found.b) == pytest.approx((statistic(everything, 0), statistic(everything, 1)))
    difference = found.difference
    assert (difference.estimate, difference.lower, difference.upper) == pytest.approx(
        (oracle.estimate, oracle.lower, oracle.upper)
    )
    assert (found.n_patients, found.undefined) == (10, "")
    assert math.isnan(found.p)


def test_detection_by_hand() -> None:
    found = by_key(paired_figures(A, B, CATEGORIES, CONFIG))
    recall = [int(one.expert["found"].sum()) / 120 for one in (A, B)]
    assert (found["detection_recall"].a, found["detection_recall"].b) == pytest.approx(tuple(recall))
    precision = found["detection_precision"]
    assert (precision.a, precision.b) == pytest.approx(
        tuple(120 * share / (120 * share + false) for share, false in zip(recall, (5, 20), strict=True))
    )
    assert precision.difference.estimate == pytest.approx(precision.a - precision.b)


def test_ratio_errors_are_paired_by_patient() -> None:
    found = by_key(paired_figures(A, B, CATEGORIES, CONFIG))["patient_ratio_mae"]
    truth = A.ratios["true_ratio"].to_numpy()
    errors = [np.abs(one.ratios["predicted_ratio"].to_numpy() - truth) for one in (A, B)]
    names = A.ratios["patient_id"].to_list()
    oracle = bootstrap_difference(
        names,
        lambda rows: float(errors[0][rows].mean()),
        names,
        lambda rows: float(errors[1][rows].mean()),
        n_resamples=CONFIG.n_resamples,
        seed=CONFIG.seed,
    )
    difference = found.difference
    assert (difference.estimate, difference.lower, difference.upper) == pytest.approx(
        (oracle.estimate, oracle.lower, oracle.upper)
    )


def test_aucs_are_compared_by_both_methods() -> None:
    found = by_key(paired_figures(A, B, CATEGORIES, CONFIG))
    truth = (A.ratios["diagnosis"] == "AML").to_numpy()
    expected = auc_difference(truth, A.ratios["run_ratio"].to_numpy(), B.ratios["run_ratio"].to_numpy())
    delong, drawn = found["aml_auc_delong_predicted_ratio"], found["aml_auc_predicted_ratio"]
    assert (delong.difference, delong.p) == (expected.value, expected.p)
    assert drawn.difference.estimate == pytest.approx(expected.value.estimate)
    assert drawn.difference.lower < drawn.difference.estimate < drawn.difference.upper
    assert math.isnan(drawn.p)


def test_a_side_against_itself_does_not_differ() -> None:
    for figure in paired_figures(A, A, CATEGORIES, CONFIG):
        if not figure.undefined:
            assert (figure.difference.estimate, figure.difference.lower, figure.difference.upper) == (0, 0, 0)
    assert all(row.p == 1 for row in paired_decisions(A, A, CONFIG) if not row.undefined)


def test_decisions_by_hand() -> None:
    first = frame(
        patient("P1", "AML", 0.6, 0.7, call="above"),
        patient("P2", "AML", 0.6, 0.4, call="below"),
        patient("P3", "MDS", 0.1, 0.2, call="below"),
        patient("P4", "MDS", 0.1, 0.6, call="indeterminate"),
        patient("P5", None, 0.1, 0.6, call="above"),
    )
    second = frame(
        patient("P1", "AML", 0.6, 0.7, call="above"),
        patient("P2", "AML", 0.6, 0.8, call="above"),
        patient("P3", "MDS", 0.1, 0.6, call="above"),
        patient("P4", "MDS", 0.1, 0.1, call="below"),
        patient("P5", None, 0.1, 0.6, call="above"),
    )
    found = {row.key: row for row in paired_decisions(side(1, first), side(2, second), CONFIG)}
    forced, calls = found["forced_decision_error_predicted_ratio"], found["calls_error_among_decided"]
    assert forced == PairedDecisions(forced.key, 1, 1, 2, 0, mcnemar_exact(1, 2), "")
    assert calls == PairedDecisions(calls.key, 1, 1, 1, 0, 1.0, "")
    none = found["forced_decision_error_corrected_ratio"]
    assert none.undefined == "no patient with a diagnosis has a corrected ratio on both sides"
    assert math.isnan(none.p)


def test_each_side_is_decided_at_its_own_threshold() -> None:
    same = frame(patient("P1", "AML", 0.6, 0.5), patient("P2", "MDS", 0.1, 0.3))
    found = paired_decisions(side(1, same, threshold=0.4), side(1, same, threshold=0.6), CONFIG)[0]
    assert (found.both_right, found.only_a_right, found.only_b_right) == (1, 1, 0)
    missing = paired_decisions(side(1, same, threshold=None), side(1, same), CONFIG)[0]
    assert missing.undefined == "no threshold on both sides: A states none, and --threshold was not given"
    neither = paired_decisions(side(1, same, threshold=None), side(1, same, threshold=None), CONFIG)[0]
    assert neither.undefined.startswith("no threshold on both sides: neither A nor B states one")


def test_what_is_not_defined_says_why() -> None:
    expert = pl.DataFrame(schema=EXPERT_COLUMNS)
    nothing = Side(expert, pl.DataFrame(schema=DETECTION_COLUMNS), frame(patient("P1", "AML", 0.5, 0.4)), 0.5)
    found = paired_figures(nothing, nothing, CATEGORIES, CONFIG)
    assert {figure.key: figure.undefined for figure in found if figure.undefined} == {
        "cblc_weighted_f1_all_expert": "no cells with a decided CBLC, or no CBLC among them",
        "cblc_positive_class_f1_all_expert": "no cells with a decided CBLC, or no CBLC among them",
        "category_weighted_f1_all_expert": "no cells to measure",
        "category_macro_f1_all_expert": "no cells to measure",
        "detection_recall": "no cells to measure",
        "detection_precision": "no detections on one side",
        "patient_ratio_mae_corrected_ratio": "no patient has this ratio on both sides and an annotated one",
        "patient_ratio_bias_corrected_ratio": "no patient has this ratio on both sides and an annotated one",
        "aml_auc_predicted_ratio": "the patients are all AML, or none is",
        "aml_auc_delong_predicted_ratio": "the patients are all AML, or none is",
        "aml_auc_corrected_ratio": "no patient with a diagnosis has a corrected ratio on both sides",
        "aml_auc_delong_corrected_ratio": "no patient with a diagnosis has a corrected ratio on both sides",
    }
