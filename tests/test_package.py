"""The package's front door: light to open, and honest about what it holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import marrowscope

HEAVY = {"cv2", "numpy", "onnxruntime", "openvino", "polars", "pydantic", "scipy", "shapely", "torch"}


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


@pytest.mark.parametrize("name", marrowscope.__all__)
def test_every_public_name_is_there_and_loaded_once(name: str) -> None:
    if name in {"export_bundle", "fit_classifier", "fit_folds", "join_folds"}:
        pytest.importorskip("torch")
    value = getattr(marrowscope, name)
    assert value is getattr(marrowscope, name)
    assert name in dir(marrowscope)


def test_the_public_names_are_those_a_type_checker_sees() -> None:
    tree = ast.parse(Path(marrowscope.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen | {"__version__"} == set(marrowscope.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'diagnose'"):
        marrowscope.diagnose  # noqa: B018
