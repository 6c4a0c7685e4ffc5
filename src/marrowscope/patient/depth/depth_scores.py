"""A patient's scores of depth: how unlike the training images and cells are, from the tables of a run alone.

Scores of fields are medians over the fields that were read, scores of cells are taken over the kept cells: one odd
field or cell does not decide. A score that cannot be measured is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.patient.erythrocyte_scale import erythrocyte_scale_check

if TYPE_CHECKING:
    from collections.abc import Mapping

MIDDLING = (0.2, 0.8)
"""A probability between these is middling: the classifier does not know whether the cell is a CBLC."""


@dataclass(frozen=True, slots=True)
class DepthScores:
    """The scores of one patient; None for what could not be measured.

    ``fitting_um_per_px`` is the scale at which the erythrocytes would have their usual size, None where they have
    it about. ``sampling_variance`` is how much the square root of a share of cells would vary between draws of as many
    cells: s2 / (4 n mean), the delta method. Neither is a score.
    """

    stain: float | None = None
    background: float | None = None
    sharpness: float | None = None
    erythrocyte_diameter_um: float | None = None
    contradictions: float | None = None
    middling: float | None = None
    uncertainty: float | None = None
    embedding_distance: float | None = None
    member_spread: float | None = None
    fitting_um_per_px: float | None = None
    sampling_variance: Mapping[str, float] = field(default_factory=dict)

    def by_name(self) -> Mapping[str, float | None]:
        """Return the scores by their names, in their order."""
        return {name: getattr(self, name) for name in SCORE_NAMES}


_NO_SCORES = {"fitting_um_per_px", "sampling_variance"}
SCORE_NAMES = tuple(item.name for item in fields(DepthScores) if item.name not in _NO_SCORES)


def measure_depth(fields: pl.DataFrame, kept: pl.DataFrame) -> DepthScores:
    """Measure one patient; ``fields`` and ``kept`` are the patient's fields and kept cells, rows of a run's tables.

    stain: median Mahalanobis distance of the nuclei's color from the training fields, over fields with a cell.
    background, sharpness: medians. erythrocyte_diameter_um: see ``erythrocyte_scale``.
    contradictions, middling: shares of the cells. uncertainty: mean of 1 - the highest category probability.
    embedding_distance: median. member_spread: mean of the countable cells.
    """
    read = fields.filter(pl.col("status") == "ok")
    erythrocytes = erythrocyte_scale_check(read)
    of_cells = {
        "contradictions": kept["contradiction"].cast(pl.Float64),
        "middling": kept["p_cblc"].is_between(*MIDDLING).cast(pl.Float64),
        "uncertainty": 1 - kept["p_category"].list.max(),
        "member_spread": kept.filter("is_countable")["member_spread"],
    }
    means = {name: _number(values.mean()) for name, values in of_cells.items()}
    return DepthScores(
        stain=_median(read.filter(pl.col("n_cells") > 0), "stain_distance"),
        background=_median(read, "background"),
        sharpness=_median(read, "sharpness"),
        erythrocyte_diameter_um=erythrocytes.diameter_um,
        contradictions=means["contradictions"],
        middling=means["middling"],
        uncertainty=means["uncertainty"],
        embedding_distance=_median(kept, "embedding_distance"),
        member_spread=means["member_spread"],
        fitting_um_per_px=erythrocytes.fitting_um_per_px,
        sampling_variance={name: found for name, values in of_cells.items() if (found := _of_root(values)) is not None},
    )


def _median(table: pl.DataFrame, column: str) -> float | None:
    """Return the median of what is known; None where nothing is, or where the table has no such column."""
    if column not in table.columns:
        return None
    return _number(table[column].cast(pl.Float64).fill_nan(None).median())


def _of_root(values: pl.Series) -> float | None:
    """Return the variance of the square root of the mean of ``values`` (0-1); None where they have no mean above 0.

    By the delta method, var / (4 n mean), with half a value of 0 and half of 1 added: else one odd cell of one, or
    three of three, would seem to be known without error.
    """
    known = values.drop_nulls().to_numpy()
    if not known.sum() > 0:
        return None
    n = len(known) + 1
    mean = (float(known.sum()) + 0.5) / n
    variance = (float((known**2).sum()) + 0.5) / n - mean**2
    return variance / (4 * len(known) * mean)


def _number(value: object) -> float | None:
    """Narrow what polars may return of a column; None without values."""
    return value if isinstance(value, float) else None
