"""Two runs on the same patients: each figure of A and of B, and A minus B paired by patient.

Every resample draws patients once and uses them on both sides, so that what makes a patient hard cancels. Two AUCs are
also compared by DeLong's test, and two sets of decisions by McNemar's exact test. No p is corrected for the number of
figures that are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.cell_scores import confusions, f1_columns, with_wrong_calls
from marrowscope.evaluate.patient_scores import diagnosed
from marrowscope.evaluate.scorer import Scorer
from marrowscope.statistics import metrics
from marrowscope.statistics.delong import auc_difference
from marrowscope.statistics.mcnemar import mcnemar_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.records import Interval

_DECIDED = ("above", "below")
_RATIOS = (
    ("_predicted_ratio", "run_ratio", "no patient with a diagnosis has a counted ratio on both sides"),
    ("_corrected_ratio", "corrected_ratio", "no patient with a diagnosis has a corrected ratio on both sides"),
)
"""Ending of the keys by ratio, its column, and what is said if no patient has it on both sides."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run's rows of the linked tables, and the ratio above which it counts a patient as AML."""

    expert: pl.DataFrame
    detections: pl.DataFrame
    ratios: pl.DataFrame
    threshold: float | None


@dataclass(frozen=True, slots=True)
class PairedFigure:
    """A figure of both sides and A minus B with its interval; ``p`` is NaN without a test."""

    key: str
    a: float
    b: float
    difference: Interval
    p: float
    n_patients: int
    undefined: str


@dataclass(frozen=True, slots=True)
class PairedDecisions:
    """Right and wrong decisions of both sides on the same patients, and McNemar's exact p of equal error."""

    key: str
    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p: float
    undefined: str


def paired_figures(a: Side, b: Side, categories: Sequence[str], config: EvaluateConfig) -> list[PairedFigure]:
    """Compare the main figures of two sides; all rows are of the same patients and fields."""
    sides = (a, b)
    patients = sorted(
        {name for side in sides for frame in (side.expert, side.detections) for name in frame["patient_id"]}
    )
    scorer = Scorer(patients, config.n_resamples, config.seed)
    whole = [side.expert.filter(~pl.col("cut")) for side in sides]
    counts = [confusions(scorer, frame.filter(pl.col("cblc").is_not_null()), "cblc", 2) for frame in whole]
    calls = [with_wrong_calls(scorer, frame, len(categories)) for frame in whole]
    drawn = [frame.filter(~pl.col("network_contour")) for frame in whole]
    found = [_sums(scorer, frame, frame["found"]) for frame in drawn]
    counted = [
        side.detections.filter(pl.col("exhaustive") & ~pl.col("ignored") & ~pl.col("network_contour")) for side in sides
    ]
    precise = [_sums(scorer, frame, frame["matched"]) for frame in counted]
    return [
        *_paired(
            scorer,
            counts,
            f1_columns,
            {"cblc_weighted_f1_all_expert": 0, "cblc_positive_class_f1_all_expert": 2},
            "no cells with a decided CBLC, or no CBLC among them",
        ),
        *_paired(
            scorer,
            calls,
            f1_columns,
            {"category_weighted_f1_all_expert": 0, "category_macro_f1_all_expert": 1},
            "no cells to measure",
        ),
        *_paired(scorer, found, _share, {"detection_recall": 0}, "no cells to measure"),
        *_paired(scorer, precise, _share, {"detection_precision": 0}, "no detections on one side"),
        *_ratio_errors(a, b, config),
        *(figure for ratio in _RATIOS for figure in _aucs(a, b, ratio, config)),
    ]


def paired_decisions(a: Side, b: Side, config: EvaluateConfig) -> list[PairedDecisions]:
    """Compare the forced decisions by each ratio at each side's threshold, and the calls where both sides decided."""
    rows = []
    for ending, column, words in _RATIOS:
        both = _both(a, b, column, config)
        right = [
            (both[f"{column}_{name}"].to_numpy() > (side.threshold or 0.0)) == both["is_aml"].to_numpy()
            for name, side in (("a", a), ("b", b))
        ]
        missing = _no_threshold(a, b) or ("" if len(both) else words)
        rows.append(_table(f"forced_decision_error{ending}", right, missing))
    both = _both(a, b, "call", config).filter(pl.col("call_a").is_in(_DECIDED) & pl.col("call_b").is_in(_DECIDED))
    right = [(both[f"call_{name}"] == "above").to_numpy() == both["is_aml"].to_numpy() for name in "ab"]
    missing = "" if len(both) else "no patient with a diagnosis is called above or below on both sides"
    return [*rows, _table("calls_error_among_decided", right, missing)]


def _no_threshold(a: Side, b: Side) -> str:
    """Say which side has no threshold; empty where both have one."""
    without = [name for name, side in (("A", a), ("B", b)) if side.threshold is None]
    if not without:
        return ""
    found = "neither A nor B states one" if len(without) > 1 else f"{without[0]} states none"
    return f"no threshold on both sides: {found}, and --threshold was not given"


def _table(key: str, right: Sequence[np.ndarray[tuple[int], np.dtype[np.bool_]]], missing: str) -> PairedDecisions:
    if missing:
        return PairedDecisions(key, 0, 0, 0, 0, math.nan, missing)
    a, b = right
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return PairedDecisions(
        key, int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), mcnemar_exact(only_a, only_b), ""
    )


def _paired(
    scorer: Scorer,
    sums: Sequence[metrics.IntArray] | Sequence[metrics.RealArray],
    statistic: Callable[[np.ndarray], metrics.RealArray],
    columns: dict[str, int],
    undefined: str,
) -> list[PairedFigure]:
    """Compute figures of sums over patients on both sides, by key and the column of the statistic."""
    first, second = (np.asarray(part, dtype=np.float64) for part in sums)
    values = [statistic(part.sum(axis=0)[None])[0] for part in (first, second)]
    differences = scorer.of_columns(
        np.stack([first, second], axis=1), lambda total: statistic(total[:, 0]) - statistic(total[:, 1])
    )
    n_patients = int((first.sum(axis=tuple(range(1, first.ndim))) > 0).sum())
    rows = []
    for key, column in columns.items():
        difference = differences[column]
        reason = undefined if math.isnan(difference.estimate) else ""
        a, b = (float(value[column]) for value in values)
        rows.append(PairedFigure(key, a, b, difference, math.nan, n_patients, reason))
    return rows


def _ratio_errors(a: Side, b: Side, config: EvaluateConfig) -> list[PairedFigure]:
    """Compare mean absolute error and bias of both ratios, on patients that have them on both sides."""
    rows = []
    for ending, column in (("", "predicted_ratio"), ("_corrected_ratio", "corrected_ratio")):
        both = _joined(a, b, column).drop_nulls(["true_ratio", f"{column}_a", f"{column}_b"])
        errors = [(both[f"{column}_{name}"] - both["true_ratio"]).to_numpy() for name in "ab"]
        scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
        sums = [np.stack([np.ones(len(both)), np.abs(error), error], axis=1) for error in errors]
        rows += _paired(
            scorer,
            sums,
            lambda total: metrics.shares(total[:, 1:], total[:, :1] + np.zeros_like(total[:, 1:])),
            {f"patient_ratio_mae{ending}": 0, f"patient_ratio_bias{ending}": 1},
            "no patient has this ratio on both sides and an annotated one",
        )
    return rows


def _aucs(a: Side, b: Side, ratio: tuple[str, str, str], config: EvaluateConfig) -> list[PairedFigure]:
    """Compare the AUCs of AML by one of ``_RATIOS``, by the bootstrap and by DeLong's test."""
    ending, column, words = ratio
    both = _both(a, b, column, config)
    truth = both["is_aml"].to_numpy()
    scores = [both[f"{column}_{name}"].to_numpy() for name in "ab"]
    scorer = Scorer(both["patient_id"].to_list(), config.n_resamples, config.seed)
    (drawn,) = scorer.of_weights(
        both,
        lambda weight, _: np.subtract(*(metrics.shares(*metrics.won_pairs(truth, score, weight)) for score in scores))[
            :, None
        ],
    )
    test = auc_difference(truth, scores[0], scores[1])
    first, second = (metrics.roc_auc(truth, score) for score in scores)
    missing = words if both.is_empty() else "the patients are all AML, or none is" if math.isnan(first) else ""
    return [
        PairedFigure(f"aml_auc{method}{ending}", first, second, difference, p, len(both), missing)
        for method, difference, p in (("", drawn, math.nan), ("_delong", test.value, test.p))
    ]


def _both(a: Side, b: Side, column: str, config: EvaluateConfig) -> pl.DataFrame:
    """Return the patients with a diagnosis that have a value of ``column`` on both sides, with ``is_aml``."""
    return diagnosed(_joined(a, b, column), config).drop_nulls([f"{column}_a", f"{column}_b"])


def _joined(a: Side, b: Side, column: str) -> pl.DataFrame:
    """Put ``column`` of both sides beside each patient, as ``<column>_a`` and ``<column>_b``."""
    left = a.ratios.select("patient_id", "center", "diagnosis", "true_ratio", pl.col(column).alias(f"{column}_a"))
    right = b.ratios.select("patient_id", pl.col(column).alias(f"{column}_b"))
    return left.join(right, on="patient_id", how="inner", maintain_order="left")


def _sums(scorer: Scorer, frame: pl.DataFrame, hit: pl.Series) -> metrics.RealArray:
    """Sum the rows of ``frame`` and its hits by patient: (patients, 2)."""
    parts = (np.ones(len(frame)), hit.cast(pl.Float64).to_numpy())
    return np.stack([scorer.sum_by_patient(frame, part) for part in parts], axis=1)


def _share(total: metrics.RealArray) -> metrics.RealArray:
    return metrics.shares(total[:, 1], total[:, 0])[:, None]
