"""AML by the patient's ratio, against scikit-learn and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate.catalog import CONFOUNDED_BY_CENTER, Method
from marrowscope.evaluate.frames import EXPERT_COLUMNS
from marrowscope.evaluate.patient_scores import aml_figures, confounding, diagnosed, normal_blasts
from marrowscope.evaluate.ratio_scores import NOT_CORRECTED
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.intervals import wilson_interval
from tests.evaluate.patient_rows import CONFIG, by_key, frame, patient, random_patients


def test_repeat_without_such_a_cell_says_that_it_is_the_same() -> None:
    again = [figure for figure in aml_figures(random_patients(), CONFIG) if figure.kind.repeats]
    assert len(again) == 5
    assert all(figure.note.endswith("no such cell: the same figure") for figure in again)
    assert [figure.same_as for figure in again] == [figure.kind.repeats for figure in again]


def test_delong_gives_the_same_auc_with_its_own_interval() -> None:
    ratios = random_patients()
    figures = by_key(aml_figures(ratios, CONFIG))
    found, bootstrapped = figures["aml_auc_delong_predicted_ratio"], figures["aml_auc_predicted_ratio"]
    expected = auc_interval(ratios["diagnosis"].to_numpy() == "AML", ratios["run_ratio"].to_numpy())
    assert (found.value.lower, found.value.upper) == (expected.lower, expected.upper)
    assert found.value.estimate == pytest.approx(bootstrapped.value.estimate)
    assert (found.note, found.n) == (bootstrapped.note, bootstrapped.n)
    assert found.kind.method is Method.DELONG
    only = by_key(aml_figures(frame(patient("P1", "AML", 0.5, 0.4)), CONFIG))["aml_auc_delong_predicted_ratio"]
    assert only.undefined == "only AML among 1 patient"


def test_auc_is_that_of_scikit_learn_and_within_centers_only_their_own_pairs() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    ratios = random_patients()
    figures = by_key(aml_figures(ratios, CONFIG))
    truth = ratios["diagnosis"].to_numpy() == "AML"
    score = ratios["run_ratio"].to_numpy()
    found = figures["aml_auc_predicted_ratio"].value
    assert found.estimate == pytest.approx(sklearn_metrics.roc_auc_score(truth, score))
    assert found.lower < found.estimate <= found.upper
    pairs, won = 0, 0.0
    for i in range(len(ratios)):
        for j in range(len(ratios)):
            if truth[i] and not truth[j] and ratios["center"][i] == ratios["center"][j]:
                pairs += 1
                won += float(score[i] > score[j]) + 0.5 * float(score[i] == score[j])
    assert figures["aml_auc_within_centers_predicted_ratio"].value.estimate == pytest.approx(won / pairs)


def test_sensitivity_and_specificity_at_the_threshold_have_wilson_intervals() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    ratios = random_patients()
    config = CONFIG.model_copy(update={"threshold": 0.45})
    figures = by_key(aml_figures(ratios, config))
    truth = ratios["diagnosis"].to_numpy() == "AML"
    called = ratios["run_ratio"].to_numpy() > 0.45
    sensitivity = figures["aml_sensitivity_at_the_threshold_predicted_ratio"]
    specificity = figures["aml_specificity_at_the_threshold_predicted_ratio"]
    assert sensitivity.value.estimate == pytest.approx(sklearn_metrics.recall_score(truth, called))
    assert specificity.value.estimate == pytest.approx(sklearn_metrics.recall_score(~truth, ~called))
    assert sensitivity.value == wilson_interval(int((truth & called).sum()), int(truth.sum()))
    assert (sensitivity.n, specificity.n) == (int(truth.sum()), int((~truth).sum()))
    assert sensitivity.kind.method is Method.WILSON


def test_ratio_at_the_threshold_is_not_above_it() -> None:
    ratios = frame(patient("P1", "AML", 0.2, 0.2), patient("P2", "control", 0.2, 0.2))
    figures = by_key(aml_figures(ratios, CONFIG.model_copy(update={"threshold": 0.2})))
    assert figures["aml_sensitivity_at_the_threshold_predicted_ratio"].value.estimate == 0
    assert figures["aml_specificity_at_the_threshold_predicted_ratio"].value.estimate == 1


def test_without_threshold_or_one_side_the_reason_is_given() -> None:
    no_aml = frame(patient("P1", "control", 0.0, 0.0), patient("P2", "MDS", 0.1, 0.1))
    figures = by_key(aml_figures(no_aml, CONFIG))
    assert figures["aml_auc_predicted_ratio"].undefined == "no AML among 2 patients"
    assert "--threshold" in figures["aml_sensitivity_at_the_threshold_predicted_ratio"].undefined
    figures = by_key(aml_figures(no_aml, CONFIG.model_copy(update={"threshold": 0.3})))
    nothing = figures["aml_sensitivity_at_the_threshold_predicted_ratio"]
    assert nothing.undefined == "no patient with AML"
    assert math.isnan(nothing.value.lower)
    assert figures["aml_specificity_at_the_threshold_predicted_ratio"].value.estimate == 1


def test_corrected_ratio_has_aml_figures_of_its_own_or_says_why_not() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(2)
    ratios = random_patients().with_columns(corrected_ratio=pl.Series(generator.random(14)))
    config = CONFIG.model_copy(update={"threshold": 0.45})
    figures = by_key(aml_figures(ratios, config))
    truth, corrected = ratios["diagnosis"].to_numpy() == "AML", ratios["corrected_ratio"].to_numpy()
    assert figures["aml_auc_corrected_ratio"].value.estimate == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, corrected)
    )
    assert figures["aml_sensitivity_at_the_threshold_corrected_ratio"].value == wilson_interval(
        int((truth & (corrected > 0.45)).sum()), int(truth.sum())
    )
    without = by_key(aml_figures(random_patients(), config))
    for name in ("auc", "sensitivity_at_the_threshold", "specificity_at_the_threshold"):
        nothing = without[f"aml_{name}_corrected_ratio"]
        assert (nothing.undefined, nothing.note, nothing.n) == (NOT_CORRECTED, "", 0)


def test_diagnoses_are_compared_without_case_and_the_note_names_both_sides() -> None:
    ratios = frame(
        patient("P1", "aml ", 0.5, 0.5),
        patient("P2", "AML-M3", 0.5, 0.4),
        patient("P3", "MDS", 0.1, 0.1),
        patient("P4", " ", 0.1, 0.1),
        patient("P5", None, 0.1, 0.1),
        patient("P6", "AML", None, None),
        patient("P7", "unknown", 0.1, 0.1),
    )
    assert diagnosed(ratios, CONFIG)["is_aml"].to_list() == [True, False, False, True]
    wide = CONFIG.model_copy(update={"aml_diagnoses": ("AML", "AML-M3")})
    auc = by_key(aml_figures(ratios, wide))["aml_auc_predicted_ratio"]
    assert auc.n == 3
    assert auc.note == "AML: AML-M3 1, aml  1; other: MDS 1; 4 patients without a diagnosis or a ratio left out"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("A", "AML"), ("A", "MDS"), ("B", "AML"), ("B", "MDS")], ""),
        ([("A", "AML"), ("A", "MDS")], ""),
        ([("A", "AML"), ("B", "AML")], ""),  # no AUC at all
        ([("A", "AML"), ("B", "MDS")], "A (AML only), B (no AML)"),
        ([("A", "AML"), ("A", "MDS"), ("B", "MDS")], "B (no AML)"),
    ],
)
def test_a_center_of_one_kind_confounds_the_pooled_auc(rows: list[tuple[str, str]], expected: str) -> None:
    ratios = frame(*(patient(f"P{k}", d, 0.1, 0.1) | {"center": c} for k, (c, d) in enumerate(rows)))
    warning = confounding(diagnosed(ratios, CONFIG))
    if expected:
        assert warning is not None
        assert warning.key == CONFOUNDED_BY_CENTER
        assert warning.text.startswith(f"confounded by center: {expected};")
    else:
        assert warning is None
    figures = by_key(aml_figures(ratios, CONFIG))
    assert figures["aml_auc_predicted_ratio"].warning == warning
    within = figures.get("aml_auc_within_centers_predicted_ratio")
    assert within is None or within.warning is None


def test_normal_blasts_are_tabulated_by_center_and_diagnosis() -> None:
    def cell(name: str, code: str, *, called: int | None = None, cut: bool = False) -> dict[str, Any]:
        normal = code in {"N0", "M0"}
        return {"patient_id": name, "center": "A", "code": code, "normal_blast": normal, "cut": cut} | {
            "found": called is not None,
            "predicted_cblc": called,
        }

    expert = pl.DataFrame(
        [
            cell("P1", "N0", called=1),
            cell("P1", "N0"),
            cell("P1", "N"),
            cell("P1", "M0", cut=True),
            cell("P2", "M0", called=0),
        ],
        schema=EXPERT_COLUMNS,
    )
    ratios = frame(patient("P1", "AML", 0.5, 0.5), patient("P2", "MDS", 0.1, 0.1), patient("P3", "MDS", 0.1, 0.1))
    unknown, first, second = normal_blasts(expert, pl.concat([ratios, frame(patient("P4", None, None, None))]))
    assert (unknown.diagnosis, unknown.n_patients, unknown.n_cells) == ("", 1, 0)
    assert (first.diagnosis, first.n_patients, first.n_cells) == ("AML", 1, 3)
    assert dict(first.n_by_code) == {"M0": 0, "N0": 2}
    assert (first.n_found, first.n_called_cblc) == (1, 1)
    assert (second.diagnosis, second.n_patients, dict(second.n_by_code)) == ("MDS", 2, {"M0": 1, "N0": 0})
    assert (second.n_found, second.n_called_cblc) == (1, 0)
