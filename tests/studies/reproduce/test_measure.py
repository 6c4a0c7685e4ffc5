from __future__ import annotations

import math
from dataclasses import asdict

import pytest

pytest.importorskip("torch")

from marrowscope.studies.reproduce import measure
from marrowscope.studies.reproduce.measure import measure_rates
from marrowscope.train import stage as training_stage
from tests.reproduce_presets import MACHINE, TINY


def test_every_kind_of_work_has_a_rate() -> None:
    rates = asdict(measure_rates(TINY, MACHINE))
    assert rates.pop("window_s") is None  # the shipped segmenter is not trained
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
    assert 7 <= rates["cells_per_field"] <= 11


def test_a_device_whose_losses_are_read_at_every_twentieth_step_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training_stage.STEPS_BETWEEN_READS, "cpu", 20)
    monkeypatch.setitem(measure._STEPS, "cpu", 80)
    seldom_saved = TINY.model_copy(
        update={"classifier": TINY.classifier.model_copy(update={"checkpoint_every_steps": 50})}
    )
    rate = measure_rates(seldom_saved, MACHINE).train_crops_per_s
    assert math.isfinite(rate)
    assert rate > 0
