"""Targets of the auxiliary head: morphology measured from contour and pixels, standardized on the training crops.

The statistics come from the training crops alone; a value that could not be measured is missing and has no loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

MORPHOLOGY_TARGETS = ("area_um2", "circularity", *MORPHOLOGY_COLUMNS)
"""Columns of a crop set that the auxiliary head regresses, where they are present."""

_LARGEST = 5.0
"""Standardized values are clipped here, so that one smeared cell cannot dominate a batch."""

FloatArray = NDArray[np.float32]


class MorphologyTarget(StageConfig):
    """One output of the morphology head: a column, and what standardizes it."""

    name: str
    mean: float = Field(description="of the training crops, in the column's unit")
    std: float = Field(gt=0)


def measured_values(cells: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the morphology columns that ``cells`` has, each (n,) float64 with NaN where not measured."""
    return {
        name: cells[name].cast(float).fill_null(float("nan")).to_numpy()
        for name in MORPHOLOGY_TARGETS
        if name in cells.columns
    }


def standardize(
    values: Mapping[str, NDArray[np.float64]], training_rows: NDArray[np.int64]
) -> tuple[tuple[MorphologyTarget, ...], FloatArray]:
    """Fit the targets on ``training_rows``; return them and the standardized values (n, k) float32 of all rows.

    Missing values stay NaN; a column without two different measured values in training is missing throughout.
    """
    targets, columns = [], []
    for name, column in values.items():
        measured = column[training_rows]
        measured = measured[np.isfinite(measured)]
        if len(measured) == 0 or not measured.std() > 0:
            targets.append(MorphologyTarget(name=name, mean=0.0, std=1.0))
            columns.append(np.full(len(column), np.nan))
            continue
        target = MorphologyTarget(name=name, mean=float(measured.mean()), std=float(measured.std()))
        targets.append(target)
        columns.append(np.clip((column - target.mean) / target.std, -_LARGEST, _LARGEST))
    n = len(next(iter(values.values()))) if values else 0
    table = np.stack(columns, axis=1) if columns else np.empty((n, 0))
    return tuple(targets), table.astype(np.float32)
