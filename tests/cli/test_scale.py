"""`marrowscope scale`: what it prints, and how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from marrowscope.cli.main import app
from marrowscope.imaging import write_image
from tests.cells.test_erythrocyte_size import field

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "field.png", field(50.0))
    return tmp_path


def test_it_prints_a_scale_for_each_folder_and_what_it_rests_on(folder: Path) -> None:
    result = CliRunner().invoke(app, ["scale", str(folder)])
    assert result.exit_code == 0, result.output
    assert "0.15" in result.output
    assert "95% interval" in result.output
    assert "iron deficiency" in result.output


def test_as_json(folder: Path) -> None:
    result = CliRunner().invoke(app, ["scale", str(folder / "field.png"), "--json"])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["um_per_px"] == pytest.approx(0.15, rel=0.04)
    assert found["lower"] < found["um_per_px"] < found["upper"]


def test_a_folder_without_erythrocytes_has_no_estimate_and_the_exit_code_says_so(tmp_path: Path) -> None:
    write_image(tmp_path / "empty.png", np.full((300, 400, 3), 230, dtype=np.uint8))
    result = CliRunner().invoke(app, ["scale", str(tmp_path)])
    assert result.exit_code == 1
    assert "none: found too few erythrocytes, expected at least 20 whole, single erythrocytes" in result.output
