"""Temperature scaling of a head, fitted on held-out cells.

By Bayes' rule, a head's logits z are log-likelihoods plus the log of the prior q it was trained with. Only the
likelihood part is scaled:

    p = softmax((z - log q) / T + log t)

where t is the target prior. The prior that p assumes is then exactly t at every temperature, which quantification
needs; scaling z itself, as Guo et al. (ICML 2017) do, would turn it into q ** (1 / T). For a uniform q = t both are the
same. A class with q = 0 was never trained: it has no likelihood and keeps probability 0.

Logits are (n, k). Labels (n,) are class numbers, -1 for a cell without a label. Priors are (k,), or (n, k) for cells
from networks with different priors. The loss is convex in 1 / T, so the search finds its only minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from marrowscope.config import StageConfig
from marrowscope.statistics import metrics
from marrowscope.statistics.joint import JointFit
from marrowscope.wording import count_of

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
MIN_CELLS = 50
_N_BINS = 15
_TOLERANCE = 1e-6

CALIBRATION_NAME = "calibration.json"
"""File of a cross-fit folder that has a ``Calibration``."""


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """A fitted temperature; if the cells do not allow a fit, ``value`` is 1 and ``reason`` explains why.

    ``n_left_out`` cells have no label, or that of a class that was never trained. ``nll_before`` (T = 1) and
    ``nll_after`` are mean negative log-likelihoods in nats on the ``n_cells`` of the fit; NaN without cells.
    ``reason`` is empty for a minimum inside the search range.
    """

    value: float
    n_cells: int
    n_left_out: int
    nll_before: float
    nll_after: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin: probabilities ``lower``..``upper``, their mean, and the share of true outcomes in its ``n`` cells."""

    lower: float
    upper: float
    n: int
    mean_probability: float
    share_true: float


class HeadCalibration(StageConfig):
    """One head's temperature, and its effect on cells it was not fitted on.

    The metrics are nested: each fold's cells are scaled by a temperature fitted on the other folds only. Undefined
    metrics are null.
    """

    temperature: float = Field(gt=0, description="fitted on all out-of-fold cells; 1 if that was not possible")
    reason: str = Field(default="", description="why the temperature is 1 or at a limit of the search")
    n_cells: int = Field(description="labeled out-of-fold cells of a trained class")
    n_left_out: int = Field(description="cells without a label, or of a class without training cells in their fold")
    nested_temperatures: dict[str, float] = Field(description="per fold, the temperature fitted on the other folds")
    nll_before: float | None = Field(description="mean negative log-likelihood in nats at temperature 1")
    nll_after: float | None
    ece_before: float | None = Field(description="expected calibration error, 15 bins of equal numbers of cells")
    ece_after: float | None


class Calibration(StageConfig):
    """Temperatures of an ensemble and its members: the content of calibration.json."""

    schema_version: int = 1
    method: str = "softmax((z - log q) / T + log t), T by head of least negative log-likelihood on out-of-fold cells"
    source: str = Field(description="contours used to cut the cells: predicted or expert")
    n_patients: int
    members: dict[str, str] = Field(description="SHA-256 of the weights, by folder of each fold's training")
    heads: dict[str, HeadCalibration]
    joint: JointFit | None = Field(default=None, description="of all heads together; null in earlier versions")

    def temperatures(self) -> dict[str, float]:
        """Return the temperature of each head."""
        return {head: fitted.temperature for head, fitted in self.heads.items()}

    def sentence(self) -> str:
        """Sentence for a bundle's card."""
        heads = ", ".join(f"{name} {value:.2f}" for name, value in self.temperatures().items())
        return (
            f"Temperatures (inside the graphs; {heads}) were fitted on cells of "
            f"{count_of(self.n_patients, 'patient')}, each "
            "predicted by the member that had not seen them."
        ) + ("" if self.joint is None else f" {self.joint.sentence()}")


def fit_temperature(
    logits: RealArray, labels: IntArray, implied: RealArray, wanted: RealArray, *, weights: RealArray | None = None
) -> TemperatureFit:
    """Fit the temperature in 0.05..20 that minimizes the mean negative log-likelihood.

    ``implied`` is the prior the logits were trained with, ``wanted`` that of the labeled cells. ``weights`` (n,) are
    the cells' weights, equal by default. With fewer than 50 cells, or a single class, it is 1, with the reason.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    _check_shapes(logits, labels)
    known = trained_labels(labels, np.broadcast_to(implied, logits.shape))
    n_cells, n_left_out = int(known.sum()), int((~known).sum())
    evidence, log_wanted = (
        part[known] for part in _evidence(logits, np.asarray(implied, dtype=float), np.asarray(wanted, dtype=float))
    )
    kept = labels[known]
    shares = np.ones(n_cells) if weights is None else np.asarray(weights, dtype=np.float64)[known]

    def loss(log_temperature: float) -> float:
        return _loss(evidence / math.exp(log_temperature) + log_wanted, kept, shares)

    before = loss(0.0)
    if n_cells < MIN_CELLS:
        reason = f"{count_of(n_cells, 'labeled cell')}, fewer than {MIN_CELLS}"
    elif len(np.unique(kept)) == 1:
        reason = f"only one class among {count_of(n_cells, 'cell')}"
    else:
        bounds = (math.log(_MIN_TEMPERATURE), math.log(_MAX_TEMPERATURE))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": _TOLERANCE})
        value, after = math.exp(float(found.x)), float(found.fun)
        return TemperatureFit(value, n_cells, n_left_out, before, after, _at_the_edge(value))
    return TemperatureFit(1.0, n_cells, n_left_out, before, before, reason)


def apply_temperature(logits: RealArray, implied: RealArray, wanted: RealArray, temperature: float = 1.0) -> RealArray:
    """Compute probabilities (n, k) that assume the prior ``wanted``; exactly 0 for classes that were never trained."""
    evidence, log_wanted = _evidence(
        np.asarray(logits, dtype=np.float64), np.asarray(implied, dtype=float), np.asarray(wanted, dtype=float)
    )
    probabilities: RealArray = np.exp(log_softmax(evidence / temperature + log_wanted, axis=1))
    return probabilities


def nested_calibration(
    logits: RealArray, labels: IntArray, folds: IntArray, implied: RealArray, wanted: RealArray
) -> tuple[HeadCalibration, RealArray, RealArray]:
    """Fit one head's temperature on cells of several folds, and measure its effect on cells it was not fitted on.

    ``folds`` (n,) is the fold that each cell was held out in; ``implied`` and ``wanted`` are (n, k). Returns the
    record, with the temperature fitted on all cells, and the probabilities (n, k) at temperature 1 and at the nested
    temperatures.
    """
    known = trained_labels(labels, implied)
    before = apply_temperature(logits, implied, wanted)
    after = np.empty_like(before)
    nested = {}
    for fold in np.unique(folds):
        inside = folds == fold
        fit = fit_temperature(logits[~inside], labels[~inside], implied[~inside], wanted[~inside])
        after[inside] = apply_temperature(logits[inside], implied[inside], wanted[inside], fit.value)
        nested[str(fold)] = fit.value
    fit = fit_temperature(logits, labels, implied, wanted)
    figures = (calibration_figures(probabilities[known], labels[known]) for probabilities in (before, after))
    (nll_before, ece_before), (nll_after, ece_after) = figures
    record = HeadCalibration(
        temperature=fit.value,
        reason=fit.reason,
        n_cells=fit.n_cells,
        n_left_out=fit.n_left_out,
        nested_temperatures=nested,
        nll_before=nll_before,
        nll_after=nll_after,
        ece_before=ece_before,
        ece_after=ece_after,
    )
    return record, before, after


def calibration_figures(probabilities: RealArray, labels: IntArray) -> tuple[float | None, float | None]:
    """Compute negative log-likelihood and expected calibration error of (n, k) probabilities; None without cells."""
    if not len(labels):
        return None, None
    return negative_log_likelihood(probabilities, labels), expected_calibration_error(
        *binary_event(probabilities, labels)
    )


def trained_labels(labels: IntArray, implied: RealArray) -> BoolArray:
    """Return for each cell (n,) whether its label is a class with a share in its row of ``implied`` (n, k)."""
    labeled = labels >= 0
    share = np.take_along_axis(implied, np.where(labeled, labels, 0)[:, None], axis=1)[:, 0]
    known: BoolArray = labeled & (share > 0)
    return known


def negative_log_likelihood(probabilities: RealArray, labels: IntArray) -> float:
    """Mean of -log p of the true class in nats; NaN without cells, infinite if a true class has probability 0."""
    if not len(labels):
        return math.nan
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def binary_event(probabilities: RealArray, labels: IntArray) -> tuple[RealArray, BoolArray]:
    """Return the event to calibrate: for two classes, p of class 1 and whether it is true; else those of the top class.

    The CBLC ratio depends on p of class 1, which must therefore be calibrated; a category is called by its top class.
    """
    if probabilities.shape[1] == 2:  # noqa: PLR2004  yes and no
        return probabilities[:, 1], labels == 1
    called = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(called)), called], called == labels


def reliability_table(probability: RealArray, true: BoolArray, bins: int = _N_BINS) -> tuple[ReliabilityBin, ...]:
    """Group cells by ``probability`` (n,) into at most ``bins`` bins of equal numbers of cells; no cells, no bins.

    Equal probabilities share a bin, so the order of the cells does not matter.
    """
    place = metrics.equal_mass_bins(probability, bins)
    return tuple(
        ReliabilityBin(
            lower=float(probability[inside].min()),
            upper=float(probability[inside].max()),
            n=int(inside.sum()),
            mean_probability=float(probability[inside].mean()),
            share_true=float(true[inside].mean()),
        )
        for inside in (place == index for index in np.unique(place))
    )


def expected_calibration_error(probability: RealArray, true: BoolArray, bins: int = _N_BINS) -> float:
    """Mean of |share true - mean probability| over ``reliability_table``, weighted by cells; NaN without cells.

    With few cells it is too large even for perfect probabilities: read it together with n.
    """
    table = reliability_table(probability, true, bins)
    n = np.array([row.n for row in table], dtype=np.float64)
    sums = (
        n * np.array([getattr(row, name) for row in table], dtype=np.float64)
        for name in ("mean_probability", "share_true")
    )
    return metrics.expected_calibration_error(n, *sums)


def _evidence(logits: RealArray, implied: RealArray, wanted: RealArray) -> tuple[RealArray, RealArray]:
    """Split into z - log q and log t, both (n, k); a class with zero share in either has evidence -inf and log t 0."""
    known = np.broadcast_to((implied > 0) & (wanted > 0), logits.shape)
    log_implied, log_wanted = (
        np.log(np.where(known, np.broadcast_to(prior, logits.shape), 1.0)) for prior in (implied, wanted)
    )
    return np.where(known, logits - log_implied, -np.inf), log_wanted


def _loss(scores: RealArray, labels: IntArray, weights: RealArray) -> float:
    """Weighted mean negative log-likelihood of ``softmax(scores)``; NaN without cells."""
    if not len(labels):
        return math.nan
    log_p = log_softmax(scores, axis=1)[np.arange(len(labels)), labels]
    return float(-(weights * log_p).sum() / weights.sum())


def _at_the_edge(value: float) -> str:
    """Return why a temperature is a limit of the search and not a minimum; empty if it is a minimum."""
    if value < _MIN_TEMPERATURE * 1.01:
        return f"the smallest allowed, {_MIN_TEMPERATURE:g}: the cells are told apart without an error"
    if value > _MAX_TEMPERATURE / 1.01:
        return f"the largest allowed, {_MAX_TEMPERATURE:g}: the logits tell nothing about the cells"
    return ""


def _check_shapes(logits: RealArray, labels: IntArray) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or (labels.size and labels.max() >= logits.shape[1]):  # noqa: PLR2004
        message = (
            f"found logits {logits.shape} and labels {labels.shape} up to {labels.max(initial=-1)}, "
            "expected (n, k) and (n,) with labels below k"
        )
        raise ValueError(message)
