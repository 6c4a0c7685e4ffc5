"""Figures over centers: the scale of each, against the plain summary, and what is left out or not defined."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit

from marrowscope.evaluate.across_centers import AS_IT_IS, FEWEST_CENTERS, LOGIT, across_centers
from marrowscope.evaluate.document import across_record
from marrowscope.evaluate.patient_scores import aml_figures
from marrowscope.evaluate.ratio_scores import ratio_figures
from marrowscope.records import Interval
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.random_effects import summarize_centers
from tests.evaluate.patient_rows import CONFIG, frame, patient

if TYPE_CHECKING:
    from marrowscope.evaluate import Figure

SHARES = ("cblc_weighted_f1_all_expert", "category_weighted_f1_all_expert", "detection_recall")


def center(name: str, ratios: pl.DataFrame, share: Interval) -> Any:  # noqa: ANN401
    """Stand in for the scores of a center: the patients' figures as measured, and one made-up share."""
    here = ratios.filter(center=name)
    figures: dict[str, Any] = {
        figure.key: figure for figure in (*ratio_figures(here, CONFIG), *aml_figures(here, CONFIG))
    }
    figures |= {key: SimpleNamespace(value=share) for key in SHARES}

    def figure(key: str) -> Figure:
        found: Figure = figures[key]
        return found

    return SimpleNamespace(center=name, figure=figure)


def cohort(n_centers: int, n_patients: int = 12) -> pl.DataFrame:
    generator = np.random.default_rng(4)
    rows = []
    for c in range(n_centers):
        for k in range(n_patients):
            truth = generator.uniform(0, 0.6)
            seen = float(np.clip(truth + generator.normal(0.02 * c, 0.1), 0, 1))
            diagnosis = "AML" if truth + generator.normal(0, 0.15) > 0.3 else "MDS"
            rows.append(patient(f"{c}-{k}", diagnosis, truth, seen, center=f"C{c}"))
    return frame(*rows)


def summaries(ratios: pl.DataFrame, share: Interval = Interval(0.8, 0.7, 0.9)) -> dict[str, Any]:  # noqa: B008
    names = sorted(set(ratios["center"]))
    found = across_centers([center(name, ratios, share) for name in names], ratios, CONFIG)
    return {item.key: item for item in found}


def test_each_figure_is_summarized_on_its_scale() -> None:
    ratios = cohort(6)
    found = summaries(ratios)
    parts = [ratios.filter(center=f"C{c}") for c in range(6)]
    errors = [np.abs((part["predicted_ratio"] - part["true_ratio"]).to_numpy()) for part in parts]
    expected = summarize_centers(
        np.array([error.mean() for error in errors]), np.array([error.var(ddof=1) / 12 for error in errors])
    )
    mae = found["patient_ratio_mae"]
    assert (mae.scale, mae.mean, mae.tau2, mae.n_centers) == (AS_IT_IS, expected.mean, expected.tau2, 6)
    bias = found["patient_ratio_bias"]
    assert bias.mean.estimate != mae.mean.estimate
    aucs = [
        auc_interval((part["diagnosis"] == "AML").to_numpy(), part["run_ratio"].to_numpy(), cut=False) for part in parts
    ]
    used = [auc for auc in aucs if auc.estimate < 1]
    expected = summarize_centers(
        np.array([logit(auc.estimate) for auc in used]),
        np.array(
            [((auc.upper - auc.estimate) / 1.959963984540054 / auc.estimate / (1 - auc.estimate)) ** 2 for auc in used]
        ),
    )
    auc = found["aml_auc_delong_predicted_ratio"]
    assert (auc.scale, auc.n_centers) == (LOGIT, len(used))
    assert auc.mean.estimate == pytest.approx(expit(expected.mean.estimate))
    assert auc.prediction_upper == pytest.approx(expit(expected.prediction_upper))
    recall = found["detection_recall"]
    assert recall.mean.estimate == pytest.approx(0.8)
    assert recall.tau2 == 0


def test_a_center_without_a_variance_is_left_out_and_named() -> None:
    ratios = cohort(6)
    names = [f"C{c}" for c in range(6)]
    scores = [center(name, ratios, Interval(0.8, 0.7, 0.9)) for name in names]
    scores[2] = center("C2", ratios, Interval(1.0, 1.0, 1.0))
    scores[4] = center("C4", ratios, Interval(0.9, math.nan, math.nan))
    found = {item.key: item for item in across_centers(scores, ratios, CONFIG)}["detection_recall"]
    assert found.left_out == ("C2", "C4")
    assert found.undefined == "4 centers of 6 with a value and a variance, at least 5 needed"
    assert across_record(found).mean is None


def test_fewer_than_five_centers_are_not_summarized() -> None:
    found = summaries(cohort(FEWEST_CENTERS - 1))
    assert {item.undefined.split(" with")[0] for item in found.values()} == {"4 centers of 4", "0 centers of 4"}
    assert all(math.isnan(item.mean.estimate) for item in found.values())
    assert found["patient_ratio_mae_corrected_ratio"].left_out == ()
    assert summaries(cohort(1)) == {}


def test_a_center_with_one_patient_has_no_variance() -> None:
    ratios = pl.concat([cohort(6), frame(patient("lone", "AML", 0.3, 0.4, center="Z"))])
    found = summaries(ratios)["patient_ratio_mae"]
    assert (found.n_centers, found.left_out) == (6, ("Z",))


def test_no_limit_of_an_error_is_one_that_no_ratio_can_have() -> None:
    """One center of six errs much: the interval for a new center would reach below an error of 0."""
    rows = []
    for c in range(6):
        for k in range(12):
            truth, off = 0.02 + 0.01 * k, 0.01 + 0.001 * k + (0.4 if c == 5 else 0)
            rows.append(patient(f"{c}-{k}", "AML", truth, truth + off, center=f"C{c}"))
    found = summaries(frame(*rows))
    mae, bias = found["patient_ratio_mae"], found["patient_ratio_bias"]
    assert (mae.prediction_lower, mae.mean.lower) == (0, 0)
    assert bias.prediction_lower < bias.mean.lower < 0
    assert mae.prediction_upper == pytest.approx(bias.prediction_upper)
