"""The page docs/own-cells.md, command by command, on 200 cells of a pack; training is one epoch instead of twenty."""

from __future__ import annotations

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from marrowscope.bundle.bundle import load_bundle
from marrowscope.cli.main import app
from marrowscope.imaging import read_image, write_image

_PAGE = Path(__file__).parents[1] / "docs" / "own-cells.md"
_CLASSES = {"N": "BLA", "N1": "PMO", "L2": "LYT", "M2": "MON", "N5": "NGS"}
_TILE_PX, _CELLS, _HELD_OUT = 250, 40, 8


def block(kind: str, number: int = 0) -> str:
    """Return a fenced block of the page."""
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found[number]


def write_class_folders(pack: Path, out: Path) -> None:
    """Cut 40 tiles a class out of the pack's mosaics; eight of each are put aside."""
    left = dict.fromkeys(_CLASSES, _CELLS)
    for path in sorted(pack.glob("M00*/*.json")):
        mosaic = read_image(path.with_suffix(".jpg"))
        for index, shape in enumerate(json.loads(path.read_text(encoding="utf-8"))["shapes"]):
            code = shape["label"]
            if not left.get(code):
                continue
            left[code] -= 1
            column, row = (int(value // _TILE_PX) for value in np.mean(shape["points"], axis=0))
            folder = out / ("held-out" if left[code] < _HELD_OUT else "my-cells") / _CLASSES[code]
            folder.mkdir(parents=True, exist_ok=True)
            tile = mosaic[row * _TILE_PX : (row + 1) * _TILE_PX, column * _TILE_PX : (column + 1) * _TILE_PX]
            write_image(folder / f"{path.parent.name}_{path.stem}_{index}.png", tile)


def test_the_page_leads_from_class_folders_to_predictions(
    packs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the extra train")
    write_class_folders(packs_dir / "marrow-cells", tmp_path)
    shutil.copytree(
        str(files("marrowscope") / "data" / "real_patients" / "M037"),
        tmp_path / "new-patient",
        ignore=shutil.ignore_patterns("*.json"),
    )
    settings = block("toml").replace("epochs = 20", "epochs = 1")
    (tmp_path / "own.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in block("console").splitlines():
        result = CliRunner().invoke(app, line.split()[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
    counts = json.loads((tmp_path / "own" / "import.json").read_text(encoding="utf-8"))
    imported = json.loads((tmp_path / "crops" / "prepare.json").read_text(encoding="utf-8"))["counts"]["expert"]
    assert 0 < imported <= len(_CLASSES) * (_CELLS - _HELD_OUT), counts
    trained = load_bundle(tmp_path / "own-bundle").spec.categories_trained
    assert {"N1", "L", "M2", "N5"} <= set(trained)
    figures = (tmp_path / "figures" / "metrics.md").read_text(encoding="utf-8")
    (row,) = (line for line in figures.splitlines() if line.startswith("| munich-marrow-21 | 2 |"))
    assert row.count(", n 3") >= 2, row  # F1 of CBLC, over all cells that were put aside and imported
    assert (tmp_path / "run" / "patients.parquet").is_file()
