"""Which cells a proof sees: the wanted roles, the network's crop, what is left out counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.proof_cells import ProofSelection, answer, load_cells, load_trained
from marrowscope.cells.calls import decode_calls
from marrowscope.errors import InputError
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME, save_tensors
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, CellClassifier, ClassifierInfo
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = load_vocabulary()
N = len(VOCABULARY.categories)
INFO = ClassifierInfo(
    architecture="test_efficientnet",
    categories=VOCABULARY.categories,
    crop_px=32,
    um_per_px=0.3,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    priors={"cblc": (0.6, 0.4), "countable": (0.2, 0.8), "category": (0.2,) * 5 + (0.0,) * (N - 5)},
    imbalance="none",
    tau=0.0,
    initial_weights="none",
)
EPOCH = {
    "epoch": 1, "seconds": 1, "crops_per_second": 1, "learning_rate": 0.1, "train_loss": 1, "train_loss_cblc": 1,
    "train_loss_countable": 1, "train_loss_category": 1, "validation_loss": 1, "validation_loss_cblc": 1,
    "validation_loss_countable": 1, "validation_loss_category": 1, "cblc_weighted_f1": 1, "cblc_positive_f1": 1,
    "cblc_auc": 1, "countable_weighted_f1": 1, "category_weighted_f1": 1, "category_macro_f1": 1, "selection": 1,
}  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Give a training folder with random weights and a split of four of the six patients."""
    folder = tmp_path / "trained"
    folder.mkdir()
    model = CellClassifier(INFO.architecture, N)
    meta = {"info": INFO.model_dump(mode="json"), "epoch": EPOCH}
    save_tensors(folder / CLASSIFIER_NAME, model.state_dict(), meta)
    (folder / SPLIT_NAME).write_text("patient_id,role\np0,train\np1,train\np2,validation\np3,test\n", encoding="utf-8")
    return folder


def test_only_the_wanted_roles_and_those_the_split_does_not_name(tmp_path: Path, trained: Path) -> None:
    crops = write_crop_set(tmp_path / "crops")
    cells = load_cells(crops, trained, INFO, ProofSelection(), VOCABULARY)
    assert set(cells.patients) == {"p3", "p4", "p5"}
    assert set(cells.table["source"]) == {"predicted"}
    assert cells.left_out == {"megakaryoblast": 0, "no_lineage": 6, "larger_than_crop": 0}
    assert len(cells.patients) == len(cells.fields) == len(cells.lineages) == len(cells.crops) == 3 * 8
    assert cells.lineages[:4] == ["granulocytic", "granulocytic", "erythroid", "lymphoid"]
    assert cells.labels["cblc"][:4].tolist() == [1, 0, 1, 0]
    selected = ProofSelection(roles=("validation",), source="expert")
    assert set(load_cells(crops, trained, INFO, selected, VOCABULARY).patients) == {"p2"}


def test_crops_and_masks_are_the_center_that_the_network_sees(tmp_path: Path, trained: Path) -> None:
    crops = write_crop_set(tmp_path / "crops")
    cells = load_cells(crops, trained / CLASSIFIER_NAME, INFO, ProofSelection(most=5), VOCABULARY)
    stored, masks = np.load(crops / "crops.npy"), np.load(crops / "masks.npy")
    names = {name: row for row, name in enumerate(_cell_ids(crops))}
    rows = [names[name] for name in cells.table["cell_id"]]
    assert 3 <= len(rows) <= 5
    assert (cells.crops == stored[rows, 7:39, 7:39]).all()
    assert (cells.masks == masks[rows, 7:39, 7:39]).all()


def _cell_ids(crops: Path) -> list[str]:
    import polars as pl

    return pl.read_parquet(crops / "cells.parquet")["cell_id"].to_list()


def test_no_cell_of_the_role_and_no_masks_are_said(tmp_path: Path, trained: Path) -> None:
    crops = write_crop_set(tmp_path / "crops", patients=2)
    with pytest.raises(InputError, match="no predicted crop of a patient whose role is test"):
        load_cells(crops, trained, INFO, ProofSelection(), VOCABULARY)
    (crops / "masks.npy").unlink()
    with pytest.raises(InputError, match=r"no masks\.npy"):
        load_cells(crops, trained, INFO, ProofSelection(roles=("train",)), VOCABULARY)


def test_answers_are_calls_that_exist(tmp_path: Path, trained: Path) -> None:
    model, info = load_trained(trained)
    cells = load_cells(write_crop_set(tmp_path / "crops"), trained, info, ProofSelection(), VOCABULARY)
    said = answer(model, info, cells.crops, VOCABULARY, decode_calls)
    exists = {(category, cblc) for category, cblc, _ in VOCABULARY.call_triples}
    pairs = zip(said["category"].called.tolist(), said["cblc"].called.tolist(), strict=True)
    assert all((category, bool(cblc)) in exists for category, cblc in pairs)
    assert said["category"].called.max() < 5
    assert said["category"].probability.shape == (24, N)
