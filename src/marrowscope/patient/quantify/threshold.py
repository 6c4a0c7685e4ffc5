"""The study threshold of the corrected ratio, learned once and frozen, and the call based on it.

The threshold is the smallest t such that at least 95% of the patients without AML are at or below it; if a gap
separates the groups, it is the middle of the gap. It is specific to the cohort it was learned on, so the number of
patients, their diagnoses, their origin and the bootstrap interval over patients are stored with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.patient.lymphoid import MAX_LYMPHOID_BLOOD, MAX_LYMPHOID_MARROW, lymphoid_limit
from marrowscope.patient.quantify.estimate import METHOD
from marrowscope.records import MARROW
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.patient.quantify.estimate import RatioEstimate
    from marrowscope.records import Specimen

RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SPECIFICITY = 0.95
MIN_PATIENTS = 10
"""Fewest patients with AML, and without, for learning a threshold."""

_N_RESAMPLES, _SEED = 2000, 0
_MOST_PATIENTS = 1_000_000_000


class StudyThreshold(StageConfig):
    """A frozen threshold and its origin."""

    value: float = Field(ge=0, le=1, description="the study threshold of the corrected ratio")
    lower: float | None = Field(default=None, ge=0, le=1, description="95% interval, bootstrap over patients")
    upper: float | None = Field(default=None, ge=0, le=1, description="no limits for a threshold that was given")
    youden: float | None = Field(
        default=None, ge=0, le=1, description="threshold of the largest sensitivity + specificity, for comparison"
    )
    separable: bool = Field(default=False, description="a gap separates the groups, and the value is its middle")
    sensitivity: float | None = Field(default=None, description="on the patients used for learning")
    specificity: float | None = None
    n_aml: int = Field(default=0, ge=0, le=_MOST_PATIENTS, description="patients with AML that it was learned on")
    n_other: int = Field(default=0, ge=0, le=_MOST_PATIENTS, description="patients without AML that it was learned on")
    n_by_diagnosis: dict[str, int] = Field(default_factory=dict, description="diagnoses of at least three patients")
    learned_on: str = Field(default="", description="whose ratios, in words")
    specimen: Literal["marrow", "blood", "unknown"] | None = Field(
        default=None, description="of those patients; absent: given and not learned, or marrow in an older file"
    )
    method: str = Field(default="adjusted count", description="how those ratios were corrected; older files do not say")

    def holds_for(self, specimen: Specimen) -> bool:
        """Whether patients of ``specimen`` may be called by it: those it was learned on, or all if it was given."""
        return self.n_aml + self.n_other == 0 or (self.specimen or MARROW) == specimen


class CallRules(StageConfig):
    """Conditions for making a call, and for withholding one."""

    min_cells: int = Field(default=100, ge=1, description="countable cells below which no call is made")
    min_fields: int = Field(default=5, ge=1, description="fields with a countable cell below which no call is made")
    confidence_above: float = Field(default=0.95, gt=0.5, le=1, description="least probability of a ratio above t")
    confidence_below: float = Field(default=0.025, ge=0, lt=0.5, description="at most this probability of one above t")
    max_lymphoid: float = Field(
        default=MAX_LYMPHOID_MARROW, ge=0, le=1, description="above it, `below` is withheld, but in blood"
    )
    max_lymphoid_blood: float = Field(
        default=MAX_LYMPHOID_BLOOD, ge=0, le=1, description="in blood, above it, `below` is withheld"
    )


@dataclass(frozen=True, slots=True)
class Call:
    """A call (one of ``tables.CALLS``), and the reason if it is not clear (``tables.CALL_REASONS``).

    ``depends_on_threshold``: the call would be different at one end of the threshold's interval.
    """

    call: str
    reason: str | None
    confidence: float | None
    depends_on_threshold: bool


def learn_threshold(
    ratios: RealArray,
    is_aml: BoolArray,
    *,
    diagnoses: dict[str, int] | None = None,
    learned_on: str = "",
    method: str = METHOD,
) -> StudyThreshold:
    """Learn the threshold from the corrected ratios (n,) of patients with and without AML.

    Raises ValueError with fewer than 10 patients in either group. With fewer than 20 patients without AML, the required
    specificity leads to the largest of their ratios.
    """
    ratios, is_aml = np.asarray(ratios, dtype=np.float64), np.asarray(is_aml, dtype=bool)
    aml, other = ratios[is_aml], ratios[~is_aml]
    if min(len(aml), len(other)) < MIN_PATIENTS:
        message = (
            f"found {count_of(len(aml), 'patient')} with AML and {len(other)} without, expected at least "
            f"{MIN_PATIENTS} of each to "
            "learn a threshold; add patients, or set a threshold yourself"
        )
        raise ValueError(message)
    value, separable = _smallest_specific(aml, other)
    rng = np.random.default_rng(_SEED)
    drawn = [
        _smallest_specific(rng.choice(aml, len(aml)), rng.choice(other, len(other)))[0] for _ in range(_N_RESAMPLES)
    ]
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return StudyThreshold(
        value=value,
        lower=min(float(lower), value),
        upper=max(float(upper), value),
        youden=_youden(aml, other),
        separable=separable,
        sensitivity=float((aml > value).mean()),
        specificity=float((other <= value).mean()),
        n_aml=len(aml),
        n_other=len(other),
        n_by_diagnosis=diagnoses or {},
        learned_on=learned_on,
        method=method,
    )


def _smallest_specific(aml: RealArray, other: RealArray) -> tuple[float, bool]:
    """Smallest threshold with the required specificity, and whether it is the middle of a gap between the groups."""
    if other.max() < aml.min():
        return float((other.max() + aml.min()) / 2), True
    ranked = np.sort(other)
    needed = int(np.ceil(_SPECIFICITY * len(other) - 1e-9))
    return float(ranked[needed - 1]), False


def _youden(aml: RealArray, other: RealArray) -> float:
    """Threshold of the largest sensitivity + specificity - 1, midway between the two ratios around it."""
    values = np.unique(np.concatenate([aml, other]))
    middles = (values[:-1] + values[1:]) / 2 if len(values) > 1 else values
    worth = (aml[None] > middles[:, None]).mean(axis=1) + (other[None] <= middles[:, None]).mean(axis=1)
    return float(middles[int(np.argmax(worth))])


def decide(
    estimate: RatioEstimate,
    n_countable: int,
    n_fields: int,
    *,
    lymphoid_share: float | None,
    threshold: StudyThreshold,
    rules: CallRules | None = None,
    specimen: str = MARROW,
) -> Call:
    """Make the call for one patient; abstaining is a valid answer."""
    rules = rules or CallRules()
    if n_countable < rules.min_cells or n_fields < rules.min_fields:
        reason = "few_cells" if n_countable < rules.min_cells else "few_fields"
        return Call("no_call", reason, None, depends_on_threshold=False)
    if np.isnan(estimate.ratio):
        return Call("no_call", "rates_too_close", None, depends_on_threshold=False)
    confidence = estimate.confidence_above(threshold.value)
    call = _side(confidence, rules)
    ends = [end for end in (threshold.lower, threshold.upper) if end is not None]
    depends = any(_side(estimate.confidence_above(end), rules) != call for end in ends)
    most = lymphoid_limit(specimen, rules.max_lymphoid, rules.max_lymphoid_blood)
    if call == "below" and lymphoid_share is not None and lymphoid_share > most:
        return Call("withheld", "lymphoid", confidence, depends_on_threshold=depends)
    return Call(call, None, confidence, depends_on_threshold=depends)


def _side(confidence: float, rules: CallRules) -> str:
    if confidence >= rules.confidence_above:
        return "above"
    return "below" if confidence <= rules.confidence_below else "indeterminate"
