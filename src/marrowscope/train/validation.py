"""A classifier's predictions on unchanged crops, and their metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from marrowscope.statistics import metrics
from marrowscope.train.augment import center_crop
from marrowscope.train.config import HEADS, PLASMA
from marrowscope.train.model import averaged_logits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from marrowscope.records import ImageArray
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo


def validation_batches(crop_set: CropSet, rows: IntArray, size_px: int, batch_size: int) -> Iterator[ImageArray]:
    """Yield the central ``size_px`` of each stored crop of ``rows`` in order, unchanged: (n, size_px, size_px, 3)."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        yield np.stack([center_crop(crop_set.crops[row], size_px) for row in chosen])


def normalize(batch: ImageArray | torch.Tensor, info: ClassifierInfo, device: torch.device) -> torch.Tensor:
    """Convert crops (n, s, s, 3) uint8 to the network's input (n, 3, s, s) float32, channels last in memory."""
    crops = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
    mean, std = (torch.tensor(values, device=device) for values in (info.mean, info.std))
    return scale_pixels(crops.to(device, non_blocking=True), mean, std)


def scale_pixels(crops: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Do what ``normalize`` does, for crops, mean (3,) and std (3,) already on the device."""
    pixels = crops.permute(0, 3, 1, 2).float() / 255
    return (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


@torch.inference_mode()
def predict_logits(
    model: CellClassifier, crop_set: CropSet, rows: IntArray, info: ClassifierInfo, *, batch_size: int = 64
) -> dict[str, torch.Tensor]:
    """Compute logits (n, k) by head of the unchanged crops of ``rows``, on the CPU; sets the model to evaluation mode.

    They are means over the views that ``info`` states. Without rows they are empty.
    """
    device = next(model.parameters()).device
    model.eval()
    parts = [
        averaged_logits(model, normalize(batch, info, device), info.views)
        for batch in validation_batches(crop_set, rows, info.crop_px, batch_size)
    ]
    if not parts:
        return {head: torch.empty(0, len(info.priors[head])) for head in info.heads}
    return {head: torch.cat([part[head] for part in parts]).float().cpu() for head in info.heads}


def probabilities(logits: Mapping[str, torch.Tensor], info: ClassifierInfo) -> dict[str, NDArray[np.float32]]:
    """Softmax of each head (n, k) over its trained classes; exactly 0 for the others."""
    return {
        head: torch.softmax(values.masked_fill(~torch.tensor(info.trained(head)), -math.inf), dim=1).numpy()
        for head, values in logits.items()
    }


def score(predicted: Mapping[str, NDArray[np.float32]], labels: Mapping[str, IntArray]) -> dict[str, float]:
    """Compute metrics from probabilities (n, k) by head, over the cells whose label decides it; NaN where undefined.

    ``category_macro_f1`` averages the categories with a true cell in these crops. ``selection``, its mean with
    ``cblc_weighted_f1``, picks the best epoch: the first alone would neglect CBLC, the second the differential.
    """
    heads = [*HEADS, *((PLASMA,) if PLASMA in predicted else ())]
    decided = {head: labels[head] >= 0 for head in heads}
    confusion = {
        head: metrics.confusion_matrix(
            labels[head][decided[head]], predicted[head][decided[head]].argmax(axis=1), predicted[head].shape[1]
        )
        for head in heads
    }
    is_cblc = labels["cblc"][decided["cblc"]] == 1
    figures = {
        "cblc_weighted_f1": metrics.weighted_f1(confusion["cblc"]),
        "cblc_positive_f1": metrics.positive_f1(confusion["cblc"]),
        "cblc_auc": metrics.roc_auc(is_cblc, predicted["cblc"][decided["cblc"], 1].astype(np.float64)),
        "countable_weighted_f1": metrics.weighted_f1(confusion["countable"]),
        "category_weighted_f1": metrics.weighted_f1(confusion["category"]),
        "category_macro_f1": metrics.macro_f1(confusion["category"]),
    }
    if PLASMA in confusion:
        figures["plasma_positive_f1"] = metrics.positive_f1(confusion[PLASMA])
    return figures | {"selection": (figures["cblc_weighted_f1"] + figures["category_macro_f1"]) / 2}
