"""The head of plasma cells: made where the training cells have both answers, trained, exported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

from marrowscope.bundle import load_bundle  # noqa: E402
from marrowscope.bundle.golden import check_golden  # noqa: E402
from marrowscope.export import export_bundle  # noqa: E402
from marrowscope.fit import fit_classifier  # noqa: E402
from marrowscope.imaging import sha256_file  # noqa: E402
from marrowscope.train.checkpoint import load_tensors  # noqa: E402
from marrowscope.train.classifier_graph import load_classifier  # noqa: E402
from marrowscope.train.config import HEADS, PLASMA  # noqa: E402
from marrowscope.train.crop_set import open_crop_set  # noqa: E402
from marrowscope.train.losses import HeadCorrection, classification_losses  # noqa: E402
from marrowscope.train.training_record import read_finished  # noqa: E402
from marrowscope.vocabulary import load_vocabulary  # noqa: E402
from tests.crop_sets import COLORS, tiny_config, write_crop_set  # noqa: E402
from tests.exported_graphs import exported_once  # noqa: E402
from tests.onnx_graphs import segmenter_graph  # noqa: E402
from tests.segment.raw_outputs import raw_outputs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.train.crop_set import CropSet

WITH_PLASMA = (*COLORS, "P2")


def crops_with(folder: Path, labels: dict[str, str] | None = None, can_label: str | None = None) -> CropSet:
    """Write a crop set with plasma cells, some labels exchanged, and all cells of center c0 from a limited source."""
    write_crop_set(folder, codes=WITH_PLASMA, crops_per_patient=12)
    cells = pl.read_parquet(folder / "cells.parquet")
    if labels:
        cells = cells.with_columns(pl.col("expert_code").replace(labels))
    if can_label:
        limited = pl.when(pl.col("center") == "c0").then(pl.lit(can_label)).otherwise(None)
        cells = cells.with_columns(limited.alias("can_label"))
    cells.write_parquet(folder / "cells.parquet")
    return open_crop_set(folder, load_vocabulary())


def test_labels_say_yes_no_or_nothing(tmp_path: Path) -> None:
    crop_set = crops_with(tmp_path, {"V": "X{J,P2}", "L": "Y{P,P3}"})
    by_label = dict(zip(crop_set.cells["expert_code"], crop_set.labels[PLASMA].tolist(), strict=True))
    assert by_label == {"N": 0, "N5": 0, "R1": 0, "X{J,P2}": -1, "Y{P,P3}": 1, "P2": 1}


def test_a_source_that_can_label_no_plasma_cell_says_nothing(tmp_path: Path) -> None:
    crop_set = crops_with(tmp_path / "none", {"P2": "N5"}, can_label="N,N5,R1,L,V")
    limited = (crop_set.cells["center"] == "c0").to_numpy()
    assert set(crop_set.labels[PLASMA][limited].tolist()) == {-1}
    assert set(crop_set.labels[PLASMA][~limited].tolist()) == {0}
    able = crops_with(tmp_path / "able", can_label="N,N5,R1,L,V,P2")
    assert set(able.labels[PLASMA][limited].tolist()) == {0, 1}


def test_an_open_answer_has_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [0.0, 3.0]], requires_grad=True)
    even = HeadCorrection(torch.zeros(2), torch.ones(2), 0.0, torch.arange(2))
    (loss,) = classification_losses({PLASMA: logits}, {PLASMA: torch.tensor([-1, 1, 0])}, {PLASMA: even}).values()
    assert float(loss.detach()) == pytest.approx((np.log(2) + np.log1p(np.exp(3.0))) / 2)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert logits.grad[1:].all()


@pytest.fixture(scope="module", autouse=True)
def _equal_graphs_are_exported_once() -> Iterator[None]:
    with exported_once():
        yield


@pytest.fixture(scope="module")
def without(folder: Path) -> Path:
    """Train on the same crops without the head."""
    fit_classifier(folder / "crops", folder / "without", tiny_config(loss_weights={PLASMA: 0}))
    return folder / "without"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a crop set with plasma cells, a segmenter, and a training in ``run``."""
    root = tmp_path_factory.mktemp("plasma")
    segmenter = root / "segmenter.onnx"
    segmenter.write_bytes(segmenter_graph(*raw_outputs([(60.0, 50.0, 20.0, 20.0, 0.9)], 32, 32), {"um_per_px": "0.3"}))
    crops_with(root / "crops")
    prepared = {"crop": {"side_um": 9.6, "size_px": 32}, "segmenter_sha256": sha256_file(segmenter)}
    (root / "crops" / "prepare.json").write_text(json.dumps(prepared), encoding="utf-8")
    fit_classifier(root / "crops", root / "run", tiny_config())
    return root


def test_a_training_with_both_answers_has_the_head(folder: Path) -> None:
    model, info, epoch = load_classifier(folder / "run" / "classifier.safetensors")
    assert model.plasma is not None
    assert info.heads == (*HEADS, PLASMA)
    assert info.priors[PLASMA] == pytest.approx((5 / 6, 1 / 6))
    assert set(epoch.train_losses) >= {PLASMA}
    assert epoch.validation_loss_plasma is not None
    assert epoch.plasma_positive_f1 is not None
    assert read_finished(folder / "run").result.best_epoch == epoch


def test_its_bundle_predicts_plasma_cells(folder: Path, tmp_path: Path) -> None:
    bundle = export_bundle([folder / "run"], folder / "segmenter.onnx", tmp_path / "bundle")
    assert bundle.spec.predicts_plasma
    assert bundle.spec.implied_prior_plasma == pytest.approx(1 / 6)
    assert bundle.spec.metrics["classifier-0"].plasma_positive_f1 is not None
    (network,) = load_bundle(tmp_path / "bundle").open_classifiers("onnxruntime")
    found = network.run({"image": np.full((3, 3, 32, 32), 0.5, np.float32)})["p_plasma"]
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert check_golden(bundle, "onnxruntime").passed


@pytest.mark.parametrize("missing", ["weight", "answers"])
def test_a_training_without_both_answers_or_weight_has_no_head(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest, missing: str
) -> None:
    """The other heads start the same in all of them."""
    run = tmp_path / "run"
    if missing == "weight":
        run = request.getfixturevalue("without")
    else:
        crops_with(tmp_path / "crops", {"P2": "V"})
        (tmp_path / "crops" / "prepare.json").write_bytes((folder / "crops" / "prepare.json").read_bytes())
        fit_classifier(tmp_path / "crops", run, tiny_config())
    info = load_classifier(run / "classifier.safetensors")[1]
    assert info.heads == HEADS
    assert "plasma.weight" not in load_tensors(run / "classifier.safetensors")[0]
    bundle = export_bundle([run], folder / "segmenter.onnx", tmp_path / "bundle")
    assert not bundle.spec.predicts_plasma
    assert "plasma" not in (tmp_path / "bundle" / "bundle.toml").read_text(encoding="utf-8")


def test_an_ensemble_predicts_plasma_cells_only_if_every_member_does(
    folder: Path, without: Path, tmp_path: Path
) -> None:
    bundle = export_bundle([folder / "run", without], folder / "segmenter.onnx", tmp_path / "bundle")
    assert not bundle.spec.predicts_plasma
    assert check_golden(bundle, "onnxruntime").passed
