"""Losses as pure functions that give a dictionary of named terms.

Cross-entropy with logit adjustment (Menon et al., ICLR 2021): training adds tau * log(prior) to the logits, so that
the plain logits rank the classes as if each were equally frequent. A class without a training cell has the offset
minus infinity: its probability is exactly zero in the loss and it receives no gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from marrowscope.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from marrowscope.train.model import ClassifierOutput

IGNORED = -100


def training_offsets(prior: Tensor, imbalance: str, tau: float) -> Tensor:
    """Give what training adds to the logits of a head: ``prior`` (k,) in, offsets (k,) out.

    ``tau * log(prior)`` under ``logit_adjustment``, 0 under ``none``; minus infinity where the prior is 0.
    """
    adjustment = tau * torch.log(prior) if imbalance == "logit_adjustment" else torch.zeros_like(prior)
    return adjustment.masked_fill(prior == 0, -math.inf)


def classification_losses(
    outputs: ClassifierOutput, targets: Mapping[str, Tensor], offsets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Mean cross-entropy of each head; ``targets`` (n,) int64 and ``offsets`` (k,) by head.

    Cells whose true class was never trained are left out (they have no finite loss); a head without a remaining
    cell has the loss 0.
    """
    losses: dict[str, Tensor] = {}
    for head, logits in outputs._asdict().items():
        offset = offsets[head]
        target = torch.where(torch.isinf(offset)[targets[head]], IGNORED, targets[head])
        total = functional.cross_entropy(logits + offset, target, ignore_index=IGNORED, reduction="sum")
        losses[head] = total / (target != IGNORED).sum().clamp(min=1)
    return losses


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float], where: str) -> Tensor:
    """Sum the terms with their weights; TrainingError naming every term when one is not finite."""
    if not all(bool(torch.isfinite(term)) for term in losses.values()):
        parts = ", ".join(f"{name} = {float(term.detach()):.4g}" for name, term in losses.items())
        message = (
            f"{where}: the loss is not finite ({parts}), expected finite terms; lower learning_rate of the stage, "
            "or look for broken crops"
        )
        raise TrainingError(message)
    return torch.stack([weights[name] * term for name, term in losses.items()]).sum()
