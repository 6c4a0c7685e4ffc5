"""The command around the fit; the command as a whole runs in tests/test_fit.py, killed and resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.cli import prepare as prepare_command
from marrowscope.cli.train_classifier import _prepared, _uses_predicted_crops, _with_epochs
from marrowscope.errors import ConfigError, RunError
from marrowscope.train.config import ClassifierConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_the_flags_set_the_epochs_of_the_stages_in_order() -> None:
    found = _with_epochs(ClassifierConfig(), (7, None))
    assert [stage.epochs for stage in found.stages] == [7, 3]
    assert [stage.epochs for stage in _with_epochs(ClassifierConfig(), (None, 0)).stages] == [4, 0]


def test_a_flag_for_a_stage_that_is_not_there_is_refused() -> None:
    plain = ClassifierConfig().model_copy(update={"stages": ClassifierConfig().stages[:1]})
    with pytest.raises(ConfigError, match="--epochs-stage2: the configuration has 1 stages"):
        _with_epochs(plain, (None, 3))


def test_a_training_without_any_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected at least one with an epoch"):
        _with_epochs(ClassifierConfig(), (0, 0))


def test_a_cohort_is_prepared_first_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[Path], Path, Path | None]] = []

    def fake(cohorts: list[Path], out: Path, *, segmenter: Path | None) -> None:
        calls.append((cohorts, out, segmenter))
        out.mkdir(parents=True)
        (out / "prepare.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(prepare_command, "prepare", fake)
    cohort, out, segmenter = tmp_path / "cohort", tmp_path / "out", tmp_path / "segmenter.onnx"
    cohort.mkdir()
    (cohort / "patients.csv").touch()
    assert _prepared(cohort, out, segmenter, resume=False) == out / "crops"
    assert _prepared(cohort, out, segmenter, resume=True) == out / "crops"
    assert calls == [([cohort], out / "crops", segmenter)]
    (out / "fit.json").touch()
    with pytest.raises(RunError, match="found an earlier training"):
        _prepared(cohort, out, segmenter, resume=False)
    assert len(calls) == 1


def test_a_crop_set_is_taken_as_it_is_and_needs_no_segmenter(tmp_path: Path) -> None:
    assert _prepared(tmp_path, tmp_path / "out", None, resume=False) == tmp_path
    with pytest.raises(ConfigError, match=r"--segmenter: .* is no cohort"):
        _prepared(tmp_path, tmp_path / "out", tmp_path / "segmenter.onnx", resume=False)


def test_only_stages_that_run_on_predicted_contours_need_a_segmenter() -> None:
    default = ClassifierConfig()
    expert = default.stages[0].model_copy(update={"select_on": "expert"})
    assert _uses_predicted_crops(default)
    assert not _uses_predicted_crops(default.model_copy(update={"stages": (expert,)}))
    resting = default.stages[1].model_copy(update={"epochs": 0})
    assert not _uses_predicted_crops(default.model_copy(update={"stages": (expert, resting)}))
