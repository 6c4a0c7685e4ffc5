"""What several test files share."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from marrowscope.records import Patient
from tests.fake_runs import FakeRun, make_run

if TYPE_CHECKING:
    from collections.abc import Callable

settings.register_profile("marrowscope", deadline=None, derandomize=True)  # a slow machine is no defect
settings.load_profile("marrowscope")


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's sight: it stays to the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def packs_dir() -> Path:
    """Folder of the real-image packs: $MARROWSCOPE_PACKS, else shared/data beside the checkout; skips without it."""
    given = os.environ.get("MARROWSCOPE_PACKS")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data packs at {folder}; set MARROWSCOPE_PACKS to their folder")
    return folder


TWO_PATIENTS = (Patient("P1", "A", "control"), Patient("P2", "B", "AML"))


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., FakeRun]:
    """Give a function that writes a run of ``patients`` (default two) and gives where it lies."""

    def make(patients: list[Patient] | None = None, **options: int) -> FakeRun:
        return make_run(tmp_path, patients or list(TWO_PATIENTS), **options)

    return make
