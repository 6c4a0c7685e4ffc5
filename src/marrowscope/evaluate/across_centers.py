"""The main figures summarized over centers as a sample of centers: mean, interval, prediction interval, heterogeneity.

The row "all centers" pools patients, and large centers dominate it. Here each center is one study of a random-effects
summary (``statistics.random_effects``), which needs an estimate and a variance from each:

- shares (F1, recall) on the logit scale, with the variance from the limits of their bootstrap interval;
- the AUC of AML on the logit scale, with DeLong's variance;
- mean error and bias of the ratio as they are, with the variance of a mean over the center's patients. Limits are cut
  to what a ratio allows: no mean absolute error is below 0, and no bias beyond 1.

A center whose variance is not known, or whose value is exactly 0 or 1, is left out and named. With fewer than five
centers nothing is summarized: the spread between centers cannot be estimated from so few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from marrowscope.evaluate.patient_scores import diagnosed
from marrowscope.records import Interval
from marrowscope.statistics.delong import auc_interval
from marrowscope.statistics.random_effects import summarize_centers
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from marrowscope.evaluate.link import EvaluateConfig
    from marrowscope.evaluate.scores import CenterScores
    from marrowscope.statistics.metrics import RealArray

FEWEST_CENTERS = 5
LOGIT, AS_IT_IS = "logit", "as it is"
"""The scale on which a figure is summarized, column ``scale``."""

ACROSS_NATURE = (
    "Each center counts as one of many possible centers. The variance between centers is estimated by restricted "
    "maximum likelihood, the interval of the mean after Hartung, Knapp, Sidik and Jonkman. The interval for a new "
    f"center is a prediction interval. At least {FEWEST_CENTERS} centers are needed. A small p says that centers "
    "differ by more than chance."
)

_SHARES = ("cblc_weighted_f1_all_expert", "category_weighted_f1_all_expert", "detection_recall")
_ERRORS = {
    "patient_ratio_mae": "predicted_ratio",
    "patient_ratio_mae_corrected_ratio": "corrected_ratio",
    "patient_ratio_bias": "predicted_ratio",
    "patient_ratio_bias_corrected_ratio": "corrected_ratio",
}
_AUCS = {"aml_auc_delong_predicted_ratio": "run_ratio", "aml_auc_delong_corrected_ratio": "corrected_ratio"}
_FEWEST_PATIENTS = 2
_WIDTH = 2 * 1.959963984540054
"""Of a 95% interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class AcrossCenters:
    """One figure over centers, on its own scale; ``tau2`` is on ``scale``. NaN with the reason in ``undefined``."""

    key: str
    scale: str
    n_centers: int
    mean: Interval
    prediction_lower: float
    prediction_upper: float
    tau2: float
    i2: float
    q: float
    p: float
    left_out: tuple[str, ...]
    undefined: str


def across_centers(
    centers: Sequence[CenterScores], ratios: pl.DataFrame, config: EvaluateConfig
) -> tuple[AcrossCenters, ...]:
    """Summarize each main figure over ``centers``, which must not include "all centers"; none for a single center."""
    if len(centers) < 2:  # noqa: PLR2004  a single center is its own summary
        return ()
    by_center = {scores.center: ratios.filter(ratios["center"] == scores.center) for scores in centers}
    rows = []
    for key in (*_SHARES, *_ERRORS, *_AUCS):
        scale = AS_IT_IS if key in _ERRORS else LOGIT
        measured = {
            scores.center: _measure(key, scores, by_center[scores.center], config)
            for scores in centers
            if not math.isnan(scores.figure(key).value.estimate)
        }
        rows.append(_summarize(key, scale, measured, len(centers)))
    return tuple(rows)


def _summarize(key: str, scale: str, measured: dict[str, tuple[float, float]], n_all: int) -> AcrossCenters:
    used = {name: pair for name, pair in measured.items() if math.isfinite(pair[0]) and 0 < pair[1] < math.inf}
    left_out = tuple(sorted(measured.keys() - used.keys()))
    if len(used) < FEWEST_CENTERS:
        reason = (
            f"{count_of(len(used), 'center')} of {n_all} with a value and a variance, at least {FEWEST_CENTERS} needed"
        )
        nothing = Interval(math.nan, math.nan, math.nan)
        return AcrossCenters(
            key=key,
            scale=scale,
            n_centers=len(used),
            mean=nothing,
            prediction_lower=math.nan,
            prediction_upper=math.nan,
            tau2=math.nan,
            i2=math.nan,
            q=math.nan,
            p=math.nan,
            left_out=left_out,
            undefined=reason,
        )
    estimate, variance = (np.array(column) for column in zip(*used.values(), strict=True))
    found = summarize_centers(estimate, variance)
    mean = found.mean

    def back(value: float) -> float:
        return float(expit(value)) if scale == LOGIT else _possible(key, value)

    return AcrossCenters(
        key=key,
        scale=scale,
        n_centers=found.n_centers,
        mean=Interval(back(mean.estimate), back(mean.lower), back(mean.upper)),
        prediction_lower=back(found.prediction_lower),
        prediction_upper=back(found.prediction_upper),
        tau2=found.tau2,
        i2=found.i2,
        q=found.q,
        p=found.p,
        left_out=left_out,
        undefined="",
    )


def _possible(key: str, value: float) -> float:
    """Cut an error of the ratio to 0-1, a bias to -1 to 1."""
    return min(1.0, max(0.0 if "mae" in key else -1.0, value))


def _measure(key: str, scores: CenterScores, ratios: pl.DataFrame, config: EvaluateConfig) -> tuple[float, float]:
    """Return a center's estimate and variance on the figure's scale; not finite or 0 if it has none."""
    if key in _ERRORS:
        both = ratios.drop_nulls(["true_ratio", _ERRORS[key]])
        error = both[_ERRORS[key]].to_numpy() - both["true_ratio"].to_numpy()
        return _of_mean(np.abs(error) if "mae" in key else error)
    if key in _AUCS:
        known = diagnosed(ratios, config).drop_nulls(_AUCS[key])
        return _of_auc(auc_interval(known["is_aml"].to_numpy(), known[_AUCS[key]].to_numpy(), cut=False))
    value = scores.figure(key).value
    with np.errstate(divide="ignore", invalid="ignore"):
        error = float(logit(value.upper) - logit(value.lower)) / _WIDTH
        return float(logit(value.estimate)), error**2


def _of_mean(values: RealArray) -> tuple[float, float]:
    n = len(values)
    return float(values.mean()), float(values.var(ddof=1)) / n if n >= _FEWEST_PATIENTS else math.nan


def _of_auc(value: Interval) -> tuple[float, float]:
    """Move an AUC and its variance to the logit scale, by the derivative 1 / (AUC (1 - AUC))."""
    auc = value.estimate
    if not 0 < auc < 1:
        return math.nan, math.nan
    error = (value.upper - value.lower) / _WIDTH / (auc * (1 - auc))
    return float(logit(auc)), error**2
