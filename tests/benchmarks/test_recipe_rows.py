"""The rows of the recipe differ from the base in what their name says and in nothing else."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from benchmarks.recipe_rows import settings
from marrowscope.config import load_config
from marrowscope.train.config import ClassifierConfig

if TYPE_CHECKING:
    from pathlib import Path

CHANGED = {
    "base": set(),
    "soft": {"confusable"},
    "two": {"stages"},
    "border": {"loss_weights"},
    "px128": {"crop_px", "augment"},
    "pretrained": {"init"},
}


def test_each_row_changes_what_its_name_says_and_sees_as_many_crops(tmp_path: Path) -> None:
    settings(argparse.Namespace(out=tmp_path, seed=3, epochs=10, simulated=tmp_path / "simulated.safetensors"))
    rows = {path.stem: load_config(ClassifierConfig, path) for path in tmp_path.glob("*.toml")}
    base = rows["base"].model_dump()
    assert base["seed"] == 3
    changed = {
        name: {key for key, value in row.model_dump().items() if value != base[key]} for name, row in rows.items()
    }
    assert changed == CHANGED
    assert {sum(stage.epochs for stage in row.stages) for row in rows.values()} == {10}
    assert rows["px128"].augment.contour_px / rows["base"].augment.contour_px == pytest.approx(128 / 96)
