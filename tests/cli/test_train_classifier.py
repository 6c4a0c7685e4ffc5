"""The command around the fit; the command as a whole runs in tests/test_fit.py, killed and resumed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from marrowscope.cli import prepare as prepare_command
from marrowscope.cli.main import main
from marrowscope.cli.train_classifier import _folds, _prepared, _uses_predicted_crops, _with_epochs
from marrowscope.errors import ConfigError, RunError
from marrowscope.train.config import ClassifierConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(*arguments: str) -> int:
    """Give the exit code of ``marrowscope train classifier ARGUMENTS``."""
    with pytest.raises(SystemExit) as stopped:
        main(("train", "classifier", *arguments))
    return int(stopped.value.code or 0)


def test_the_flags_set_the_epochs_of_the_stages_in_order() -> None:
    found = _with_epochs(ClassifierConfig(), (7, None))
    assert [stage.epochs for stage in found.stages] == [7, 3]
    assert [stage.epochs for stage in _with_epochs(ClassifierConfig(), (None, 0)).stages] == [4, 0]


def test_a_flag_for_a_stage_that_is_not_there_is_refused() -> None:
    plain = ClassifierConfig().model_copy(update={"stages": ClassifierConfig().stages[:1]})
    with pytest.raises(ConfigError, match="--epochs-stage2: the configuration has 1 stage"):
        _with_epochs(plain, (None, 3))


def test_a_training_without_any_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected at least one with an epoch"):
        _with_epochs(ClassifierConfig(), (0, 0))


def test_a_cohort_is_prepared_first_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[Path], Path, Path | None]] = []

    def fake(
        cohorts: list[Path],
        out: Path,
        *,
        segmenter: Path | None,
        mapping: Sequence[str],
        overwrite: bool,
        to_stderr: bool,
    ) -> None:
        assert mapping == ["A=marrow-cells"]
        assert to_stderr  # standard output is the result's
        assert overwrite  # the crops of a training that never began, inside its own folder
        calls.append((cohorts, out, segmenter))
        out.mkdir(parents=True)
        (out / "prepare.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(prepare_command, "cut_crops", fake)
    cohort, out, segmenter = tmp_path / "cohort", tmp_path / "out", tmp_path / "segmenter.onnx"
    cohort.mkdir()
    (cohort / "patients.csv").touch()
    assert _prepared(cohort, out, segmenter, mapping=["A=marrow-cells"], resume=False) == out / "crops"
    assert _prepared(cohort, out, segmenter, resume=True) == out / "crops"
    assert calls == [([cohort], out / "crops", segmenter)]
    for name in ("fit.json", "crossfit.json"):
        (out / name).touch()
        with pytest.raises(RunError, match="found an earlier training"):
            _prepared(cohort, out, segmenter, resume=False)
        (out / name).unlink()
    assert len(calls) == 1


def test_a_crop_set_is_taken_as_it_is_and_needs_no_segmenter(tmp_path: Path) -> None:
    assert _prepared(tmp_path, tmp_path / "out", None, resume=False) == tmp_path
    with pytest.raises(ConfigError, match=r"--segmenter: .* is not a cohort"):
        _prepared(tmp_path, tmp_path / "out", tmp_path / "segmenter.onnx", resume=False)
    with pytest.raises(ConfigError, match=r"--mapping: .* is not a cohort"):
        _prepared(tmp_path, tmp_path / "out", None, mapping=["marrow-cells"], resume=False)


def test_only_stages_that_run_on_predicted_contours_need_a_segmenter() -> None:
    default = ClassifierConfig()
    expert = default.stages[0].model_copy(update={"select_on": "expert"})
    assert _uses_predicted_crops(default)
    assert not _uses_predicted_crops(default.model_copy(update={"stages": (expert,)}))
    resting = default.stages[1].model_copy(update={"epochs": 0})
    assert not _uses_predicted_crops(default.model_copy(update={"stages": (expert, resting)}))


def test_folds_are_trained_one_at_a_time_and_the_last_one_calibrates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from tests.crop_sets import tiny_config, write_crop_set

    crops = str(write_crop_set(tmp_path / "crops"))
    config = tmp_path / "config.toml"
    names = ("architecture", "crop_px", "init", "batch_size", "threads", "device")
    values = tiny_config().model_dump()
    config.write_text("".join(f"{name} = {json.dumps(values[name])}\n" for name in names), encoding="utf-8")
    common = ("--out", str(tmp_path / "out"), "--config", str(config), "--epochs-stage1", "0", "--epochs-stage2", "1")
    assert run(crops, *common, "--folds", "2", "--fold", "1") == 0
    printed = capsys.readouterr()
    assert "finished fold 1; still missing: 0." in printed.out
    assert "fold 1, stage yolo-to-yolo, epoch 1 of 1: loss" in printed.err
    assert (tmp_path / "out" / "fold-1" / "1-yolo-to-yolo" / "learning_curve.svg").is_file()
    assert run(crops, *common, "--folds", str(tmp_path / "out" / "folds.csv"), "--resume") == 0
    printed = capsys.readouterr()
    assert "2 folds, out-of-fold predictions of 6 patients" in printed.out
    assert "cblc: temperature" in printed.out
    assert "category, c1:" in (tmp_path / "out" / "reliability.svg").read_text(encoding="utf-8")
    assert run(crops, *common, "--folds", "2", "--resume", "--json") == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["finished"], state["missing"]) == ([0, 1], [])
    assert set(state["calibration"]["heads"]) == {"cblc", "countable", "category"}


def test_a_number_of_folds_draws_them_from_the_crop_set(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.crop_sets import write_crop_set

    crops = write_crop_set(tmp_path / "crops")
    drawn = _folds("3", crops, 0)
    assert isinstance(drawn, dict)
    assert set(drawn) == set(pl.read_parquet(crops / "cells.parquet")["patient_id"])
    assert set(drawn.values()) == {0, 1, 2}
    assert _folds("folds.csv", crops, 0).name == "folds.csv"  # type: ignore[union-attr]  # a path


def test_options_that_contradict_each_other_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "crops").mkdir()
    split = tmp_path / "split.csv"
    split.touch()
    common = (str(tmp_path / "crops"), "--out", str(tmp_path / "out"))
    assert run(*common, "--folds", "5", "--split", str(split)) == 2
    assert "found both --split and --folds, expected one" in capsys.readouterr().err
    assert run(*common, "--fold", "1") == 2
    assert "found --fold 1 without --folds" in capsys.readouterr().err
