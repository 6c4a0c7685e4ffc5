"""How far a field's stain is from that of the training fields, in optical-density space.

The reference is the mean and covariance of ln(od_red, od_green, od_blue) over the training fields, so that a stain
twice as strong is as far away as one half as strong. The distance is the Mahalanobis distance. The covariance is shrunk
towards an assumed one, depending on the number of patients: few patients show little of how stains vary, however many
fields they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import Field

from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAINING_FIELDS_NAME = "fields.parquet"
"""The measures of the training fields, in a crop set's folder."""

DENSITIES = ("od_red", "od_green", "od_blue")

_ASSUMED_SD, _ASSUMED_PATIENTS = 0.12, 5
"""Assumed standard deviation of each ln(OD), and its weight in patients. Within a center, the simulator and the set of
real blood smears have 0.11 to 0.14."""

Triple = tuple[float, float, float]


class StainReference(StageConfig):
    """The stain of the training fields, as numbers without patient names."""

    mean: Triple = Field(description="mean of ln(OD) in red, green, blue")
    covariance: tuple[Triple, Triple, Triple] = Field(description="of ln(OD), shrunk")
    n_fields: int = Field(ge=1)
    n_patients: int = Field(ge=1)
    centers: tuple[str, ...] = Field(default=(), description="names of the training centers")


def fit_stain_reference(measures: pl.DataFrame) -> StainReference | None:
    """Fit the reference to training fields, one row per field, with ``patient_id``, ``center`` and three densities.

    Fields whose stain could not be measured are left out; None if no field is left.
    """
    known = measures.filter(*(pl.col(name).is_finite() & (pl.col(name) > 0) for name in DENSITIES))
    if known.is_empty():
        return None
    densities = np.log(known.select(DENSITIES).to_numpy())
    n_patients = known["patient_id"].n_unique()
    centered = densities - densities.mean(axis=0)
    own = centered.T @ centered / len(centered)
    assumed = _ASSUMED_SD**2 * np.eye(len(DENSITIES))
    shrunk = (n_patients * own + _ASSUMED_PATIENTS * assumed) / (n_patients + _ASSUMED_PATIENTS)
    return StainReference(
        mean=densities.mean(axis=0).tolist(),
        covariance=shrunk.tolist(),
        n_fields=len(known),
        n_patients=n_patients,
        centers=tuple(known["center"].drop_nulls().unique().sort()),
    )


def stain_distance(measures: Mapping[str, float | None], reference: StainReference | None) -> float:
    """Mahalanobis distance of a field from the reference; NaN without a reference, or if a density is missing."""
    densities = [measures.get(name) or 0.0 for name in DENSITIES]
    if reference is None or not all(value > 0 for value in densities):  # also catches NaN
        return float("nan")
    offset = np.log(densities) - np.array(reference.mean)
    return float(np.sqrt(offset @ np.linalg.solve(np.array(reference.covariance), offset)))
