"""The domain of a bundle, and how far a patient lies outside it.

A score is held against the patients that the domain was set on: how many of their standard deviations it lies beyond
their mean. Scores that are bad when high count above the mean alone, background and sharpness on either side. The sum
over the scores is the patient's distance; one limit of it stands in the bundle (``domain_limit``), so that false alarms
are those of the whole rule. Several scores that are all a little odd are as telling as one that is very odd. A share of
few cells varies by chance: what it varies more than those of the domain's patients do is added to their variance.

The size of the erythrocytes has limits of its own, since it tells the stated scale and not the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field, field_validator, model_validator

from marrowscope.config import FrozenModel
from marrowscope.patient.depth.depth_scores import SCORE_NAMES
from marrowscope.patient.erythrocyte_scale import PLAUSIBLE_UM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.patient.depth.depth_scores import DepthScores
    from marrowscope.runs.schemas import StateReason

ERYTHROCYTES = "erythrocyte_diameter_um"
_DISTANCE = "distance"

Number = Annotated[float, Field(allow_inf_nan=False)]


class DomainScore(FrozenModel):
    """How one score is spread over the domain, and where it alone would end the domain."""

    mean: Number = Field(description="over the patients")
    standard_deviation: Annotated[Number, Field(gt=0)] = Field(
        description="over the same, at least the resolution of the score"
    )
    square_root: bool = Field(default=False, description="both are of the score's square root: it is a share")
    sampling_variance: Annotated[Number, Field(ge=0)] | None = Field(
        default=None,
        description="of their variance, what the number of cells explains; absent: no allowance for few cells",
    )
    lower_limit: Number | None = Field(
        default=None, description="below it, this score alone puts out of depth; absent: a low value never does"
    )
    upper_limit: Number | None = Field(
        default=None, description="above it, this score alone puts out of depth; absent: a high value never does"
    )
    n: Annotated[int, Field(ge=0)] = Field(description="patients the score was measured on")

    @model_validator(mode="after")
    def _limits_in_order(self) -> DomainScore:
        if self.lower_limit is None and self.upper_limit is None:
            message = "found neither lower_limit nor upper_limit, expected at least one"
            raise ValueError(message)
        if self.lower_limit is not None and self.upper_limit is not None and self.lower_limit > self.upper_limit:
            message = f"found lower_limit {self.lower_limit} above upper_limit {self.upper_limit}, expected it below"
            raise ValueError(message)
        return self

    def beyond(self, value: float, sampling_variance: float = 0.0) -> float:
        """Return how many standard deviations ``value`` lies beyond the mean, on a side that has a limit; else 0.

        ``sampling_variance`` is that of this patient's value; what exceeds the domain's widens the deviation.
        """
        known = math.sqrt(max(value, 0.0)) if self.square_root else value
        usual = self.sampling_variance
        more = 0.0 if usual is None else max(sampling_variance - usual, 0.0)
        standardized = (known - self.mean) / math.sqrt(self.standard_deviation**2 + more)
        above = standardized if self.upper_limit is not None else 0.0
        below = -standardized if self.lower_limit is not None else 0.0
        return max(above, below, 0.0)


class Domain(FrozenModel):
    """The images and cells that the bundle was shown to be made for."""

    measured_on: str = Field(description="the sources or centers left out that set the limits, in words")
    n_patients: Annotated[int, Field(ge=0)] = Field(description="patients the limits were set on")
    max_distance: Annotated[Number, Field(gt=0)] = Field(
        description="standard deviations beyond the mean, summed over the scores; above it, out of depth"
    )
    scores: dict[str, DomainScore] = Field(min_length=1, description="score to its spread and limits")

    @field_validator("scores")
    @classmethod
    def _are_known(cls, scores: dict[str, DomainScore]) -> dict[str, DomainScore]:
        if unknown := sorted(scores.keys() - (set(SCORE_NAMES) - {ERYTHROCYTES})):
            expected = ", ".join(name for name in SCORE_NAMES if name != ERYTHROCYTES)
            message = f"found the scores {', '.join(unknown)}, expected only {expected}"
            raise ValueError(message)
        return scores


@dataclass(frozen=True, slots=True)
class Depth:
    """A patient's scores held against a domain: rows of checks, and the key of what puts the patient out of depth.

    ``reason`` is None within the domain. ``fitting_um_per_px`` is known where the erythrocytes are the reason.
    """

    checks: tuple[Mapping[str, Any], ...]
    reason: StateReason | None
    fitting_um_per_px: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns of the patients table."""
        return {"depth": list(self.checks), "fitting_um_per_px": self.fitting_um_per_px}


def judge_depth(scores: DepthScores, domain: Domain | None) -> Depth:
    """Hold a patient's scores against ``domain``; without one, the size of the erythrocytes alone is checked.

    A wrong scale is named before anything else, since it moves the other scores too. A patient without erythrocytes is
    not withheld for it: dense marrow hides them. One without a score that the domain has cannot be judged, and is.
    """
    values, limits = scores.by_name(), domain.scores if domain else {}
    sampling = scores.sampling_variance
    beyond = {
        name: known.beyond(value, sampling.get(name, 0.0))
        for name, known in limits.items()
        if (value := values.get(name)) is not None
    }
    distance = sum(beyond.values())
    checks = [_check(name, value, limits.get(name)) for name, value in values.items()]
    if domain is not None:
        checks.append(_row(_DISTANCE, distance, upper_limit=domain.max_distance))
    diameter = values[ERYTHROCYTES]
    low, high = PLAUSIBLE_UM
    if diameter is not None and not low <= diameter <= high:
        return Depth(tuple(checks), "depth_erythrocyte_diameter_um", scores.fitting_um_per_px)
    if domain is not None and len(beyond) < len(limits):
        return Depth(tuple(checks), "depth_not_measured")
    if domain is not None and distance > domain.max_distance:
        worst = max(beyond, key=lambda name: beyond[name])
        return Depth(tuple(checks), cast("StateReason", f"depth_{worst}"))
    return Depth(tuple(checks), None)


def _check(name: str, value: float | None, known: DomainScore | None) -> dict[str, Any]:
    if name == ERYTHROCYTES:
        low, high = PLAUSIBLE_UM
        return _row(name, value, lower_limit=low, upper_limit=high)
    if known is None:
        return _row(name, value)
    usual = known.mean**2 if known.square_root else known.mean
    return _row(name, value, usual=usual, lower_limit=known.lower_limit, upper_limit=known.upper_limit)


def _row(
    score: str,
    value: float | None,
    *,
    usual: float | None = None,
    lower_limit: float | None = None,
    upper_limit: float | None = None,
) -> dict[str, Any]:
    return {
        "score": score,
        "value": value,
        "usual": usual,
        "lower_limit": lower_limit,
        "upper_limit": upper_limit,
    }
