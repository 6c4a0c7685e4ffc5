"""A patient's corrected ratio with its interval, from counts alone.

1. The called categories tell the likeliest mixture of kinds (``correct.composition``); its share of CBLC is the ratio
   among counted cells. Of seven corrections this one erred least (docs/quantify.md).
   What cells add that are counted and should not be is taken out before (``impurity``).
2. Detection is undone (``correct.undo_detection``) with the recalls of those kinds.
3. The interval is that of the adjusted count r = (p - fpr) / (tpr - fpr) with the rates of this mixture: a binary
   correction would take those of another one. It draws what is not known: p from a Beta with the effective number of
   cells n / d, the patient's own tpr, fpr and recalls around their expectation, and the expectation itself. The limits
   are quantiles of the drawn ratios.

Invariant: lower <= ratio <= upper, all within 0-1; equal counts and rates give equal figures, whatever else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.clusters import design_effect
from marrowscope.quantify.correct import MIN_CONTRAST, adjusted_ratio, composition, undo_detection
from marrowscope.quantify.rates import ErrorRates, RateDraws, draw_rates
from marrowscope.quantify.spread import draw_beta

if TYPE_CHECKING:
    from marrowscope.quantify.impurity import Impurity

RealArray = NDArray[np.float64]

METHOD = "likeliest mixture of categories"
N_DRAWS = 4000
PRIOR_CELLS = 20.0
"""Cells of the measured patients' mixture that a patient's own mixture is mixed with."""

_SMALLEST_RECALL = 0.05
_LIMITS = (0.025, 0.975)
_SEED = 20


@dataclass(frozen=True, slots=True)
class PatientCounts:
    """One patient's countable cells: by field (K,) those called CBLC and all, and by called kind (k,)."""

    cblc_by_field: RealArray
    countable_by_field: RealArray
    called_kinds: RealArray


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """A corrected ratio (0-1) with its limits, the drawn ratios behind them, and what there is to say about it.

    ``note`` is one of ``tables.CORRECTION_NOTES`` or None; without a correction (rates too close) the ratio is NaN.
    """

    ratio: float
    lower: float
    upper: float
    effect: float
    note: str | None
    draws: RealArray

    def confidence_above(self, threshold: float) -> float:
        """Share of the drawn ratios above ``threshold``; NaN without a correction."""
        return float((self.draws > threshold).mean()) if len(self.draws) else float("nan")


def estimate_ratio(counts: PatientCounts, rates: ErrorRates) -> RatioEstimate:
    """Correct one patient's ratio. Raises ValueError for a patient without a countable cell: nothing to estimate."""
    x, n = float(counts.cblc_by_field.sum()), float(counts.countable_by_field.sum())
    if n <= 0:
        message = "found no countable cell, expected at least one: such a patient has no ratio"
        raise ValueError(message)
    effect = float(design_effect(counts.cblc_by_field, counts.countable_by_field, rates.correlation))
    center = _Measured.of(rates)
    if not center.contrast >= MIN_CONTRAST:
        return RatioEstimate(np.nan, np.nan, np.nan, effect, "rates_too_close", np.empty(0))
    mixtures = patient_mixtures(counts.called_kinds, rates)
    ratio = point_ratio(x / n, counts.called_kinds, mixtures, rates)
    stacked = (mixtures[0][None], mixtures[1][None])
    draws = draw_ratios(np.array([x / n]), np.array([n / effect]), stacked, _draws(rates), seed=_SEED)[0]
    lower, upper = np.quantile(draws, _LIMITS)
    note = "none_called" if x == 0 else "within_false_positive_rate" if ratio == 0 else None
    return RatioEstimate(
        ratio=ratio,
        lower=0.0 if x == 0 else float(min(lower, ratio)),
        upper=float(max(upper, ratio)),
        effect=effect,
        note=note,
        draws=draws,
    )


def point_ratio(p: float, called_kinds: RealArray, mixtures: tuple[RealArray, RealArray], rates: ErrorRates) -> float:
    """Give the corrected ratio (0-1) of a patient of these ``mixtures``.

    The share of CBLC in the likeliest mixture of kinds behind the called ones, detection undone; 0 where the observed
    share ``p`` does not exceed the false-positive rate.
    """
    center = _Measured.of(rates)
    fpr = float(mixtures[1] @ center.rates)
    if float(center.impurity.purified(p)) <= fpr:
        return 0.0
    found = composition(center.impurity.purify(called_kinds), center.confusion)[rates.is_cblc].sum()
    return float(undo_detection(found, *(_recall(mixture, center.recalls) for mixture in mixtures)))


def patient_mixtures(called_kinds: RealArray, rates: ErrorRates) -> tuple[RealArray, RealArray]:
    """Shares (k,) of the kinds among this patient's CBLC, and among the others; each sums to 1.

    Estimated from the called kinds and mixed with ``PRIOR_CELLS`` cells of the mixture the rates were measured on, so
    that a patient of few cells of a side takes that mixture.
    """
    center = _Measured.of(rates)
    shares = composition(center.impurity.purify(called_kinds), center.confusion, center.mixture, PRIOR_CELLS)
    mixtures = []
    for side, usual in ((rates.is_cblc, center.mixture_cblc), (~rates.is_cblc, center.mixture_other)):
        of_side = np.where(side, shares, 0.0)
        # A hundredth of a cell of the usual mixture: a patient without any cell of a side takes it whole.
        cells = of_side * max(float(called_kinds.sum()), 1.0) + 0.01 * usual
        mixtures.append(cells / cells.sum())
    return mixtures[0], mixtures[1]


def draw_ratios(
    p: RealArray,
    effective: RealArray,
    mixtures: tuple[RealArray, RealArray],
    draws: RateDraws,
    *,
    seed: int,
) -> RealArray:
    """Draw true ratios (patients, d) of patients with observed shares ``p`` of ``effective`` independent cells.

    ``mixtures`` are those of CBLC and of the others, (patients, k) each. One draw pairs the patient's own chance with
    one draw of the parameters.
    """
    mixture_cblc, mixture_other = mixtures
    rng = np.random.default_rng(seed)
    a, b = p * effective + 0.5, (1 - p) * effective + 0.5
    size = (len(p), len(draws.calls.rates))
    share = draws.impurity.purified(rng.beta(a[:, None], b[:, None], size=size), rng)
    calls, recalls = draws.calls, draws.recalls
    tpr = draw_beta(mixture_cblc @ calls.rates.T, calls.correlation_cblc, rng)
    fpr = draw_beta(mixture_other @ calls.rates.T, calls.correlation_other, rng)
    recall_cblc = draw_beta(_recall(mixture_cblc, recalls.rates), recalls.correlation_cblc, rng)
    recall_other = draw_beta(_recall(mixture_other, recalls.rates), recalls.correlation_other, rng)
    # A drawn pair of rates that tells nothing leaves the ratio open: any value is as good as another.
    found = adjusted_ratio(share, tpr, fpr)
    open_ended = np.isnan(found)
    if open_ended.any():
        found[open_ended] = rng.uniform(size=int(open_ended.sum()))
    return undo_detection(found, np.maximum(recall_cblc, _SMALLEST_RECALL), np.maximum(recall_other, _SMALLEST_RECALL))


def _recall(mixture: RealArray, recalls: RealArray) -> RealArray:
    """Recall of a side (..., d) whose counted cells are mixed so (..., k): counted cells over those there were.

    ``recalls`` is (k,) or (d, k). Each kind's counted cells stand for 1 / recall outlined ones.
    """
    return np.asarray(1 / (mixture @ (1 / np.maximum(recalls, _SMALLEST_RECALL)).T), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Point values of the rates, computed once for each model."""

    rates: RealArray
    confusion: RealArray
    mixture: RealArray
    mixture_cblc: RealArray
    mixture_other: RealArray
    recalls: RealArray
    impurity: Impurity
    contrast: float

    @staticmethod
    def of(rates: ErrorRates) -> _Measured:
        return _measured(rates)


@lru_cache(maxsize=64)
def _measured(rates: ErrorRates) -> _Measured:
    counted = np.asarray(rates.counted, dtype=np.float64).sum(axis=0)
    by_kind, sides = np.nan_to_num(rates.calls.rates()), (rates.is_cblc, ~rates.is_cblc)
    mixtures = [np.where(side, counted, 0.0) / max(counted[side].sum(), 1.0) for side in sides]
    both_sides = all(counted[side].sum() > 0 for side in sides)
    return _Measured(
        rates=by_kind,
        confusion=rates.call_shares(),
        mixture=counted / max(counted.sum(), 1.0),
        mixture_cblc=mixtures[0],
        mixture_other=mixtures[1],
        impurity=rates.impurity,
        recalls=np.nan_to_num(rates.recalls.rates(), nan=1.0),
        contrast=float(mixtures[0] @ by_kind - mixtures[1] @ by_kind) if both_sides else 0.0,
    )


@lru_cache(maxsize=8)
def _draws(rates: ErrorRates) -> RateDraws:
    return draw_rates(rates, N_DRAWS, _SEED)
