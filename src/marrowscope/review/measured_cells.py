"""What a run measured of a patient's cells, and which cells are most like a chosen one.

Pure but for ``read_measures``. No run stores embeddings, so likeness is that of what is stored: the probabilities of
the categories (Hellinger distance, 0 to 1) and the measured morphology (mean absolute difference in robust standard
deviations, over the measures that both cells have). Each half counts as much as the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.runs.parquet import collected, scan_table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MEASURES = (
    "area_um2", "circularity", "solidity", "elongation", "nucleus_area_um2", "nucleus_area_ratio",
    "nucleus_circularity", "nucleus_solidity", "nucleus_od", "cytoplasm_od", "cytoplasm_basophilia",
    "cytoplasm_eosinophilia", "granularity", "chromatin_texture",
)  # fmt: skip
"""Columns of the table of cells that likeness looks at."""

_PER_SD = 1.4826
_FARTHEST_SD = 6.0


@dataclass(frozen=True, slots=True)
class MeasuredCells:
    """The kept cells of a patient: p is (n, categories), measures is (n, len(MEASURES)) with NaN where none."""

    cell_ids: tuple[str, ...]
    p: NDArray[np.float64]
    measures: NDArray[np.float64]
    member_spread: NDArray[np.float64]
    contradiction: NDArray[np.bool_]


def read_measures(run: Path, patient_id: str) -> MeasuredCells:
    """Read the kept cells of a patient from the table of cells of a run."""
    path = run / "cells.parquet"
    wanted = (pl.col("patient_id") == patient_id) & pl.col("reject_reason").is_null()
    columns = ["cell_id", "p_category", "member_spread", "contradiction", *MEASURES]
    frame = collected(scan_table(path, "cells").filter(wanted).select(columns), path)
    return MeasuredCells(
        cell_ids=tuple(frame["cell_id"]),
        p=np.array(frame["p_category"].to_list(), dtype=np.float64).reshape(len(frame), -1),
        measures=frame.select(pl.col(MEASURES).cast(pl.Float64)).fill_null(float("nan")).to_numpy(),
        member_spread=frame["member_spread"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        contradiction=frame["contradiction"].fill_null(value=False).to_numpy(),
    )


def distances(cells: MeasuredCells, index: int) -> NDArray[np.float64]:
    """Return the distance of every cell from the one at ``index``, 0 for itself."""
    roots = np.sqrt(np.clip(cells.p, 0, None))
    by_category: NDArray[np.float64] = np.sqrt(np.clip(((roots - roots[index]) ** 2).sum(axis=1) / 2, 0, 1))
    far: NDArray[np.float64] = by_category + _morphology(cells.measures, index)
    return far


def _morphology(measures: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Return the mean difference in robust standard deviations, capped and scaled to 0 to 1; 1 with none in common."""
    known = np.isfinite(measures)
    difference = np.zeros_like(measures)
    for column in np.flatnonzero(known[index]):
        values = measures[known[:, column], column]
        sd = _PER_SD * np.median(np.abs(values - np.median(values)))
        if sd > 0:
            apart = np.abs(measures[:, column] - measures[index, column]) / sd
            difference[:, column] = np.where(known[:, column], np.minimum(apart, _FARTHEST_SD), 0)
    shared = (known & known[index]).sum(axis=1)
    return np.where(shared > 0, difference.sum(axis=1) / np.maximum(shared, 1) / _FARTHEST_SD, 1.0)
