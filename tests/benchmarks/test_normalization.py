from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from benchmarks.normalization import reestimate_batch_norm
from marrowscope.errors import ConfigError
from marrowscope.train.checkpoint import hash_weights
from marrowscope.train.crop_set import CropSet, class_priors, open_crop_set
from marrowscope.train.model import CellClassifier, ClassifierInfo, new_classifier
from marrowscope.train.validation import normalize, predict_logits, validation_batches
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import Norm

CPU = torch.device("cpu")


@pytest.fixture
def crop_set(crops_dir: Path) -> CropSet:
    return open_crop_set(crops_dir, load_vocabulary())


def _info(crop_set: CropSet, norm: Norm = "batch") -> ClassifierInfo:
    rows = crop_set.rows({"p0", "p1"}, "expert")
    return ClassifierInfo(
        architecture="test_efficientnet",
        categories=crop_set.categories,
        crop_px=32,
        um_per_px=0.3,
        mean=(0.0, 0.0, 0.0),
        std=(0.25, 0.25, 0.25),
        priors=class_priors(crop_set.class_shares(rows)),
        imbalance="none",
        tau=1.0,
        norm=norm,
        initial_weights="random",
    )


def _model(norm: Norm = "batch") -> CellClassifier:
    return new_classifier("test_efficientnet", 16, 0.2, 0, norm=norm)


def _first_norm(model: CellClassifier) -> torch.nn.BatchNorm2d:
    return next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_the_first_layers_statistics_are_those_of_its_input(crop_set: CropSet) -> None:
    """Against the stem's output over all crops at once; in batches of equal size the mean stays the same."""
    model, info, rows = _model(), _info(crop_set), np.arange(40, dtype=np.int64)
    (crops,) = validation_batches(crop_set, rows, 32, len(rows))
    with torch.no_grad():
        stem = model.trunk.conv_stem(normalize(crops, info, CPU))
    one = _first_norm(reestimate_batch_norm(model, crop_set, rows, info, batch_size=40).model)
    torch.testing.assert_close(one.running_mean, stem.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.running_var, stem.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    four = _first_norm(reestimate_batch_norm(model, crop_set, rows, info, batch_size=10).model)
    torch.testing.assert_close(four.running_mean, one.running_mean, rtol=1e-4, atol=1e-5)
    assert four.num_batches_tracked is not None
    assert four.num_batches_tracked.item() == 4


def test_a_dimmer_camera_makes_no_difference_once_the_statistics_are_its_own(crop_set: CropSet) -> None:
    """Every pixel halved: the network as trained on the bright crops errs, the estimated one does not notice."""
    model, info, rows = _model(), _info(crop_set), np.arange(120, dtype=np.int64)
    even = crop_set.crops & np.uint8(0xFE)
    bright, dim = replace(crop_set, crops=even), replace(crop_set, crops=even // 2)
    trained = reestimate_batch_norm(model, bright, rows, info).model
    wanted = predict_logits(trained, bright, rows, info)["category"]
    as_is = predict_logits(trained, dim, rows, info)["category"]
    found = predict_logits(reestimate_batch_norm(trained, dim, rows, info).model, dim, rows, info)["category"]
    spread = float(wanted.std())
    assert float((found - wanted).abs().max()) < 0.05 * spread
    assert float((as_is - wanted).abs().max()) > 0.5 * spread


def test_the_network_given_is_left_as_it_was_and_only_statistics_differ(crop_set: CropSet) -> None:
    model, info = _model().eval(), _info(crop_set)
    before = hash_weights(model.state_dict())
    found = reestimate_batch_norm(model, crop_set, np.arange(30, dtype=np.int64), info).model
    assert hash_weights(model.state_dict()) == before
    assert not found.training
    changed = {
        name.rpartition(".")[2]
        for name, value in found.state_dict().items()
        if not torch.equal(value, model.state_dict()[name])
    }
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    assert _first_norm(found).momentum == _first_norm(model).momentum


def test_neither_labels_nor_the_order_of_rows_of_one_batch_matter(crop_set: CropSet) -> None:
    model, info, rows = _model(), _info(crop_set), np.arange(30, dtype=np.int64)
    unlabeled = replace(crop_set, labels={head: np.full(120, -1) for head in crop_set.labels})
    known = reestimate_batch_norm(model, crop_set, rows, info).model
    blind = reestimate_batch_norm(model, unlabeled, rows, info).model
    assert hash_weights(known.state_dict()) == hash_weights(blind.state_dict())
    turned = reestimate_batch_norm(model, crop_set, rows[::-1].copy(), info).model
    for name, value in turned.state_dict().items():
        torch.testing.assert_close(value, known.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_few_crops_are_noted(crop_set: CropSet) -> None:
    model, info = _model(), _info(crop_set)
    few = reestimate_batch_norm(model, crop_set, np.arange(120, dtype=np.int64), info)
    assert few.n_crops == 120
    assert few.note is not None
    assert few.note.startswith("batch norm was estimated on 120 crops, expected at least 200")
    many = np.concatenate([np.arange(120), np.arange(80)]).astype(np.int64)
    assert reestimate_batch_norm(model, crop_set, many, info).note is None


def test_what_cannot_be_estimated_is_refused(crop_set: CropSet) -> None:
    rows = np.arange(30, dtype=np.int64)
    with pytest.raises(ConfigError, match="norm: found 'group', expected 'batch'"):
        reestimate_batch_norm(_model("group"), crop_set, rows, _info(crop_set, "group"))
    with pytest.raises(ConfigError, match="found 1 crops for batch norm, expected at least 200"):
        reestimate_batch_norm(_model(), crop_set, rows[:1], _info(crop_set))
