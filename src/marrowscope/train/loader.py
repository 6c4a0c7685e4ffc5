"""Batches of one epoch, read, augmented and composed ahead of the network.

PyTorch's own loader runs ``EpochBatches`` in worker processes where ``workers`` asks for them. A batch is a function
of (seed, stage, epoch) and its place in the epoch, so neither workers nor a resumed run change what the network sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from marrowscope.train.border import dilate_masks, swap_border
from marrowscope.train.dataset import epoch_order, training_crops
from marrowscope.train.imbalance import sampling_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.dataset import CropSet, IntArray


class TrainingBatch(NamedTuple):
    """One batch of n crops of side s.

    ``rows`` (n,) int64 of the crop set; ``crops`` (m, s, s, 3) uint8 with m >= n: the n crops, then the first m - n of
    them again with other crops' borders; ``masks`` (n, s, s) uint8, 1 inside the dilated contours, or (0,) unused.
    """

    rows: Tensor
    crops: Tensor
    masks: Tensor


class EpochBatches(Dataset[TrainingBatch]):
    """The batches of one epoch by their number; the last incomplete one is left out unless it is the only one."""

    def __init__(self, crop_set: CropSet, rows: IntArray, config: ClassifierConfig, stage: int, epoch: int) -> None:
        self._crop_set, self._config = crop_set, config
        self._key = (config.seed, stage, epoch)
        weights = sampling_weights(crop_set.labels["category"][rows], config.imbalance)
        self._order = epoch_order(rows, self._key, size=config.epoch_crops, weights=weights)
        self._n_steps = steps_of_epoch(len(rows), config)

    def __len__(self) -> int:
        """Give the number of batches."""
        return self._n_steps

    def __getitem__(self, step: int) -> TrainingBatch:
        """Read and augment the crops of batch ``step``."""
        config = self._config
        rows = self._order[step * config.batch_size : (step + 1) * config.batch_size]
        wants_masks = uses_masks(config)
        crops, masks = training_crops(
            self._crop_set, rows, config.crop_px, config.augment, self._key, with_masks=wants_masks
        )
        if config.loss_weights["consistency"] > 0 and len(rows) > 1:
            n_swapped = max(1, round(config.border.swap_share * len(rows)))
            # The order is random already: the next cells in the batch are random donors, and never the cell itself.
            donors = (np.arange(n_swapped) + max(1, len(rows) // 2)) % len(rows)
            swapped = swap_border(
                crops[:n_swapped],
                masks[:n_swapped],
                crops[donors],
                masks[donors],
                dilation_px=config.border.dilation_px,
                feather_px=config.border.feather_px,
            )
            crops = np.concatenate([crops, swapped])
        dilated = dilate_masks(masks, config.border.dilation_px).astype(np.uint8)
        return TrainingBatch(torch.from_numpy(rows), torch.from_numpy(crops), torch.from_numpy(dilated))


def uses_masks(config: ClassifierConfig) -> bool:
    """Say whether a centre-border term is on, which needs the cells' masks."""
    return config.loss_weights["evidence"] > 0 or config.loss_weights["consistency"] > 0


def steps_of_epoch(n_rows: int, config: ClassifierConfig) -> int:
    """Give the number of optimisation steps of an epoch over ``n_rows`` training crops; at least one."""
    n_crops = n_rows if config.epoch_crops is None else min(config.epoch_crops, n_rows)
    return max(1, n_crops // config.batch_size)


def batches_from(batches: EpochBatches, first_step: int, workers: int, *, pin: bool = False) -> Iterator[TrainingBatch]:
    """Give the batches from ``first_step`` on, in order."""
    # "fork" would copy the threads' locks of OpenCV and torch; a worker starts fresh and maps the crops itself.
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first_step, len(batches)),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        pin_memory=pin,
    )
    return iter(loader)
