from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.errors import InputError, VocabularyError
from marrowscope.train.config import AugmentConfig
from marrowscope.train.crop_set import class_priors, open_crop_set
from marrowscope.train.loader import epoch_order, training_crops
from marrowscope.train.validation import validation_batches
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_are_the_vocabularys_facts(crops_dir: Path) -> None:
    vocabulary = load_vocabulary()
    crop_set = open_crop_set(crops_dir, vocabulary)
    for row, code in enumerate(crop_set.cells["expert_code"]):
        facts = vocabulary.lookup(code)
        assert crop_set.labels["cblc"][row] == facts.cblc
        assert crop_set.labels["countable"][row] == facts.countable
        assert vocabulary.categories[crop_set.labels["category"][row]] == facts.category
    assert crop_set.um_per_px == pytest.approx(0.3)


def test_rows_choose_by_patient_and_source_and_leave_out_unlabeled_crops(crops_dir: Path) -> None:
    cells = pl.read_parquet(crops_dir / "cells.parquet")
    first = cells["cell_id"][1]
    cells.with_columns(
        pl.when(pl.col("cell_id") == first).then(None).otherwise(pl.col("expert_code")).alias("expert_code")
    ).write_parquet(crops_dir / "cells.parquet")
    crop_set = open_crop_set(crops_dir, load_vocabulary())
    rows = crop_set.rows({"p0", "p3"}, "predicted")
    chosen = crop_set.cells[rows]
    assert set(chosen["patient_id"]) == {"p0", "p3"}
    assert set(chosen["source"]) == {"predicted"}
    assert len(rows) == 19
    assert crop_set.labels["cblc"][1] == -1


def test_priors_are_shares_of_the_given_rows_only(crops_dir: Path) -> None:
    crop_set = open_crop_set(crops_dir, load_vocabulary())
    code = crop_set.cells["expert_code"].to_numpy()
    rows = np.concatenate([np.flatnonzero(code == "N")[:3], np.flatnonzero(code == "V")[:1]])
    priors = class_priors(crop_set.class_shares(rows))
    assert priors["cblc"] == (0.25, 0.75)
    assert priors["countable"] == (0.25, 0.75)
    assert priors["category"][:2] == (0.25, 0.75)
    assert sum(priors["category"]) == 1


def test_order_and_batches_are_functions_of_their_keys(crops_dir: Path) -> None:
    crop_set = open_crop_set(crops_dir, load_vocabulary())
    rows = np.arange(50, dtype=np.int64)
    np.testing.assert_array_equal(epoch_order(rows, (0, 1, 2)), epoch_order(rows, (0, 1, 2)))
    assert set(epoch_order(rows, (0, 1, 2)).tolist()) == set(range(50))
    assert (epoch_order(rows, (0, 1, 2)) != epoch_order(rows, (0, 1, 3))).any()
    batch = training_crops(crop_set, rows[:5], 32, AugmentConfig(), (0, 1, 2), with_masks=True)
    alone = training_crops(crop_set, rows[3:4], 32, AugmentConfig(), (0, 1, 2), with_masks=True)
    for together, single in zip(batch, alone, strict=True):  # crops, then masks
        np.testing.assert_array_equal(together[3], single[0])


def test_an_epoch_may_be_a_draw() -> None:
    """A part of the crops without repeats, another one each epoch; with weights, repeats in proportion to them."""
    rows = np.arange(50, dtype=np.int64)
    part = epoch_order(rows, (0, 1, 2), size=20)
    assert len(set(part.tolist())) == 20
    assert set(part.tolist()) != set(epoch_order(rows, (0, 1, 3), size=20).tolist())
    weights = np.where(rows == 7, 1.0, 1 / 49)
    drawn = epoch_order(np.arange(50, dtype=np.int64), (0, 1, 2), weights=weights / weights.sum())
    assert len(drawn) == 50
    assert 15 <= (drawn == 7).sum() <= 35


def test_validation_batches_are_the_stored_centers_in_order(crops_dir: Path) -> None:
    crop_set = open_crop_set(crops_dir, load_vocabulary())
    rows = np.array([3, 1, 40], dtype=np.int64)
    batches = list(validation_batches(crop_set, rows, 32, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), crop_set.crops[rows][:, 7:39, 7:39])


def test_an_unknown_code_names_its_cell(crops_dir: Path) -> None:
    cells = pl.read_parquet(crops_dir / "cells.parquet")
    cells.with_columns(pl.col("expert_code").replace("N5", "N55")).write_parquet(crops_dir / "cells.parquet")
    with pytest.raises(VocabularyError, match=r"cell p0/f0#1/expert: .*N55"):
        open_crop_set(crops_dir, load_vocabulary())


@pytest.mark.parametrize("name", ["crops.npy", "cells.parquet", "prepare.json"])
def test_an_incomplete_crop_set_names_what_is_absent(crops_dir: Path, name: str) -> None:
    (crops_dir / name).unlink()
    with pytest.raises(
        InputError, match=rf"not found: {name}; expected a crop set; make one with `marrowscope prepare`"
    ):
        open_crop_set(crops_dir, load_vocabulary())


def test_a_broken_crop_set_is_an_input_error(crops_dir: Path) -> None:
    (crops_dir / "crops.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="cannot be read"):
        open_crop_set(crops_dir, load_vocabulary())


def test_crops_and_rows_must_be_as_many(crops_dir: Path) -> None:
    np.save(crops_dir / "crops.npy", np.zeros((3, 46, 46, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="found 3 crops and 120 masks beside 120 table rows"):
        open_crop_set(crops_dir, load_vocabulary())


def test_crops_of_another_kind_are_refused(crops_dir: Path) -> None:
    np.save(crops_dir / "crops.npy", np.zeros((120, 46, 46), dtype=np.float32))
    with pytest.raises(InputError, match=r"found crops \(120, 46, 46\) float32"):
        open_crop_set(crops_dir, load_vocabulary())
