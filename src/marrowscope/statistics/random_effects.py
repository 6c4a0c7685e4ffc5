"""Summarize one figure of several centers as a sample of centers: mean, interval, and what a new center may show.

The figure y_i of center i is normal around the center's own value with the known variance v_i, and the centers' values
are normal around a mean with variance tau2. tau2 is estimated by restricted maximum likelihood (Viechtbauer, J Educ
Behav Stat 2005;30:261). The mean weights centers by 1 / (v_i + tau2). Its variance is that of Hartung and Knapp (Stat
Med 2001;20:3875) and Sidik and Jonkman (Stat Med 2002;21:3153): the weighted spread of the centers around the mean,
with t of k - 1 degrees. Where centers agree better than their own errors allow, the spread counts as 1, so that chance
does not narrow the interval (Roever, Knapp, Friede, BMC Med Res Methodol 2015;15:99). The prediction interval for a new
center adds tau2, with the same t (IntHout et al., BMJ Open 2016;6:e010247).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

from marrowscope.records import Interval

if TYPE_CHECKING:
    from marrowscope.statistics.metrics import RealArray

_MOST_STEPS = 500
_CONVERGED = 1e-12
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class CenterSummary:
    """Mean over centers with its interval, prediction interval for a new center, and how far centers differ.

    ``tau2`` is the variance between centers, ``i2`` the share of the spread that is not sampling error (0-1), ``q`` and
    ``p`` the test that all centers have one value.
    """

    mean: Interval
    prediction_lower: float
    prediction_upper: float
    tau2: float
    i2: float
    q: float
    p: float
    n_centers: int


def summarize_centers(estimate: RealArray, variance: RealArray, confidence: float = 0.95) -> CenterSummary:
    """Summarize at least two centers; raises ValueError for fewer, or for a variance that is not above 0."""
    y, v = np.asarray(estimate, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    k = len(y)
    if k < _FEWEST or not np.all(np.isfinite(y)) or not np.all(np.isfinite(v) & (v > 0)):
        message = f"found {k} centers with variances {v.tolist()}, expected at least two, each with a variance above 0"
        raise ValueError(message)
    tau2 = restricted_likelihood_tau2(y, v)
    weight = 1 / (v + tau2)
    mean = float((weight * y).sum() / weight.sum())
    spread = max(1.0, float((weight * (y - mean) ** 2).sum()) / (k - 1))
    error = math.sqrt(spread / float(weight.sum()))
    quantile = float(student.ppf(0.5 + confidence / 2, k - 1))
    half, reach = quantile * error, quantile * math.sqrt(tau2 + error**2)
    fixed = 1 / v
    q = float((fixed * (y - (fixed * y).sum() / fixed.sum()) ** 2).sum())
    typical = (k - 1) * float(fixed.sum()) / float(fixed.sum() ** 2 - (fixed**2).sum())
    return CenterSummary(
        mean=Interval(mean, mean - half, mean + half),
        prediction_lower=mean - reach,
        prediction_upper=mean + reach,
        tau2=tau2,
        i2=tau2 / (tau2 + typical),
        q=q,
        p=float(chi2.sf(q, k - 1)),
        n_centers=k,
    )


def restricted_likelihood_tau2(estimate: RealArray, variance: RealArray) -> float:
    """Estimate the variance between centers by Fisher scoring of the restricted likelihood; never below 0."""
    y, v = estimate, variance
    tau2 = max(0.0, float(np.var(y, ddof=1) - v.mean()))
    for _ in range(_MOST_STEPS):
        weight = 1 / (v + tau2)
        total = float(weight.sum())
        residual = y - float((weight * y).sum()) / total
        # P = W - W 1 1' W / sum(W); the score is (y'PPy - trace P) / 2, the information trace(PP) / 2.
        trace = total - float((weight**2).sum()) / total
        trace_squared = (
            float((weight**2).sum()) - 2 * float((weight**3).sum()) / total + float((weight**2).sum()) ** 2 / total**2
        )
        step = (float((weight**2 * residual**2).sum()) - trace) / trace_squared
        moved = max(0.0, tau2 + step)
        if abs(moved - tau2) <= _CONVERGED * (1 + tau2):
            return moved
        tau2 = moved
    return tau2
