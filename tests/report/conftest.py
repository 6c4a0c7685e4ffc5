"""A maker of small runs under the test's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from tests.fake_runs import FakeRun, make_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TWO_PATIENTS = (Patient("P1", "A", "control"), Patient("P2", "B", "AML"))


@pytest.fixture
def fake_run(tmp_path: Path) -> Callable[..., FakeRun]:
    """Give a function that writes a run of ``patients`` (default two) and gives where it lies."""

    def make(patients: list[Patient] | None = None, **options: int) -> FakeRun:
        return make_run(tmp_path, patients or list(TWO_PATIENTS), **options)

    return make
