"""Distillation: targets worked out by hand, and a network that learns what no label of its crops says."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from marrowscope.bundle import load_bundle  # noqa: E402
from marrowscope.cli.main import app  # noqa: E402
from marrowscope.config import validate_config  # noqa: E402
from marrowscope.errors import ConfigError, RunError  # noqa: E402
from marrowscope.export import export_bundle  # noqa: E402
from marrowscope.fit import fit_classifier  # noqa: E402
from marrowscope.imaging import sha256_file  # noqa: E402
from marrowscope.networks import open_network  # noqa: E402
from marrowscope.train.classifier_graph import load_classifier  # noqa: E402
from marrowscope.train.config import ClassifierConfig  # noqa: E402
from marrowscope.train.crop_set import open_crop_set  # noqa: E402
from marrowscope.train.model import IMAGENET_MEAN, ClassifierInfo  # noqa: E402
from marrowscope.train.teacher import ask_teacher, check_teacher, lessons, read_teacher, teacher_loss  # noqa: E402
from marrowscope.train.training_record import read_finished  # noqa: E402
from marrowscope.vocabulary import load_vocabulary  # noqa: E402
from tests.crop_sets import tiny_config, write_crop_set  # noqa: E402
from tests.onnx_graphs import segmenter_graph  # noqa: E402
from tests.segment.raw_outputs import raw_outputs  # noqa: E402

CATEGORIES = ("N", "L", "E")
ONE_STAGE = (
    {"name": "one", "train_on": "predicted", "select_on": "predicted", "epochs": 6, "learning_rate": 3e-3},
)  # fmt: skip


def _info(share: tuple[float, ...], implied: tuple[float, ...]) -> ClassifierInfo:
    return ClassifierInfo(
        architecture="test_efficientnet", categories=CATEGORIES, crop_px=32, um_per_px=0.3, mean=IMAGENET_MEAN,
        std=IMAGENET_MEAN, priors={"category": share}, imbalance="none", tau=1, implied={"category": implied},
        initial_weights="none",
    )  # fmt: skip


def test_targets_are_the_teachers_likelihoods_under_the_shares_of_the_training_cells() -> None:
    """The teacher says N : L = 3 : 1 if both were equally frequent; among training cells L is four times as frequent.

    So N : L is 3 : 4 there. The third class has no training cell, and a cell labeled with it teaches nothing.
    """
    taught = {"category": np.array([[0.75, 0.25, 0.0], [0.5, 0.3, 0.2], [0.0, 0.0, 0.0]], dtype=np.float32)}
    labels = {"category": np.array([0, 2, 1])}
    lesson = lessons(taught, labels, _info((0.2, 0.8, 0.0), (0.5, 0.5, 0.0)))["category"]
    assert lesson.classes.tolist() == [0, 1]
    np.testing.assert_allclose(lesson.log_target[0].exp(), [3 / 7, 4 / 7], rtol=1e-6)
    assert lesson.applies.tolist() == [1, 0, 0]
    # Logits for equally frequent classes (implied): ln 3 - ln 1 is what the teacher says, so nothing is left to learn.
    logits = {"category": torch.tensor([[np.log(3.0), 0.0, 9.0], [5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])}
    assert float(teacher_loss(logits, {"category": lesson})) == pytest.approx(0, abs=1e-6)
    even = {"category": torch.zeros(3, 3)}
    expected = 3 / 7 * np.log((3 / 7) / 0.2) + 4 / 7 * np.log((4 / 7) / 0.8)
    assert float(teacher_loss(even, {"category": lesson})) == pytest.approx(expected, rel=1e-5)


def test_without_a_correction_the_logits_are_compared_as_they_are() -> None:
    taught = {"category": np.array([[0.75, 0.25, 0.0]], dtype=np.float32)}
    lesson = lessons(taught, {"category": np.array([-1])}, _info((0.2, 0.8, 0.0), (0.2, 0.8, 0.0)))["category"]
    np.testing.assert_allclose(lesson.shift, [0, 0], atol=1e-7)
    logits = {"category": torch.tensor([[np.log(3 / 7), np.log(4 / 7), 0.0]])}
    assert float(teacher_loss(logits, {"category": lesson})) == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a crop set and a bundle trained on it."""
    root = tmp_path_factory.mktemp("school")
    (root / "segmenter").mkdir()
    segmenter = root / "segmenter" / "segmenter.onnx"
    metadata = {"um_per_px": "0.3", "license": "AGPL-3.0-only"}
    segmenter.write_bytes(segmenter_graph(*raw_outputs([(60.0, 50.0, 20.0, 20.0, 0.9)], 32, 32), metadata))
    (root / "segmenter" / "LICENSE").write_text("the license", encoding="utf-8")
    write_crop_set(root / "crops", crops_per_patient=20)
    prepared = {"crop": {"side_um": 9.6, "size_px": 32}, "segmenter_sha256": sha256_file(segmenter)}
    (root / "crops" / "prepare.json").write_text(json.dumps(prepared), encoding="utf-8")
    fit_classifier(root / "crops", root / "run", tiny_config(stages=ONE_STAGE, imbalance="none"))
    export_bundle([root / "run"], segmenter, root / "bundle")
    return root


def test_a_teacher_tells_what_its_graph_says_freed_of_the_shares_it_assumes(school: Path) -> None:
    crop_set = open_crop_set(school / "crops", load_vocabulary())
    bundle = load_bundle(school / "bundle")
    rows = np.array([3, 50, 7])
    taught = ask_teacher(bundle, crop_set, rows, threads=1)
    network = open_network(school / "bundle" / "classifier-0.onnx", "onnxruntime")
    crops = np.ascontiguousarray(crop_set.crops[rows][:, 7:39, 7:39])
    prior = json.loads(network.metadata["implied_prior"])
    for head, table in taught.items():
        said = network.run_images(crops)[f"p_{head}"].astype(float)
        weights = np.array([1 / share if share > 0 else 0.0 for share in prior[head]])
        np.testing.assert_allclose(table[rows], said * weights / (said * weights).sum(axis=1, keepdims=True), atol=1e-5)
        assert not np.delete(table, rows, axis=0).any()


def test_a_student_learns_from_the_teacher_what_its_labels_do_not_say(school: Path, tmp_path: Path) -> None:
    """The labels are shuffled, so that only the teacher knows which color is which code."""
    student_crops = tmp_path / "crops"
    write_crop_set(student_crops, crops_per_patient=20)
    (student_crops / "prepare.json").write_bytes((school / "crops" / "prepare.json").read_bytes())
    cells = pl.read_parquet(student_crops / "cells.parquet")
    shuffled = cells["expert_code"].shuffle(seed=1)
    cells.with_columns(expert_code=shuffled).write_parquet(student_crops / "cells.parquet")
    settings = tiny_config(stages=ONE_STAGE, loss_weights={"teacher": 20.0}, teacher=str(school / "bundle"))
    taught = fit_classifier(student_crops, tmp_path / "taught", settings)
    alone = fit_classifier(student_crops, tmp_path / "alone", tiny_config(stages=ONE_STAGE))
    true = open_crop_set(school / "crops", load_vocabulary()).labels["category"]
    agreement = {}
    for name, result in (("taught", taught), ("alone", alone)):
        model, info, _ = load_classifier(result.weights_path)
        crops = np.load(student_crops / "crops.npy")[:, 7:39, 7:39]
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (info.mean, info.std))
        with torch.inference_mode():
            called = model((batch - mean) / std).category.argmax(dim=1).numpy()
        agreement[name] = float((called == true).mean())
    assert agreement["taught"] > agreement["alone"] + 0.3
    record = read_finished(tmp_path / "taught")
    assert record.teacher is not None
    assert record.teacher.sha256 == load_bundle(school / "bundle").spec_sha256
    assert record.result.best_epoch.train_losses["teacher"] > 0
    assert "teacher" not in json.loads((tmp_path / "alone" / "fit.json").read_text(encoding="utf-8"))


def test_a_training_goes_on_with_the_same_teacher_wherever_it_lies_and_with_no_other(
    school: Path, tmp_path: Path
) -> None:
    settings = tiny_config(teacher=str(school / "bundle"))
    out = tmp_path / "out"
    first = fit_classifier(school / "crops", out, settings)
    moved = tmp_path / "moved"
    moved.symlink_to(school / "bundle")
    again = fit_classifier(school / "crops", out, tiny_config(teacher=str(moved)), resume=True)
    assert again.weights_sha256 == first.weights_sha256
    with pytest.raises(RunError, match="found a training with other crops, another split or other settings"):
        fit_classifier(school / "crops", out, tiny_config(), resume=True)


def test_a_teacher_of_other_crops_is_refused(school: Path) -> None:
    bundle, crop_set = load_bundle(school / "bundle"), open_crop_set(school / "crops", load_vocabulary())
    check_teacher(bundle, crop_set)
    with pytest.raises(ConfigError, match=r"teacher: found a bundle with crops of 0\.3 um per px, expected 0\.2 as in"):
        check_teacher(bundle, replace(crop_set, um_per_px=0.2))
    with pytest.raises(ConfigError, match=r"found a bundle with crops of 32 px, expected at most 30"):
        check_teacher(bundle, replace(crop_set, crops=crop_set.crops[:, :30, :30]))
    with pytest.raises(ConfigError, match="categories of another vocabulary"):
        check_teacher(bundle, replace(crop_set, categories=("N", "L")))


def test_a_missing_teacher_and_one_in_a_crossfit_are_refused_before_any_work(school: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher: .*nowhere: found no bundle\.toml"):
        read_teacher(str(tmp_path / "nowhere"))
    config = tmp_path / "config.toml"
    config.write_text(f"teacher = '{school / 'bundle'}'\ninit = 'scratch'\n", encoding="utf-8")
    words = ["train", "classifier", str(school / "crops"), "--out", str(tmp_path / "out"), "--config", str(config)]
    found = CliRunner().invoke(app, [*words, "--folds", "2"])
    assert "in a cross-fit, expected none" in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_the_bundle_of_a_student_names_its_teacher(school: Path, tmp_path: Path) -> None:
    fit_classifier(school / "crops", tmp_path / "student", tiny_config(teacher=str(school / "bundle")))
    export_bundle([tmp_path / "student"], school / "segmenter" / "segmenter.onnx", tmp_path / "bundle")
    sha256 = load_bundle(school / "bundle").spec_sha256
    assert f"Teacher: classifier 1 ({sha256[:12]})." in (tmp_path / "bundle" / "CARD.md").read_text(encoding="utf-8")
    assert "Teacher" not in (school / "bundle" / "CARD.md").read_text(encoding="utf-8")


def test_the_recipe_in_the_docs_is_a_configuration() -> None:
    text = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    section = text.split("### Learning from a bundle", 1)[1].split("\n## ", 1)[0]
    settings = tomllib.loads(section.split("```toml\n", 1)[1].split("```", 1)[0])
    config = validate_config(ClassifierConfig, settings, where="docs/train.md")
    assert (config.architecture, config.teacher, config.views) == ("efficientnet_lite0", "default", 1)
    assert config.loss_weights["teacher"] == 1
