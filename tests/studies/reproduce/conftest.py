"""One finished study of nine simulated patients, that several tests look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reproduce_presets import TINY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a study that ran to its end; a test that writes works on a copy."""
    pytest.importorskip("torch")
    from marrowscope.studies.reproduce import study
    from tests.reproduce_presets import MACHINE, RATES

    out = tmp_path_factory.mktemp("reproduce") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "measure_rates", lambda *_: RATES)
        study.reproduce(out, TINY, MACHINE)
    return out
