"""Batch norm under center shift: its statistics re-estimated on a new center's crops, without labels.

Another laboratory's stain and camera shift the means and variances inside the network; the statistics stored in
training then normalize to something the next layer has never seen. Running the new center's crops through the network
once replaces them (Li et al., Pattern Recognition 2018, "AdaBN"). Weights, heads and priors stay the same. The
invariant: the given network stays unchanged; the result is a copy.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from marrowscope.errors import ConfigError
from marrowscope.train.validation import normalize, validation_batches

if TYPE_CHECKING:
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo

FEWEST_CROPS = 200
"""Below this number of crops the variances of deep layers, with few positions per crop, are too uncertain."""


class Adapted(NamedTuple):
    """A copy of the network with new statistics, in evaluation mode, and what to know about it (or None)."""

    model: CellClassifier
    n_crops: int
    note: str | None


@torch.no_grad()
def reestimate_batch_norm(
    model: CellClassifier,
    crop_set: CropSet,
    rows: IntArray,
    info: ClassifierInfo,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> Adapted:
    """Return a copy of ``model`` whose batch norm describes the unchanged crops of ``rows``; labels are not read.

    The running means and variances become the plain averages over batches of (almost) equal size, in a random order set
    by ``seed``: a table is sorted by patient, and a batch of one patient varies too little. One pass covers the means
    and variances of all layers. Raises ConfigError for a network without batch norm or fewer than two crops.
    """
    adapted = copy.deepcopy(model).eval()
    layers = [module for module in adapted.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        message = (
            f"norm: found {info.norm!r}, expected 'batch'; a network without batch norm has no statistics to estimate"
        )
        raise ConfigError(message)
    if len(rows) < 2:  # noqa: PLR2004  a variance
        message = f"{crop_set.folder}: found {len(rows)} crops for batch norm, expected at least {FEWEST_CROPS}"
        raise ConfigError(message)
    device = next(adapted.parameters()).device
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over all batches
        layer.train()
    shuffled = np.random.default_rng(seed).permutation(rows)
    for chosen in np.array_split(shuffled, max(1, round(len(rows) / batch_size))):
        (crops,) = validation_batches(crop_set, chosen, info.crop_px, len(chosen))
        adapted(normalize(crops, info, device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return Adapted(adapted.eval(), len(rows), _note(len(rows)))


def _note(n_crops: int) -> str | None:
    """Return a warning where the crops are few."""
    if n_crops >= FEWEST_CROPS:
        return None
    return (
        f"batch norm was estimated on {n_crops} crops, expected at least {FEWEST_CROPS}; check the calls, or use the "
        "network as trained"
    )
