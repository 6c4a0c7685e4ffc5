"""Another trunk of timm is a name in the configuration; one that the heads cannot read is refused at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from marrowscope.errors import ConfigError
from marrowscope.fit import fit_classifier
from marrowscope.train.classifier_graph import check_parity, export_classifier, load_classifier
from marrowscope.train.model import check_architecture
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import Norm


def test_another_backbone_trains_exports_and_loads_by_configuration_alone(tmp_path: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=4)
    stage = {"name": "one", "train_on": "expert", "select_on": "predicted", "epochs": 1, "learning_rate": 1e-3}
    config = tiny_config(architecture="test_resnet", stages=(stage,))
    result = fit_classifier(crops, tmp_path / "out", config)
    assert {"evidence", "consistency", "morphology"} <= set(result.best.train_losses)
    model, info, _ = load_classifier(result.weights_path)
    assert (model.architecture, info.architecture) == ("test_resnet", "test_resnet")
    export_classifier(result.weights_path, tmp_path / "graph.onnx")
    sample = np.ascontiguousarray(np.load(crops / "crops.npy")[:5, 7:39, 7:39])
    assert max(check_parity(result.weights_path, tmp_path / "graph.onnx", sample).values()) < 1e-4


@pytest.mark.parametrize(
    ("architecture", "norm"),
    [("efficientnet_b0", "group"), ("resnet18", "batch"), ("convnext_atto", "batch"), ("test_nfnet", "batch")],
)
def test_convolutional_networks_are_read(architecture: str, norm: Norm) -> None:
    check_architecture(architecture, 96, norm)


@pytest.mark.parametrize(
    ("architecture", "norm", "expected"),
    [
        ("resnet", "batch", "architecture: found 'resnet', expected a model of timm"),
        ("test_vit", "batch", r"found test_vit with last features \(1, 37, 64\), pooled to \(1, 64\), expected"),
        ("mobilenetv3_small_050", "batch", r"last features \(1, 288, 3, 3\), pooled to \(1, 1024\)"),
        ("test_maxvit", "batch", r"test_maxvit cannot take crops of 96 px \(.*\); choose a convolutional one"),
        ("resnet18", "group", "norm: found group for resnet18, expected an architecture with activations inside"),
        ("convnext_atto", "group", "norm: found group for convnext_atto"),
    ],
)
def test_what_the_heads_cannot_read_is_refused(architecture: str, norm: Norm, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_architecture(architecture, 96, norm)
