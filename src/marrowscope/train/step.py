"""One optimization step: the loss terms of a batch, their gradients, AdamW.

Nothing in a step waits for the device: labels, measurements and loss terms stay there until the terms are read. The
training loop and the speed measurement (``bench``) run this same step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from marrowscope.train.config import HEADS
from marrowscope.train.imbalance import correct_all
from marrowscope.train.losses import SetTargets, StepOutput, set_targets, step_losses, to_tensors, weighted_total
from marrowscope.train.soft_labels import given_away
from marrowscope.train.targets import standardize
from marrowscope.train.teacher import lessons
from marrowscope.train.validation import scale_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.loader import TrainingBatch
    from marrowscope.train.model import CellClassifier, ClassifierInfo, ClassifierOutput
    from marrowscope.train.teacher import Taught


def autocasts(config: ClassifierConfig, device: torch.device) -> bool:
    """Tell whether the network runs in bf16 autocast; ``auto`` does on CUDA only (slower on the CPU, docs/train.md)."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


def make_optimizer(model: CellClassifier, config: ClassifierConfig) -> torch.optim.AdamW:
    """AdamW, in one kernel on CUDA; no weight decay on biases and norms. The step sets the learning rate."""
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    on_cuda = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=0.0, fused=True if on_cuda else None)


class TrainingStep:
    """Everything a step needs besides its batch, on the model's device.

    ``training_rows`` are the crops that define the class shares and the standardization of the measurements; ``taught``
    is what a teacher says of them, None without one.
    """

    def __init__(
        self,
        model: CellClassifier,
        optimizer: torch.optim.Optimizer,
        config: ClassifierConfig,
        info: ClassifierInfo,
        *,
        crop_set: CropSet,
        training_rows: IntArray,
        taught: Taught | None = None,
    ) -> None:
        self.model, self.optimizer, self.config = model, optimizer, config
        self.device = next(model.parameters()).device
        self.forward: Callable[[Tensor], ClassifierOutput] = torch.compile(model) if config.compile else model
        shares = crop_set.class_shares(training_rows, info.heads)
        self.corrections = to_tensors(correct_all(shares, config), self.device)
        self._sets = set_targets(crop_set.sets, training_rows, masked_sources=config.masked_sources)
        if self._sets is not None:
            self._sets = self._sets.to(self.device)
        self._labels = {head: torch.from_numpy(crop_set.labels[head]).to(self.device) for head in info.heads}
        self._measured = torch.from_numpy(standardize(crop_set.measured, training_rows)[1]).to(self.device)
        self._given = self._soft_labels(crop_set, info)
        prepared = lessons(taught, crop_set.labels, info) if taught else {}
        self._lessons = {head: lesson.to(self.device) for head, lesson in prepared.items()}
        self._mean, self._std = (torch.tensor(values, device=self.device) for values in (info.mean, info.std))

    def __call__(self, batch: TrainingBatch, *, learning_rate: float, seed: int) -> dict[str, Tensor]:
        """Take one step and return its loss terms with their ``total``, each () float32 on the device, detached.

        ``seed`` sets the dropout. A term that is not finite spoils the weights: read the terms before saving them.
        """
        torch.manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        losses = self._losses(batch.to(self.device))
        total = weighted_total(losses, self.config.loss_weights)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        return {name: term.detach() for name, term in (losses | {"total": total}).items()}

    def sets_at(self, rows: Tensor) -> SetTargets | None:
        """Return the sets of categories of crops ``rows``; None where every label of the crop set is a category."""
        return None if self._sets is None else self._sets.at(rows)

    def _soft_labels(self, crop_set: CropSet, info: ClassifierInfo) -> dict[str, Tensor] | None:
        """Put what each crop's label gives to the codes it is confused with (n, k), by head, on the device."""
        if not self.config.confusable or self.config.smoothing == 0:
            return None
        trained = {head: info.trained(head) for head in HEADS}
        codes = crop_set.cells["expert_code"].to_list()
        given = given_away(codes, crop_set.labels, self.config.confusable, self.config.smoothing, trained)
        return {head: torch.from_numpy(values).to(self.device) for head, values in given.items()}

    def _losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Compute every loss term that is on."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocasts(self.config, self.device)):
            output = self.forward(scale_pixels(batch.crops, self._mean, self._std))
        seen = StepOutput(
            model=self.model,
            output=output,
            n=len(batch.rows),
            targets={head: labels[batch.rows] for head, labels in self._labels.items()},
            sets=self.sets_at(batch.rows),
            measured=self._measured[batch.rows],
            masks=batch.masks,
            corrections=self.corrections,
            given=None if self._given is None else {head: rows[batch.rows] for head, rows in self._given.items()},
            taught={head: lesson.at(batch.rows) for head, lesson in self._lessons.items()},
        )
        return step_losses(seen, self.config.loss_weights)
