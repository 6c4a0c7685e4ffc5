"""Figures of the classifier: CBLC and category, on matched cells and on all expert cells.

- "matched": expert cells found by a kept detection; measures classification alone.
- "all expert": every expert cell, with a miss counted as a wrong call; measures what a user gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import OVER
from marrowscope.evaluate.frames import ALL_EXPERT, MATCHED
from marrowscope.statistics import metrics
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.evaluate.scorer import Figure, Scorer
    from marrowscope.records import Interval

_MISSES = {MATCHED: "found cells only: classification alone", ALL_EXPERT: "a missed cell counts as wrong"}


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One category with its intervals, over matched or all expert cells.

    ``n`` true cells from ``n_patients`` patients, and ``n_called`` cells assigned to the category.
    """

    over: str
    label: str
    n: int
    n_called: int
    n_patients: int
    precision: Interval
    recall: Interval
    f1: Interval


def confusions(scorer: Scorer, frame: pl.DataFrame, column: str, n_classes: int) -> metrics.IntArray:
    """Compute one confusion matrix per patient: (patients, n_classes, n_classes + 1)."""
    positions = scorer.positions(frame)
    truth = frame[column].cast(pl.Int64).to_numpy()
    predicted = frame[f"predicted_{column}"].fill_null(metrics.NO_PREDICTION).to_numpy()
    matrices = [
        metrics.confusion_matrix(truth[positions == index], predicted[positions == index], n_classes)
        for index in range(len(scorer.patients))
    ]
    return np.array(matrices, dtype=np.int64).reshape(-1, n_classes, n_classes + 1)


def cblc_figures(scorer: Scorer, frame: pl.DataFrame, over: str) -> list[Figure]:
    """Compute the F1 figures of CBLC and, for matched cells (which have a probability), the AUC."""
    counts = confusions(scorer, frame, "cblc", 2)
    truth = frame["cblc"].to_numpy()
    all_negative = metrics.confusion_matrix(truth.astype(np.int64), np.zeros(len(truth), dtype=np.int64), 2)
    weighted, _, positive = scorer.of_columns(counts, _f1_columns)
    ending = OVER[over].key
    note = f"{int(truth.sum())} CBLC of {len(truth)}; {_MISSES[over]}"
    figures = [
        scorer.figure(
            f"cblc_weighted_f1{ending}",
            weighted,
            frame,
            reference=metrics.weighted_f1(all_negative),
            note=note,
        ),
        scorer.figure(
            f"cblc_positive_class_f1{ending}",
            positive,
            frame,
            reference=0.0,
            note=note,
            undefined=f"no CBLC among {count_of(len(truth), 'cell')}",
        ),
    ]
    if over == MATCHED:
        score = frame["p_cblc"].to_numpy()
        (auc,) = scorer.of_weights(frame, lambda weight, _: _auc_column(truth, score, weight))
        one_class = f"{'only' if truth.all() else 'no'} CBLC among {count_of(len(truth), 'cell')}"
        figures.append(scorer.figure(f"cblc_auc{ending}", auc, frame, reference=0.5, note=note, undefined=one_class))
    return figures


def category_figures(scorer: Scorer, frame: pl.DataFrame, categories: Sequence[str], over: str) -> list[Figure]:
    """Compute weighted and macro F1 of the categories; the note names the categories averaged."""
    counts = confusions(scorer, frame, "category", len(categories))
    present = metrics.present_classes(counts.sum(axis=0))
    note = f"averaged over {len(present)}: " + " ".join(categories[k] for k in present) + f"; {_MISSES[over]}"
    weighted, macro, _ = scorer.of_columns(counts, _f1_columns)
    return [
        scorer.figure(f"category_{name}_f1{OVER[over].key}", value, frame, note=note)
        for name, value in (("weighted", weighted), ("macro", macro))
    ]


def class_figures(
    scorer: Scorer, frame: pl.DataFrame, categories: Sequence[str], over: str
) -> tuple[ClassFigures, ...]:
    """Compute precision, recall and F1 of every category with at least one true or called cell."""
    counts = confusions(scorer, frame, "category", len(categories))
    total = counts.sum(axis=0)
    intervals = scorer.of_columns(counts, _class_columns)
    n_classes = len(categories)
    rows = []
    for k, label in enumerate(categories):
        n, n_called = int(total[k].sum()), int(total[:, k].sum())
        if n or n_called:
            precision, recall, f1 = (intervals[part * n_classes + k] for part in range(3))
            n_patients = int((counts[:, k].sum(axis=1) > 0).sum())
            rows.append(ClassFigures(over, label, n, n_called, n_patients, precision, recall, f1))
    return tuple(rows)


def _f1_columns(totals: metrics.IntArray) -> NDArray[np.float64]:
    """Compute weighted, macro and class-1 F1 of many confusion matrices, (n, 3), as ``metrics`` does for one."""
    n_classes = totals.shape[1]
    n_true = totals.sum(axis=2).astype(np.float64)
    f1 = _class_columns(totals)[:, 2 * n_classes :]
    summed = np.nan_to_num(f1)
    weighted = metrics.shares((n_true * summed).sum(axis=1), n_true.sum(axis=1))
    macro = metrics.shares(summed.sum(axis=1), (n_true > 0).sum(axis=1).astype(np.float64))
    return np.stack([weighted, macro, f1[:, 1]], axis=1)


def _class_columns(totals: metrics.IntArray) -> NDArray[np.float64]:
    """Compute precision, recall and F1 of each class for many confusion matrices: (n, 3 k).

    As in scikit-learn, a class that has true cells but is never called has precision 0; a class without true cells has
    neither recall nor F1 (NaN), and no precision unless it is called.
    """
    n_classes = totals.shape[1]
    hits = np.diagonal(totals, axis1=1, axis2=2).astype(np.float64)
    n_true, n_called = totals.sum(axis=2), totals[:, :, :n_classes].sum(axis=1)
    exists = n_true > 0
    recall = metrics.shares(hits, n_true.astype(np.float64))
    precision = np.divide(hits, n_called, out=np.where(exists, 0.0, math.nan), where=n_called > 0)
    f1 = np.divide(2 * hits, n_true + n_called, out=np.full(hits.shape, math.nan), where=exists)
    return np.concatenate([precision, recall, f1], axis=1)


def _auc_column(truth: NDArray[np.bool_], score: metrics.RealArray, weight: metrics.RealArray) -> metrics.RealArray:
    return metrics.shares(*metrics.won_pairs(truth, score, weight))[:, None]
