"""The patients and the cells in their fields (table T3).

A patient's shares are drawn once; each field's shares follow a Dirichlet distribution around them, so that two cells of
one field agree in code more often than the patient's differential alone implies (intra-field correlation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.simulate.parameters import Parameters


@dataclass(frozen=True)
class Differential:
    """A patient's true composition: ``cblc_share`` among counted cells and the share of each code among all cells."""

    diagnosis: str
    cblc_share: float
    shares: Mapping[str, float]


def draw_diagnosis(rng: np.random.Generator, parameters: Parameters) -> str:
    """Draw a diagnosis by the weights in differentials.toml."""
    names = list(parameters.differentials.diagnosis)
    weights = np.array([parameters.differentials.diagnosis[name].weight for name in names])
    return str(rng.choice(names, p=weights / weights.sum()))


def _dirichlet(rng: np.random.Generator, weights: Mapping[str, float], concentration: float) -> dict[str, float]:
    """Draw from a Dirichlet around relative ``weights``; from gamma draws, so that tiny weights stay valid."""
    values = np.array(list(weights.values()), dtype=np.float64)
    gammas = rng.standard_gamma(concentration * values / values.sum())
    total = gammas.sum()
    shares = gammas / total if total > 0 else values / values.sum()
    return dict(zip(weights, shares.tolist(), strict=True))


def draw_differential(rng: np.random.Generator, diagnosis: str, parameters: Parameters) -> Differential:
    """Draw one patient's shares: s, its split over ``positive``, 1 - s over ``negative``, then uncounted cells."""
    table = parameters.differentials
    row = table.diagnosis[diagnosis]
    low, high = row.cblc_share
    cblc_share = float(low + (high - low) * rng.beta(*table.beta))
    key = "negative_control" if diagnosis == "control" else "negative_other"
    positive = _dirichlet(rng, row.positive, table.concentration["positive"])
    negative = _dirichlet(rng, row.negative, table.concentration[key])
    shares = {code: cblc_share * value for code, value in positive.items()}
    for code, value in negative.items():
        shares[code] = shares.get(code, 0.0) + (1.0 - cblc_share) * value
    for code, (least, most) in table.uncounted.items():
        shares[code] = shares.get(code, 0.0) + float(rng.uniform(least, most))
    total = sum(shares.values())
    return Differential(diagnosis, cblc_share, {code: value / total for code, value in shares.items()})


def balanced_differential(parameters: Parameters, diagnosis: str) -> Differential:
    """Return the differential with every code at its ``balanced_weight``, for cohorts that train classifiers."""
    weights = {code: row.balanced_weight for code, row in parameters.morphology.code.items()}
    total = sum(weights.values())
    return Differential(diagnosis, float("nan"), {code: weight / total for code, weight in weights.items()})


def draw_field_codes(
    rng: np.random.Generator, shares: Mapping[str, float], n_cells: int, correlation: float
) -> Sequence[str]:
    """Draw the codes of one field: Dirichlet-multinomial whose intra-class correlation is ``correlation``."""
    concentration = (1.0 - correlation) / correlation
    field_shares = _dirichlet(rng, shares, concentration)
    names = list(field_shares)
    weights = np.array([field_shares[name] for name in names])
    return [str(code) for code in rng.choice(names, size=n_cells, p=weights / weights.sum())]
