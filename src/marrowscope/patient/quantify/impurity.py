"""Cells that are counted but should not be: smudges, macrophages and similar cells that were called countable.

They are in the observed share but not in the true one. Their share among counted cells, and how often they are called
CBLC, are measured like the other rates; their contribution is removed before the ratio is corrected. In sharp simulated
images they were one counted cell in 1,000; out of focus, one in 20, and four in ten of these were called CBLC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marrowscope.patient.quantify.spread import draw_beta, draw_spread

RealArray = NDArray[np.float64]

_SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class Impurity:
    """Counted cells (patients,), those among them that are not countable, and the calls of these (k,)."""

    counted: RealArray
    wrongly: RealArray
    calls: RealArray
    is_cblc: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Share (0-1) of counted cells that are not countable."""
        return float(self.wrongly.sum() / max(self.counted.sum(), 1.0))

    @property
    def rate(self) -> float:
        """How often such a cell is called CBLC; one half if none was seen."""
        return float((self.calls[self.is_cblc].sum() + 0.5) / (self.calls.sum() + 1.0))

    def purified(self, p: RealArray | float) -> RealArray:
        """Share of CBLC calls among the truly countable cells, from that among all counted cells."""
        return _without(p, self.share, self.rate)

    def draw(self, n_draws: int, rng: np.random.Generator) -> ImpurityDraws:
        """Draw share, spread over patients, and rate ``n_draws`` times: bootstrap over patients, and a Beta."""
        weights = rng.dirichlet(np.ones(len(self.counted)), size=n_draws)
        share = (weights @ self.wrongly) / np.maximum(weights @ self.counted, _SMALLEST)
        spread = draw_spread(self.wrongly, self.counted, self.share * self.counted, n_draws, rng)
        x = self.calls[self.is_cblc].sum()
        return ImpurityDraws(share, spread, rng.beta(x + 0.5, self.calls.sum() - x + 0.5, n_draws))


@dataclass(frozen=True, slots=True)
class ImpurityDraws:
    """Draws (d,) of the share, of its spread over patients, and of the rate of CBLC calls."""

    share: RealArray
    correlation: RealArray
    rate: RealArray

    def purified(self, p: RealArray, rng: np.random.Generator) -> RealArray:
        """Purify drawn shares (patients, d), drawing a new patient's own impurity for each."""
        own = np.where(
            self.share > _SMALLEST, draw_beta(np.broadcast_to(self.share, p.shape), self.correlation, rng), 0.0
        )
        return _without(p, own, self.rate)


def _without(p: RealArray | float, share: RealArray | float, rate: RealArray | float) -> RealArray:
    """Solve p = (1 - share) q + share rate for q, clipped to 0-1."""
    kept = np.maximum(1 - np.asarray(share, dtype=np.float64), _SMALLEST)
    return np.asarray(np.clip((np.asarray(p) - share * np.asarray(rate)) / kept, 0.0, 1.0), dtype=np.float64)
