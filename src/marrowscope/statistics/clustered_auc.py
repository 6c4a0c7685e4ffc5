"""The AUC of cells with an interval that allows for cells of one patient being alike.

Obuchowski, Biometrics 1997;53:567. The estimate is the usual AUC over all cells. Its variance takes the patient as the
unit: placements (see ``delong``) are summed over each patient's cells, and a patient with cells of both classes adds a
covariance. With one cell per patient it is DeLong's variance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.statistics.delong import placements, wald_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.records import Interval
    from marrowscope.statistics.metrics import RealArray

_FEWEST = 2


def clustered_auc_interval(
    truth: NDArray[np.bool_], score: RealArray, cluster: NDArray[np.int64], confidence: float = 0.95
) -> Interval:
    """Compute the AUC with Obuchowski's interval, cut to 0-1; ``cluster`` is the number of each row's patient.

    NaN without a row of each class. No limits if fewer than two patients have a row of a class.
    """
    truth = np.asarray(truth, dtype=bool)
    found = placements(truth, score)
    if math.isnan(found.auc):
        return wald_interval(math.nan, math.nan, confidence, low=0.0, high=1.0)
    number = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(number.max()) + 1
    sums = [
        (np.bincount(number[rows], minlength=n_clusters), np.bincount(number[rows], values, minlength=n_clusters))
        for rows, values in ((truth, found.positive), (~truth, found.negative))
    ]
    centered = [total - n * found.auc for n, total in sums]
    variance = 0.0
    for (n, _), off in zip(sums, centered, strict=True):
        n_with = int((n > 0).sum())
        if n_with < _FEWEST:
            variance = math.nan
            break
        variance += n_with / (n_with - 1) * float((off**2).sum()) / int(n.sum()) ** 2
    both = n_clusters / max(1, n_clusters - 1) * float((centered[0] * centered[1]).sum())
    variance += 2 * both / (int(truth.sum()) * int((~truth).sum()))
    return wald_interval(found.auc, variance, confidence, low=0.0, high=1.0)
