"""A small crop set for the tests of the proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crop_sets import write_crop_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def crops_dir(tmp_path: Path) -> Path:
    """Six patients, 120 crops of five codes."""
    return write_crop_set(tmp_path / "crops")
