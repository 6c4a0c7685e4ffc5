"""The classifier: a timm trunk and one linear head per question, with named outputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from pydantic import Field
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn

from marrowscope.config import StageConfig
from marrowscope.errors import ConfigError
from marrowscope.train.config import HEADS, PLASMA, Norm, Views
from marrowscope.train.targets import MorphologyTarget

_MAP_AXES = 4
_GROUP_CHANNELS = 8  # divides the width of every layer of EfficientNet-B0
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClassifierOutput(NamedTuple):
    """The network's output for n crops.

    Logits of each head: ``cblc`` (n, 2), ``countable`` (n, 2), ``category`` (n, categories); index 1 means yes.
    ``morphology`` (n, k) are standardized measurements, k = 0 without that head; ``evidence`` (n, c, h, w) is the last
    feature map, from which class activation maps are made; ``embedding`` (n, c) is what the heads read, without
    dropout. ``plasma`` (n, 2), None without that head.
    """

    cblc: Tensor
    countable: Tensor
    category: Tensor
    morphology: Tensor
    evidence: Tensor
    embedding: Tensor
    plasma: Tensor | None = None

    def logits(self) -> dict[str, Tensor]:
        """Logits by head, in the order of ``HEADS``; those of ``PLASMA`` last, where there are any."""
        logits = {"cblc": self.cblc, "countable": self.countable, "category": self.category}
        return logits if self.plasma is None else logits | {PLASMA: self.plasma}


class ClassifierInfo(StageConfig):
    """What a weights file states about itself: all that is needed to run and export it.

    ``priors`` are the class shares of the last stage's training crops by head; a class with share 0 is untrained.
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
    implied: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="class shares that the plain logits assume, by head; they sum to 1"
    )
    norm: Norm = "batch"
    views: Views = Field(default=1, description="of a crop, whose logits are averaged in prediction")
    morphology: tuple[MorphologyTarget, ...] = Field(
        default=(), description="outputs of the morphology head, in order; used in training only"
    )
    initial_weights: str = Field(description="source of the trunk's initial weights, with their license")
    segmenter_sha256: str | None = Field(
        default=None, description="segmenter graph that cut the predicted crops; null where there were none"
    )
    initial_sha256: str = Field(default="", description="of the whole network's weights before the first step")

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of this classifier, in the order of its outputs."""
        return (*HEADS, *((PLASMA,) if PLASMA in self.priors else ()))

    def trained(self, head: str) -> tuple[bool, ...]:
        """Tell for each class of ``head`` whether it had a training cell."""
        return tuple(share > 0 for share in self.priors[head])

    @property
    def categories_not_trained(self) -> tuple[str, ...]:
        """Categories that this classifier never predicts."""
        return tuple(name for name, known in zip(self.categories, self.trained("category"), strict=True) if not known)

    def implied_prior(self, head: str, decision_tau: float | None = None) -> tuple[float, ...]:
        """Return the class shares that the probabilities assume.

        ``decision_tau`` is the target tau of the probabilities: shares proportional to prior ** (1 - tau) over the
        trained classes. None leaves them as trained (``implied``; uniform under logit adjustment with tau 1).
        """
        if decision_tau is None and head in self.implied:
            return self.implied[head]
        power = 1 - (self._trained_tau if decision_tau is None else decision_tau)
        shares = [share**power if share > 0 else 0.0 for share in self.priors[head]]
        return tuple(share / sum(shares) for share in shares)

    def decision_offset(self, head: str, decision_tau: float | None) -> tuple[float, ...]:
        """Return what shifts a head's logits from the shares they were trained for to those of ``decision_tau``.

        By Bayes' rule the shift is the log of the ratio of the two priors; 0 for a class that was never trained.
        """
        trained, wanted = self.implied_prior(head), self.implied_prior(head, decision_tau)
        return tuple(math.log(t / q) if q > 0 else 0.0 for q, t in zip(trained, wanted, strict=True))

    @property
    def _trained_tau(self) -> float:
        return self.tau if self.imbalance == "logit_adjustment" else 0.0


class CellClassifier(nn.Module):
    """Map crops (n, 3, s, s) float32, normalized, to a ``ClassifierOutput``.

    ``n_morphology`` is the number of outputs of the auxiliary head; ``norm`` the kind of normalization layers;
    ``plasma`` adds that head.
    """

    def __init__(
        self,
        architecture: str,
        n_categories: int,
        dropout: float = 0.0,
        *,
        n_morphology: int = 0,
        norm: Norm = "batch",
        plasma: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.norm = norm
        self.trunk = _make_trunk(architecture, norm)
        width = int(self.trunk.num_features)
        self.dropout = nn.Dropout(dropout)
        self.cblc = nn.Linear(width, 2)
        self.countable = nn.Linear(width, 2)
        self.category = nn.Linear(width, n_categories)
        self.morphology = nn.Linear(width, n_morphology) if n_morphology else None
        self.plasma = nn.Linear(width, 2) if plasma else None  # last: the others start as they do without it

    def forward(self, crops: Tensor) -> ClassifierOutput:
        """Return the logits of every head, the morphology and the last feature map."""
        evidence = self.trunk.forward_features(crops)
        embedding = self.trunk.forward_head(evidence, pre_logits=True)
        features = self.dropout(embedding)
        morphology = features[:, :0] if self.morphology is None else self.morphology(features)
        return ClassifierOutput(
            self.cblc(features),
            self.countable(features),
            self.category(features),
            morphology,
            evidence,
            embedding,
            None if self.plasma is None else self.plasma(features),
        )

    def head_weights(self, head: str) -> Tensor:
        """Weights (k, c) of a head over the channels of the last feature map."""
        weights = self.get_submodule(head).weight
        if not isinstance(weights, Tensor):
            message = f"head {head!r} is not linear"
            raise TypeError(message)
        return weights


def averaged_logits(model: CellClassifier, crops: Tensor, views: Views) -> dict[str, Tensor]:
    """Compute logits (n, k) by head, each the mean over ``views`` of a crop (n, 3, s, s); see ``averaged``."""
    return averaged(model, crops, views)[0]


def averaged(model: CellClassifier, crops: Tensor, views: Views) -> tuple[dict[str, Tensor], Tensor]:
    """Compute logits (n, k) by head and embeddings (n, c), each the mean over ``views`` of a crop (n, 3, s, s).

    Two views are the crop and its left-right mirror; four are these two, also upside down.
    """
    seen = crops
    if views > 1:
        seen = torch.cat([seen, seen.flip(3)])
    if views > 2:  # noqa: PLR2004  the crop and its mirror
        seen = torch.cat([seen, seen.flip(2)])
    output: ClassifierOutput = model(seen)
    if views == 1:
        return output.logits(), output.embedding

    def mean(values: Tensor) -> Tensor:
        return values.reshape(views, -1, values.shape[1]).mean(dim=0)

    return {head: mean(values) for head, values in output.logits().items()}, mean(output.embedding)


def _make_trunk(architecture: str, norm: Norm) -> Any:  # noqa: ANN401  timm's models have no common type
    """Make an untrained timm trunk; group norm (Wu and He, ECCV 2018) has groups of 8 channels.

    Raises ConfigError for a name unknown to timm.
    """
    if not timm.is_model(architecture):
        message = f"architecture: found {architecture!r}, expected a model of timm such as 'efficientnet_b0'"
        raise ConfigError(message)
    layers = {"norm_layer": partial(GroupNormAct, group_size=_GROUP_CHANNELS)} if norm == "group" else {}
    return timm.create_model(architecture, pretrained=False, num_classes=0, **layers)


def check_architecture(architecture: str, crop_px: int, norm: Norm) -> None:
    """Raise ConfigError, before any work, for a trunk that the heads or the terms cannot read.

    The heads read one value per channel of the last feature map, which must be (n, channels, h, w): convolutional
    networks whose pooled features come from the map. Group norm replaces batch norms that include an activation.
    """
    trunk = _make_trunk(architecture, "batch")
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    # Elsewhere the activation is separate from the norm, and one inside the new norm would be added to it.
    if norm == "group" and not (norms and all(isinstance(module, BatchNormAct2d) for module in norms)):
        message = (
            f"norm: found group for {architecture}, expected an architecture with activations inside its batch norms, "
            "such as efficientnet_b0; use norm = batch"
        )
        raise ConfigError(message)
    crop = torch.zeros(1, 3, crop_px, crop_px)
    advice = "choose a convolutional one, such as efficientnet_b0, resnet18 or convnext_atto"
    try:
        with torch.inference_mode():
            features = trunk.eval().forward_features(crop)
            pooled = trunk.forward_head(features, pre_logits=True)
    except (RuntimeError, AssertionError, ValueError) as error:  # what timm's models raise for a size they cannot take
        message = (
            f"architecture: {architecture} cannot take crops of {crop_px} px ({str(error).splitlines()[0]}); {advice}"
        )
        raise ConfigError(message) from error
    if features.ndim != _MAP_AXES or pooled.shape != features.shape[:2] or features.shape[1] != trunk.num_features:
        message = (
            f"architecture: found {architecture} with last features {tuple(features.shape)}, pooled to "
            f"{tuple(pooled.shape)}, expected (1, c, h, w) pooled to (1, c); {advice}"
        )
        raise ConfigError(message)


def new_classifier(
    architecture: str,
    n_categories: int,
    dropout: float,
    seed: int,
    *,
    n_morphology: int = 0,
    norm: Norm = "batch",
    plasma: bool = False,
) -> CellClassifier:
    """Make a classifier whose random initial weights are a function of ``seed``."""
    torch.manual_seed(seed)
    return CellClassifier(architecture, n_categories, dropout, n_morphology=n_morphology, norm=norm, plasma=plasma)
