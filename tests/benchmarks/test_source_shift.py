"""The measures of a recipe on cells whose answers are known: what flips, what a probe sees, who is judged on what."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from benchmarks import source_shift
from benchmarks.source_shift_measures import (
    Panel,
    Seen,
    call_figures,
    flips,
    joined,
    source_accuracy,
    swapped_stains,
    take_panel,
)
from benchmarks.stain_clusters import cluster, stain_features
from marrowscope.cohort.folds import write_split
from marrowscope.fit import fit_classifier
from marrowscope.train.crop_set import open_crop_set
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config, write_crop_set

if TYPE_CHECKING:
    from pathlib import Path

STAGE = {"name": "one", "train_on": "predicted", "select_on": "predicted", "epochs": 1, "learning_rate": 1e-3}


def _panel(centers: list[str], category: list[int]) -> Panel:
    """Make cells on gray (center A) or violet (B) ground with one nucleus color, each of a patient of its own."""
    n = len(centers)
    crops = np.empty((n, 46, 46, 3), dtype=np.uint8)
    crops[:] = np.array([(230, 228, 235) if center == "A" else (205, 190, 225) for center in centers])[:, None, None]
    crops[:, 18:28, 18:28] = (90, 60, 130)
    masks = np.zeros((n, 46, 46), dtype=np.bool_)
    masks[:, 16:30, 16:30] = True
    labels = {"category": np.array(category), "cblc": np.array(category) % 2, "countable": np.ones(n, dtype=np.int64)}
    return Panel(crops, masks, labels, [f"p{k}" for k in range(n)], centers)


def _seen(category: list[int], p_cblc: list[float]) -> Seen:
    p = np.zeros((len(category), 16), dtype=np.float32)
    p[np.arange(len(category)), category] = 1
    cblc = np.stack([1 - np.array(p_cblc), np.array(p_cblc)], axis=1).astype(np.float32)
    return Seen({"category": p, "cblc": cblc, "countable": cblc}, np.zeros((len(category), 2), dtype=np.float32))


def test_figures_by_hand() -> None:
    panel = _panel(["A"] * 4, [1, 1, 2, 2])
    figures = call_figures(panel, _seen([1, 2, 2, 3], [0.9, 0.4, 0.5, 0.1]), blast=1)
    rows = np.arange(4)
    assert figures["accuracy"](rows) == 0.5
    assert figures["macro F1"](rows) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["CBLC AUC"](rows) == 0.75
    assert figures["blast recall"](rows) == 0.5
    assert figures["blast F1"](rows) == pytest.approx(2 / 3)
    assert "blast F1" not in call_figures(panel, _seen([1, 2, 2, 3], [0.9, 0.4, 0.5, 0.1]), blast=None)


def test_flips_count_both_heads() -> None:
    found = flips(_seen([1, 2, 3], [0.9, 0.4, 0.1]), _seen([1, 3, 3], [0.2, 0.3, 0.1]))
    assert found["category"].tolist() == [False, True, False]
    assert found["CBLC"].tolist() == [True, False, False]


def test_swapped_crops_have_the_other_sources_ground() -> None:
    panel = _panel(["A", "B", "A"], [1, 1, 2])
    swapped = swapped_stains(panel)
    np.testing.assert_allclose(swapped[0][0, 0], (205, 190, 225), atol=1)
    np.testing.assert_allclose(swapped[1][0, 0], (230, 228, 235), atol=1)
    with_one = swapped_stains(_panel(["A", "A"], [1, 2]))
    np.testing.assert_allclose(with_one[0], _panel(["A"], [1]).crops[0], atol=1)


def test_a_probe_tells_sources_that_differ_and_not_those_that_do_not() -> None:
    centers = ["A", "B"] * 60
    panel = _panel(centers, [1] * 120)
    random = np.random.default_rng(0)
    alike = random.normal(size=(120, 8)).astype(np.float32)
    apart = alike + np.where(np.array(centers) == "A", 2.0, -2.0)[:, None].astype(np.float32)
    assert source_accuracy(panel, apart, [1])[1] > 0.95
    assert 0.3 < source_accuracy(panel, alike, [1])[1] < 0.7
    assert source_accuracy(panel, apart, [2]) == {}


def test_a_panel_is_capped_by_category_and_drawn_alike(tmp_path: Path) -> None:
    crop_set = open_crop_set(write_crop_set(tmp_path / "crops"), load_vocabulary())
    rows = crop_set.rows({"p0", "p1", "p2"}, "predicted")
    panel = take_panel(crop_set, rows, per_category=4)
    assert sorted(np.unique(panel.labels["category"], return_counts=True)[1]) == [4] * 5
    np.testing.assert_array_equal(panel.crops, take_panel(crop_set, rows, per_category=4).crops)
    assert len(joined([panel, panel])) == 40


def test_each_training_is_judged_on_what_it_never_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patients held out of its own centers, and a whole center of another crop set; two trainings are paired."""
    own = write_crop_set(tmp_path / "own")
    other = write_crop_set(tmp_path / "other", patients=2, seed=1)
    cells = pl.read_parquet(other / "cells.parquet")
    cells = cells.with_columns(center=pl.lit("elsewhere"), patient_id=pl.format("q{}", "patient_id"))
    cells.write_parquet(other / "cells.parquet")
    write_split(tmp_path / "split.csv", {f"p{k}": "test" if k == 0 else "train" for k in range(6)})
    for name, select in (("a", "last"), ("b", "ema")):
        config = tiny_config(stages=(STAGE,), select=select)
        fit_classifier(own, tmp_path / name, config, split=tmp_path / "split.csv")
    arguments = [str(tmp_path / "a"), str(tmp_path / "b"), f"{tmp_path / 'b'}:last"]
    arguments += ["--crops", str(own), str(other), "--resamples", "20", "--views", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["source_shift.py", *arguments, "--json", str(tmp_path / "found.json")])
    source_shift.main()
    printed = capsys.readouterr().out
    assert "c0 held out: 10 cells" in printed
    assert "elsewhere: 20 cells" in printed
    assert "c1" not in printed
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert list(found["elsewhere"]) == ["a", "a, 2 views", "b", "b, 2 views", "b:last", "b:last, 2 views"]
    # Same seed, same steps: the last step of b is the training a.
    assert found["elsewhere"]["b:last"]["accuracy"][3] == 0
    assert 0 <= found["elsewhere"]["a"]["category flips"][0] <= 1


def test_clusters_are_those_of_the_stain_and_not_of_the_code() -> None:
    """Two grounds, and one code twice as dark as the other: the grounds part the cells, the codes do not."""
    random = np.random.default_rng(0)
    ground = np.repeat([0, 1], 60)
    code = np.tile(["N", "L"], 60)
    background = 0.1 + 0.2 * ground[:, None] + random.normal(0, 0.01, (120, 3))
    nucleus = np.where(code == "N", 0.5, 1.0)[:, None] + random.normal(0, 0.02, (120, 3))
    features = stain_features(background, nucleus, pl.Series(code)).to_numpy()
    found = cluster(features, 2, seed=0)
    assert len({*found[ground == 0]}) == len({*found[ground == 1]}) == 1
    assert found[0] != found[-1]
