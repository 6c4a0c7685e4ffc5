"""The script that measures an external center: calibration, and figures that a hand can check."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from benchmarks.external_center import countable_cells, differences, measure, recalibration
from marrowscope.evaluate.frames import EXPERT_COLUMNS, RATIO_COLUMNS


def test_recalibration_finds_the_distortion_of_the_logits() -> None:
    """Probabilities whose logits were doubled and shifted by 1 need slope 1/2 and intercept -1/2."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 40_000)
    truth = rng.random(len(logit)) < 1 / (1 + np.exp(-logit))
    slope, intercept = recalibration(1 / (1 + np.exp(-(2 * logit + 1))), truth)
    assert slope == pytest.approx(0.5, abs=0.02)
    assert intercept == pytest.approx(-0.5, abs=0.03)


def _linked(called: list[int | None]) -> SimpleNamespace:
    """Two patients with three cells each, CBLC yes, yes, no; ``called`` are the calls, None for a missed cell."""
    rows = [
        dict.fromkeys(EXPERT_COLUMNS)
        | {"patient_id": f"P{index // 3}", "field_id": f"F{index // 3}", "shape_index": index, "code": "N"}
        | {"category": 1, "cblc": index % 3 < 2, "countable": True, "cut": False, "found": call is not None}
        | {"predicted_cblc": call, "predicted_category": 1 if call else 2, "p_cblc": 0.9 if call else 0.1}
        for index, call in enumerate(called)
    ]
    ratios = [
        dict.fromkeys(RATIO_COLUMNS) | {"patient_id": f"P{k}", "true_ratio": 2 / 3, "predicted_ratio": ratio}
        for k, ratio in enumerate((0.5, 1.0))
    ]
    return SimpleNamespace(
        expert=pl.DataFrame(rows, schema=EXPERT_COLUMNS), ratios=pl.DataFrame(ratios, schema=RATIO_COLUMNS)
    )


def test_figures_are_those_worked_out_by_hand() -> None:
    linked = _linked([1, 0, 0, 1, None, 1])
    figures = measure(linked, 16, resamples=20)  # type: ignore[arg-type]
    assert (figures["n_cells"], figures["n_found"]) == (6, 5)
    # Found: true 1 1 0 1 0, called 1 0 0 1 1, so two hits, one false alarm, one miss.
    assert figures["f1"][0] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    # The missed cell is a CBLC, so one more miss.
    assert figures["f1_misses_wrong"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert figures["ratio_mae"] == pytest.approx((1 / 6 + 1 / 3) / 2)
    assert figures["by_code"][0]["called_cblc"] == pytest.approx(3 / 6)


def test_a_run_differs_from_itself_in_nothing() -> None:
    linked = _linked([1, 0, 0, 1, None, 1])
    assert len(countable_cells(linked)) == 6  # type: ignore[arg-type]
    for name, value in differences(linked, linked, 16, resamples=20).items():  # type: ignore[arg-type]
        if name != "n_cells":
            assert value[0] == pytest.approx(0), name
