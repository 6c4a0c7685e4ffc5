"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("marrowscope", deadline=None, derandomize=True)  # a slow machine is no defect
settings.load_profile("marrowscope")


@pytest.fixture(scope="session")
def packs_dir() -> Path:
    """Folder of the real-image packs: $MARROWSCOPE_PACKS, else shared/data beside the checkout; skips without it."""
    given = os.environ.get("MARROWSCOPE_PACKS")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data packs at {folder}; set MARROWSCOPE_PACKS to their folder")
    return folder
