"""Set a bundle's domain: one limit that withholds at most one known patient in twenty, all scores together.

1. Shares enter as their square root, whose spread does not depend on the share. So does the distance of embeddings.
2. A share of few cells varies by chance: what a patient's sampling variance exceeds the mean of the others' is added to
   their variance (``DomainScore.beyond``).
3. Each patient's distance (``domain``) is taken with mean and standard deviation of the other patients, so that nobody
   is held against themselves.
4. The limit is the distance at place ceil(0.95 (n + 1)) of n, in rising order. A further patient like these lies beyond
   it with a probability of 5% at most (split conformal prediction; Vovk et al. 2005).

Patients are those that the networks did not see: of training sources that were left out, and of simulated centers.
Limits set on one center hold for further patients of that center; many centers are needed before they hold for another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.patient.depth.depth_scores import SCORE_NAMES
from marrowscope.patient.depth.domain import ERYTHROCYTES, Domain, DomainScore
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.patient.depth.depth_scores import DepthScores

_KNOWN_SHARE = 0.95
FEWEST_PATIENTS = 19
"""0.95 / (1 - 0.95): of fewer patients, not even the farthest has one in twenty beyond it."""

_TWO_SIDED = frozenset({"background", "sharpness"})
_SHARES = frozenset({"contradictions", "middling", "uncertainty", "member_spread"})
_ROOTED = _SHARES | {"embedding_distance"}
"""Scores that enter as their square root: shares, and the distance of embeddings, which is a square."""
_RESOLUTION = {
    "stain": 0.1,
    "background": 0.01,
    "sharpness": 0.01,
    "contradictions": 0.02,
    "middling": 0.02,
    "uncertainty": 0.02,
    "embedding_distance": 0.02,
    "member_spread": 0.02,
}
"""The least standard deviation, of a share's root where it is one: patients that happen to agree set no limit at the
rounding error. One cell in 400 has a root of 0.05, so that a single odd cell stays within three of these."""

_LEAST_DISTANCE = 1.0

RealArray = NDArray[np.float64]


def fit_domain(patients: Sequence[DepthScores], measured_on: str) -> Domain:
    """Set the domain on ``patients``; ``measured_on`` says in words who they are.

    A score that fewer than ``FEWEST_PATIENTS`` have is left out: it is then not checked. Raises ValueError if none is
    left.
    """
    names = [name for name in SCORE_NAMES if name != ERYTHROCYTES]
    columns = {name: _column(patients, name) for name in names}
    names = [name for name in names if np.isfinite(columns[name]).sum() >= FEWEST_PATIENTS]
    if not names:
        message = (
            f"found {count_of(len(patients), 'patient')} with scores, expected at least {FEWEST_PATIENTS}: of fewer, "
            "no limit has one in twenty beyond it"
        )
        raise ValueError(message)
    values = np.stack([columns[name] for name in names], axis=1)
    sampling = np.array([[scores.sampling_variance.get(name, 0.0) for name in names] for scores in patients])
    distances = np.array([_left_out_distance(values, sampling, names, index) for index in range(len(values))])
    place = math.ceil(_KNOWN_SHARE * (len(distances) + 1))
    limit = max(float(np.sort(distances)[place - 1]), _LEAST_DISTANCE)
    return Domain(
        measured_on=measured_on,
        n_patients=len(patients),
        max_distance=limit,
        scores={
            name: _score(name, values[:, index], float(sampling[:, index].mean()), limit)
            for index, name in enumerate(names)
        },
    )


def _column(patients: Sequence[DepthScores], name: str) -> RealArray:
    """Return a score of every patient (n,), or its root; NaN where it is not known."""
    known = [scores.by_name()[name] for scores in patients]
    values = np.array([math.nan if value is None else value for value in known], dtype=np.float64)
    return np.sqrt(values) if name in _ROOTED else values


def _left_out_distance(values: RealArray, sampling: RealArray, names: Sequence[str], index: int) -> float:
    """Return the distance of one patient from the others; a score that is not known adds nothing."""
    mean, spread = _moments(np.delete(values, index, axis=0), names)
    more = np.maximum(sampling[index] - np.delete(sampling, index, axis=0).mean(axis=0), 0.0)
    standardized = (values[index] - mean) / np.sqrt(spread**2 + more)
    sided = [abs(z) if name in _TWO_SIDED else max(z, 0.0) for name, z in zip(names, standardized, strict=True)]
    return float(np.nansum(sided))


def _moments(values: RealArray, names: Sequence[str]) -> tuple[RealArray, RealArray]:
    return np.nanmean(values, axis=0), np.maximum(np.nanstd(values, axis=0), [_RESOLUTION[name] for name in names])


def _score(name: str, values: RealArray, sampling_variance: float, limit: float) -> DomainScore:
    """Return one score's section: a value at its limit has the whole distance, if no other score adds to it."""
    (mean,), (spread,) = _moments(values[:, None], [name])
    low, high = float(mean - limit * spread), float(mean + limit * spread)
    return DomainScore(
        mean=float(mean),
        standard_deviation=float(spread),
        square_root=name in _ROOTED,
        sampling_variance=sampling_variance,
        lower_limit=low if name in _TWO_SIDED else None,
        upper_limit=_upper_limit(name, high),
        n=int(np.isfinite(values).sum()),
    )


def _upper_limit(name: str, high: float) -> float:
    """Return the limit in the score's own unit; a share ends at 1, which no value is above."""
    if name not in _ROOTED:
        return high
    return min(high**2, 1.0) if name in _SHARES else high**2
