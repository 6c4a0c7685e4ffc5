"""Confidence intervals: Wilson's for a proportion, and the percentile bootstrap over patients.

Cells of one patient are similar, so cell-level metrics are bootstrapped by patient: whole patients are drawn with
replacement, and all rows of a drawn patient are included as often as the patient is drawn. A share of one patient's
cells cannot be resampled this way; a design effect accounts for clustering within fields (see ``clusters``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from marrowscope.records import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

IndexArray = NDArray[np.int64]
_FEWEST_GROUPS = 2
"""A single group would always be drawn: resampling would claim certainty."""

ScalarT = TypeVar("ScalarT", np.int64, np.float64)


MOST_WIDTH = 0.5
"""Width of an interval of a share, half the scale, beyond which the share is not printed as a figure of its own."""


def is_wide(lower: float | None, upper: float | None) -> bool:
    """Whether an interval of a share (0-1) is wider than half the scale; without limits it is not."""
    return lower is not None and upper is not None and upper - lower > MOST_WIDTH


def wilson_interval(x: int, n: int, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion ``x / n`` (Wilson, J Am Stat Assoc 1927;22:209), without continuity correction.

    Treats the ``n`` observations as independent. For ``n == 0``, the estimate is NaN and the limits are 0 and 1.
    Raises ValueError unless 0 <= x <= n and the confidence is inside (0, 1).
    """
    if not 0 <= x <= n:
        message = f"found a proportion of x={x} among n={n}, expected 0 <= x <= n"
        raise ValueError(message)
    z = NormalDist().inv_cdf(0.5 + _checked_confidence(confidence) / 2)
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    p = x / n
    shrink = 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The limits for 0 and n are exactly 0 and 1; the subtraction alone would leave a rounding error.
    lower = 0.0 if x == 0 else max(0.0, middle - half)
    upper = 1.0 if x == n else min(1.0, middle + half)
    return Interval(p, lower, upper)


def bootstrap_over_groups(
    groups: Sequence[str],
    statistic: Callable[[IndexArray], float],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of ``statistic`` with whole groups (patients) resampled.

    ``groups`` has the group of each row; ``statistic`` takes row indices (int64, possibly repeated) and returns a
    number, NaN if it is not defined on them. Resamples with NaN are left out. The estimate is the statistic on all
    rows. The limits are NaN with fewer than two groups, or if fewer than half of the resamples are defined: an interval
    over the rest would describe different data.
    """
    rows = _rows_by_group(groups)
    everything = np.arange(len(groups), dtype=np.int64)
    estimate = statistic(everything) if len(groups) else math.nan
    values = [
        statistic(np.concatenate([rows[i] for i in drawn])) for drawn in _drawn_groups(len(rows), n_resamples, seed)
    ]
    return _percentile_interval(estimate, values, confidence)


def bootstrap_sums(
    sums: NDArray[ScalarT],
    statistic: Callable[[NDArray[ScalarT]], float],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of sums over groups; same as ``bootstrap_over_groups``, but much faster.

    ``sums`` (n_groups, ...) is the contribution of each group (cells found and all cells, a confusion matrix), with the
    groups in a fixed order. The statistic takes the total of a resample, of the same shape without the first axis.
    """
    n_groups = len(sums)
    estimate = statistic(sums.sum(axis=0)) if n_groups else math.nan
    if n_groups < _FEWEST_GROUPS:
        return _percentile_interval(estimate, [], confidence)
    times = _times_drawn(n_groups, n_resamples, seed)
    totals = (times.astype(sums.dtype) @ sums.reshape(n_groups, -1)).reshape(len(times), *sums.shape[1:])
    return _percentile_interval(estimate, [statistic(total) for total in totals], confidence)


def bootstrap_columns(
    sums: NDArray[ScalarT],
    statistic: Callable[[NDArray[ScalarT]], NDArray[np.float64]],
    *,
    block: int = 2000,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """Intervals of many statistics of sums over groups at once (such as each class's recall), without a loop.

    ``statistic`` takes the totals of up to ``block`` resamples (n, ...) and returns (n, k) numbers, NaN if undefined.
    The draws and the rule for NaN are those of ``bootstrap_sums``. Returns k intervals. With the identity matrix as
    ``sums``, the totals are how often each group is drawn, and the statistic weights the rows itself.
    """
    estimates = statistic(sums.sum(axis=0)[None])[0]
    n_groups = len(sums)
    if n_groups < _FEWEST_GROUPS:
        return [Interval(float(estimate), math.nan, math.nan) for estimate in estimates]
    times = _times_drawn(n_groups, n_resamples, seed).astype(sums.dtype)
    flat = sums.reshape(n_groups, -1)
    parts = [
        statistic((times[start : start + block] @ flat).reshape(-1, *sums.shape[1:]))
        for start in range(0, n_resamples, block)
    ]
    columns = np.concatenate(parts).T if parts else np.zeros((len(estimates), 0))
    return [
        _percentile_interval(float(estimate), column, confidence)
        for estimate, column in zip(estimates, columns, strict=True)
    ]


def bootstrap_difference(
    groups_a: Sequence[str],
    statistic_a: Callable[[IndexArray], float],
    groups_b: Sequence[str],
    statistic_b: Callable[[IndexArray], float],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of ``statistic_a - statistic_b`` measured on the same patients (paired).

    Each resample draws patients once and uses their rows on both sides. The two sides may have different rows (two
    segmenters find different cells), but not different patients, which raises ValueError.
    """
    if set(groups_a) != set(groups_b):
        odd = sorted(set(groups_a) ^ set(groups_b))
        message = f"found groups on one side only: {', '.join(odd[:5])}; a paired difference needs the same on both"
        raise ValueError(message)
    rows_a, rows_b = _rows_by_group(groups_a), _rows_by_group(groups_b)
    everything_a = np.arange(len(groups_a), dtype=np.int64)
    everything_b = np.arange(len(groups_b), dtype=np.int64)
    estimate = statistic_a(everything_a) - statistic_b(everything_b) if rows_a else math.nan
    values = []
    for drawn in _drawn_groups(len(rows_a), n_resamples, seed):
        left = statistic_a(np.concatenate([rows_a[i] for i in drawn]))
        right = statistic_b(np.concatenate([rows_b[i] for i in drawn]))
        values.append(left - right)
    return _percentile_interval(estimate, values, confidence)


def _rows_by_group(groups: Sequence[str]) -> list[IndexArray]:
    """Row indices of each group, in sorted order of groups, so that the draw does not depend on the row order."""
    rows: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        rows.setdefault(group, []).append(index)
    return [np.array(rows[group], dtype=np.int64) for group in sorted(rows)]


def _drawn_groups(n_groups: int, n_resamples: int, seed: int) -> Iterator[IndexArray]:
    """Group indices of each resample; none with fewer than two groups, where resampling is meaningless."""
    if n_groups < _FEWEST_GROUPS:
        return
    generator = np.random.default_rng(seed)
    for _ in range(n_resamples):
        yield generator.integers(0, n_groups, size=n_groups)


@lru_cache(maxsize=8)
def _times_drawn(n_groups: int, n_resamples: int, seed: int) -> IndexArray:
    """Count how often each resample draws each group: (resamples, groups)."""
    drawn = [np.bincount(groups, minlength=n_groups) for groups in _drawn_groups(n_groups, n_resamples, seed)]
    return np.array(drawn, dtype=np.int64).reshape(n_resamples, n_groups)


def _percentile_interval(estimate: float, values: Sequence[float] | NDArray[np.float64], confidence: float) -> Interval:
    tail = (1 - _checked_confidence(confidence)) / 2
    drawn = np.asarray(values, dtype=np.float64)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) == 0 or len(defined) < len(values) / 2:
        return Interval(estimate, math.nan, math.nan)
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return Interval(estimate, float(lower), float(upper))


def _checked_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        message = f"found confidence {confidence}, expected a number between 0 and 1, such as 0.95"
        raise ValueError(message)
    return confidence
