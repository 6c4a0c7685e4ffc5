"""The proof of the audit's interval simulates what it says, and uses the package's own construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.audit_coverage import (
    CONFUSION,
    Patients,
    audit,
    estimate_of,
    is_held,
    make_cells,
    sizes_of,
    wald,
)
from marrowscope.review.audit import AuditCounts
from marrowscope.review.audited_ratio import audit_interval

BLOOD = CONFUSION["default bundle, blood"]


def test_patients_have_the_stated_ratio_and_calls_that_err_as_the_table_does() -> None:
    patients = make_cells(np.random.default_rng(0), BLOOD, 0.2, 500, 2000)
    assert patients.truth == 96 / 480
    assert np.all(patients.cells.sum(axis=2) == [96, 384, 20])
    assert patients.cells[:, 0].mean(axis=0) / 96 == pytest.approx(BLOOD[0] / BLOOD[0].sum(), abs=0.01)


def test_an_audit_names_whole_cells_that_are_there_and_grows() -> None:
    rng = np.random.default_rng(1)
    patients = make_cells(rng, BLOOD, 0.2, 300, 200)
    small = audit(rng, patients, 50)
    large = audit(rng, small, 100)
    assert np.all(small.named.sum(axis=(1, 2)) == 50)
    assert np.all(large.named >= small.named)
    assert np.all(large.named <= np.moveaxis(large.cells, 1, 2))


def test_the_sample_is_a_simple_random_one() -> None:
    rng = np.random.default_rng(2)
    cells = np.zeros((5000, 3, 5), dtype=np.int64)
    cells[:, :, 0] = [30, 60, 10]
    named = audit(rng, Patients(cells, np.zeros((5000, 5, 3), dtype=np.int64), 0.3), 20).named[:, 0]
    assert named.mean(axis=0) == pytest.approx([6, 12, 2], rel=0.03)
    assert named[:, 0].var() == pytest.approx(20 * 0.3 * 0.7 * 80 / 99, rel=0.1)


def test_held_is_what_the_packages_interval_says() -> None:
    rng = np.random.default_rng(3)
    patients = audit(rng, make_cells(rng, BLOOD, 0.05, 300, 60), 50)
    n_cells, named = sizes_of(patients), patients.named
    for truth in (0.05, 0.12, 0.3):
        held = is_held(rng, n_cells, named, truth, 0.95)
        of_package = [
            audit_interval(AuditCounts(*pair), n_draws=2000).fields for pair in zip(n_cells, named, strict=True)
        ]
        expected = [ratio.lower <= truth <= ratio.upper for ratio in of_package]
        assert np.mean(held == expected) > 0.9  # limits of few draws differ by a little


def test_wald_is_cochrans_by_hand() -> None:
    """One stratum of 100 cells, 20 named, 5 of them CBLC: the variance of a proportion with its finite population."""
    n_cells, named = np.array([[100]]), np.array([[[5, 15, 0]]])
    half = 1.959963984540054 * math.sqrt(0.8 * 0.25 * 0.75 / 19)
    low, high = wald(n_cells, named)
    assert [low[0], high[0]] == pytest.approx([0.25 - half, 0.25 + half])
    assert estimate_of(n_cells, named)[0] == 0.25
