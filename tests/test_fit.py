from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch
from safetensors import safe_open
from typer.testing import CliRunner

from marrowscope.cli.main import app
from marrowscope.cohort.folds import read_split, write_split
from marrowscope.config import validate_config
from marrowscope.errors import CohortError, ConfigError, InputError, RunError, TrainingError
from marrowscope.fit import fit_classifier
from marrowscope.train.checkpoint import hash_weights, load_tensors
from marrowscope.train.config import ClassifierConfig
from marrowscope.train.model import ClassifierInfo
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_TOML = """
architecture = "test_efficientnet"
crop_px = 32
init = "scratch"
batch_size = 8
threads = 1
device = "cpu"
checkpoint_every_steps = 2
"""


@pytest.fixture
def crops_dir(tmp_path: Path) -> Path:
    return write_crop_set(tmp_path / "crops")


def test_two_stages_leave_a_classifier_and_its_record(crops_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = fit_classifier(crops_dir, out, tiny_config())
    record = json.loads((out / "fit.json").read_text(encoding="utf-8"))
    tensors, meta = load_tensors(result.weights_path)
    assert record["result"]["weights_sha256"] == result.weights_sha256 == hash_weights(tensors)
    assert hash_weights(load_tensors(out / "2-yolo-to-yolo" / "best.safetensors")[0]) == result.weights_sha256
    assert meta["info"] == result.info.model_dump(mode="json")
    assert record["stages"]["gt-to-yolo"] == {
        "training_crops": 50, "validation_crops": 10, "training_patients": 5, "validation_patients": 1,
    }  # fmt: skip
    assert set(record["result"]["categories_not_trained"]) == set(result.info.categories) - {
        "Other",
        "N",
        "N5",
        "R1",
        "L",
    }
    assert sorted(read_split(out / "split.csv").values()) == ["train"] * 5 + ["validation"]


def test_a_training_is_repeated_from_its_record(crops_dir: Path, tmp_path: Path) -> None:
    """Configuration and split as the folder states them, another folder: the same weights from the same start."""
    first = fit_classifier(crops_dir, tmp_path / "first", tiny_config(seed=3))
    record = json.loads((tmp_path / "first" / "fit.json").read_text(encoding="utf-8"))
    config = validate_config(ClassifierConfig, record["config"], where="fit.json")
    again = fit_classifier(crops_dir, tmp_path / "again", config, split=tmp_path / "first" / "split.csv")
    assert again.weights_sha256 == first.weights_sha256 == record["result"]["weights_sha256"]
    assert again.info.initial_sha256 == first.info.initial_sha256 == record["result"]["initial_sha256"]
    assert len(first.info.initial_sha256) == 64
    assert record["machine"] == {
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "deterministic": True,
    }
    assert set(record["versions"]) >= {"python", "platform", "numpy", "torch", "timm"}
    other = json.loads((tmp_path / "again" / "fit.json").read_text(encoding="utf-8"))
    for what in ("config", "data_sha256", "vocabulary", "versions", "machine", "stages"):
        assert other[what] == record[what]


def test_the_second_stage_starts_from_the_first_ones_best(crops_dir: Path, tmp_path: Path) -> None:
    """With a learning rate of almost nothing, stage 2 hardly leaves stage 1's best weights."""
    config = tiny_config()
    still = config.stages[1].model_copy(update={"learning_rate": 1e-12})
    fit_classifier(crops_dir, tmp_path / "out", config.model_copy(update={"stages": (config.stages[0], still)}))
    first = load_tensors(tmp_path / "out" / "1-gt-to-yolo" / "best.safetensors")[0]
    second = load_tensors(tmp_path / "out" / "2-yolo-to-yolo" / "best.safetensors")[0]
    assert abs(first["category.weight"] - second["category.weight"]).max() < 1e-9


def test_a_single_stage_on_expert_crops_is_a_configuration(crops_dir: Path, tmp_path: Path) -> None:
    stage = {"name": "baseline", "train_on": "expert", "select_on": "expert", "epochs": 1, "learning_rate": 1e-3}
    result = fit_classifier(crops_dir, tmp_path / "out", tiny_config(stages=(stage,), imbalance="none"))
    assert result.info.implied_prior("cblc") == pytest.approx((0.6, 0.4))


def test_the_weights_name_the_segmenter_that_cut_their_crops(crops_dir: Path, tmp_path: Path) -> None:
    summary = crops_dir / "prepare.json"
    prepared = json.loads(summary.read_text(encoding="utf-8")) | {"segmenter_sha256": "ab" * 32}
    summary.write_text(json.dumps(prepared), encoding="utf-8")
    assert fit_classifier(crops_dir, tmp_path / "out", tiny_config()).info.segmenter_sha256 == "ab" * 32


def test_under_logit_adjustment_the_implied_prior_is_uniform_over_trained_classes(
    crops_dir: Path, tmp_path: Path
) -> None:
    info = fit_classifier(crops_dir, tmp_path / "out", tiny_config()).info
    prior = info.implied_prior("category")
    assert [share for share in prior if share] == pytest.approx([0.2] * 5)
    assert [name for name, share in zip(info.categories, prior, strict=True) if not share] == list(
        info.categories_not_trained
    )


def test_a_split_file_is_obeyed_and_test_patients_stay_out(crops_dir: Path, tmp_path: Path) -> None:
    roles = {"p0": "train", "p1": "train", "p2": "validation", "p3": "test", "p4": "test", "p5": "test"}
    write_split(tmp_path / "split.csv", roles)  # type: ignore[arg-type]  # plain text in a test
    fit_classifier(crops_dir, tmp_path / "out", tiny_config(), split=tmp_path / "split.csv")
    record = json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))
    assert record["stages"]["yolo-to-yolo"]["training_patients"] == 2
    assert record["stages"]["yolo-to-yolo"]["validation_patients"] == 1
    assert read_split(tmp_path / "out" / "split.csv") == roles


def test_a_split_file_without_validation_gives_some_of_its_training_patients(crops_dir: Path, tmp_path: Path) -> None:
    roles = {"p0": "train", "p1": "train", "p2": "train", "p3": "train", "p4": "test", "p5": "test"}
    write_split(tmp_path / "split.csv", roles)  # type: ignore[arg-type]  # plain text in a test
    fit_classifier(crops_dir, tmp_path / "out", tiny_config(), split=tmp_path / "split.csv")
    found = read_split(tmp_path / "out" / "split.csv")
    assert sorted(found[name] for name in ("p0", "p1", "p2", "p3")) == ["train", "train", "train", "validation"]
    assert found["p4"] == found["p5"] == "test"


@pytest.mark.parametrize("select", ["last", "ema"])
def test_a_fixed_schedule_trains_on_every_patient_and_draws_none_for_validation(
    crops_dir: Path, tmp_path: Path, select: str
) -> None:
    result = fit_classifier(crops_dir, tmp_path / "out", tiny_config(select=select))
    record = json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))
    assert set(read_split(tmp_path / "out" / "split.csv").values()) == {"train"}
    assert record["stages"]["yolo-to-yolo"]["training_patients"] == 6
    assert record["stages"]["yolo-to-yolo"]["validation_crops"] == 0
    assert record["result"]["best_epoch"]["selection"] is None
    assert hash_weights(load_tensors(tmp_path / "out" / "2-yolo-to-yolo" / "best.safetensors")[0]) == (
        result.weights_sha256
    )


def test_a_fixed_schedule_reports_on_the_validation_patients_of_a_split(crops_dir: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.csv"
    write_split(split, {f"p{k}": "validation" if k == 0 else "test" if k == 1 else "train" for k in range(6)})
    result = fit_classifier(crops_dir, tmp_path / "out", tiny_config(select="last"), split=split)
    assert result.best.epoch == 1
    assert result.best.selection is not None


def test_stains_cannot_be_swapped_without_masks(crops_dir: Path, tmp_path: Path) -> None:
    (crops_dir / "masks.npy").unlink()
    config = tiny_config(augment={"stain_swap": 0.5}, loss_weights={"evidence": 0, "consistency": 0, "morphology": 0})
    with pytest.raises(InputError, match=r"found no masks\.npy, expected it to measure stains"):
        fit_classifier(crops_dir, tmp_path / "out", config)


def test_every_option_of_the_recipe_together_resumes_its_result(crops_dir: Path, tmp_path: Path) -> None:
    """Swapped stains, tints, noise, a finer kernel, soft labels, views and the average: the same weights twice."""
    augment = {"stain_swap": 0.5, "cast": 0.1, "density": 0.2, "noise_chance": 0.3, "interpolation": "lanczos"}
    config = tiny_config(
        augment=augment, select="ema", ema_decay=0.8, views=2, confusable=[["N", "L"], ["V", "N5"]], smoothing=0.1
    )
    first = fit_classifier(crops_dir, tmp_path / "first", config)
    again = fit_classifier(crops_dir, tmp_path / "again", config)
    plain = fit_classifier(crops_dir, tmp_path / "plain", tiny_config(select="ema", ema_decay=0.8))
    assert first.weights_sha256 == again.weights_sha256 != plain.weights_sha256


def test_confusable_codes_that_do_not_exist_are_refused(crops_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found code 'Q', expected codes of"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(confusable=[["N", "Q"]]))


def test_an_image_of_two_patients_on_two_sides_is_refused_before_training(tmp_path: Path) -> None:
    import polars as pl

    crops = write_crop_set(tmp_path / "crops")
    cells = pl.read_parquet(crops / "cells.parquet")
    cells.with_columns(pl.lit("f" * 64).alias("image_sha256")).write_parquet(crops / "cells.parquet")
    with pytest.raises(CohortError, match=r"the split leaks: found 1 image on two sides \(image ffffffffffff .*p0"):
        fit_classifier(crops, tmp_path / "out", tiny_config())
    assert not (tmp_path / "out").exists()


def test_an_earlier_training_is_not_overwritten(crops_dir: Path, tmp_path: Path) -> None:
    fit_classifier(crops_dir, tmp_path / "out", tiny_config())
    with pytest.raises(RunError, match="found an earlier training, expected a new folder; add --resume"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config())


def test_other_settings_are_not_resumed(crops_dir: Path, tmp_path: Path) -> None:
    fit_classifier(crops_dir, tmp_path / "out", tiny_config())
    with pytest.raises(RunError, match="found a training with other crops, another split or other settings"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(tau=0.5), resume=True)
    assert "result" in json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_finished_training_is_given_again_and_keeps_what_it_was_made_with(crops_dir: Path, tmp_path: Path) -> None:
    first = fit_classifier(crops_dir, tmp_path / "out", tiny_config())
    path = tmp_path / "out" / "fit.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["versions"]["torch"] = "0.1"
    path.write_text(json.dumps(record), encoding="utf-8")
    again = fit_classifier(crops_dir, tmp_path / "out", tiny_config(), resume=True)
    assert again == first
    assert json.loads(path.read_text(encoding="utf-8")) == record

    (tmp_path / "out" / "classifier.safetensors").unlink()  # not whole: it goes on, here with another torch
    assert fit_classifier(crops_dir, tmp_path / "out", tiny_config(), resume=True) == first
    resumed = json.loads(path.read_text(encoding="utf-8"))
    assert resumed["versions"]["torch"] == "0.1"
    assert [entry["versions"]["torch"] for entry in resumed["resumed"]] == [metadata.version("torch")]


def test_a_side_without_crops_is_named_before_anything_is_written(tmp_path: Path) -> None:
    crops = write_crop_set(tmp_path / "crops")
    cells = pl.read_parquet(crops / "cells.parquet")
    cells.with_columns(pl.lit("expert").alias("source")).write_parquet(crops / "cells.parquet")
    stage = {"name": "yolo-to-yolo", "train_on": "predicted", "select_on": "expert", "epochs": 1, "learning_rate": 1e-3}
    with pytest.raises(TrainingError, match=r"yolo-to-yolo: found no labeled crop of source 'predicted' among the tr"):
        fit_classifier(crops, tmp_path / "out", tiny_config(stages=(stage,)))
    assert not (tmp_path / "out").exists()


def test_a_training_goes_on_where_only_the_machine_is_another(crops_dir: Path, tmp_path: Path) -> None:
    fit_classifier(crops_dir, tmp_path / "out", tiny_config())
    (tmp_path / "out" / "classifier.safetensors").unlink()
    fit_classifier(crops_dir, tmp_path / "out", tiny_config(device="auto", threads=2), resume=True)
    record = json.loads((tmp_path / "out" / "fit.json").read_text(encoding="utf-8"))
    assert record["machine"]["threads"] == 1
    assert [entry["machine"]["threads"] for entry in record["resumed"]] == [2]


def test_initial_weights_that_are_not_there_leave_nothing_behind(crops_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init: "):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(init=str(tmp_path / "absent.safetensors")))
    assert not (tmp_path / "out").exists()


def test_auto_offline_leaves_nothing_behind_and_a_begun_training_goes_on(
    crops_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"init: found no pretrained weights of test_efficientnet, .* --init scratch"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(init="auto"))
    assert not (tmp_path / "out").exists()
    first = fit_classifier(crops_dir, tmp_path / "first", tiny_config())
    donor = str(first.weights_path.rename(tmp_path / "donor.safetensors"))
    begun = fit_classifier(crops_dir, tmp_path / "out", tiny_config(init=donor))
    (tmp_path / "donor.safetensors").unlink()
    (tmp_path / "out" / "classifier.safetensors").unlink()
    assert fit_classifier(crops_dir, tmp_path / "out", tiny_config(init=donor), resume=True) == begun


@pytest.mark.parametrize(("name", "kind"), [("prepare.json", "crop set"), ("patients.csv", "cohort")])
def test_a_training_does_not_write_into_its_data(crops_dir: Path, tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RunError, match=f"found a {kind}"):
        fit_classifier(crops_dir, tmp_path, tiny_config())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(crops_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device: found cuda, but torch finds no CUDA device here; use cpu or auto"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(device="cuda"))


def test_a_crop_larger_than_the_stored_one_is_refused(crops_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="crop_px: found 512, expected at most"):
        fit_classifier(crops_dir, tmp_path / "out", tiny_config(crop_px=512))


def test_killed_in_mid_epoch_and_resumed_the_command_ends_in_equal_weights(crops_dir: Path, tmp_path: Path) -> None:
    """SIGKILL in stage 1, epoch 2; the resumed command's weights hash as an uninterrupted training's."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG_TOML, encoding="utf-8")
    words = [
        "train", "classifier", str(crops_dir), "--resume",
        "--out", str(tmp_path / "killed"), "--config", str(config), "--epochs-stage1", "3", "--epochs-stage2", "1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "marrowscope.cli.main", *words]
    checkpoint = tmp_path / "killed" / "1-gt-to-yolo" / "checkpoint.safetensors"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603
        _wait_for_mid_epoch(process, checkpoint)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "killed" / "classifier.safetensors").exists()

    resumed_call = CliRunner().invoke(app, words)  # in this process: torch is imported already
    assert resumed_call.exit_code == 0, resumed_call.output
    first, second = tiny_config().model_dump()["stages"]
    stages = (first | {"epochs": 3, "learning_rate": 1e-3}, second | {"learning_rate": 3e-4})
    fresh = fit_classifier(crops_dir, tmp_path / "fresh", tiny_config(stages=stages, checkpoint_every_steps=1000))
    for name in ("1-gt-to-yolo/best.safetensors", "classifier.safetensors"):
        resumed, uninterrupted = (load_tensors(tmp_path / run / name)[0] for run in ("killed", "fresh"))
        assert hash_weights(resumed) == hash_weights(uninterrupted)
    record = json.loads((tmp_path / "killed" / "fit.json").read_text(encoding="utf-8"))
    assert record["result"]["weights_sha256"] == fresh.weights_sha256
    assert (tmp_path / "killed" / "1-gt-to-yolo" / "learning_curve.svg").is_file()


def _wait_for_mid_epoch(process: subprocess.Popen[bytes], checkpoint: Path) -> None:
    """Return with the process stopped, its last checkpoint inside the second epoch or a later one."""
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        assert time.monotonic() < deadline, "no checkpoint in time"
        if checkpoint.is_file() and _position(checkpoint) >= (1, 1):
            os.kill(process.pid, signal.SIGSTOP)
            if _position(checkpoint)[1] > 0:
                return
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.01)


def _position(checkpoint: Path) -> tuple[int, int]:
    """Epochs and steps done, from the header alone."""
    with safe_open(checkpoint, framework="pt") as stream:
        state = json.loads(stream.metadata()["marrowscope"])
    return state["epoch"], state["step"]


def test_probabilities_turned_to_another_prior_obey_bayes_rule() -> None:
    info = ClassifierInfo(
        architecture="efficientnet_b0",
        categories=("Other", "N", "N1"),
        crop_px=96,
        um_per_px=0.3,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        priors={"cblc": (0.8, 0.2), "countable": (0.1, 0.9), "category": (0.7, 0.3, 0.0)},
        imbalance="logit_adjustment",
        tau=1.0,
        initial_weights="none",
    )
    assert info.implied_prior("category") == pytest.approx((0.5, 0.5, 0.0))
    assert info.implied_prior("category", 0.0) == pytest.approx((0.7, 0.3, 0.0))
    balanced = np.array([0.4, 0.6])
    turned = np.log(balanced) + np.array(info.decision_offset("cblc", 0.0))
    turned = np.exp(turned) / np.exp(turned).sum()
    by_bayes = balanced * np.array([0.8, 0.2]) / (balanced * np.array([0.8, 0.2])).sum()
    assert turned == pytest.approx(by_bayes)
    assert info.decision_offset("cblc", None) == (0.0, 0.0)
    assert info.decision_offset("cblc", 1.0) == (0.0, 0.0)
    plain = info.model_copy(update={"imbalance": "none"})
    assert plain.decision_offset("cblc", 0.0) == (0.0, 0.0)
