"""Batches of a stage: read, augmented and assembled ahead of the network.

PyTorch's loader runs ``StageBatches`` in worker processes when ``workers`` is above 0; they live as long as the stage,
so an epoch begins without a wait. A batch is a function of (seed, stage, epoch) and its position in the epoch, so
neither workers nor a resumed run change what the network sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from marrowscope.machine import WorkerContext, end_with_parent
from marrowscope.train.augment import augment_crop
from marrowscope.train.border import dilate_masks, swap_border
from marrowscope.train.imbalance import sampling_weights
from marrowscope.train.losses import terms_with_masks
from marrowscope.train.stain import measure_stains

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.config import AugmentConfig, ClassifierConfig
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.stain import CropStains

FloatArray = NDArray[np.float64]


class TrainingBatch(NamedTuple):
    """One batch of n crops of side s.

    ``rows`` (n,) int64 of the crop set; ``crops`` (m, s, s, 3) uint8 with m >= n: the n crops, then the first m - n of
    them again with other crops' borders; ``masks`` (n, s, s) uint8, 1 inside the dilated contours, or (0,) unused.
    """

    rows: Tensor
    crops: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> TrainingBatch:
        """Move the batch to ``device``; from pinned memory the copies run alongside the device's work."""
        return TrainingBatch(*(part.to(device, non_blocking=True) for part in self))


class StageBatches(Dataset[TrainingBatch]):
    """The batches of a stage by (epoch, step), both from 0.

    An epoch's last incomplete batch is dropped unless it is the only one.
    """

    def __init__(self, crop_set: CropSet, rows: IntArray, config: ClassifierConfig, stage: int) -> None:
        self._crop_set, self._rows, self._config, self._stage = crop_set, rows, config, stage
        self._weights = sampling_weights(crop_set.class_shares(rows)["category"], config.imbalance)
        self._stains = training_stains(crop_set, rows) if config.augment.stain_swap > 0 else None
        self._order: tuple[int, IntArray] | None = None

    def order(self, epoch: int) -> IntArray:
        """Return the rows of an epoch in the order they are seen; the last epoch asked for is cached."""
        if self._order is None or self._order[0] != epoch:
            key = (self._config.seed, self._stage, epoch)
            order = epoch_order(self._rows, key, size=self._config.epoch_crops, weights=self._weights)
            self._order = (epoch, order)
        return self._order[1]

    def __getitem__(self, key: tuple[int, int]) -> TrainingBatch:
        """Read, augment and assemble the crops of batch ``key`` = (epoch, step)."""
        (epoch, step), config = key, self._config
        place = slice(step * config.batch_size, (step + 1) * config.batch_size)
        rows = self.order(epoch)[place]
        crops, masks = training_crops(
            self._crop_set,
            rows,
            config.crop_px,
            config.augment,
            (config.seed, self._stage, epoch),
            draws=None if self._weights is None else earlier_draws(self.order(epoch))[place],
            with_masks=bool(terms_with_masks(config.loss_weights)),
            stains=self._stains,
        )
        dilated = dilate_masks(masks, config.border.dilation_px)
        if config.loss_weights["consistency"] > 0 and len(rows) > 1:
            n_swapped = max(1, round(config.border.swap_share * len(rows)))
            # The order is random already: the next cells in the batch are random donors, and never the cell itself.
            donors = (np.arange(n_swapped) + max(1, len(rows) // 2)) % len(rows)
            swapped = swap_border(
                crops[:n_swapped],
                dilated[:n_swapped],
                crops[donors],
                dilated[donors],
                dilation_px=0,  # done above, for the whole batch
                feather_px=config.border.feather_px,
            )
            crops = np.concatenate([crops, swapped])
        return TrainingBatch(torch.from_numpy(rows), torch.from_numpy(crops), torch.from_numpy(dilated.view(np.uint8)))


def epoch_order(
    rows: IntArray, key: tuple[int, int, int], *, size: int | None = None, weights: FloatArray | None = None
) -> IntArray:
    """Return the rows of an epoch in order, as a function of ``key`` = (seed, stage, epoch).

    All of ``rows`` shuffled, or ``size`` of them; with ``weights`` (probabilities), drawn with replacement.
    """
    random = np.random.default_rng(key)
    n = len(rows) if size is None else min(size, len(rows))
    if weights is None:
        return random.permutation(rows)[:n]
    return random.choice(rows, size=n, p=weights)


def earlier_draws(order: IntArray) -> IntArray:
    """Count, for each position of an epoch (n,), how often its row came before: all 0 without replacement."""
    by_row = np.argsort(order, kind="stable")
    _, starts, counts = np.unique(order[by_row], return_index=True, return_counts=True)
    draws = np.empty(len(order), dtype=np.int64)
    draws[by_row] = np.arange(len(order)) - np.repeat(starts, counts)
    return draws


def training_crops(
    crop_set: CropSet,
    rows: IntArray,
    size_px: int,
    augment: AugmentConfig,
    key: tuple[int, int, int],
    *,
    draws: IntArray | None = None,
    with_masks: bool = False,
    stains: CropStains | None = None,
) -> tuple[ImageArray, MaskArray]:
    """Read and augment the crops of ``rows``: (n, size_px, size_px, 3) uint8; ``key`` is (seed, stage, epoch).

    ``draws`` (n,) count how often the epoch saw each crop before (``earlier_draws``; None: never), so that a repeated
    crop is augmented differently. The masks (n, size_px, size_px) bool get the same warp; without ``with_masks`` there
    are none (0, s, s). ``stains`` are those of the training crops, for ``stain_swap``.
    """
    batch = np.empty((len(rows), size_px, size_px, 3), dtype=np.uint8)
    masks = np.zeros((len(rows) if with_masks else 0, size_px, size_px), dtype=np.bool_)
    for place, row in enumerate(rows):
        stored = crop_set.masks[row] if with_masks and crop_set.masks is not None else None
        again = (int(draws[place]),) if draws is not None and draws[place] else ()
        stain = None if stains is None else (stains, int(row))
        batch[place], mask = augment_crop(
            crop_set.crops[row], size_px, augment, (*key, int(row), *again), stored, stains=stain
        )
        if mask is not None:
            masks[place] = mask
    return batch, masks


def training_stains(crop_set: CropSet, rows: IntArray) -> CropStains | None:
    """Measure the stains of training crops by center; None without masks, which ``fit`` refuses."""
    if crop_set.masks is None:
        return None
    return measure_stains(crop_set.crops, crop_set.masks, rows, crop_set.cells["center"].gather(rows).to_list())


def steps_of_epoch(n_rows: int, config: ClassifierConfig) -> int:
    """Return the number of optimization steps per epoch over ``n_rows`` training crops; at least one."""
    n_crops = n_rows if config.epoch_crops is None else min(config.epoch_crops, n_rows)
    return max(1, n_crops // config.batch_size)


def batches_from(
    batches: StageBatches, keys: Sequence[tuple[int, int]], workers: int, *, pin: bool = False
) -> Iterator[TrainingBatch]:
    """Yield the batches of ``keys`` = (epoch, step), in order; ``pin`` leaves them in page-locked memory for CUDA."""
    # "fork" would copy the thread locks of OpenCV and torch; a worker starts fresh and maps the crops itself.
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        multiprocessing_context=WorkerContext() if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin,
    )
    return iter(loader)


def _start_worker(_number: int) -> None:
    """Keep OpenCV in a worker to one thread, the workers are the parallel work; none outlives the training."""
    end_with_parent()
    cv2.setNumThreads(1)
