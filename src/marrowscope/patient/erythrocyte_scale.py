"""Whether the stated scale makes a patient's erythrocytes as large as erythrocytes are.

The fields' median diameters are pooled, each field counting by its measured erythrocytes. Means of normal blood are
7.2 to 7.7 um on a dried, stained smear, and those of severe micro- and macrocytosis lie within 5.5 to 9.5 um: outside,
the stated scale is wrong rather than the blood. The scale that would fit makes the diameter 7.5 um.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.cells.erythrocyte_size import MIN_POOLED, NORMAL_UM

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAUSIBLE_UM = (5.5, 9.5)
"""Outside, the stated scale is wrong. Microcytes of 6 um and macrocytes of 9 um are within."""


@dataclass(frozen=True, slots=True)
class ErythrocyteScale:
    """A patient's erythrocytes: median diameter by the stated scale, None below MIN_POOLED, and their number.

    ``fits`` tells whether the diameter is within PLAUSIBLE_UM, None where there is none; ``fitting_um_per_px`` is the
    scale that would make it NORMAL_UM, None unless it is outside.
    """

    diameter_um: float | None
    n: int
    fits: bool | None
    fitting_um_per_px: float | None

    def row(self) -> dict[str, Any]:
        """Return the columns of the patients table; ``patient.depth`` gives the scale that fits."""
        return {"erythrocyte_diameter_um": self.diameter_um, "n_erythrocytes": self.n}


def erythrocyte_scale_check(fields: pl.DataFrame) -> ErythrocyteScale:
    """Pool the erythrocytes of a patient's rows of the fields table; fields without a diameter count for nothing."""
    measured = fields.filter(pl.col("erythrocyte_diameter_um").is_not_null() & pl.col("um_per_px").is_not_null())
    n = int(measured["n_erythrocytes"].sum())
    if n < MIN_POOLED:
        return ErythrocyteScale(None, n, None, None)
    diameters, counts, scales = (
        measured[name].to_numpy() for name in ("erythrocyte_diameter_um", "n_erythrocytes", "um_per_px")
    )
    diameter = weighted_median(diameters, counts)
    low, high = PLAUSIBLE_UM
    if low <= diameter <= high:
        return ErythrocyteScale(diameter, n, fits=True, fitting_um_per_px=None)
    # In pixels first: the fields of a patient may state different scales.
    fitting = NORMAL_UM / weighted_median(diameters / scales, counts)
    return ErythrocyteScale(diameter, n, fits=False, fitting_um_per_px=fitting)


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    """Return the value at which half of the weight is reached, from below; there is at least one value."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
