from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from marrowscope.errors import InputError
from marrowscope.report.learning_curve import learning_curve

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "epoch,stage,train_loss,validation_loss,cblc_weighted_f1,cblc_auc,selection"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def words(svg: Path) -> str:
    return " ".join(ET.parse(svg).getroot().itertext())  # noqa: S314  written a line ago by the code under test


def test_curve_draws_losses_figures_and_the_kept_epoch(tmp_path: Path) -> None:
    table = write(
        tmp_path / "m.csv", "1,1-gt,2.0,1.9,0.5,,0.4", "2,1-gt,1.0,1.2,0.8,0.9,0.7", "3,1-gt,0.5,1.5,0.7,0.9,0.6"
    )
    learning_curve(table, tmp_path / "curve.svg")
    text = words(tmp_path / "curve.svg")
    for label in ("loss, training", "loss, validation", "cblc weighted f1", "cblc auc", "kept: epoch 2", "epoch"):
        assert label in text
    assert "stage" not in text


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    table = write(tmp_path / "m.csv", "1,x,2.0,1.9,0.5,0.6,0.4")
    learning_curve(table, tmp_path / "a.svg")
    learning_curve(table, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found no epoch"),
        ("loss\n1\n", "found no epoch"),
        (HEADER + "\n", "found no epoch"),
        ("epoch,x\n1,2\n", "nothing to draw"),
    ],
)
def test_file_without_a_curve_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        learning_curve(tmp_path / "m.csv", tmp_path / "curve.svg")
    assert not (tmp_path / "curve.svg").exists()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        learning_curve(tmp_path / "gone.csv", tmp_path / "curve.svg")
