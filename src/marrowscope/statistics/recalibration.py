"""Calibration by logistic recalibration: slope, intercept, and calibration in the large, with cluster-robust intervals.

Cox, Biometrika 1958;45:562. The outcome y of a cell with probability p is fitted as logit P(y) = a + b logit(p). The
slope b is 1 if the probabilities have the right spread, below 1 if they are too extreme. The intercept a is read
together with the slope. Calibration in the large is a with b fixed at 1: above 0, the probabilities are too low on the
whole. Cells of one patient are alike, so variances come from the scores summed by patient (the sandwich estimator of
Liang and Zeger, Biometrika 1986;73:13, times G / (G - 1) for G patients), and limits from t with G - 1 degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from marrowscope.records import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.statistics.metrics import RealArray

SMALLEST_PROBABILITY = 1e-6
"""Probabilities are moved this far inside (0, 1): a rounded 0 or 1 has no logit."""

_MOST_STEPS = 60
_CONVERGED = 1e-10
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Slope, intercept and calibration in the large; NaN with the reason in ``undefined``, limits NaN with one patient.

    ``undefined`` has the reason for slope and intercept, ``undefined_in_the_large`` that for the third.
    """

    slope: Interval
    intercept: Interval
    in_the_large: Interval
    undefined: str
    undefined_in_the_large: str


def recalibrate(
    outcome: NDArray[np.bool_], probability: RealArray, cluster: NDArray[np.int64], confidence: float = 0.95
) -> Recalibration:
    """Fit both models; ``cluster`` is the number of each row's patient.

    In the large needs an outcome of each kind. The slope also needs probabilities that differ and outcomes that they do
    not separate completely: otherwise it is infinite.
    """
    outcome = np.asarray(outcome, dtype=bool)
    p = np.clip(np.asarray(probability, dtype=np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    logit = np.log(p) - np.log1p(-p)
    nothing = Interval(math.nan, math.nan, math.nan)
    if not outcome.any() or outcome.all():
        reason = "the cells are all of one kind" if len(outcome) else "no cells to measure"
        return Recalibration(nothing, nothing, nothing, reason, reason)
    ones = np.ones((len(logit), 1))
    (in_the_large,) = _fit(outcome, ones, logit, cluster, confidence)
    reason = _no_slope(outcome, logit)
    if reason:
        return Recalibration(nothing, nothing, in_the_large, reason, "")
    design = np.concatenate([ones, logit[:, None]], axis=1)
    intercept, slope = _fit(outcome, design, np.zeros(len(logit)), cluster, confidence)
    return Recalibration(slope, intercept, in_the_large, "", "")


def _no_slope(outcome: NDArray[np.bool_], logit: RealArray) -> str:
    """Say why the slope has no finite estimate; empty if it has one."""
    yes, no = logit[outcome], logit[~outcome]
    if logit.min() == logit.max():
        return "all probabilities are equal"
    if yes.min() >= no.max() or yes.max() <= no.min():
        return "the probabilities separate the two kinds completely, and the slope is infinite"
    return ""


def _fit(
    outcome: NDArray[np.bool_], design: RealArray, offset: RealArray, cluster: NDArray[np.int64], confidence: float
) -> list[Interval]:
    """Fit a logistic model by Newton's method, halving steps that do not raise the likelihood; one interval each."""
    y = outcome.astype(np.float64)
    beta = np.zeros(design.shape[1])
    best = _log_likelihood(y, offset + design @ beta)
    for _ in range(_MOST_STEPS):
        fitted = expit(offset + design @ beta)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        step = np.linalg.solve(information, design.T @ (y - fitted))
        while _log_likelihood(y, offset + design @ (beta + step)) < best and np.abs(step).max() > _CONVERGED:
            step /= 2
        beta += step
        best = _log_likelihood(y, offset + design @ beta)
        if np.abs(step).max() <= _CONVERGED:
            break
    fitted = expit(offset + design @ beta)
    bread = np.linalg.inv((design * (fitted * (1 - fitted))[:, None]).T @ design)
    number = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(number.max()) + 1
    if n_clusters < _FEWEST:
        return [Interval(float(value), math.nan, math.nan) for value in beta]
    scores = np.zeros((n_clusters, design.shape[1]))
    np.add.at(scores, number, design * (y - fitted)[:, None])
    covariance = n_clusters / (n_clusters - 1) * bread @ (scores.T @ scores) @ bread
    half = float(student.ppf(0.5 + confidence / 2, n_clusters - 1)) * np.sqrt(np.diag(covariance))
    return [Interval(float(b), float(b - h), float(b + h)) for b, h in zip(beta, half, strict=True)]


def _log_likelihood(y: RealArray, linear: RealArray) -> float:
    return float((y * linear - np.logaddexp(0.0, linear)).sum())
