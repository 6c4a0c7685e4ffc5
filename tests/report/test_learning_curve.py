from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from marrowscope.errors import InputError
from marrowscope.report.learning_curve import learning_curve
from marrowscope.report.plot import text_width

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


def test_every_line_has_a_name_of_its_own_that_touches_no_other(tmp_path: Path) -> None:
    terms = [f"{part}_loss_{name}" for name in "abcdefghij" for part in ("train", "validation")]
    header = ",".join(["epoch", *terms, "x_f1", "y_auc"])
    rows = [",".join([str(epoch), *["0.1"] * len(terms), "0.9", "0.9"]) for epoch in (1, 2, 3)]
    (tmp_path / "m.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    learning_curve(tmp_path / "m.csv", tmp_path / "curve.svg")
    root = ET.parse(tmp_path / "curve.svg").getroot()  # noqa: S314  written a line ago by the code under test
    names = [text for text in root.findall(".//{*}text") if "loss " in (text.text or "")]
    heights = sorted(float(text.attrib["y"]) for text in names)
    assert len(names) == len(terms)
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 14
    assert heights[-1] < float(root.attrib["height"])
    right = max(float(text.attrib["x"]) + text_width(text.text or "") for text in root.findall(".//{*}text"))
    assert right <= float(root.attrib["width"])


def test_training_is_dashed_and_a_term_keeps_its_color(tmp_path: Path) -> None:
    table = write(tmp_path / "m.csv", "1,x,2.0,1.9,0.5,0.6,0.4", "2,x,1.0,1.2,0.8,0.9,0.7")
    learning_curve(table, tmp_path / "curve.svg")
    root = ET.parse(tmp_path / "curve.svg").getroot()  # noqa: S314  written a line ago by the code under test
    lines = {(line.findtext("{*}title") or "").split(",")[1].split()[0]: line for line in root.findall(".//{*}polyline")
             if (line.findtext("{*}title") or "").startswith("loss")}  # fmt: skip
    assert lines["training"].attrib["class"] == "line s0 thin"
    assert lines["validation"].attrib["class"] == "line s0"


def test_missing_value_leaves_a_gap(tmp_path: Path) -> None:
    rows = [f"{epoch},x,1,1,{value},," for epoch, value in enumerate(("0.1", "0.2", "", "0.4", "", "0.5"), start=1)]
    learning_curve(write(tmp_path / "m.csv", *rows), tmp_path / "curve.svg")
    root = ET.parse(tmp_path / "curve.svg").getroot()  # noqa: S314  written a line ago by the code under test
    drawn = [line.attrib["points"].split() for line in root.findall(".//{*}polyline")
             if (line.findtext("{*}title") or "").startswith("cblc weighted f1")]  # fmt: skip
    assert [len(points) for points in drawn] == [2, 1, 1]
    assert len(list(root.findall(".//{*}circle"))) == 2  # a value on its own is a dot


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
        ("epoch,x\n1,2\n", "choose another file"),
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
