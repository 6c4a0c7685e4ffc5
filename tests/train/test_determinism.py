"""The same seed on the same machine gives the same weights, whoever reads the crops and whenever it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from marrowscope.train.checkpoint import hash_weights, load_tensors
from marrowscope.train.stage import BEST_NAME, CHECKPOINT_NAME, Progress, fit_stage
from tests.crop_sets import tiny_config
from tests.train.stages import stage_inputs, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig


def _train(
    crops: Path, folder: Path, config: ClassifierConfig, on_progress: Callable[[Progress], None] | None = None
) -> list[str]:
    """Train a stage with every loss term on, and give the hashes of its last and its best weights."""
    assert min(config.loss_weights.values()) > 0
    inputs, model = stage_inputs(crops, config), tiny_model(config)
    fit_stage(model, inputs, config, plan=config.stages[0], stage=1, folder=folder, on_progress=on_progress)
    return [hash_weights(load_tensors(folder / name)[0]) for name in (CHECKPOINT_NAME, BEST_NAME)]


def test_the_same_seed_gives_the_same_weights_and_another_one_others(crops_dir: Path, tmp_path: Path) -> None:
    config = tiny_config()
    first = _train(crops_dir, tmp_path / "first", config)
    assert _train(crops_dir, tmp_path / "again", config) == first
    other = _train(crops_dir, tmp_path / "other", tiny_config(seed=1))
    assert not set(other) & set(first)


def test_workers_change_nothing(crops_dir: Path, tmp_path: Path) -> None:
    assert _train(crops_dir, tmp_path / "two", tiny_config(workers=2)) == _train(
        crops_dir, tmp_path / "none", tiny_config()
    )


@pytest.mark.parametrize("stop", [(1, 3), (2, 1)], ids=["between checkpoints", "after an epoch"])
def test_a_stage_stopped_and_resumed_ends_as_one_never_stopped(
    crops_dir: Path, tmp_path: Path, stop: tuple[int, int]
) -> None:
    """Stopped after a step that no checkpoint holds: what is lost is done again, to the same last bit."""
    config = tiny_config(checkpoint_every_steps=2)

    def stop_there(now: Progress) -> None:
        if (now.epoch, now.step) == stop and now.finished_epoch is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(crops_dir, tmp_path / "stopped", config, stop_there)
    resumed = _train(crops_dir, tmp_path / "stopped", config)
    assert resumed == _train(crops_dir, tmp_path / "whole", config)
