"""Recalibration of p(CBLC) as figures of an evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.evaluate.catalog import Method
from marrowscope.evaluate.frames import EXPERT_COLUMNS
from marrowscope.evaluate.reliability import calibration_figures
from marrowscope.evaluate.scorer import Scorer
from marrowscope.statistics.recalibration import recalibrate

if TYPE_CHECKING:
    from marrowscope.evaluate import Figure

KEYS = [f"cblc_calibration_{name}_matched" for name in ("slope", "intercept", "in_the_large")]


def cells(cblc: list[bool | None], p: list[float], patients: list[str]) -> pl.DataFrame:
    rows = {"patient_id": patients, "cblc": cblc, "p_cblc": p, "category": [0] * len(p), "p_called": [0.5] * len(p)}
    return pl.DataFrame(rows | {"predicted_category": [0] * len(p)}, schema_overrides=EXPERT_COLUMNS)


def figures(frame: pl.DataFrame) -> dict[str, Figure]:
    scorer = Scorer(sorted(set(frame["patient_id"])), 20, 0)
    return {figure.key: figure for figure in calibration_figures(scorer, frame, 5)[0]}


def test_recalibration_is_clustered_by_patient_and_leaves_open_cells_out() -> None:
    generator = np.random.default_rng(1)
    p = generator.uniform(0.02, 0.98, 60)
    y = generator.random(60) < p
    patients = [f"P{k % 6}" for k in range(60)]
    found = figures(cells([*y.tolist(), None], [*p.tolist(), 0.9], [*patients, "P0"]))
    expected = recalibrate(y, p, np.arange(60) % 6)
    for key, value in zip(KEYS, (expected.slope, expected.intercept, expected.in_the_large), strict=True):
        assert (found[key].value.estimate, found[key].value.lower) == pytest.approx((value.estimate, value.lower))
        assert (found[key].n, found[key].n_patients) == (60, 6)
        assert found[key].kind.method is Method.SANDWICH


def test_a_missing_slope_says_why() -> None:
    found = figures(cells([True, False], [0.9, 0.2], ["P1", "P2"]))
    assert found[KEYS[0]].undefined == "the probabilities separate the two kinds completely, and the slope is infinite"
    assert math.isfinite(found[KEYS[2]].value.estimate)
    found = figures(cells([True, True], [0.9, 0.2], ["P1", "P2"]))
    assert {found[key].undefined for key in KEYS} == {"the cells are all of one kind"}
    nobody = figures(cells([], [], []))
    assert {nobody[key].undefined for key in KEYS} == {"no cells to measure"}
