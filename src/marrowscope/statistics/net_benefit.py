"""Net benefit of treating by a test, against treating everyone and no one.

Vickers and Elkin, Med Decis Making 2006;26:565. Whoever treats from a risk of pt on accepts (1 - pt) / pt unnecessary
treatments for a needed one. The net benefit is then TP / n - FP / n * pt / (1 - pt): needed treatments per patient,
less unnecessary ones at that exchange rate. Treating no one has 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marrowscope.statistics.metrics import shares

if TYPE_CHECKING:
    from marrowscope.statistics.metrics import RealArray


def net_benefit(true_positives: RealArray, false_positives: RealArray, n: RealArray, risk: RealArray) -> RealArray:
    """Compute the net benefit at each threshold ``risk`` (k,), from counts (m,) of m samples: (m, k); NaN if n is 0.

    ``risk`` is inside (0, 1). For "treat everyone", the counts are those of all patients with and without the disease.
    """
    odds = np.asarray(risk) / (1 - np.asarray(risk))
    gained, lost = shares(true_positives, n), shares(false_positives, n)
    result: RealArray = gained[:, None] - lost[:, None] * odds[None]
    return result
