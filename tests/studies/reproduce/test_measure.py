from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from marrowscope.studies.reproduce import measure
from marrowscope.studies.reproduce.measure import measure_rates
from marrowscope.train import stage as training_stage
from tests.crop_sets import write_crop_set
from tests.reproduce_presets import MACHINE, TINY

if TYPE_CHECKING:
    from pathlib import Path


def test_every_kind_of_work_has_a_rate() -> None:
    rates = asdict(measure_rates(TINY, MACHINE))
    assert rates.pop("window_s") is None  # the shipped segmenter is not trained
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
    assert 7 <= rates["cells_per_field"] <= 11


def test_a_device_whose_losses_are_read_at_every_twentieth_step_has_a_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_crop_set(tmp_path / "crops", patients=2)
    monkeypatch.setitem(training_stage.STEPS_BETWEEN_READS, "cpu", 20)
    monkeypatch.setitem(measure._STEPS, "cpu", 80)
    seldom_saved = TINY.classifier.model_copy(update={"checkpoint_every_steps": 50})
    rate = measure._training_rate(seldom_saved, tmp_path, MACHINE)
    assert math.isfinite(rate)
    assert rate > 0
