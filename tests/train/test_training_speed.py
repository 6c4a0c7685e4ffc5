from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

import torch

from marrowscope.cli.main import app
from marrowscope.errors import ConfigError
from marrowscope.train import training_speed
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.model import new_classifier
from marrowscope.train.random_crops import write_random_crops
from marrowscope.train.training_speed import Pairs, Seconds, Variant, bench_training
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.train.crop_set import CropSet
    from marrowscope.train.loader import StageBatches, TrainingBatch

TINY_TOML = """
architecture = "test_efficientnet"
crop_px = 32
batch_size = 8
threads = 1
device = "cpu"
"""


@pytest.fixture
def crop_set(crops_dir: Path) -> CropSet:
    return open_crop_set(crops_dir, load_vocabulary())


def test_ratios_are_of_rates_round_by_round() -> None:
    """Half the time is twice the rate; a round in which the machine was slow spoils neither side alone."""
    own = (Seconds(2.0, 1.0), Seconds(20.0, 1.1))
    reference = (Seconds(4.0, 1.5), Seconds(36.0, 1.5))
    on_the_clock = Pairs("a", 80, own, reference, in_process=False)
    assert on_the_clock.ratios == (2.0, 1.8)
    assert on_the_clock.ratio == pytest.approx(1.9)
    assert on_the_clock.crops_per_second == pytest.approx(80 / 11)
    of_cpu = Pairs("a", 80, own, reference, in_process=True)
    assert of_cpu.ratios == pytest.approx((1.5, 1.5 / 1.1))


def test_the_configured_variant_comes_first_and_none_twice() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    usual = Variant("float32")
    names = [variant.name for variant in training_speed._variants(usual, cpu, with_compile=False)]
    assert names == [
        "float32, channels last",
        "float32, channels first",
        "bf16, channels last",
        "bf16, channels first",
    ]
    compiled = training_speed._variants(Variant("bf16", compiled=True), cuda, with_compile=True)
    assert compiled[0].name == "bf16, channels last, compiled"
    assert len(set(compiled)) == len(compiled)
    assert compiled[-1].name == "bf16, channels last, compiled, any algorithm"


def test_steps_and_loops_are_measured_in_equal_rounds(crop_set: CropSet) -> None:
    told: list[str] = []
    found = bench_training(crop_set, tiny_config(), n_steps=2, rounds=3, workers=(0,), on_progress=told.append)
    assert told == [
        "reading and augmenting alone",
        "step alone: float32, channels last; float32, channels first; bf16, channels last; bf16, channels first",
        "whole loop, 0 workers",
    ]
    assert found.device == "CPU, 1 thread"
    assert found.pipeline_crops_per_cpu_second > 0
    assert [len(pairs.own) for pairs in (*found.steps, *found.loops)] == [3] * 5
    assert {pairs.crops_per_round for pairs in (*found.steps, *found.loops)} == {16}
    assert set(found.steps[0].ratios) == {1.0}  # beside itself
    (loop,) = found.loops
    assert loop.in_process
    assert all(seconds.wall > 0 and seconds.cpu > 0 for seconds in (*loop.own, *loop.reference))


def test_what_workers_made_ahead_is_thrown_away_before_a_round_of_the_loop(
    crop_set: CropSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers hold four batches: each round of three steps takes seven, and one warms the step up."""
    asked: list[tuple[int, int]] = []
    paused: list[float] = []

    def in_process(
        batches: StageBatches, keys: list[tuple[int, int]], workers: int, *, pin: bool
    ) -> Iterator[TrainingBatch]:
        assert (workers, pin) == (2, False)
        for key in keys:
            asked.append(key)
            yield batches[key]

    monkeypatch.setattr(training_speed, "batches_from", in_process)
    monkeypatch.setattr(time, "sleep", paused.append)
    found = bench_training(crop_set, tiny_config(), n_steps=3, rounds=2, workers=(2,))
    assert len(asked) == len(set(asked)) == 1 + 2 * (3 + 4)
    assert max(step for _, step in asked) == 120 // 8 - 1
    assert not found.loops[0].in_process
    assert len(paused) == 2
    assert all(pause > 0 for pause in paused)


def test_the_measured_variants_are_what_they_say(crop_set: CropSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees its input in the layout and under the autocast of the variant."""
    seen: list[tuple[bool, bool]] = []

    def watched(*given: Any, **named: Any) -> torch.nn.Module:  # noqa: ANN401
        model = new_classifier(*given, **named)

        def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            del module
            last = inputs[0].is_contiguous(memory_format=torch.channels_last)
            weights = model.trunk.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
            assert last == weights
            seen.append((torch.is_autocast_enabled("cpu"), last))

        model.register_forward_pre_hook(look)
        return model

    monkeypatch.setattr(training_speed, "new_classifier", watched)
    bench_training(crop_set, tiny_config(), n_steps=1, rounds=1, workers=())
    assert set(seen) == {(False, True), (False, False), (True, True), (True, False)}


def test_crops_that_fill_no_batch_are_refused(crop_set: CropSet) -> None:
    with pytest.raises(ConfigError, match="found 120 labeled crops, expected at least one batch of 128"):
        bench_training(crop_set, tiny_config(batch_size=128))


def test_random_crops_are_a_crop_set_with_all_that_the_terms_need(tmp_path: Path) -> None:
    vocabulary = load_vocabulary()
    folder = write_random_crops(tmp_path / "crops", list(vocabulary.codes), n=60, size_px=48)
    crop_set = open_crop_set(folder, vocabulary)
    assert crop_set.crops.shape == (60, 48, 48, 3)
    assert crop_set.masks is not None
    assert (crop_set.masks.mean(axis=(1, 2)) > 0.02).all()
    assert (crop_set.masks.mean(axis=(1, 2)) < 0.6).all()
    assert crop_set.um_per_px == pytest.approx(0.2)
    assert len(crop_set.measured) >= 10
    assert all(np.isfinite(values).all() for values in crop_set.measured.values())
    assert len(set(crop_set.labels["category"].tolist())) == 16
    again = write_random_crops(tmp_path / "again", list(vocabulary.codes), n=60, size_px=48)
    np.testing.assert_array_equal(np.load(again / "crops.npy"), crop_set.crops)


def test_the_command_measures_random_crops_where_none_are_given(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY_TOML, encoding="utf-8")
    arguments = ["bench", "train", "--config", str(config), "--steps", "1", "--rounds", "1", "--workers", "0"]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    for words in ("Step alone", "bf16, channels first", "Whole loop", "0 workers", "batch size 8"):
        assert words in shown.stdout
    printed = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    figures = json.loads(printed.stdout)
    assert figures["batch_size"] == 8
    assert [row["name"] for row in figures["loops"]] == ["0 workers"]
    assert figures["steps"][0]["ratio"] == 1
    assert figures["loops"][0]["ratios_of"] == "cpu"
    assert set(figures["loops"][0]["seconds"][0]) == {"wall", "cpu"}
