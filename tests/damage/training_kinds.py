"""What training reads: a crop set, initial weights (``--init``), a trained classifier, a checkpoint. Needs PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from marrowscope.cohort.duplicates import near_duplicates
from marrowscope.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint, save_tensors
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.initial_weights import load_initial_weights
from marrowscope.train.model import ClassifierInfo, new_classifier
from marrowscope.train.training_record import EpochRow
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import write_crop_set
from tests.damage.kinds import Kind
from tests.damage.mutations import damaged_bytes, damaged_json, damaged_table, damaged_tensors

if TYPE_CHECKING:
    from pathlib import Path

_TINY = "test_efficientnet"


def _epoch() -> EpochRow:
    values = {name: 0.5 for name in EpochRow.model_fields if name not in {"epoch", "train_losses"}}
    return EpochRow(epoch=1, train_losses={}, **values)


def training_kinds(root: Path) -> list[Kind]:
    """Write a crop set of six patients and weights of a tiny network."""
    crops = write_crop_set(root / "crops", crops_per_patient=2)
    vocabulary = load_vocabulary()
    start, trained, state = (root / f"{name}.safetensors" for name in ("start", "classifier", "checkpoint"))
    model = new_classifier(_TINY, 16, 0.0, 0)
    save_tensors(start, model.trunk.state_dict(), {})
    info = ClassifierInfo(
        architecture=_TINY, categories=vocabulary.categories, crop_px=32, um_per_px=0.3, mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0), priors={"cblc": (0.5, 0.5), "countable": (0.0, 1.0), "category": (1.0, *[0.0] * 15)},
        imbalance="none", tau=1.0, initial_weights="somewhere",
    )  # fmt: skip
    save_tensors(
        trained, model.state_dict(), {"info": info.model_dump(mode="json"), "epoch": _epoch().model_dump(mode="json")}
    )
    small = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(small.parameters())
    small(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(state, small, optimizer, TrainingState(stage="s", epoch=1, step=2, fingerprint="f"))

    def crops_are_read(_: bytes) -> bool:
        found = open_crop_set(crops, vocabulary)
        if "image_dhash" in found.cells.columns:  # crop sets of earlier versions have none, and are read
            near_duplicates(found.cells)
        return len(found.cells) == len(found.crops) == 24

    def weights_are_taken(_: bytes) -> bool:
        load_initial_weights(model, _TINY, str(start))
        return all(bool(torch.isfinite(value).all()) for value in model.trunk.state_dict().values())

    def classifier_is_loaded(_: bytes) -> bool:
        found, said, _epoch = load_classifier(trained)
        is_finite = all(bool(torch.isfinite(value).all()) for value in found.state_dict().values())
        return is_finite and bool(np.isfinite([*said.mean, *said.std]).all())

    def checkpoint_is_loaded(_: bytes) -> bool:
        fresh = torch.nn.Linear(3, 2)
        resumed = torch.optim.AdamW(fresh.parameters())
        load_checkpoint(state, fresh, resumed)
        is_finite = all(bool(torch.isfinite(value).all()) for value in fresh.state_dict().values())
        fresh(torch.ones(1, 3)).sum().backward()
        resumed.step()
        return is_finite

    return [
        Kind("crop set cells.parquet", crops / "cells.parquet", damaged_table, crops_are_read, is_text=False),
        Kind("crop set crops.npy", crops / "crops.npy", damaged_bytes, crops_are_read, is_text=False, every=4),
        Kind("crop set prepare.json", crops / "prepare.json", damaged_json, crops_are_read),
        Kind("initial weights", start, damaged_tensors, weights_are_taken, is_text=False),
        Kind("classifier weights", trained, damaged_tensors, classifier_is_loaded, is_text=False, every=2),
        Kind("checkpoint", state, damaged_tensors, checkpoint_is_loaded, is_text=False),
    ]
