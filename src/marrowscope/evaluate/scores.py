"""From linked cells to figures, each with its n and a 95% bootstrap interval over patients.

Input are three frames that ``link.link_cells`` makes: one row per expert cell, one per kept detection, one per
patient with both ratios. Cell figures are summed per patient first; a resample then adds whole patients.

- "matched": expert cells that a kept detection found; classification alone.
- "all expert": every expert cell, a miss counted as wrong; what a user gets.

Expert cells cut by the image's edge are left out of both, and of the true ratio: the quality rules leave such cells
out on purpose, because half a cell cannot be classified. One figure says what they would cost in recall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope import metrics
from marrowscope.uncertainty import ScalarT, bootstrap_over_groups, bootstrap_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import Interval

EXPERT_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "field_id": pl.String(),
    "shape_index": pl.Int64(),
    "code": pl.String(),
    "category": pl.Int64(),
    "cblc": pl.Boolean(),
    "countable": pl.Boolean(),
    "cut": pl.Boolean(),
    "found_before_rules": pl.Boolean(),
    "found": pl.Boolean(),
    "cell_id": pl.String(),
    "iou": pl.Float64(),
    "predicted_category": pl.Int64(),
    "predicted_cblc": pl.Int64(),
    "p_cblc": pl.Float64(),
}
DETECTION_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "field_id": pl.String(),
    "cell_id": pl.String(),
    "matched": pl.Boolean(),
    "ignored": pl.Boolean(),
    "exhaustive": pl.Boolean(),
    "is_cblc": pl.Boolean(),
    "is_countable": pl.Boolean(),
}
RATIO_COLUMNS = {
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "n_true_countable": pl.Int64(),
    "n_true_cblc": pl.Int64(),
    "true_ratio": pl.Float64(),
    "n_predicted_countable": pl.Int64(),
    "n_predicted_cblc": pl.Int64(),
    "predicted_ratio": pl.Float64(),
    "predicted_ratio_no_seams": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with its interval; ``n`` counts ``unit``, ``reference`` is the value of "all negative"."""

    name: str
    value: Interval
    n: int
    unit: str
    n_patients: int
    reference: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Detection recall of one raw code or category, before and after the quality rules."""

    kind: str
    label: str
    n: int
    before_rules: Interval
    after_rules: Interval


@dataclass(frozen=True, slots=True)
class CenterScores:
    """Everything measured on one centre (or on all together)."""

    center: str
    n_patients: int
    n_fields: int
    figures: tuple[Figure, ...]
    class_recalls: tuple[ClassRecall, ...]
    category_scores: tuple[metrics.ClassScore, ...]
    category_confusion: metrics.IntArray


def score_center(
    center: str,
    expert: pl.DataFrame,
    detections: pl.DataFrame,
    ratios: pl.DataFrame,
    categories: Sequence[str],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> CenterScores:
    """Measure one centre from its rows of the three frames."""
    patients = sorted(set(expert["patient_id"]) | set(detections["patient_id"]))
    scorer = _Scorer(patients, n_resamples, seed)
    whole = expert.filter(~pl.col("cut"))
    matched = whole.filter("found")
    figures = [
        *_cblc_figures(scorer, matched, "matched"),
        *_cblc_figures(scorer, whole, "all expert"),
        *_category_figures(scorer, matched, categories, "matched"),
        *_category_figures(scorer, whole, categories, "all expert"),
        *_detection_figures(scorer, expert, detections),
        *_ratio_figures(ratios, n_resamples, seed),
    ]
    confusion = _confusions(scorer, matched, "category", len(categories)).sum(axis=0)
    return CenterScores(
        center=center,
        n_patients=len(patients),
        n_fields=len(set(expert["field_id"]) | set(detections["field_id"])),
        figures=tuple(figures),
        class_recalls=_class_recalls(scorer, expert, categories),
        category_scores=metrics.class_scores(confusion),
        category_confusion=confusion,
    )


class _Scorer:
    """Bootstrap of statistics of per-patient sums: ``sums`` has one row per patient, in the order of ``patients``."""

    def __init__(self, patients: Sequence[str], n_resamples: int, seed: int) -> None:
        self.patients = list(patients)
        self._position = {patient: index for index, patient in enumerate(self.patients)}
        self._n_resamples, self._seed = n_resamples, seed

    def positions(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Give the patient's position of each row."""
        return np.array([self._position[patient] for patient in frame["patient_id"]], dtype=np.int64)

    def sum_by_patient(self, frame: pl.DataFrame, values: metrics.RealArray) -> metrics.RealArray:
        """Sum one value per row over each patient's rows."""
        sums = np.bincount(self.positions(frame), weights=values, minlength=len(self.patients))
        return sums.astype(np.float64)

    def of_sums(self, sums: NDArray[ScalarT], statistic: Callable[[NDArray[ScalarT]], float]) -> Interval:
        """Interval of a statistic of the sums added over patients."""
        return bootstrap_sums(sums, statistic, n_resamples=self._n_resamples, seed=self._seed)

    def of_rows(self, frame: pl.DataFrame, statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
        """Interval of a statistic of row indices; for figures that are not made of sums."""
        return bootstrap_over_groups(
            frame["patient_id"].to_list(), statistic, n_resamples=self._n_resamples, seed=self._seed
        )

    def figure(
        self,
        name: str,
        value: Interval,
        frame: pl.DataFrame,
        *,
        unit: str = "cells",
        reference: float | None = None,
        note: str = "",
    ) -> Figure:
        """Name a value measured on the rows of ``frame``."""
        return Figure(name, value, len(frame), unit, frame["patient_id"].n_unique(), reference, note)


def _confusions(scorer: _Scorer, frame: pl.DataFrame, column: str, n_classes: int) -> metrics.IntArray:
    """Give one confusion matrix per patient: (patients, n_classes, n_classes + 1)."""
    positions = scorer.positions(frame)
    truth = frame[column].cast(pl.Int64).to_numpy()
    predicted = frame[f"predicted_{column}"].fill_null(metrics.NO_PREDICTION).to_numpy()
    matrices = [
        metrics.confusion_matrix(truth[positions == index], predicted[positions == index], n_classes)
        for index in range(len(scorer.patients))
    ]
    return np.array(matrices, dtype=np.int64).reshape(-1, n_classes, n_classes + 1)


def _cblc_figures(scorer: _Scorer, frame: pl.DataFrame, over: str) -> list[Figure]:
    confusions = _confusions(scorer, frame, "cblc", 2)
    truth = frame["cblc"].to_numpy()
    all_negative = metrics.confusion_matrix(truth.astype(np.int64), np.zeros(len(truth), dtype=np.int64), 2)
    note = f"{int(truth.sum())} CBLC of {len(truth)}"
    figures = [
        scorer.figure(
            f"CBLC weighted F1, {over}",
            scorer.of_sums(confusions, metrics.weighted_f1),
            frame,
            reference=metrics.weighted_f1(all_negative),
            note=note,
        ),
        scorer.figure(
            f"CBLC positive-class F1, {over}",
            scorer.of_sums(confusions, metrics.positive_f1),
            frame,
            reference=0.0,
            note=note,
        ),
    ]
    if over == "matched":
        score = frame["p_cblc"].to_numpy()
        auc = scorer.of_rows(frame, lambda rows: metrics.roc_auc(truth[rows], score[rows]))
        figures.append(scorer.figure(f"CBLC AUC, {over}", auc, frame, reference=0.5, note=note))
    return figures


def _category_figures(scorer: _Scorer, frame: pl.DataFrame, categories: Sequence[str], over: str) -> list[Figure]:
    confusions = _confusions(scorer, frame, "category", len(categories))
    present = metrics.present_classes(confusions.sum(axis=0))
    note = f"averaged over {len(present)}: " + " ".join(categories[k] for k in present)
    return [
        scorer.figure(
            f"category weighted F1, {over}", scorer.of_sums(confusions, metrics.weighted_f1), frame, note=note
        ),
        scorer.figure(f"category macro F1, {over}", scorer.of_sums(confusions, metrics.macro_f1), frame, note=note),
    ]


def _detection_figures(scorer: _Scorer, expert: pl.DataFrame, detections: pl.DataFrame) -> list[Figure]:
    whole = expert.filter(~pl.col("cut"))
    counted = detections.filter(pl.col("exhaustive") & ~pl.col("ignored"))
    matched = whole.filter("found")
    n_ignored = int((detections["ignored"] & detections["exhaustive"]).sum())
    return [
        scorer.figure(
            "detection recall",
            _mean(scorer, whole, whole["found"]),
            whole,
            note=f"expert cells not cut by the image's edge; {len(expert) - len(whole)} cut ones left out",
        ),
        scorer.figure("detection recall, cut cells included", _mean(scorer, expert, expert["found"]), expert),
        scorer.figure(
            "detection recall, before quality rules", _mean(scorer, whole, whole["found_before_rules"]), whole
        ),
        scorer.figure(
            "detection precision",
            _mean(scorer, counted, counted["matched"]),
            counted,
            unit="detections",
            note=f"{n_ignored} unmatched at an edge ignored; exhaustively annotated fields only",
        ),
        scorer.figure("mean IoU of matched contours", _mean(scorer, matched, matched["iou"]), matched),
    ]


def _mean(scorer: _Scorer, frame: pl.DataFrame, values: pl.Series) -> Interval:
    """Mean of one value per row, rows of a patient together."""
    numbers = values.cast(pl.Float64).to_numpy()
    sums = np.stack([scorer.sum_by_patient(frame, numbers), scorer.sum_by_patient(frame, np.ones(len(frame)))], axis=1)
    return scorer.of_sums(sums, lambda total: metrics.share(total[0], total[1]))


def _class_recalls(scorer: _Scorer, expert: pl.DataFrame, categories: Sequence[str]) -> tuple[ClassRecall, ...]:
    whole = expert.filter(~pl.col("cut"))
    rows: list[ClassRecall] = []
    groups = [("category", name, pl.col("category") == index) for index, name in enumerate(categories)]
    groups += [("code", code, pl.col("code") == code) for code in sorted(set(whole["code"]))]
    for kind, label, of_class in groups:
        cells = whole.filter(of_class)
        if len(cells):
            before = _mean(scorer, cells, cells["found_before_rules"])
            rows.append(ClassRecall(kind, label, len(cells), before, _mean(scorer, cells, cells["found"])))
    return tuple(rows)


def _ratio_figures(ratios: pl.DataFrame, n_resamples: int, seed: int) -> list[Figure]:
    figures: list[Figure] = []
    for column, suffix in (("predicted_ratio", ""), ("predicted_ratio_no_seams", ", seams left out")):
        both = ratios.filter(pl.col("true_ratio").is_not_null() & pl.col(column).is_not_null())
        if suffix and both.is_empty():
            continue
        truth, estimate = both["true_ratio"].to_numpy(), both[column].to_numpy()
        left_out = len(ratios) - len(both)
        note = f"{left_out} patients without a ratio on both sides left out" if left_out else ""
        scorer = _Scorer(both["patient_id"].to_list(), n_resamples, seed)
        agreements: list[tuple[str, Callable[[metrics.RealArray, metrics.RealArray], float]]] = [
            ("patient ratio MAE", metrics.mean_absolute_error),
            ("patient ratio bias", metrics.bias),
            ("patient ratio concordance", metrics.concordance),
        ]
        for name, agreement in agreements:
            value = scorer.of_rows(both, _on_rows(agreement, truth, estimate))
            figures.append(scorer.figure(name + suffix, value, both, unit="patients", note=note))
    return figures


def _on_rows(
    agreement: Callable[[metrics.RealArray, metrics.RealArray], float],
    truth: metrics.RealArray,
    estimate: metrics.RealArray,
) -> Callable[[NDArray[np.int64]], float]:
    return lambda rows: agreement(truth[rows], estimate[rows])
