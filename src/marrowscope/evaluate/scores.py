"""Measure everything for one center from the linked tables: each figure with its n and interval over patients.

Expert cells cut by the image edge are left out of every figure but one: the quality rules leave out such cells on
purpose, because half a cell cannot be classified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.call_scores import call_figures, call_table, forced_figures, risk_coverage
from marrowscope.evaluate.cell_scores import (
    ClassFigures,
    category_figures,
    cblc_figures,
    class_figures,
    coarse_calls,
    confusions,
)
from marrowscope.evaluate.decision_curve import DecisionPoint, decision_curve
from marrowscope.evaluate.detection_scores import ClassRecall, class_recalls, detection_figures
from marrowscope.evaluate.frames import (
    ALL_EXPERT,
    MATCHED,
    ROC_ANNOTATED,
    ROC_CBLC,
    ROC_CORRECTED,
    ROC_PREDICTED,
)
from marrowscope.evaluate.link import EvaluateConfig
from marrowscope.evaluate.patient_scores import NormalBlasts, aml_figures, diagnosed, normal_blasts
from marrowscope.evaluate.ratio_scores import interval_figures, ratio_figures
from marrowscope.evaluate.reliability import ReliabilityBin, calibration_figures
from marrowscope.evaluate.scorer import Figure, Scorer
from marrowscope.evaluate.subgroups import Subgroup, subgroups
from marrowscope.statistics import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CenterScores:
    """Everything measured for one center (or all together); confusion matrices by ``matched`` and ``all expert``.

    ``coarse_confusion`` has the calls of each coarse label that leaves the category open.
    """

    center: str
    n_patients: int
    n_fields: int
    figures: tuple[Figure, ...]
    class_figures: tuple[ClassFigures, ...]
    class_recalls: tuple[ClassRecall, ...]
    category_scores: tuple[metrics.ClassScore, ...]
    category_confusion: Mapping[str, metrics.IntArray]
    coarse_confusion: Mapping[str, Mapping[str, metrics.IntArray]]
    reliability: tuple[ReliabilityBin, ...]
    curves: Mapping[str, metrics.RocCurve]
    normal_blasts: tuple[NormalBlasts, ...]
    calls: pl.DataFrame
    risk_coverage: pl.DataFrame
    subgroups: tuple[Subgroup, ...] = ()
    decision_curve: tuple[DecisionPoint, ...] = ()

    def figure(self, key: str) -> Figure:
        """Return the figure with this key. Raises KeyError if there is none."""
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)


def score_center(
    center: str,
    expert: pl.DataFrame,
    detections: pl.DataFrame,
    ratios: pl.DataFrame,
    categories: Sequence[str],
    *,
    config: EvaluateConfig | None = None,
) -> CenterScores:
    """Measure one center from its rows of the three tables (columns in ``frames``)."""
    config = config or EvaluateConfig()
    patients = sorted(set(expert["patient_id"]) | set(detections["patient_id"]))
    scorer = Scorer(patients, config.n_resamples, config.seed)
    whole = expert.filter(~pl.col("cut"))
    matched = whole.filter("found")
    calibration, reliability = calibration_figures(scorer, matched, config.n_bins)
    figures = [
        *cblc_figures(scorer, matched, MATCHED),
        *cblc_figures(scorer, whole, ALL_EXPERT),
        *category_figures(scorer, matched, categories, MATCHED),
        *category_figures(scorer, whole, categories, ALL_EXPERT),
        *calibration,
        *detection_figures(scorer, expert, detections),
        *ratio_figures(ratios, config),
        *interval_figures(ratios, config),
        *aml_figures(ratios, config),
        *forced_figures(ratios, config),
        *call_figures(ratios, config),
    ]
    confusion = {
        over: confusions(scorer, frame, "category", len(categories)).sum(axis=0)
        for over, frame in ((MATCHED, matched), (ALL_EXPERT, whole))
    }
    return CenterScores(
        center=center,
        n_patients=len(patients),
        n_fields=len(set(expert["field_id"]) | set(detections["field_id"])),
        figures=tuple(figures),
        class_figures=(
            *class_figures(scorer, matched, categories, MATCHED),
            *class_figures(scorer, whole, categories, ALL_EXPERT),
        ),
        class_recalls=class_recalls(scorer, expert, categories),
        category_scores=metrics.class_scores(confusion[MATCHED]),
        category_confusion=confusion,
        coarse_confusion={
            over: coarse_calls(frame, len(categories)) for over, frame in ((MATCHED, matched), (ALL_EXPERT, whole))
        },
        reliability=reliability,
        curves=_curves(matched, ratios, config),
        normal_blasts=normal_blasts(expert, ratios),
        calls=call_table(ratios, center, config),
        risk_coverage=risk_coverage(ratios, center, config),
        subgroups=subgroups(ratios, config),
        decision_curve=decision_curve(ratios, config),
    )


def _curves(matched: pl.DataFrame, ratios: pl.DataFrame, config: EvaluateConfig) -> dict[str, metrics.RocCurve]:
    """Compute the ROC curves, reduced to their corners; a curve without both classes is left out."""
    known = diagnosed(ratios, config)
    matched = matched.filter(pl.col("cblc").is_not_null())
    curves = {ROC_CBLC: metrics.roc_curve(matched["cblc"].to_numpy(), matched["p_cblc"].to_numpy())}
    for name, column in (
        (ROC_PREDICTED, "run_ratio"),
        (ROC_CORRECTED, "corrected_ratio"),
        (ROC_ANNOTATED, "true_ratio"),
    ):
        rows = known.filter(pl.col(column).is_not_null())
        curves[name] = metrics.roc_curve(rows["is_aml"].to_numpy(), rows[column].to_numpy())
    return {name: _corners(curve) for name, curve in curves.items() if len(curve.threshold)}


def _corners(curve: metrics.RocCurve) -> metrics.RocCurve:
    """Drop the points inside straight segments, which does not change the drawn curve."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    turn = np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]
    keep: NDArray[np.bool_] = np.ones(len(x), dtype=bool)
    keep[1:-1] = np.abs(turn) > 1e-12  # noqa: PLR2004  rounding of a straight line
    return metrics.RocCurve(x[keep], y[keep], curve.threshold[keep])
