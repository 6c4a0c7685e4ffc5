"""A patient's scores of depth: how unlike the training images and cells are, from the tables of a run alone.

Scores of fields are medians over the fields that were read, scores of cells are taken over the kept cells: one odd
field or cell does not decide. A score that cannot be measured is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
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
    it about; it is no score.
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

    def by_name(self) -> Mapping[str, float | None]:
        """Return the scores by their names, in their order."""
        return {name: getattr(self, name) for name in SCORE_NAMES}


SCORE_NAMES = tuple(item.name for item in fields(DepthScores) if item.name != "fitting_um_per_px")


def measure_depth(fields: pl.DataFrame, kept: pl.DataFrame) -> DepthScores:
    """Measure one patient; ``fields`` and ``kept`` are the patient's fields and kept cells, rows of a run's tables.

    stain: median Mahalanobis distance of the nuclei's color from the training fields, over fields with a cell.
    background, sharpness: medians. erythrocyte_diameter_um: see ``erythrocyte_scale``.
    contradictions, middling: shares of the cells. uncertainty: mean of 1 - the highest category probability.
    embedding_distance: median. member_spread: mean of the countable cells.
    """
    read = fields.filter(pl.col("status") == "ok")
    erythrocytes = erythrocyte_scale_check(read)
    probabilities = kept["p_cblc"].drop_nulls()
    contradictions = kept["contradiction"].drop_nulls()
    return DepthScores(
        stain=_median(read.filter(pl.col("n_cells") > 0), "stain_distance"),
        background=_median(read, "background"),
        sharpness=_median(read, "sharpness"),
        erythrocyte_diameter_um=erythrocytes.diameter_um,
        contradictions=_share(contradictions),
        middling=_share(probabilities.is_between(*MIDDLING)),
        uncertainty=_number((1 - kept["p_category"].list.max()).mean()),
        embedding_distance=_median(kept, "embedding_distance"),
        member_spread=_number(kept.filter("is_countable")["member_spread"].mean()),
        fitting_um_per_px=erythrocytes.fitting_um_per_px,
    )


def _median(table: pl.DataFrame, column: str) -> float | None:
    """Return the median of what is known; None where nothing is, or where the table has no such column."""
    if column not in table.columns:
        return None
    return _number(table[column].cast(pl.Float64).fill_nan(None).median())


def _share(raised: pl.Series) -> float | None:
    return _number(raised.cast(pl.Float64).mean())


def _number(value: object) -> float | None:
    """Narrow what polars may return of a column; None without values."""
    return value if isinstance(value, float) else None
