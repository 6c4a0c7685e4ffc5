"""The classifier: a timm trunk and one linear head per question, with named outputs."""

from __future__ import annotations

import math
from typing import NamedTuple

import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from marrowscope.config import StageConfig
from marrowscope.errors import ConfigError

HEADS = ("cblc", "countable", "category")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClassifierOutput(NamedTuple):
    """Logits of each head: ``cblc`` (n, 2), ``countable`` (n, 2), ``category`` (n, categories); index 1 means yes."""

    cblc: Tensor
    countable: Tensor
    category: Tensor


class ClassifierInfo(StageConfig):
    """What a weights file says about itself: all that is needed to run and to export it.

    ``priors`` are the class shares of the last stage's training crops by head; a class of share 0 is not trained.
    """

    schema_version: int = 1
    architecture: str
    categories: tuple[str, ...]
    crop_px: int
    um_per_px: float = Field(description="scale of the crop")
    mean: tuple[float, float, float] = Field(description="of the RGB crop in 0..1, subtracted first")
    std: tuple[float, float, float]
    priors: dict[str, tuple[float, ...]]
    imbalance: str
    tau: float
    initial_weights: str = Field(description="where the trunk's weights came from, with their licence")

    def trained(self, head: str) -> tuple[bool, ...]:
        """Say for each class of ``head`` whether it had a training cell."""
        return tuple(share > 0 for share in self.priors[head])

    @property
    def categories_not_trained(self) -> tuple[str, ...]:
        """Categories that this classifier never predicts."""
        return tuple(name for name, known in zip(self.categories, self.trained("category"), strict=True) if not known)

    def implied_prior(self, head: str, decision_tau: float | None = None) -> tuple[float, ...]:
        """Class shares that the probabilities assume: proportional to prior ** (1 - tau) over the trained classes.

        ``decision_tau`` is the tau the probabilities are turned to; None leaves them as trained (uniform shares under
        logit adjustment with tau 1, the training shares without it).
        """
        power = 1 - (self._trained_tau if decision_tau is None else decision_tau)
        shares = [share**power if share > 0 else 0.0 for share in self.priors[head]]
        return tuple(share / sum(shares) for share in shares)

    def decision_offset(self, head: str, decision_tau: float | None) -> tuple[float, ...]:
        """Give what turns a head's logits from the shares they were trained for to those of ``decision_tau``.

        By Bayes' rule the logits move by the log of the ratio of the two priors; 0 for a class that was never trained.
        """
        change = 0.0 if decision_tau is None else self._trained_tau - decision_tau
        return tuple(change * math.log(share) if share > 0 else 0.0 for share in self.priors[head])

    @property
    def _trained_tau(self) -> float:
        return self.tau if self.imbalance == "logit_adjustment" else 0.0


class CellClassifier(nn.Module):
    """Crops (n, 3, s, s) float32, normalised, to a ``ClassifierOutput``."""

    def __init__(self, architecture: str, n_categories: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not timm.is_model(architecture):
            message = f"architecture: found {architecture!r}, expected a model of timm such as 'efficientnet_b0'"
            raise ConfigError(message)
        self.trunk: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
        width = int(self.trunk.num_features)
        self.dropout = nn.Dropout(dropout)
        self.cblc = nn.Linear(width, 2)
        self.countable = nn.Linear(width, 2)
        self.category = nn.Linear(width, n_categories)

    def forward(self, crops: Tensor) -> ClassifierOutput:
        """Give the logits of every head."""
        features = self.dropout(self.trunk(crops))
        return ClassifierOutput(self.cblc(features), self.countable(features), self.category(features))


def new_classifier(architecture: str, n_categories: int, dropout: float, seed: int) -> CellClassifier:
    """Make a classifier whose random initial weights are a function of ``seed``."""
    torch.manual_seed(seed)
    return CellClassifier(architecture, n_categories, dropout)
