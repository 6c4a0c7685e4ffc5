"""Class-imbalance correction: what each method does to the loss or the sampling, and which prior it implies.

Steps: class counts of the training split; one ``Correction`` per head (offsets, weights, focal exponent) and, for the
sampler, one probability per crop. The invariant: a class without a training cell has an offset of minus infinity in
every method, so it gets no logit and can never be predicted; and every method states the prior that its plain logits
imply, since calibration and quantification need it.

Sources: logit adjustment, Menon et al., ICLR 2021; class-balanced weights by the effective number of samples, Cui et
al., CVPR 2019; focal loss, Lin et al., ICCV 2017; square-root sampling, Mikolov et al., NeurIPS 2013 (for words).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.train.config import ClassifierConfig, Imbalance

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correction:
    """What a head's loss adds and multiplies, each (k,) float64 over its classes.

    ``offsets`` are added to the logits in training, minus infinity for an untrained class; ``weights`` multiply a
    cell's loss by its true class; ``focal_gamma`` is the focal exponent. ``implied`` is the prior of the plain logits
    (sums to 1): by Bayes' rule, softmax(logits) is the posterior under these class shares.
    """

    offsets: FloatArray
    weights: FloatArray
    focal_gamma: float
    implied: tuple[float, ...]


def correct_head(counts: FloatArray, config: ClassifierConfig) -> Correction:
    """Compute the correction of one head from the training cells per class, (k,), coarse ones divided over theirs.

    Under focal loss the implied prior is that of the training cells, though focal probabilities are less extreme than
    posteriors: calibrate them before any counting.
    """
    prior = counts / counts.sum()
    known = counts > 0
    log_prior = np.log(np.where(known, prior, 1.0))
    offsets, weights, gamma, power = np.zeros(len(counts)), np.ones(len(counts)), 0.0, 1.0
    implied_weights = np.ones(len(counts))
    if config.imbalance == "logit_adjustment":
        offsets, power = config.tau * log_prior, 1 - config.tau
    elif config.imbalance == "class_balanced":
        effective = (1 - config.effective_number_beta ** counts.astype(np.float64)) / (1 - config.effective_number_beta)
        weights = np.where(known, 1 / np.where(known, effective, 1.0), 0.0)
        weights *= counts.sum() / (weights * counts).sum()  # the mean weight of a cell is 1
        implied_weights = weights
    elif config.imbalance == "focal":
        gamma = config.focal_gamma
    shares = np.where(known, np.exp(power * log_prior), 0.0) * implied_weights
    return Correction(
        offsets=np.where(known, offsets, -np.inf),
        weights=weights,
        focal_gamma=gamma,
        implied=tuple(float(share) for share in shares / shares.sum()),
    )


def sampling_weights(categories: FloatArray, imbalance: Imbalance) -> FloatArray | None:
    """Probability (n,) of drawing each training crop, summing to 1; None where an epoch uses every crop once.

    The square-root sampler draws with replacement so that a category's share is proportional to the square root of
    its number of cells. ``categories`` (n, k) are the cells' shares of the categories (``CropSet.class_shares``); a
    cell divided over several is drawn with the mean of their weights, one without mass with the mean of all others.
    """
    if imbalance != "square_root_sampler":
        return None
    counts = categories.sum(axis=0)
    weights = categories @ np.divide(1.0, np.sqrt(counts), out=np.zeros_like(counts), where=counts > 0)
    weights[weights == 0] = weights[weights > 0].mean()
    return np.asarray(weights / weights.sum())


def correct_all(shares: Mapping[str, FloatArray], config: ClassifierConfig) -> dict[str, Correction]:
    """Compute the correction of every head from how the training cells are divided over its classes, (n, k).

    Under the sampler, the implied prior of every head is its share among the crops as drawn; for CBLC and countable
    that is an approximation, since drawing by category also changes the mixture inside their classes.
    """
    corrections = {head: correct_head(divided.sum(axis=0), config) for head, divided in shares.items()}
    drawn = sampling_weights(shares["category"], config.imbalance)
    if drawn is None:
        return corrections
    return {
        head: Correction(
            offsets=correction.offsets,
            weights=correction.weights,
            focal_gamma=correction.focal_gamma,
            implied=_implied_by(drawn, shares[head]),
        )
        for head, correction in corrections.items()
    }


def _implied_by(drawn: FloatArray, divided: FloatArray) -> tuple[float, ...]:
    """Class shares (k,) among the crops as drawn, of the cells that decide the head."""
    shares = (drawn[:, None] * divided).sum(axis=0)
    if not divided.any(axis=1).all():
        shares /= shares.sum()
    return tuple(shares.tolist())
