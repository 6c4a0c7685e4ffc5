"""The package's front door: light to open, and honest about what it holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

import marrowscope

HEAVY = {"cv2", "matplotlib", "numpy", "onnxruntime", "openvino", "polars", "pydantic", "scipy", "shapely", "torch"}


def modules_after(code: str) -> set[str]:
    """Give the top-level modules that a fresh interpreter has loaded after ``code``."""
    report = "\nimport sys\nprint('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_import_is_light() -> None:
    assert modules_after("import marrowscope") & (HEAVY | {"rich", "typer"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["predict", "--help"], ["train", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = f"""
from marrowscope.cli.main import main
try:
    main({arguments!r})
except SystemExit as stopped:
    assert stopped.code == 0
"""
    assert modules_after(code) & (HEAVY - {"pydantic"}) == set()  # typer itself asks pydantic about option types


def test_a_loaded_heavy_module_would_be_seen() -> None:
    assert "numpy" in modules_after("import marrowscope.records")


def test_version_is_a_release_number() -> None:
    assert all(part.isdigit() for part in marrowscope.__version__.split("."))
