"""Agreement of readers on patients' ratios: Bland and Altman's limits, and the intraclass correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher
from scipy.stats import t as student

from marrowscope.records import Interval
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RealArray = NDArray[np.float64]

_FEWEST = 3
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Mean difference, and the limits within which 95 of 100 differences are expected, each with its interval.

    ``mean`` and ``difference`` (n,) are the points of the plot.
    """

    bias: Interval
    lower: Interval
    upper: Interval
    sd: float
    mean: RealArray
    difference: RealArray


def bland_altman(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> BlandAltman:
    """Compare two readers' ratios of the same patients: first minus second (Bland and Altman, Lancet 1986;1:307).

    Limits are bias -/+ 1.96 sd; their standard error is sqrt(3 / n) sd, as in that paper. Raises ValueError with fewer
    than three patients.
    """
    a, b = _paired(first, second)
    difference = a - b
    n, bias, sd = len(a), float(difference.mean()), float(difference.std(ddof=1))
    t = float(student.ppf(0.5 + level / 2, n - 1))
    of_bias, of_limit = t * sd / math.sqrt(n), t * sd * math.sqrt(3 / n)
    low, high = bias - NORMAL_95 * sd, bias + NORMAL_95 * sd
    return BlandAltman(
        Interval(bias, bias - of_bias, bias + of_bias),
        Interval(low, low - of_limit, low + of_limit),
        Interval(high, high - of_limit, high + of_limit),
        sd,
        (a + b) / 2,
        difference,
    )


def intraclass_correlation(ratios: RealArray, level: float = 0.95) -> Interval:
    """Give ICC(2,1) of ratios (patients, readers): absolute agreement of single readers, both drawn at random.

    Shrout and Fleiss, Psychol Bull 1979;86:420, with their interval (Satterthwaite's degrees of freedom). A reader who
    counts too high lowers it, unlike a correlation. NaN where no ratio differs. Raises ValueError with fewer than three
    patients or two readers.
    """
    ratios = np.asarray(ratios, dtype=np.float64)
    n, k = ratios.shape
    if n < _FEWEST or k < 2:  # noqa: PLR2004
        message = f"found {count_of(n, 'patient')} and {count_of(k, 'reader')}, expected at least {_FEWEST} and 2"
        raise ValueError(message)
    total = ratios.mean()
    rows, columns = ratios.mean(axis=1), ratios.mean(axis=0)
    between = k * float(((rows - total) ** 2).sum()) / (n - 1)
    readers = n * float(((columns - total) ** 2).sum()) / (k - 1)
    residual = ratios - rows[:, None] - columns[None, :] + total
    error = float((residual**2).sum()) / ((n - 1) * (k - 1))
    whole = between + (k - 1) * error + k * (readers - error) / n
    if whole <= 0:
        return Interval(math.nan, math.nan, math.nan)
    icc = (between - error) / whole
    if error <= 0 and readers <= 0:
        return Interval(icc, 1.0, 1.0)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    degrees = (a * readers + b * error) ** 2 / ((a * readers) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    upper_f = float(fisher.ppf(0.5 + level / 2, n - 1, degrees))
    lower_f = float(fisher.ppf(0.5 + level / 2, degrees, n - 1))
    spread = k * readers + (k * n - k - n) * error
    lower = n * (between - upper_f * error) / (upper_f * spread + n * between)
    upper = n * (lower_f * between - error) / (spread + n * lower_f * between)
    return Interval(icc, lower, upper)


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[RealArray, RealArray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) != len(b) or len(a) < _FEWEST:
        message = (
            f"found {len(a)} and {count_of(len(b), 'ratio')}, expected both readers' ratios of the same patients, "
            f"at least {_FEWEST}"
        )
        raise ValueError(message)
    return a, b
