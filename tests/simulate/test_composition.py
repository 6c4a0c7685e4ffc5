"""Who the patients are: shares, their ranges, and cells clustering in fields."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.simulate.composition import (
    balanced_differential,
    draw_diagnosis,
    draw_differential,
    draw_field_codes,
)
from marrowscope.simulate.parameters import load_parameters
from marrowscope.vocabulary import load_vocabulary

PARAMETERS = load_parameters()
DIAGNOSES = sorted(PARAMETERS.differentials.diagnosis)


def test_every_code_is_in_the_vocabulary_and_on_its_side() -> None:
    codes = load_vocabulary().codes
    for name, row in PARAMETERS.differentials.diagnosis.items():
        assert all(codes[code].cblc for code in row.positive), name
        assert all(codes[code].countable and not codes[code].cblc for code in row.negative), name
        assert sum(row.positive.values()) == pytest.approx(100, abs=0.6), name
        assert sum(row.negative.values()) == pytest.approx(100, abs=0.6), name
    assert not any(codes[code].countable for code in PARAMETERS.differentials.uncounted)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_share_of_blast_like_cells_stays_in_range(diagnosis: str) -> None:
    rng = np.random.default_rng(4)
    codes = load_vocabulary().codes
    low, high = PARAMETERS.differentials.diagnosis[diagnosis].cblc_share
    drawn = [draw_differential(rng, diagnosis, PARAMETERS) for _ in range(200)]
    shares = np.array([item.cblc_share for item in drawn])
    assert shares.min() >= low
    assert shares.max() <= high
    assert shares.mean() == pytest.approx((low + high) / 2, abs=0.15 * (high - low))
    for item in drawn[:20]:
        assert sum(item.shares.values()) == pytest.approx(1.0)
        counted = sum(share for code, share in item.shares.items() if codes[code].countable)
        blast_like = sum(share for code, share in item.shares.items() if codes[code].cblc)
        assert blast_like / counted == pytest.approx(item.cblc_share)
        assert 0.02 < item.shares["V"] < 0.12


def test_mean_shares_follow_the_table() -> None:
    rng = np.random.default_rng(5)
    drawn = [draw_differential(rng, "control", PARAMETERS) for _ in range(400)]
    myelocytes = np.mean([item.shares["N2"] / sum(v for c, v in item.shares.items() if c != "V") for item in drawn])
    assert myelocytes == pytest.approx(0.115 * (1 - 0.065), rel=0.06)


def test_diagnoses_follow_their_weights() -> None:
    rng = np.random.default_rng(6)
    drawn = [draw_diagnosis(rng, PARAMETERS) for _ in range(4000)]
    assert drawn.count("control") / 4000 == pytest.approx(0.45, abs=0.03)
    assert "ALL_oos" not in drawn
    aml = sum(PARAMETERS.differentials.diagnosis[name].aml for name in drawn) / 4000
    assert aml == pytest.approx(0.35, abs=0.03)


def test_cells_of_a_field_are_correlated_as_stated() -> None:
    """Intra-class correlation of "is code N" between cells of one field, by analysis of variance."""
    rng = np.random.default_rng(7)
    shares, correlation, size = {"N": 0.3, "N2": 0.4, "R2": 0.3}, 0.08, 30
    counts = np.array([list(draw_field_codes(rng, shares, size, correlation)).count("N") for _ in range(3000)])
    p = counts / size
    between = size * p.var(ddof=1)
    within = size / (size - 1) * (p * (1 - p)).mean()
    measured = (between - within) / (between + (size - 1) * within)
    assert measured == pytest.approx(correlation, abs=0.015)
    assert p.mean() == pytest.approx(0.3, abs=0.01)


def test_balanced_cohorts_hold_every_code() -> None:
    shares = balanced_differential(PARAMETERS, "control").shares
    assert set(shares) == set(load_vocabulary().codes)
    assert min(shares.values()) > 0
    assert max(shares.values()) < 0.1
