"""Losses as pure functions that return named terms; the step sums them with the configured weights.

Terms: cross-entropy of each head under the class-imbalance correction; smooth L1 of the morphology head on measured
values; the two forms of the center-border term; the divergence from a teacher. Every term is a mean over the cells it
applies to, 0 where there are none, so a weight means the same for every batch. A new term needs a function here, an
entry in ``TERMS``, and a weight in ``config.LOSS_WEIGHTS``, which adds its column to metrics.csv (CONTRIBUTING.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from marrowscope.errors import ConfigError, TrainingError
from marrowscope.train.border import evidence_map, evidence_outside
from marrowscope.train.config import HEADS, PLASMA
from marrowscope.train.soft_labels import soften
from marrowscope.train.teacher import teacher_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from marrowscope.train.category_sets import CategorySets
    from marrowscope.train.crop_set import IntArray
    from marrowscope.train.imbalance import Correction
    from marrowscope.train.model import CellClassifier, ClassifierOutput
    from marrowscope.train.teacher import Lesson

IGNORED = -100
_LEAST_DOUBT = 1e-7  # below what float32 can distinguish from certainty


class HeadCorrection(NamedTuple):
    """A ``Correction`` as tensors on the training device: offsets (k,), weights (k,), focal exponent.

    ``trained`` (j,) int64 are the classes with a training cell: selecting with a mask would wait for the device.
    """

    offsets: Tensor
    weights: Tensor
    focal_gamma: float
    trained: Tensor

    def to(self, device: torch.device) -> HeadCorrection:
        """Move the correction to ``device``."""
        return HeadCorrection(
            self.offsets.to(device), self.weights.to(device), self.focal_gamma, self.trained.to(device)
        )


class SetTargets(NamedTuple):
    """What the labels of n crops leave open, each (n, k) over the categories (``category_sets``).

    ``may_be`` and ``can_label`` are bool; ``shares`` divide each cell over the categories, for the class weights.
    """

    may_be: Tensor
    can_label: Tensor
    shares: Tensor

    def to(self, device: torch.device) -> SetTargets:
        """Move the sets to ``device``."""
        return SetTargets(*(part.to(device) for part in self))

    def at(self, rows: Tensor) -> SetTargets:
        """Return the sets of some rows."""
        return SetTargets(*(part[rows] for part in self))


def set_targets(sets: CategorySets, training_rows: IntArray, *, masked_sources: bool) -> SetTargets | None:
    """Return the sets of all crops as tensors; None where every label is a category among all, so that none is needed.

    ``masked_sources`` restricts each cell to the categories that its source can label.
    """
    can_label = sets.can_label if masked_sources else np.ones_like(sets.can_label)
    if not sets.open.any() and can_label.all():
        return None
    shares = sets.shares(sets.at(training_rows).decided())
    return SetTargets(
        torch.from_numpy(sets.may_be), torch.from_numpy(can_label), torch.from_numpy(shares.astype(np.float32))
    )


def to_tensors(corrections: Mapping[str, Correction], device: torch.device) -> dict[str, HeadCorrection]:
    """Put the corrections of all heads on ``device`` in float32."""
    return {
        head: HeadCorrection(
            torch.tensor(correction.offsets, dtype=torch.float32, device=device),
            torch.tensor(correction.weights, dtype=torch.float32, device=device),
            correction.focal_gamma,
            torch.tensor(np.flatnonzero(np.isfinite(correction.offsets)), dtype=torch.int64, device=device),
        )
        for head, correction in corrections.items()
    }


def classification_losses(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    corrections: Mapping[str, HeadCorrection],
    sets: SetTargets | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Mean cross-entropy of each head; logits (n, k) and ``targets`` (n,) int64 by head, -1 for an open answer.

    ``given`` (n, k) by head is the part of each label that soft labels give to other classes; None: labels are hard,
    as are those of a head that it does not have.

    Cells whose answer is open or whose true class was never trained are left out (they have no finite loss). With
    ``sets`` the category head learns from open cells too (``set_losses``). Class weights, of mean 1 over the
    training cells, are divided by the number of cells. Divided by their sum per batch, a class rarer than one cell per
    batch would lose half of its weight or more, and the logits would not imply the stored prior.
    """
    losses: dict[str, Tensor] = {}
    for head, correction in corrections.items():
        offsets, weights, gamma, _ = correction
        adjusted = logits[head].float() + offsets
        if sets is not None and head == "category":
            known = (sets.may_be & ~torch.isinf(offsets)).any(dim=1)
            each, weight = set_losses(adjusted, sets), sets.shares @ weights
        else:
            place = targets[head].clamp(min=0)
            known = (targets[head] >= 0) & ~torch.isinf(offsets)[place]
            target = torch.where(known, targets[head], IGNORED)
            each = functional.cross_entropy(adjusted, target, ignore_index=IGNORED, reduction="none")
            weight = weights[place]
        if given is not None and head in given:
            each = soften(each, adjusted, given[head])
        if gamma > 0:
            # A cell called with certainty: the power's slope at 0 is infinite for an exponent below 1.
            each = each * (1 - torch.exp(-each)).clamp(min=_LEAST_DOUBT) ** gamma
        losses[head] = (each * weight * known).sum() / known.sum().clamp(min=1)
    return losses


def set_losses(adjusted: Tensor, sets: SetTargets) -> Tensor:
    """Loss (n,) of cells known to have a category of a set, from their logits plus offsets (n, k).

    With z the logits and o the offsets, q(c) = exp(z_c + o_c) / sum_k exp(z_k + o_k) is the probability of category c
    among the training cells: the offsets of logit adjustment, tau log(prior), put the class shares back that the plain
    logits leave out. A label that says no more than "one of T" has the probability sum_{c in T} q(c), so its loss is

        -log sum_{c in T} exp(z_c + o_c) + log sum_k exp(z_k + o_k).

    The sum is taken after the adjustment, since shares add up among training cells, not among adjusted logits; its
    gradient in z_c is q(c) - q(c | T): the cell pulls on the categories of T as far as they are probable already. For a
    set of one category this is cross-entropy. An untrained category has o_c = -inf and no part in either sum.

    A source that can label the categories S only, and leaves other cells out, shows p(c | c in S): the second sum runs
    over S. Categories outside of S get no gradient, so the cell says nothing about them.

    A cell without a trained category in its set has loss 0 and no gradient.
    """
    trained = ~torch.isinf(adjusted)
    hopeless = ~(sets.may_be & trained).any(dim=1, keepdim=True)
    among, chosen = (part | hopeless for part in (sets.can_label | sets.may_be, sets.may_be))
    log_q = functional.log_softmax(adjusted.masked_fill(~among, -math.inf), dim=1)
    return -torch.logsumexp(log_q.masked_fill(~chosen, -math.inf), dim=1)


def morphology_loss(predicted: Tensor, measured: Tensor) -> Tensor:
    """Mean smooth L1 between (n, k) predicted and measured standardized values, over the measured ones."""
    known = torch.isfinite(measured)
    values = predicted.float()
    # The prediction replaces a missing value: no difference, no gradient, and no selection with a mask.
    difference = functional.smooth_l1_loss(values, torch.where(known, measured, values.detach()), reduction="sum")
    return difference / known.sum().clamp(min=1)


def consistency_loss(
    logits: Mapping[str, Tensor], swapped: Mapping[str, Tensor], corrections: Mapping[str, HeadCorrection]
) -> Tensor:
    """Mean Kullback-Leibler divergence of a crop's prediction from that of the same crop with another border.

    Summed over the heads ``cblc`` and ``category``; the untouched crop is the teacher and gets no gradient, so the two
    cannot agree by both becoming vague. Only trained classes enter.
    """
    total = torch.zeros((), device=swapped["cblc"].device)
    for head in ("cblc", "category"):
        offsets, trained = corrections[head].offsets, corrections[head].trained
        teacher, student = (
            functional.log_softmax((values[head].float() + offsets).index_select(1, trained), dim=1)
            for values in (logits, swapped)
        )
        total = total + functional.kl_div(student, teacher.detach(), reduction="batchmean", log_target=True)
    return total


def evidence_loss(
    model: CellClassifier,
    evidence: Tensor,
    targets: Mapping[str, Tensor],
    masks: Tensor,
    corrections: Mapping[str, HeadCorrection],
) -> Tensor:
    """Mean share of the true class's positive evidence outside the masks (n, s, s), over CBLC and category.

    A cell whose class a coarse label leaves open is left out.

    The weights of a class are taken relative to the mean of its head's trained classes: what all classes share decides
    nothing. An untrained class, whose weights stay as random as at the start, is never part of that mean.
    """
    shares = []
    for head in ("cblc", "category"):
        weights = model.head_weights(head)
        against = weights - weights.index_select(0, corrections[head].trained).mean(dim=0, keepdim=True)
        known = targets[head] >= 0
        maps = evidence_map(evidence.float(), against[targets[head].clamp(min=0)])
        shares.append((evidence_outside(maps, masks) * known).sum() / known.sum().clamp(min=1))
    return torch.stack(shares).mean()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Inputs of the loss terms: n crops, then the first m - n of them again with other crops' borders.

    ``output`` is the network's for all m; ``targets`` (n,) int64 by head, -1 for an open answer, ``measured`` (n, k)
    standardized values with NaN where missing, ``masks`` (n, s, s) uint8, 1 inside the dilated contours, and ``given``
    (n, k) by head, what soft labels give to other classes, belong to the n crops. So do ``sets``, None for a crop set
    without coarse labels or masked sources, and ``taught`` by head, None without a teacher.
    """

    model: CellClassifier
    output: ClassifierOutput
    n: int
    targets: Mapping[str, Tensor]
    measured: Tensor
    masks: Tensor
    corrections: Mapping[str, HeadCorrection]
    sets: SetTargets | None = None
    given: Mapping[str, Tensor] | None = None
    taught: Mapping[str, Lesson] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """A loss term besides the heads' own: its function, () float32, or None where it does not apply to the batch.

    ``needs_masks`` marks a term that cannot be trained on crops without cell masks.
    """

    loss: Callable[[StepOutput], Tensor | None]
    needs_masks: bool = False


def _morphology_term(seen: StepOutput) -> Tensor:
    return morphology_loss(seen.output.morphology[: seen.n], seen.measured)


def _evidence_term(seen: StepOutput) -> Tensor:
    return evidence_loss(seen.model, seen.output.evidence[: seen.n], seen.targets, seen.masks, seen.corrections)


def _consistency_term(seen: StepOutput) -> Tensor | None:
    """Return None for a batch of one crop, which has no donor for another border."""
    logits = seen.output.logits()
    swapped = {head: values[seen.n :] for head, values in logits.items()}
    n_swapped = len(swapped["cblc"])
    if n_swapped == 0:
        return None
    return consistency_loss({head: values[:n_swapped] for head, values in logits.items()}, swapped, seen.corrections)


def _teacher_term(seen: StepOutput) -> Tensor | None:
    """Return None without a teacher."""
    if not seen.taught:
        return None
    return teacher_loss({head: values[: seen.n] for head, values in seen.output.logits().items()}, seen.taught)


TERMS: dict[str, Term] = {
    "morphology": Term(_morphology_term),
    "evidence": Term(_evidence_term, needs_masks=True),
    "consistency": Term(_consistency_term, needs_masks=True),
    "teacher": Term(_teacher_term),
}
"""The terms besides the heads' own, by the name of their weight; computed in this order where it is above 0."""


def check_terms(weights: Mapping[str, float]) -> None:
    """Raise ConfigError, before any work, for a weight that no term has, or a term without a weight."""
    terms = {*HEADS, PLASMA, *TERMS}
    if terms != set(weights):
        faults = [f"a weight {name!r} without a term" for name in sorted(set(weights) - terms)]
        faults += [f"a term {name!r} without a weight" for name in sorted(terms - set(weights))]
        message = (
            f"loss_weights: found {' and '.join(faults)}, expected one of the other; name the term in TERMS of "
            "train/losses.py and its weight in LOSS_WEIGHTS of train/config.py"
        )
        raise ConfigError(message)


def terms_with_masks(weights: Mapping[str, float]) -> list[str]:
    """List the terms with a weight above 0 that need cell masks."""
    return [name for name, term in TERMS.items() if term.needs_masks and weights[name] > 0]


def step_losses(seen: StepOutput, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Compute the term of every head, and every other term that is on and applies to the batch."""
    logits = {head: values[: seen.n] for head, values in seen.output.logits().items()}
    losses = classification_losses(logits, seen.targets, seen.corrections, seen.sets, seen.given)
    for name, term in TERMS.items():
        if weights[name] > 0 and (value := term.loss(seen)) is not None:
            losses[name] = value
    return losses


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum the weighted terms."""
    return torch.stack([weights[name] * term for name, term in losses.items()]).sum()


def check_finite(losses: Mapping[str, float], where: str) -> None:
    """Raise TrainingError with the value of every term when one is not finite."""
    if not all(math.isfinite(term) for term in losses.values()):
        parts = ", ".join(f"{name} = {term:.4g}" for name, term in losses.items())
        message = (
            f"{where}: the loss is not finite ({parts}), expected finite terms; lower learning_rate of the stage, "
            "or look for broken crops"
        )
        raise TrainingError(message)
