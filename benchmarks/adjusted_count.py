"""The adjusted count: the correction of the ratio before the posterior, to compare it with.

p is the share of countable cells called CBLC; the contribution of cells that should not be counted is removed,
r = (p - fpr) / (tpr - fpr), and detection losses are undone (``correct``). The interval samples the unknowns: p from a
Beta with the effective number of cells, the patient's own rates from a Beta around their mean, the mean from a
bootstrap over patients. A patient's own rate has concentration 1 / corr - 1, with corr by the method of moments
(Skellam, J R Stat Soc B 1948;10:257).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.earlier_corrections import adjusted_ratio, undo_detection
from marrowscope.patient.quantify.estimate import MIN_CONTRAST
from marrowscope.statistics.clusters import design_effect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.patient.quantify.estimate import PatientCounts
    from marrowscope.patient.quantify.rates import ErrorRates

    RealArray = NDArray[np.float64]

N_DRAWS = 4000
_SMALLEST_RECALL = 0.05
_LIMITS = (0.025, 0.975)
_SEED = 20


MAX_CORRELATION = 0.5
UNKNOWN_CORRELATION = 0.1
"""Used with fewer than three informative patients: the largest spread seen for classifiers of this kind."""

_TYPICAL_CORRELATION = 0.05
_NORMAL_SHARE = 0.5
"""Degrees of freedom per patient. Rates near 0 or 1 are skewed; with a kurtosis of 5 instead of 3, a variance is known
as from half as many patients (the variance of a variance is proportional to the kurtosis minus 1)."""

_SMALLEST = 1e-4


def spread_of_patients(x: RealArray, n: RealArray, expected: RealArray, factor: RealArray | float = 1.0) -> RealArray:
    """Intra-patient correlation, clipped to 0-0.5, of ``x`` successes among ``n`` cells with ``expected`` successes.

    All are (patients,). The expectation was fitted to the same M patients, so M - 1 degrees of freedom are left.
    ``factor`` scales the squared deviations, one number or (d,) draws of it.
    """
    square, n, worth = _deviations(x, n, expected)
    scale = float((worth * (n - 1)).sum())
    excess = float((worth * square).sum()) * np.asarray(factor, dtype=np.float64) - float(worth.sum())
    return np.asarray(np.clip(excess / scale if scale > 0 else 0.0 * excess, 0.0, MAX_CORRELATION), dtype=np.float64)


def draw_spread(x: RealArray, n: RealArray, expected: RealArray, n_draws: int, rng: np.random.Generator) -> RealArray:
    """Draw the correlation (d,): a variance estimated with v degrees of freedom is scaled by v / chi-squared(v).

    This is its posterior for normal deviations (Box and Tiao, Bayesian Inference in Statistical Analysis, 1973, 2.3).
    A bootstrap over patients underestimates the correlation too often, because it may miss the few extreme patients.
    """
    _, n_used, worth = _deviations(x, n, expected)
    weight = worth * (n_used - 1)
    telling = float(weight.sum() ** 2 / (weight**2).sum()) if (weight > 0).any() else 0.0
    degrees = (telling - 1) * _NORMAL_SHARE
    if degrees < 1:
        return np.full(n_draws, UNKNOWN_CORRELATION)
    return spread_of_patients(x, n, expected, degrees / rng.chisquare(degrees, n_draws))


def draw_beta(mean: RealArray, correlation: RealArray, rng: np.random.Generator) -> RealArray:
    """Draw a new patient's rate around ``mean`` with the given intra-patient correlation; exactly the mean at 0."""
    mean = np.clip(mean, _SMALLEST, 1 - _SMALLEST)
    spread = np.broadcast_to(correlation, mean.shape) > _SMALLEST
    concentration = np.where(spread, 1 / np.where(spread, correlation, 1.0) - 1, 1.0)
    drawn = rng.beta(mean * concentration, (1 - mean) * concentration)
    return np.asarray(np.where(spread, drawn, mean), dtype=np.float64)


def _deviations(x: RealArray, n: RealArray, expected: RealArray) -> tuple[RealArray, RealArray, RealArray]:
    """Squared deviations over their binomial variance, numbers of cells, and the weight of each patient.

    n cells of a patient are worth n / (1 + (n - 1) corr) independent ones, so patients with many cells do not dominate.
    """
    used = n > 0
    n, x, expected = n[used], x[used], expected[used]
    free = max(len(n) - 1, 1)
    variance = np.maximum(expected * (1 - expected / n), _SMALLEST)
    return (x - expected) ** 2 / variance * len(n) / free, n, 1 / (1 + (n - 1) * _TYPICAL_CORRELATION)


_SMALLEST_SHARE = 1e-4


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
        share = (weights @ self.wrongly) / np.maximum(weights @ self.counted, _SMALLEST_SHARE)
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
            self.share > _SMALLEST_SHARE, draw_beta(np.broadcast_to(self.share, p.shape), self.correlation, rng), 0.0
        )
        return _without(p, own, self.rate)


def _without(p: RealArray | float, share: RealArray | float, rate: RealArray | float) -> RealArray:
    """Solve p = (1 - share) q + share rate for q, clipped to 0-1."""
    kept = np.maximum(1 - np.asarray(share, dtype=np.float64), _SMALLEST_SHARE)
    return np.asarray(np.clip((np.asarray(p) - share * np.asarray(rate)) / kept, 0.0, 1.0), dtype=np.float64)


def impurity_of(rates: ErrorRates) -> Impurity:
    """Return the cells that were counted but should not be."""
    wrongly = np.asarray(rates.wrongly_counted, dtype=np.float64)
    return Impurity(
        np.asarray(rates.counted, dtype=np.float64).sum(axis=1) + wrongly,
        wrongly,
        np.asarray(rates.wrong_calls, dtype=np.float64),
        rates.is_cblc,
    )


@dataclass(frozen=True, slots=True)
class RateDraw:
    """Draws (d,) of a rate's mean, and of its spread over patients."""

    mean: RealArray
    correlation: RealArray


@dataclass(frozen=True, slots=True)
class RateDraws:
    """Draws of all parameters of the correction."""

    tpr: RateDraw
    fpr: RateDraw
    recall_cblc: RateDraw
    recall_other: RateDraw
    impurity: ImpurityDraws


def draw_rates(rates: ErrorRates, n_draws: int, seed: int = 0) -> RateDraws:
    """Draw the parameters ``n_draws`` times; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)

    def draw(x: str, n: str, *, cblc: bool) -> RateDraw:
        return _draw_rate(rates.by_patient(x, cblc=cblc), rates.by_patient(n, cblc=cblc), n_draws, rng)

    return RateDraws(
        tpr=draw("called", "counted", cblc=True),
        fpr=draw("called", "counted", cblc=False),
        recall_cblc=draw("counted", "annotated", cblc=True),
        recall_other=draw("counted", "annotated", cblc=False),
        impurity=impurity_of(rates).draw(n_draws, rng),
    )


def _draw_rate(x: RealArray, n: RealArray, n_draws: int, rng: np.random.Generator) -> RateDraw:
    """Draw the mean by a Bayesian bootstrap over patients (Rubin, Ann Stat 1981;9:130), and the spread (``spread``)."""
    weights = rng.dirichlet(np.ones(len(n)), size=n_draws)
    mean = (weights @ x) / np.maximum(weights @ n, 1e-4)
    return RateDraw(mean, draw_spread(x, n, n * x.sum() / max(n.sum(), 1.0), n_draws, rng))


def point_ratio(p: float, rates: ErrorRates) -> float:
    """Compute the corrected ratio (0-1) from the share ``p`` of countable cells that are called CBLC."""
    pure = impurity_of(rates).purified(p)
    found = adjusted_ratio(pure, rates.call_rate(cblc=True), rates.call_rate(cblc=False))
    return float(undo_detection(found, *(max(rates.recall(cblc=cblc), _SMALLEST_RECALL) for cblc in (True, False))))


def draw_ratios(p: RealArray, effective: RealArray, draws: RateDraws, *, seed: int) -> RealArray:
    """Draw true ratios (patients, d) of patients with observed shares ``p`` of ``effective`` independent cells.

    Each draw combines the patient's sampling error with one draw of the parameters.
    """
    rng = np.random.default_rng(seed)
    size = (len(p), len(draws.tpr.mean))
    a, b = p * effective + 0.5, (1 - p) * effective + 0.5
    share = draws.impurity.purified(rng.beta(a[:, None], b[:, None], size=size), rng)
    tpr, fpr, recall_cblc, recall_other = (
        draw_beta(np.broadcast_to(rate.mean, size), rate.correlation, rng)
        for rate in (draws.tpr, draws.fpr, draws.recall_cblc, draws.recall_other)
    )
    # An uninformative pair of drawn rates leaves the ratio unknown: any value is equally likely.
    found = adjusted_ratio(share, tpr, fpr)
    open_ended = np.isnan(found)
    if open_ended.any():
        found[open_ended] = rng.uniform(size=int(open_ended.sum()))
    return undo_detection(found, np.maximum(recall_cblc, _SMALLEST_RECALL), np.maximum(recall_other, _SMALLEST_RECALL))


def adjusted_count(counts: PatientCounts, rates: ErrorRates) -> tuple[float, float, float]:
    """Return one patient's ratio and the limits of its interval; NaN where the rates are too close."""
    x, n = float(counts.cblc_by_field.sum()), float(counts.countable_by_field.sum())
    effect = float(design_effect(counts.cblc_by_field, counts.countable_by_field, rates.correlation))
    if not rates.call_rate(cblc=True) - rates.call_rate(cblc=False) >= MIN_CONTRAST:  # also NaN
        return (np.nan, np.nan, np.nan)
    ratio = point_ratio(x / n, rates)
    drawn = draw_ratios(np.array([x / n]), np.array([n / effect]), _draws(rates), seed=_SEED)[0]
    lower, upper = np.quantile(drawn, _LIMITS)
    return ratio, 0.0 if x == 0 else float(min(lower, ratio)), float(max(upper, ratio))


@lru_cache(maxsize=8)
def _draws(rates: ErrorRates) -> RateDraws:
    return draw_rates(rates, N_DRAWS, _SEED)
