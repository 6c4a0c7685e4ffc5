"""Shares of one patient's cells, which cluster within fields: how many independent cells they are worth.

Cells of one field are similar (cell lines grow in groups, a field may be in a thick or thin part of the smear), so n
cells in K fields are less informative than n cells from all over the smear. The design effect d measures how much less:
a share's variance is d times that of n independent cells (Kish, Survey Sampling, 1965), and n / d is the effective
sample size.

A patient's own fields give a noisy estimate of d. The intraclass correlation pooled over a cohort gives one that
ignores the patient. The two are averaged as if the pooled estimate came from ten fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from marrowscope.records import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

RealArray = NDArray[np.float64]

PRIOR_FIELDS = 10
"""Weight of the pooled intraclass correlation, in fields, relative to the patient's own fields."""

ASSUMED_CORRELATION = 0.04
"""Intraclass correlation if no cohort was measured: that of the simulator, itself an assumption."""


def field_design_effect(x: RealArray, n: RealArray) -> RealArray:
    """Design effect of the share sum(x) / sum(n), estimated from a patient's own fields.

    ``x`` and ``n`` are (..., K): cells of the given kind and all cells, per field; a field without cells (n = 0) does
    not count. Variance of the ratio estimator (Cochran, Sampling Techniques, 1977, 2.11) over that of independent
    cells. NaN with fewer than two fields, and for a share of 0 or 1, where the fields cannot differ.
    """
    x, n = np.asarray(x, dtype=np.float64), np.asarray(n, dtype=np.float64)
    total, fields = n.sum(axis=-1), (n > 0).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = x.sum(axis=-1) / total
        residual = ((x - share[..., None] * n) ** 2).sum(axis=-1)
        clustered = fields / (fields - 1) * residual / total**2
        effect = np.where(fields > 1, clustered / (share * (1 - share) / total), np.nan)
    return np.asarray(np.where(np.isfinite(effect), effect, np.nan), dtype=np.float64)


def design_effect(x: RealArray, n: RealArray, correlation: float) -> RealArray:
    """Design effect (...,) of a patient's share, at least 1, averaged from own fields and the cohort's ``correlation``.

    d = max(1, (10 d0 + (K - 1) di) / (10 + K - 1)), where di is the patient's own design effect,
    d0 = 1 + (m - 1) correlation, and m = sum(n ** 2) / sum(n) is the mean field size weighted by cells. If di is not
    defined, d is max(1, d0).
    """
    x, n = np.asarray(x, dtype=np.float64), np.asarray(n, dtype=np.float64)
    fields = np.maximum((n > 0).sum(axis=-1), 1)
    per_field = (n**2).sum(axis=-1) / np.maximum(n.sum(axis=-1), 1)
    pooled = 1 + np.maximum(per_field - 1, 0) * correlation
    own = field_design_effect(x, n)
    mixed = (PRIOR_FIELDS * pooled + (fields - 1) * own) / (PRIOR_FIELDS + fields - 1)
    return np.asarray(np.maximum(1.0, np.where(np.isnan(own), pooled, mixed)), dtype=np.float64)


def pooled_correlation(x: Sequence[RealArray], n: Sequence[RealArray]) -> float:
    """Intraclass correlation of being of the given kind, pooled over patients; 0-1.

    ``x[i]`` and ``n[i]`` are one patient's counts per field. One-way analysis of variance for binary data (Fleiss,
    Statistical Methods for Rates and Proportions, 1981, 13.2), with sums of squares added over patients. Patients with
    one field, or with a share of 0 or 1, add nothing; without any other patient, returns the assumed correlation.
    """
    between = within = degrees_between = degrees_within = size_sum = 0.0
    for x_i, n_i in zip(x, n, strict=True):
        kept = np.asarray(n_i, dtype=np.float64) > 0
        ones, sizes = np.asarray(x_i, dtype=np.float64)[kept], np.asarray(n_i, dtype=np.float64)[kept]
        total, fields = float(sizes.sum()), len(sizes)
        if fields < 2 or total <= fields or not 0 < ones.sum() < total:  # noqa: PLR2004
            continue
        share = ones.sum() / total
        between += float((sizes * (ones / sizes - share) ** 2).sum())
        within += float((ones * (1 - ones / sizes)).sum())
        degrees_between += fields - 1
        degrees_within += total - fields
        size_sum += total - float((sizes**2).sum()) / total
    if degrees_between == 0 or between + within == 0:
        return ASSUMED_CORRELATION
    mean_between, mean_within = between / degrees_between, within / degrees_within
    size = size_sum / degrees_between
    return float(np.clip((mean_between - mean_within) / (mean_between + (size - 1) * mean_within), 0.0, 1.0))


def share_interval(x: float, n: float, effect: float = 1.0, confidence: float = 0.95) -> Interval:
    """Jeffreys interval of x of n with n / ``effect`` independent cells; the limits for 0 and n are exactly 0 and 1.

    Quantiles of Beta(p n / d + 1/2, (1 - p) n / d + 1/2) (Brown, Cai, DasGupta, Stat Sci 2001;16:101, with the
    effective sample size of Korn and Graubard). Without cells, the estimate is NaN and the limits are 0 and 1.
    """
    if n <= 0:
        return Interval(float("nan"), 0.0, 1.0)
    share, effective = x / n, n / effect
    a, b = share * effective + 0.5, (1 - share) * effective + 0.5
    tail = (1 - confidence) / 2
    lower = 0.0 if x == 0 else float(betaincinv(a, b, tail))
    upper = 1.0 if x == n else float(betaincinv(a, b, 1 - tail))
    return Interval(share, lower, upper)
