"""How often something happens to each kind of cell: successes among cells, by patient and kind, and what is not known.

Two such rates matter: that a cell an expert outlined is counted, and that a counted cell is called CBLC. The rates of
the kinds of one side (CBLC or others) are taken as draws from a Beta around the pooled rate. How far apart they lie is
seen on the kinds themselves, and that decides how much a kind's own cells weigh against the pooled rate: kinds that err
alike all take the pooled rate, and a kind of three cells takes it anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marrowscope.quantify.spread import draw_spread, spread_of_patients

RealArray = NDArray[np.float64]

MIN_POOLED_CELLS, MAX_POOLED_CELLS = 10.0, 1000.0
"""Least and most cells that the pooled rate weighs beside a kind's own."""

_SMALLEST = 1e-4


@dataclass(frozen=True, slots=True)
class KindDraws:
    """Draws of the parameters behind a new patient's rates: ``rates`` (d, k), one a kind.

    The correlations (d,) say how far patients lie apart in the rate of CBLC, and in that of the others.
    """

    rates: RealArray
    correlation_cblc: RealArray
    correlation_other: RealArray


@dataclass(frozen=True, slots=True)
class KindCounts:
    """Successes ``x`` among ``n`` cells, (patients, k) each, and which kinds are CBLC (k,)."""

    x: RealArray
    n: RealArray
    is_cblc: NDArray[np.bool_]

    @property
    def sides(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The kinds that are CBLC, and the others."""
        return self.is_cblc, ~self.is_cblc

    def rates(self) -> RealArray:
        """Rate (k,) of each kind; NaN where a whole side has no cell."""
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = [np.asarray(self.x[:, side].sum() / self.n[:, side].sum()) for side in self.sides]
        a, b = self._beta(pooled, self._effective_cells())
        return np.asarray(a / (a + b), dtype=np.float64)

    def draw(self, n_draws: int, rng: np.random.Generator) -> KindDraws:
        """Draw the parameters ``n_draws`` times.

        Pooled rates come from the Bayesian bootstrap over patients (Rubin, Ann Stat 1981;9:130). A kind's rate is drawn
        from the Beta that its effective number of cells allows: the bootstrap cannot see how unsure the rate of a kind
        of two patients is. Nor can it see how unsure the spread of patients is: see ``spread``.
        """
        weights = rng.dirichlet(np.ones(len(self.n)), size=n_draws) * len(self.n)
        by_kind, effective = self.rates(), self._effective_cells()
        shrinkage = self._pooled_cells(effective)
        pooled, correlations = [], []
        for side in self.sides:
            x, n = self.x[:, side].sum(axis=1), self.n[:, side].sum(axis=1)
            fitted = float((effective[side] / (effective[side] + shrinkage[side])).sum())
            correlations.append(draw_spread(x, n, self.n[:, side] @ by_kind[side], n_draws, rng, fitted=fitted))
            pooled.append(((weights @ x) / np.maximum(weights @ n, _SMALLEST))[:, None])
        a, b = self._beta(pooled, effective)
        return KindDraws(rng.beta(np.maximum(a, _SMALLEST), np.maximum(b, _SMALLEST)), *correlations)

    def _beta(self, pooled: list[RealArray], effective: RealArray) -> tuple[RealArray, RealArray]:
        """Parameters (..., k) of the Beta of each kind's rate; ``pooled`` rates of both sides, (..., 1) or a number."""
        own, cells = self._own(), self._pooled_cells(effective)
        prior = np.where(self.is_cblc, *pooled)
        return own * effective + cells * prior, (1 - own) * effective + cells * (1 - prior)

    def _pooled_cells(self, effective: RealArray) -> RealArray:
        """Give how many cells the pooled rate weighs (k,): the concentration of the Beta of the kinds' rates."""
        cells = np.empty(len(effective))
        for side in self.sides:
            n = effective[side]
            x = self._own()[side] * n
            pooled = x.sum() / max(n.sum(), _SMALLEST)
            apart = float(spread_of_patients(x, n, pooled * n))
            cells[side] = np.clip(1 / max(apart, _SMALLEST) - 1, MIN_POOLED_CELLS, MAX_POOLED_CELLS)
        return cells

    def _own(self) -> RealArray:
        n = self.n.sum(axis=0)
        own: RealArray = np.divide(self.x.sum(axis=0), n, out=np.zeros(len(n)), where=n > 0)
        return own

    def _effective_cells(self) -> RealArray:
        """Give how many independent cells those of each kind are worth (k,).

        A patient's cells of a kind share the patient's own deviation: n of them are worth n / (1 + (n - 1) corr).
        """
        own = self._own()
        effective = np.zeros(len(own))
        for side in self.sides:
            n = self.n[:, side]
            correlation = float(spread_of_patients(self.x[:, side].sum(axis=1), n.sum(axis=1), n @ own[side]))
            effective[side] = (n / (1 + np.maximum(n - 1, 0) * correlation)).sum(axis=0)
        return effective
