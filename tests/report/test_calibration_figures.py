from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from marrowscope.errors import InputError
from marrowscope.report.calibration_figures import draw_reliability

if TYPE_CHECKING:
    from pathlib import Path

BINS = [
    {"head": head, "center": center, "calibration": state, "bin": index, "lower": 0.1, "upper": 0.9, "n": 20 + index}
    | {"mean_probability": 0.25 + 0.5 * index, "share_true": 0.2 + 0.6 * index}
    for head in ("cblc", "category")
    for center in ("all", "1", "2")
    for state in ("before", "after")
    for index in (0, 1)
]


def test_every_head_and_center_has_a_panel_with_its_cells(tmp_path: Path) -> None:
    pl.DataFrame(BINS).write_csv(tmp_path / "reliability.csv")
    draw_reliability(tmp_path / "reliability.csv", tmp_path / "reliability.svg")
    root = ET.fromstring((tmp_path / "reliability.svg").read_text(encoding="utf-8"))  # noqa: S314  our own file
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cblc, all centers: 41 cells", "category, 2: 41 cells", "before calibration"} <= set(texts)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 1 + 6 * 2
    titles = {"".join(node.itertext()) for node in circles}
    assert "after: probability 0.750, 0.800 of 21 cells" in titles


def test_equal_bins_give_equal_bytes_and_a_single_bin_has_no_line(tmp_path: Path) -> None:
    pl.DataFrame(BINS[:1]).write_csv(tmp_path / "reliability.csv")
    for name in ("first.svg", "second.svg"):
        draw_reliability(tmp_path / "reliability.csv", tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    assert "polyline" not in (tmp_path / "first.svg").read_text(encoding="utf-8")


def test_a_file_without_bins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reliability\.csv: cannot be read"):
        draw_reliability(tmp_path / "reliability.csv", tmp_path / "out.svg")
    (tmp_path / "reliability.csv").write_text("head,center\ncblc,all\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"found 1 row of .*, expected bins with head, center"):
        draw_reliability(tmp_path / "reliability.csv", tmp_path / "out.svg")
