from __future__ import annotations

import math
from dataclasses import asdict

import pytest

pytest.importorskip("torch")

from marrowscope.reproduce.measure import measure_rates
from tests.reproduce_presets import MACHINE, TINY


def test_every_kind_of_work_has_a_rate() -> None:
    rates = asdict(measure_rates(TINY, MACHINE))
    assert rates.pop("window_s") is None  # the shipped segmenter is not trained
    assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
    assert 7 <= rates["cells_per_field"] <= 11
