"""The exponential moving average of a network's weights over the steps of a stage.

The average forgets the first steps: its decay grows as (1 + t) / (10 + t) until it reaches the configured one. It is a
function of the steps alone and stands in the checkpoint, so a resumed training ends in equal weights. Statistics of
batch norm are averaged like the weights.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from marrowscope.train.model import CellClassifier


class WeightAverage:
    """A copy of a network, ``model``, that follows its weights slowly."""

    def __init__(self, model: CellClassifier, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: CellClassifier, step: int) -> None:
        """Move the average towards ``model`` after optimization step ``step`` (from 0) of the stage."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for kept, current in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(current, share)
            else:  # how many batches a batch norm has seen
                kept.copy_(current)
