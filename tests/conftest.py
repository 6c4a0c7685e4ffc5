"""What several test files share."""
# ruff: noqa: E402 - what is imported reads the variables set above the imports

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")  # a worker of pytest has one core, and its arrays and tables are small

import pytest
from hypothesis import settings

from marrowscope.records import Patient
from tests.fake_runs import FakeRun, make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

settings.register_profile("marrowscope", deadline=None, derandomize=True)  # a slow machine is no defect
settings.load_profile("marrowscope")


APART = (
    "report/test_browser.py",  # Chromium
    "review/pages/",  # Chromium
    "studies/reproduce/test_study.py",  # a study from its simulation to its table, and again, interrupted
    "test_own_cells.py",  # a page of the docs, with its training
    "test_retrain.py",  # another one
)
"""Tests outside the ten minutes of the suite, `-m apart`; those of PostgreSQL are marked where they ask for it."""


DEAR = (
    "test_privacy.py",
    "studies/test_crossfit.py",
    "cli/test_killed.py",
    "train/test_segmenter_training.py",
    "cli/test_predict.py",
    "train/test_plasma.py",
    "train/test_determinism.py",
    "train/test_views.py",
    "studies/test_error_rates.py",
    "studies/test_prediction_speed.py",
    "studies/reproduce/test_measure.py",
    "test_predict.py",
    "test_export.py",
    "test_fit.py",
    "test_docs.py",
    "cluster/test_stored_runs.py",
    "report/test_pdf.py",
    "review/test_killed.py",
    "bundle/test_golden_process.py",
)
"""Files that take half a minute and more. They begin, so that the last one is not alone on one of two cores."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands apart, and put the dear files first."""
    here = Path(__file__).parent
    places = tuple(str(here / name) for name in APART)
    for item in items:
        if str(item.path).startswith(places):
            item.add_marker("apart")
    dear = {here / name: rank for rank, name in enumerate(DEAR)}
    items.sort(key=lambda item: dear.get(item.path, len(dear)))


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's sight: it stays to the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Let the system write when it will: thousands of files are flushed in tests, and none cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session")
def packs_dir() -> Path:
    """Folder of the real-image packs: $MARROWSCOPE_PACKS, else shared/data beside the checkout; skips without it."""
    given = os.environ.get("MARROWSCOPE_PACKS")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data packs at {folder}; set MARROWSCOPE_PACKS to their folder")
    return folder


TWO_PATIENTS = (Patient("P1", "A", "control", "marrow"), Patient("P2", "B", "AML", "marrow"))


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., FakeRun]:
    """Give a function that writes a run of ``patients`` (default two) and gives where it lies."""

    def make(patients: list[Patient] | None = None, **options: int) -> FakeRun:
        return make_run(tmp_path, patients or list(TWO_PATIENTS), **options)

    return make
