"""Figures of the classifier: CBLC and category, on matched cells and on all expert cells.

- "matched": expert cells found by a kept detection; measures classification alone.
- "all expert": every expert cell, with a miss counted as a wrong call; measures what a user gets.

Coarse labels: a call is right if it lies in the label's set. That is the rule of the accuracy. F1 needs one true
category: cells with an open one are true cells of none, but where their call lies outside of their set it is a wrong
call of the category called. Each coarse label has a row of its own. A cell that leaves CBLC open is in no CBLC figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import OVER
from marrowscope.evaluate.frames import ALL_EXPERT, MATCHED
from marrowscope.records import Interval
from marrowscope.statistics import metrics
from marrowscope.statistics.clustered_auc import clustered_auc_interval
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.evaluate.scorer import Figure, Scorer

_MISSES = {MATCHED: "found cells only: classification alone", ALL_EXPERT: "a missed cell counts as wrong"}


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One category with its intervals, over matched or all expert cells.

    ``n`` true cells from ``n_patients`` patients, and ``n_called`` cells assigned to the category. In the row of a
    coarse label ``n_called`` are its cells whose call lies in its set, recall is their share, and the rest is NaN.
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
    """Compute one confusion matrix per patient, (patients, n_classes, n_classes + 1), of cells with one true class."""
    frame = frame.filter(pl.col(column).is_not_null())
    positions = scorer.positions(frame)
    truth = frame[column].cast(pl.Int64).to_numpy()
    predicted = frame[f"predicted_{column}"].fill_null(metrics.NO_PREDICTION).to_numpy()
    matrices = [
        metrics.confusion_matrix(truth[positions == index], predicted[positions == index], n_classes)
        for index in range(len(scorer.patients))
    ]
    return np.array(matrices, dtype=np.int64).reshape(-1, n_classes, n_classes + 1)


def coarse_calls(frame: pl.DataFrame, n_classes: int) -> dict[str, metrics.IntArray]:
    """Count the calls (n_classes + 1,) of each coarse label that leaves the category open; the last are misses."""
    return {
        str(label): np.bincount(_called(cells, n_classes), minlength=n_classes + 1).astype(np.int64)
        for (label,), cells in sorted(frame.filter(pl.col("coarse").is_not_null()).group_by("coarse"))
    }


def _called(cells: pl.DataFrame, n_classes: int) -> metrics.IntArray:
    """Return the called category of each cell; n_classes for a miss."""
    return cells["predicted_category"].fill_null(n_classes).to_numpy().astype(np.int64)


def right_calls(frame: pl.DataFrame) -> pl.Series:
    """Whether the call is the true category, or lies in the set of a coarse label; a miss is wrong."""
    called = pl.col("predicted_category")
    in_set = pl.col("may_be").list.contains(called)
    right = pl.when(pl.col("coarse").is_not_null()).then(in_set).otherwise(pl.col("category") == called)
    return frame.select(right.fill_null(value=False).alias("right"))["right"]


def with_wrong_calls(scorer: Scorer, frame: pl.DataFrame, n_classes: int) -> metrics.IntArray:
    """Add a row to each patient's confusion matrix: the calls of coarse cells that lie outside of their set."""
    counts = confusions(scorer, frame, "category", n_classes)
    wrong = frame.filter(pl.col("coarse").is_not_null() & ~right_calls(frame))
    rows = np.zeros((len(counts), 1, n_classes + 1), dtype=np.int64)
    np.add.at(rows[:, 0], (scorer.positions(wrong), _called(wrong, n_classes)), 1)
    return np.concatenate([counts, rows], axis=1)


def cblc_figures(scorer: Scorer, frame: pl.DataFrame, over: str) -> list[Figure]:
    """Compute the F1 figures of CBLC and, for matched cells (which have a probability), the AUC."""
    n_undecided = frame["cblc"].null_count()
    frame = frame.filter(pl.col("cblc").is_not_null())
    counts = confusions(scorer, frame, "cblc", 2)
    truth = frame["cblc"].to_numpy()
    all_negative = metrics.confusion_matrix(truth.astype(np.int64), np.zeros(len(truth), dtype=np.int64), 2)
    weighted, _, positive = scorer.of_columns(counts, f1_columns)
    ending = OVER[over].key
    note = f"{int(truth.sum())} CBLC of {len(truth)}; {_MISSES[over]}"
    if n_undecided:
        note += f"; {count_of(n_undecided, 'cell')} left out: coarse labels that do not decide CBLC"
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
        clustered = clustered_auc_interval(truth, score, scorer.positions(frame))
        figures += [
            scorer.figure(key + ending, value, frame, reference=0.5, note=note, undefined=one_class)
            for key, value in (("cblc_auc", auc), ("cblc_auc_clustered", clustered))
        ]
    return figures


def category_figures(scorer: Scorer, frame: pl.DataFrame, categories: Sequence[str], over: str) -> list[Figure]:
    """Compute weighted and macro F1 and the accuracy of the categories; the note names the categories averaged."""
    counts = with_wrong_calls(scorer, frame, len(categories))
    decided = frame.filter(pl.col("category").is_not_null())
    present = metrics.present_classes(counts[:, : len(categories)].sum(axis=0))
    note = f"averaged over {len(present)}: " + " ".join(categories[k] for k in present) + f"; {_MISSES[over]}"
    n_coarse = len(frame) - len(decided)
    coarse_note = (
        f"; {count_of(n_coarse, 'cell')} with coarse labels: only a call outside the label's set counts, as wrong"
    )
    weighted, macro, _ = scorer.of_columns(counts, f1_columns)
    figures = [
        scorer.figure(
            f"category_{name}_f1{OVER[over].key}", value, decided, note=note + (coarse_note if n_coarse else "")
        )
        for name, value in (("weighted", weighted), ("macro", macro))
    ]
    right = scorer.sum_by_patient(frame, right_calls(frame).cast(pl.Float64).to_numpy())
    sums = np.stack([right, scorer.sum_by_patient(frame, np.ones(len(frame)))], axis=1)
    rule = (
        f"; of {count_of(n_coarse, 'cell')} with coarse labels, a call in the label's set is right" if n_coarse else ""
    )
    accuracy = scorer.of_sums(sums, lambda total: metrics.share(total[0], total[1]))
    return [*figures, scorer.figure(f"category_accuracy{OVER[over].key}", accuracy, frame, note=_MISSES[over] + rule)]


def class_figures(
    scorer: Scorer, frame: pl.DataFrame, categories: Sequence[str], over: str
) -> tuple[ClassFigures, ...]:
    """Compute precision, recall and F1 of every category with at least one true or called cell."""
    counts = with_wrong_calls(scorer, frame, len(categories))
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
    return (*rows, *_coarse_figures(scorer, frame, over))


def _coarse_figures(scorer: Scorer, frame: pl.DataFrame, over: str) -> list[ClassFigures]:
    """One row per coarse label that leaves the category open: the share of its cells whose call lies in its set."""
    rows = []
    for label in sorted(set(frame["coarse"].drop_nulls())):
        cells = frame.filter(pl.col("coarse") == label)
        n = scorer.sum_by_patient(cells, np.ones(len(cells)))
        right = scorer.sum_by_patient(cells, right_calls(cells).cast(pl.Float64).to_numpy())
        recall = scorer.of_sums(np.stack([right, n], axis=1), lambda total: metrics.share(total[0], total[1]))
        none = Interval(math.nan, math.nan, math.nan)
        rows.append(ClassFigures(over, label, len(cells), int(right.sum()), int((n > 0).sum()), none, recall, none))
    return rows


def f1_columns(totals: metrics.IntArray) -> NDArray[np.float64]:
    """Compute weighted, macro and class-1 F1 of many confusion matrices, (n, 3), as ``metrics`` does for one."""
    n_classes = totals.shape[2] - 1
    n_true = totals[:, :n_classes].sum(axis=2).astype(np.float64)
    f1 = _class_columns(totals)[:, 2 * n_classes :]
    summed = np.nan_to_num(f1)
    weighted = metrics.shares((n_true * summed).sum(axis=1), n_true.sum(axis=1))
    macro = metrics.shares(summed.sum(axis=1), (n_true > 0).sum(axis=1).astype(np.float64))
    return np.stack([weighted, macro, f1[:, 1]], axis=1)


def _class_columns(totals: metrics.IntArray) -> NDArray[np.float64]:
    """Compute precision, recall and F1 of each class for many confusion matrices: (n, 3 k).

    As in scikit-learn, a class that has true cells but is never called has precision 0; a class without true cells has
    neither recall nor F1 (NaN), and no precision unless it is called. Rows after the classes are calls of cells that
    belong to none of them.
    """
    n_classes = totals.shape[2] - 1
    hits = np.diagonal(totals[:, :n_classes], axis1=1, axis2=2).astype(np.float64)
    n_true, n_called = totals[:, :n_classes].sum(axis=2), totals[:, :, :n_classes].sum(axis=1)
    exists = n_true > 0
    recall = metrics.shares(hits, n_true.astype(np.float64))
    precision = np.divide(hits, n_called, out=np.where(exists, 0.0, math.nan), where=n_called > 0)
    f1 = np.divide(2 * hits, n_true + n_called, out=np.full(hits.shape, math.nan), where=exists)
    return np.concatenate([precision, recall, f1], axis=1)


def _auc_column(truth: NDArray[np.bool_], score: metrics.RealArray, weight: metrics.RealArray) -> metrics.RealArray:
    return metrics.shares(*metrics.won_pairs(truth, score, weight))[:, None]
