from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from marrowscope.train.border import dilate_masks
from marrowscope.train.config import NO_AUGMENTATION, ClassifierConfig
from marrowscope.train.crop_set import CropSet, open_crop_set
from marrowscope.train.loader import (
    StageBatches,
    TrainingBatch,
    batches_from,
    earlier_draws,
    steps_of_epoch,
    training_crops,
)
from marrowscope.train.losses import terms_with_masks
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config

if TYPE_CHECKING:
    from pathlib import Path

NO_BORDER_TERMS = {"evidence": 0, "consistency": 0}


class Case(NamedTuple):
    """A crop set and the rows of its expert crops."""

    crop_set: CropSet
    rows: np.ndarray

    def batches(self, config: ClassifierConfig, n_rows: int | None = None) -> StageBatches:
        """Give the batches of a first stage on the first ``n_rows``."""
        return StageBatches(self.crop_set, self.rows[:n_rows], config, 1)


@pytest.fixture
def case(crops_dir: Path) -> Case:
    crop_set = open_crop_set(crops_dir, load_vocabulary())
    return Case(crop_set, crop_set.rows({f"p{k}" for k in range(6)}, "expert"))


def _assert_equal(first: TrainingBatch, second: TrainingBatch) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_a_batch_is_a_function_of_its_place_alone(case: Case) -> None:
    """Asked for in another order, by another object: the same batch; at another place, another one."""
    config = tiny_config()
    first, second = case.batches(config), case.batches(config)
    forwards = {key: first[key] for key in ((0, 0), (0, 1), (1, 0))}
    for key in ((1, 0), (0, 1), (0, 0)):
        _assert_equal(forwards[key], second[key])
    assert not torch.equal(forwards[0, 0].rows, forwards[1, 0].rows)
    assert not torch.equal(forwards[0, 0].crops, StageBatches(case.crop_set, case.rows, config, 2)[0, 0].crops)


def test_a_crop_drawn_again_in_an_epoch_is_changed_in_another_way(case: Case) -> None:
    """The square-root sampler draws a rare cell many times; equal copies of it would add nothing."""
    config = tiny_config(imbalance="square_root_sampler", loss_weights=NO_BORDER_TERMS)
    rare = np.concatenate([case.rows[:40:5], case.rows[1:2]])  # one cell of the second code beside eight of the first
    batches = StageBatches(case.crop_set, rare, config, 1)
    batch = batches[0, 0]
    rows = batch.rows.numpy()
    drawn = np.flatnonzero(rows == case.rows[1])
    assert len(drawn) > 1
    once, again = (batch.crops[place] for place in drawn[:2])
    assert not torch.equal(once, again)
    expected, _ = training_crops(case.crop_set, rows[drawn[:1]], 32, config.augment, (0, 1, 0), with_masks=False)
    np.testing.assert_array_equal(once.numpy(), expected[0])  # the first time as without a sampler
    _assert_equal(batch, StageBatches(case.crop_set, rare, config, 1)[0, 0])


def test_earlier_draws_count_what_stands_before() -> None:
    order = np.array([5, 2, 5, 9, 5, 2])
    assert earlier_draws(order).tolist() == [0, 0, 1, 0, 2, 1]
    assert earlier_draws(np.zeros(0, dtype=np.int64)).tolist() == []


def test_a_batch_holds_its_crops_then_some_with_another_border_then_dilated_masks(case: Case) -> None:
    """With a sharp seam: the cell and its margin to the byte, the rest from a later cell of the batch."""
    config = tiny_config(augment=NO_AUGMENTATION, border={"swap_share": 0.5, "feather_px": 0, "dilation_px": 3})
    batch = case.batches(config)[0, 0]
    rows, crops, masks = (part.numpy() for part in batch)
    assert crops.shape == (12, 32, 32, 3)
    assert masks.shape == (8, 32, 32)
    assert batch.masks.dtype == torch.uint8
    plain, cells = training_crops(case.crop_set, rows, 32, NO_AUGMENTATION, (0, 1, 0), with_masks=True)
    np.testing.assert_array_equal(crops[:8], plain)
    dilated = dilate_masks(cells, 3)
    np.testing.assert_array_equal(masks, dilated)
    for index in range(4):
        donor = index + 4
        outside = ~dilated[index] & ~dilated[donor]
        assert outside.any()
        np.testing.assert_array_equal(crops[8 + index][dilated[index]], crops[index][dilated[index]])
        np.testing.assert_array_equal(crops[8 + index][outside], crops[donor][outside])


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 2), (1.0, 8)])
def test_the_share_that_is_swapped(case: Case, share: float, expected: int) -> None:
    config = tiny_config(border={"swap_share": share})
    assert len(case.batches(config)[0, 0].crops) == 8 + expected


def test_no_cell_lends_itself_its_border(case: Case) -> None:
    """Every size of batch, all of it swapped: nothing of the crop's own border is left."""
    for n in range(2, 9):
        config = tiny_config(
            augment=NO_AUGMENTATION, batch_size=n, border={"swap_share": 1, "feather_px": 0, "dilation_px": 0}
        )
        crops, masks = case.batches(config, n)[0, 0][1:]
        outside = ~masks.bool()
        for index in range(n):
            assert (crops[n + index] != crops[index])[outside[index]].float().mean() > 0.9


def test_without_the_border_terms_neither_masks_nor_swaps_are_made(case: Case) -> None:
    config = tiny_config(loss_weights=NO_BORDER_TERMS)
    batch = case.batches(config)[0, 0]
    assert terms_with_masks(config.loss_weights) == []
    assert terms_with_masks(tiny_config(loss_weights={"evidence": 0}).loss_weights) == ["consistency"]
    assert (len(batch.crops), len(batch.masks)) == (8, 0)
    _, crops, _ = case.batches(tiny_config())[0, 0]
    assert torch.equal(batch.crops, crops[:8])  # the terms change nothing of the crops themselves
    only_evidence = case.batches(tiny_config(loss_weights={"consistency": 0}))[0, 0]
    assert (len(only_evidence.crops), len(only_evidence.masks)) == (8, 8)


def test_a_single_crop_has_nobody_to_swap_with(case: Case) -> None:
    assert len(case.batches(tiny_config(), 1)[0, 0].crops) == 1


def test_an_epoch_shows_every_crop_once_less_the_last_incomplete_batch(case: Case) -> None:
    config = tiny_config(loss_weights=NO_BORDER_TERMS)
    batches = case.batches(config)
    n_steps = steps_of_epoch(len(case.rows), config)
    assert (len(case.rows), n_steps) == (60, 7)
    seen = torch.cat([batches[0, step].rows for step in range(n_steps)]).tolist()
    assert len(set(seen)) == len(seen) == 56
    assert set(seen) < set(case.rows.tolist())


@pytest.mark.parametrize(
    ("n_rows", "epoch_crops", "expected"), [(60, None, 7), (60, 16, 2), (60, 600, 7), (5, None, 1), (60, 5, 1)]
)
def test_the_steps_of_an_epoch(n_rows: int, epoch_crops: int | None, expected: int) -> None:
    assert steps_of_epoch(n_rows, tiny_config(epoch_crops=epoch_crops)) == expected


def test_the_sampler_prefers_the_rare_category(case: Case) -> None:
    """One N among 48 other crops is drawn about as often as square roots say, with replacement."""
    code = case.crop_set.cells["expert_code"].to_numpy()[case.rows]
    rows = np.concatenate([case.rows[code == "N"][:1], case.rows[code == "L"]])
    config = tiny_config(imbalance="square_root_sampler", loss_weights=NO_BORDER_TERMS)
    batches = StageBatches(case.crop_set, rows, config, 1)
    drawn = np.concatenate([batches.order(epoch) for epoch in range(200)])
    expected = 1 / (1 + np.sqrt(len(rows) - 1))
    assert (drawn == rows[0]).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / len(drawn)))


def test_workers_give_the_same_batches_over_the_end_of_an_epoch(case: Case) -> None:
    config = tiny_config()
    keys = [(0, 5), (0, 6), (1, 0), (1, 1)]
    alone = list(batches_from(case.batches(config), keys, 0))
    together = list(batches_from(case.batches(config), keys, 2))
    assert len(alone) == len(together) == 4
    for one, other in zip(alone, together, strict=True):
        _assert_equal(one, other)


def test_a_worker_gets_the_name_of_the_file_and_not_its_bytes(case: Case) -> None:
    """The crop set that arrives maps the same files; an array in memory travels as it is."""
    sent = pickle.dumps(case.crop_set)
    assert len(sent) < case.crop_set.crops.nbytes / 5
    arrived = pickle.loads(sent)  # noqa: S301  our own bytes
    assert isinstance(arrived.crops, np.memmap)
    assert isinstance(arrived.masks, np.memmap)
    np.testing.assert_array_equal(arrived.crops, case.crop_set.crops)
    np.testing.assert_array_equal(arrived.labels["category"], case.crop_set.labels["category"])
    assert arrived.cells.equals(case.crop_set.cells)
    some = pickle.loads(pickle.dumps(_with_crops(case.crop_set, case.crop_set.crops[3:5])))  # noqa: S301
    np.testing.assert_array_equal(some.crops, case.crop_set.crops[3:5])


def _with_crops(crop_set: CropSet, crops: np.ndarray) -> CropSet:
    from dataclasses import replace

    return replace(crop_set, crops=crops)


def test_moving_a_batch_keeps_it(case: Case) -> None:
    batch = case.batches(tiny_config())[0, 0]
    _assert_equal(batch.to(torch.device("cpu")), batch)
