from __future__ import annotations

from dataclasses import replace

import pytest

from marrowscope.studies.reproduce import PRESETS
from marrowscope.studies.reproduce.plan import make_plan
from tests.reproduce_presets import MACHINE, RATES, TINY


def test_rates_times_numbers() -> None:
    plan = make_plan(TINY, RATES, MACHINE)
    seconds = {step.key: step.seconds for step in plan.steps}
    assert seconds["simulate"] == 9 * 2.0
    assert seconds["prepare"] == 9 * 1.0
    assert seconds["predict"] == 2 * 2 * 3 * 0.5  # the ensemble of two, and each of the two alone, on three fields
    # 120 cells, of which 60 are left out, 12 select and 48 train, in two stages of one epoch, in each of two folds
    assert seconds["crossfit"] == pytest.approx(2 * (2 * 48 + (2 * 12 + 60) / 3) / 100)
    assert plan.seconds == pytest.approx(sum(seconds.values()))
    assert plan.disk_gb == pytest.approx((2 * 180 * 4 * 136**2 + 9 * 0.2 * 640 * 480) / 1e9)


def test_more_processes_simulate_faster_and_an_epoch_limit_shortens_training() -> None:
    four = make_plan(TINY, RATES, replace(MACHINE, workers=4))
    assert four.steps[0].seconds == 9 * 2.0 / 4
    limited = TINY.model_copy(update={"classifier": TINY.classifier.model_copy(update={"epoch_crops": 10})})
    crossfit = next(step for step in make_plan(limited, RATES, MACHINE).steps if step.key == "crossfit")
    assert crossfit.seconds == pytest.approx(2 * (2 * 10 + (2 * 12 + 60) / 3) / 100)


def test_what_is_done_is_no_longer_left() -> None:
    plan = make_plan(TINY, RATES, MACHINE)
    assert plan.seconds_left(set()) == pytest.approx(plan.seconds)
    assert plan.seconds_left({"simulate-S1", "simulate-S2"}) == pytest.approx(plan.seconds - 18.0 * 2 / 6)
    done = {f"{step.key}-{part}" for step in plan.steps for part in range(step.parts)}
    assert plan.seconds_left(done) == 0


def test_the_paper_preset_plans_a_segmenter() -> None:
    plan = make_plan(PRESETS["paper"], replace(RATES, window_s=0.1), MACHINE)
    segmenter = next(step for step in plan.steps if step.key == "segmenter")
    assert segmenter.seconds == pytest.approx(20 * (1500 + 64 / 2) * 0.1)
    assert "segmenter" in [step["step"] for step in plan.as_json()["steps"]]
    assert "segmenter" not in [step.key for step in make_plan(PRESETS["quick"], RATES, MACHINE).steps]
