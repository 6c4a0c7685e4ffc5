"""`marrowscope cohort folds` as a user calls it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.cli.main import main
from marrowscope.cohort.folds import read_folds
from marrowscope.imaging import write_image

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray


def run(*arguments: object) -> int:
    """Run the command line and give its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def draw(seed: int) -> ImageArray:
    """Draw a coarse pattern of its own."""
    tiles = np.random.default_rng(seed).integers(60, 230, (12, 16, 3), dtype=np.uint8)
    return tiles.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a cohort of two patients in each of the centers [A] and B and in the external center X."""
    root = tmp_path / "cohort"
    lines = ["patient_id,center,diagnosis,um_per_px"]
    for index, center in enumerate(["[A]", "[A]", "B", "B", "X", "X"]):
        (root / f"p{index}").mkdir(parents=True)
        write_image(root / f"p{index}/f1.png", draw(index))
        lines.append(f"p{index},{center},AML,0.2")
    (root / "patients.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def crop_set(root: Path, *columns: str) -> Path:
    """Write the table of a crop set of the cohort, with two cells a field."""
    rows = pl.read_csv(root / "patients.csv").drop("um_per_px")
    cells = pl.concat([rows, rows]).with_columns(
        (pl.col("patient_id") + "/f1").alias("field_id"),
        pl.col("patient_id").alias("image_sha256"),
        *(pl.lit("0f" * 32).alias(name) for name in columns),
    )
    folder = root.parent / "crops"
    folder.mkdir()
    cells.write_parquet(folder / "cells.parquet")
    return folder


def test_folds_are_drawn_printed_and_used_again(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folds.csv"
    arguments = ("cohort", "folds", root, "--folds", 2, "--external", "X", "--out", out)
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if "AML" in line or "all" in line] == [
        ["B", "AML", "1", "1", "0", "2"],
        ["X", "AML", "0", "0", "2", "2"],
        ["[A]", "AML", "1", "1", "0", "2"],
        ["all", "2", "2", "2", "6"],
    ]
    assert printed.endswith("6 patients.\n")
    first = out.read_bytes()
    folds = read_folds(out)
    assert [folds["p4"], folds["p5"]] == [None, None]
    assert {folds["p0"], folds["p1"]} == {folds["p2"], folds["p3"]} == {0, 1}
    assert run(*arguments) == 0
    assert capsys.readouterr().out.endswith("6 patients, unchanged.\n")
    assert run("cohort", "folds", root, "--folds", 3, "--out", out) == 2
    assert "found different folds" in capsys.readouterr().err
    assert out.read_bytes() == first


def test_every_center_is_a_fold_as_json(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folds.csv"
    assert run("cohort", "folds", root, "--scheme", "center", "--external", "X", "--out", out, "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "folds_path": str(out),
        "scheme": "center",
        "n_folds": 2,
        "n_patients": 6,
        "n_external": 2,
        "n_images_without_fingerprint": 0,
        "counts": [
            {"center": "B", "diagnosis": "AML", "fold": 0, "n_patients": 2},
            {"center": "X", "diagnosis": "AML", "fold": "external", "n_patients": 2},
            {"center": "[A]", "diagnosis": "AML", "fold": 1, "n_patients": 2},
        ],
        "new": True,
    }


def test_a_mirrored_copy_in_another_center_is_refused_and_nothing_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(root / "p4/f2.jpg", draw(0)[:, ::-1].copy(), quality=60)
    out = tmp_path / "folds.csv"
    assert run("cohort", "folds", root, "--folds", 2, "--external", "X", "--out", out) == 2
    message = capsys.readouterr().err
    assert "near-duplicates" in message
    assert "field p0/f1)" in message
    assert "p4 (external, field p4/f2)" in message
    assert not out.exists()


def test_a_crop_set_without_fingerprints_says_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folds.csv"
    assert run("cohort", "folds", crop_set(root), "--folds", 2, "--out", out) == 0
    assert "for lack of a fingerprint: 6 images" in capsys.readouterr().out
    assert len(read_folds(out)) == 6


def test_a_crop_set_whose_images_are_copies_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = crop_set(root, "image_dhash")
    assert run("cohort", "folds", crops, "--folds", 2, "--out", tmp_path / "folds.csv") == 2
    assert "15 images on two sides" in capsys.readouterr().err


def test_the_folder_of_the_fold_file_is_made_and_a_folder_as_file_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cohort", "folds", root, "--folds", 2, "--out", tmp_path / "new" / "folds.csv") == 0
    assert (tmp_path / "new" / "folds.csv").is_file()
    assert run("cohort", "folds", root, "--folds", 2, "--out", tmp_path / "new") == 2
    assert "new: found a folder, expected the name of a CSV file" in capsys.readouterr().err


def test_what_is_no_cohort_or_contradicts_itself_is_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "folds.csv", tmp_path / "other"
    other.mkdir()
    assert run("cohort", "folds", other, "--out", out) == 2
    assert "found neither patients.csv nor cells.parquet" in capsys.readouterr().err
    assert run("cohort", "folds", root, "--scheme", "center", "--folds", 3, "--out", out) == 2
    assert "found --folds 3 with --scheme center" in capsys.readouterr().err
    (other / "cells.parquet").write_bytes(b"no table")
    assert run("cohort", "folds", other, "--out", out) == 2
    assert "cells.parquet: cannot be read" in capsys.readouterr().err
    assert run("cohort", "folds", root, root, "--out", out) == 2
    assert "found 6 patients in several rows" in capsys.readouterr().err
