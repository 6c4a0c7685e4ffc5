"""Metrics on plain arrays: classification, ranking, agreement, detection.

Classes are integers 0..k-1. A prediction of ``NO_PREDICTION`` (-1) is a cell that was not found, and counts as wrong.
A metric that is not defined on the data (no cells, only one class) is NaN, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]

NO_PREDICTION = -1
_RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
"""The recall levels at which COCO evaluates precision (cocodataset.org, detection evaluation)."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: ``n`` true cells, and precision, recall and F1 (0-1; 0 if the class is never predicted)."""

    n: int
    precision: float
    recall: float
    f1: float


def confusion_matrix(truth: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Count cells by true class (rows) and predicted class (columns); the last column is ``NO_PREDICTION``.

    Shape (n_classes, n_classes + 1). Raises ValueError for a label out of range.
    """
    truth = np.asarray(truth, dtype=np.int64)
    predicted = np.asarray(predicted, dtype=np.int64)
    if truth.shape != predicted.shape:
        message = (
            f"found {truth.shape[0]} true and {count_of(predicted.shape[0], 'predicted label')}, expected equal numbers"
        )
        raise ValueError(message)
    if truth.size and not (
        0 <= truth.min() <= truth.max() < n_classes and predicted.min() >= NO_PREDICTION and predicted.max() < n_classes
    ):
        message = (
            f"found labels {truth.min()}..{truth.max()} (true) and {predicted.min()}..{predicted.max()} (predicted), "
            f"expected 0..{n_classes - 1}, and {NO_PREDICTION} only as a prediction"
        )
        raise ValueError(message)
    columns = np.where(predicted == NO_PREDICTION, n_classes, predicted)
    counts = np.bincount(truth * (n_classes + 1) + columns, minlength=n_classes * (n_classes + 1))
    return counts.reshape(n_classes, n_classes + 1).astype(np.int64)


def class_scores(confusion: IntArray) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class of a ``confusion_matrix``."""
    n_true, n_called, f1 = _f1_by_class(confusion)
    hits = np.diagonal(confusion)
    return tuple(
        ClassScore(
            n=int(n_true[k]),
            precision=float(hits[k] / n_called[k]) if n_called[k] else 0.0,
            recall=float(hits[k] / n_true[k]) if n_true[k] else 0.0,
            f1=float(f1[k]),
        )
        for k in range(len(confusion))
    )


def weighted_f1(confusion: IntArray) -> float:
    """Mean F1 over classes, weighted by their numbers of true cells; NaN without cells."""
    n_true, _, f1 = _f1_by_class(confusion)
    total = n_true.sum()
    return float((n_true * f1).sum() / total) if total else math.nan


def macro_f1(confusion: IntArray, classes: Sequence[int] | None = None) -> float:
    """Unweighted mean F1 over ``classes``, by default those with a true cell (``present_classes``); NaN without any."""
    averaged = present_classes(confusion) if classes is None else tuple(classes)
    if not averaged:
        return math.nan
    return float(_f1_by_class(confusion)[2][list(averaged)].mean())


def present_classes(confusion: IntArray) -> tuple[int, ...]:
    """Classes that have a true cell: the ones to average over."""
    return tuple(int(k) for k in np.flatnonzero(confusion.sum(axis=1)))


def positive_f1(confusion: IntArray) -> float:
    """F1 of class 1 of a two-class ``confusion_matrix``; NaN without a true positive cell."""
    n_true, _, f1 = _f1_by_class(confusion)
    return float(f1[1]) if n_true[1] else math.nan


def roc_auc(truth: NDArray[np.bool_], score: RealArray) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann-Whitney); NaN with one class."""
    truth = np.asarray(truth, dtype=bool)
    n_positive = int(truth.sum())
    n_negative = len(truth) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    _, inverse, counts = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def mean_absolute_error(truth: RealArray, estimate: RealArray) -> float:
    """Mean of |estimate - truth|; NaN without rows."""
    return float(np.abs(estimate - truth).mean()) if len(truth) else math.nan


def bias(truth: RealArray, estimate: RealArray) -> float:
    """Mean of estimate - truth: positive when the estimate is too high; NaN without rows."""
    return float((estimate - truth).mean()) if len(truth) else math.nan


def concordance(truth: RealArray, estimate: RealArray) -> float:
    """Lin's concordance correlation coefficient (Biometrics 1989;45:255), with moments divided by n.

    1 only if every estimate equals the truth. NaN with fewer than two rows, or if both sides are constant.
    """
    if len(truth) < 2:  # noqa: PLR2004  agreement needs spread
        return math.nan
    covariance = float(((truth - truth.mean()) * (estimate - estimate.mean())).mean())
    spread = float(truth.var() + estimate.var() + (truth.mean() - estimate.mean()) ** 2)
    return 2 * covariance / spread if spread > 0 else math.nan


def share(part: float, whole: float) -> float:
    """``part / whole``, NaN if ``whole`` is 0: detection recall (pairs / expert), precision (pairs / predicted)."""
    return float(part / whole) if whole else math.nan


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of a ROC curve from (0, 0) to (1, 1), and the score threshold of each point.

    The first threshold is infinity: nothing is called positive. The arrays are empty if one class is absent.
    """

    false_positive_rate: RealArray
    true_positive_rate: RealArray
    threshold: RealArray


def roc_curve(truth: NDArray[np.bool_], score: RealArray) -> RocCurve:
    """Compute the rates at every distinct score, highest first; positive is ``score >= threshold``."""
    truth = np.asarray(truth, dtype=bool)
    score = np.asarray(score, dtype=np.float64)
    n_positive = int(truth.sum())
    n_negative = len(truth) - n_positive
    if not n_positive or not n_negative:
        nothing = np.zeros(0)
        return RocCurve(nothing, nothing, nothing)
    order = np.argsort(-score, kind="stable")
    ranked, hit = score[order], truth[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    true_positives = np.cumsum(hit)[last]
    false_positives = last + 1 - true_positives
    return RocCurve(
        np.append(0.0, false_positives / n_negative),
        np.append(0.0, true_positives / n_positive),
        np.append(np.inf, ranked[last]),
    )


def won_pairs(truth: NDArray[np.bool_], score: RealArray, weight: RealArray) -> tuple[RealArray, RealArray]:
    """Weighted number of positive-negative pairs that the positive wins (ties half), and of all such pairs.

    ``weight`` (..., n) is how often each row counts; returns two arrays (...). Their ratio is ``roc_auc`` of the rows
    repeated that often. Summed over strata first, it is the AUC over pairs within a stratum.
    """
    if not len(truth):
        nothing = np.zeros(weight.shape[:-1])
        return nothing, nothing
    order = np.argsort(score, kind="stable")
    ranked, is_positive = np.asarray(score)[order], np.asarray(truth, dtype=bool)[order]
    starts = np.flatnonzero(np.append(True, np.diff(ranked) != 0))
    weight = weight[..., order]
    positive = np.add.reduceat(weight * is_positive, starts, axis=-1)
    negative = np.add.reduceat(weight * ~is_positive, starts, axis=-1)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return (positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1)


def shares(part: RealArray, whole: RealArray) -> RealArray:
    """Elementwise ``share``: NaN where ``whole`` is 0."""
    result: RealArray = np.full(np.shape(whole), math.nan)
    np.divide(part, whole, out=result, where=np.asarray(whole) > 0)
    return result


def equal_mass_bins(probability: RealArray, n_bins: int) -> IntArray:
    """Bin (0..) of each probability, with bins of equal size as far as possible; equal probabilities share a bin.

    The sorted values are cut into ``n_bins`` runs. A cut inside a run of ties moves to its end, so there may be fewer
    bins.
    """
    probability = np.asarray(probability, dtype=np.float64)
    values, inverse, counts = np.unique(probability, return_inverse=True, return_counts=True)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    before = np.cumsum(counts) - counts  # rows below each distinct value
    bins: IntArray = np.unique(before * n_bins // len(probability), return_inverse=True)[1][inverse].astype(np.int64)
    return bins


def expected_calibration_error(n: RealArray, sum_probability: RealArray, sum_outcome: RealArray) -> float:
    """Mean over bins of |mean probability - share of outcomes|, weighted by ``n`` (Naeini, AAAI 2015); NaN if empty.

    Takes the sums of each bin, so that patients can be added up. It is never negative, and is biased upward with few
    cells.
    """
    total = float(np.sum(n))
    return float(np.abs(np.asarray(sum_probability) - np.asarray(sum_outcome)).sum()) / total if total else math.nan


def average_precision(hit: NDArray[np.bool_], n_truth: RealArray, weight: RealArray) -> RealArray:
    """Average precision as in COCO: the mean, over 101 recall levels, of the best precision at or above that recall.

    ``hit`` (n,) is whether each detection, highest score first, found a true object. ``weight`` (m, n) is how often
    each counts in each of m resamples, ``n_truth`` (m,) the number of true objects. Returns (m,). A recall level that
    is never reached has precision 0; NaN without a true object.
    """
    m, n = weight.shape
    if n:
        true_positives = np.cumsum(weight * hit, axis=1)
        called = np.cumsum(weight, axis=1)
        precision = np.divide(true_positives, called, out=np.zeros((m, n)), where=called > 0)
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = np.divide(true_positives, n_truth[:, None], out=np.zeros((m, n)), where=n_truth[:, None] > 0)
        # One search for all rows: row i is shifted to 2 i .. 2 i + 1. A recall of 3 / 10 must reach the level 0.3
        # despite rounding.
        shift = 2.0 * np.arange(m)[:, None]
        reached = np.searchsorted((recall + shift).ravel(), (_RECALL_LEVELS - 1e-9 + shift).ravel(), side="left")
        reached = reached.reshape(m, -1) - n * np.arange(m)[:, None]
        padded = np.concatenate([best_from_here, np.zeros((m, 1))], axis=1)
        average = np.take_along_axis(padded, np.clip(reached, 0, n), axis=1).mean(axis=1)
    else:
        average = np.zeros(m)
    return np.where(n_truth > 0, average, math.nan)


def _f1_by_class(confusion: IntArray) -> tuple[IntArray, IntArray, RealArray]:
    """Compute true cells, called cells and F1 = 2 TP / (true + called) of each class (0 if both are 0)."""
    n_classes = len(confusion)
    n_true = confusion.sum(axis=1)
    n_called = confusion[:, :n_classes].sum(axis=0)
    both = n_true + n_called
    f1 = np.divide(2.0 * np.diagonal(confusion), both, out=np.zeros(n_classes), where=both > 0)
    return n_true, n_called, f1
