"""Averaged views: the mean over mirrors by hand, the same in validation, in torch and in every exported graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from marrowscope.fit import fit_classifier  # noqa: E402
from marrowscope.networks import available_backends, open_network  # noqa: E402
from marrowscope.train.classifier_graph import check_parity, export_classifier, load_classifier  # noqa: E402
from marrowscope.train.config import HEADS  # noqa: E402
from marrowscope.train.crop_set import open_crop_set  # noqa: E402
from marrowscope.train.model import averaged_logits  # noqa: E402
from marrowscope.train.validation import predict_logits  # noqa: E402
from marrowscope.vocabulary import load_vocabulary  # noqa: E402
from tests.crop_sets import tiny_config, write_crop_set  # noqa: E402
from tests.train.stages import tiny_model  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import Views

STAGE = {"name": "one", "train_on": "expert", "select_on": "predicted", "epochs": 1, "learning_rate": 1e-3}


@pytest.mark.parametrize("views", [1, 2, 4])
def test_logits_are_the_mean_over_the_mirrors(views: Views) -> None:
    model = tiny_model(tiny_config()).eval()
    crops = torch.rand(3, 3, 32, 32)
    mirrors = [crops, crops.flip(3), crops.flip(2), crops.flip(2).flip(3)][:views]
    with torch.inference_mode():
        found = averaged_logits(model, crops, views)
        alone = [model(seen).logits() for seen in mirrors]
    for head in HEADS:
        torch.testing.assert_close(found[head], torch.stack([each[head] for each in alone]).mean(0))
    assert views == 1 or not torch.allclose(found["category"], alone[0]["category"])


@pytest.mark.parametrize("views", [2, 4])
def test_a_training_in_views_is_exported_with_them(tmp_path: Path, views: Views) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=4)
    result = fit_classifier(crops, tmp_path / "out", tiny_config(stages=(STAGE,), views=views))
    model, info, _ = load_classifier(result.weights_path)
    assert info.views == views
    export_classifier(result.weights_path, tmp_path / "graph.onnx")
    sample = np.ascontiguousarray(np.load(crops / "crops.npy")[:5, 7:39, 7:39])
    assert max(check_parity(result.weights_path, tmp_path / "graph.onnx", sample).values()) < 1e-4
    stated = {item.key: item.value for item in onnx.load(str(tmp_path / "graph.onnx")).metadata_props}
    assert stated["views"] == str(views)
    batch = np.ascontiguousarray(sample.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
    for backend in available_backends():
        network = open_network(tmp_path / "graph.onnx", backend)
        mirrored = network.run({"image": np.ascontiguousarray(batch[..., ::-1])})
        for name, values in network.run({"image": batch}).items():
            np.testing.assert_allclose(mirrored[name], values, atol=1e-5)  # a mirror image is the same cell
    crop_set = open_crop_set(crops, load_vocabulary())
    rows = np.arange(6)
    seen = predict_logits(model, crop_set, rows, info)
    alone = predict_logits(model, crop_set, rows, info.model_copy(update={"views": 1}))
    assert not torch.allclose(seen["category"], alone["category"], atol=1e-6)


def test_one_view_is_not_mentioned_in_the_graph(tmp_path: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=4)
    result = fit_classifier(crops, tmp_path / "out", tiny_config(stages=(STAGE,)))
    export_classifier(result.weights_path, tmp_path / "graph.onnx")
    assert "views" not in {item.key for item in onnx.load(str(tmp_path / "graph.onnx")).metadata_props}
