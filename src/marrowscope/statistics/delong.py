"""The AUC of patients with its interval, and the difference of two AUCs of the same patients, without resampling.

DeLong, DeLong, Clarke-Pearson, Biometrics 1988;44:837. Each patient has a placement: the share of the other class that
it is on the right side of, ties half. The AUC is the mean placement of either class, and its variance is the variance
of the placements of each class over that class's size. Placements come from midranks, so that n patients take
n log n steps and not n * n (Sun and Xu, IEEE Signal Process Lett 2014;21:1389).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from marrowscope.records import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.statistics.metrics import RealArray

_FEWEST = 2
"""A class of one has no variance."""


@dataclass(frozen=True, slots=True)
class Placements:
    """The AUC and the placement of every row of each class, in row order."""

    auc: float
    positive: RealArray
    negative: RealArray


@dataclass(frozen=True, slots=True)
class AucDifference:
    """AUC A minus AUC B of the same rows: interval, z and two-sided p of no difference.

    z and p are NaN if the difference has no variance and is not 0.
    """

    value: Interval
    z: float
    p: float


def placements(truth: NDArray[np.bool_], score: RealArray) -> Placements:
    """Compute the placements of both classes; without a row of each class the AUC is NaN and both are empty.

    The placement of a positive row is the share of negative rows with a lower score, that of a negative row the share
    of positive rows with a higher one; equal scores count half.
    """
    truth, score = np.asarray(truth, dtype=bool), np.asarray(score, dtype=np.float64)
    n_positive = int(truth.sum())
    n_negative = len(truth) - n_positive
    if not n_positive or not n_negative:
        return Placements(math.nan, np.zeros(0), np.zeros(0))
    among_all = rankdata(score)
    below = (among_all[truth] - rankdata(score[truth])) / n_negative
    above = 1 - (among_all[~truth] - rankdata(score[~truth])) / n_positive
    return Placements(float(below.mean()), below, above)


def auc_interval(truth: NDArray[np.bool_], score: RealArray, confidence: float = 0.95, *, cut: bool = True) -> Interval:
    """Compute the AUC with DeLong's interval, cut to 0-1 unless ``cut`` is False.

    NaN without a row of each class; no limits with fewer than two rows of a class. If one class is entirely above the
    other, the interval has zero width and says nothing about the error.
    """
    found = placements(truth, score)
    low, high = (0.0, 1.0) if cut else (-math.inf, math.inf)
    return wald_interval(found.auc, _covariance(found, found), confidence, low=low, high=high)


def auc_difference(
    truth: NDArray[np.bool_], score_a: RealArray, score_b: RealArray, confidence: float = 0.95
) -> AucDifference:
    """Compare the AUCs of two scores of the same rows (paired), with DeLong's test of no difference."""
    a, b = placements(truth, score_a), placements(truth, score_b)
    difference = a.auc - b.auc
    variance = _covariance(a, a) + _covariance(b, b) - 2 * _covariance(a, b)
    value = wald_interval(difference, variance, confidence, low=-1.0, high=1.0)
    if math.isnan(value.lower):
        return AucDifference(value, math.nan, math.nan)
    error = math.sqrt(max(variance, 0.0))
    if error > 0:
        z = difference / error
        return AucDifference(value, z, math.erfc(abs(z) / math.sqrt(2)))
    z = 0.0 if difference == 0 else math.nan
    return AucDifference(value, z, 1.0 if difference == 0 else math.nan)


def wald_interval(estimate: float, variance: float, confidence: float, *, low: float, high: float) -> Interval:
    """Return the estimate with normal limits, cut to ``low`` and ``high``; no limits if the variance is NaN."""
    if math.isnan(estimate) or math.isnan(variance):
        return Interval(estimate, math.nan, math.nan)
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(max(variance, 0.0))
    return Interval(estimate, max(low, estimate - half), min(high, estimate + half))


def _covariance(a: Placements, b: Placements) -> float:
    """Compute the covariance of two AUCs of the same rows; NaN with fewer than two rows of a class."""
    if min(len(a.positive), len(a.negative)) < _FEWEST:
        return math.nan
    parts = [
        float(((left - left.mean()) * (right - right.mean())).sum()) / (len(left) - 1) / len(left)
        for left, right in ((a.positive, b.positive), (a.negative, b.negative))
    ]
    return sum(parts)
