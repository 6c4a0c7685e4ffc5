"""Bland-Altman and the ICC against the tables of their papers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from marrowscope.review.ratio_agreement import bland_altman, intraclass_correlation

# Bland and Altman 1986, table 1: first readings of peak flow by a Wright and by a mini Wright meter, 17 subjects.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Shrout and Fleiss 1979, table 2: four judges, six targets; ICC(2,1) 0.29.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def test_peak_flow_of_bland_and_altman() -> None:
    """The paper: mean -2.1, sd 38.8, interval of the mean -22.0 to 17.8; of a limit 34.5 to either side of it."""
    found = bland_altman(WRIGHT, MINI_WRIGHT)
    assert found.bias.estimate == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert [found.bias.lower, found.bias.upper] == pytest.approx([-22.0, 17.8], abs=0.06)
    # The paper rounds 1.96 to 2 in the limits themselves: -79.7 to 75.5.
    assert found.lower.estimate == pytest.approx(-79.7 + 0.04 * 38.8, abs=0.1)
    assert found.upper.estimate == pytest.approx(75.5 - 0.04 * 38.8, abs=0.1)
    assert found.upper.upper - found.upper.estimate == pytest.approx(110.1 - 75.5, abs=0.2)


def test_readers_who_change_places_change_the_sign() -> None:
    here, there = bland_altman(WRIGHT, MINI_WRIGHT), bland_altman(MINI_WRIGHT, WRIGHT)
    assert here.bias.estimate == pytest.approx(-there.bias.estimate)
    assert here.lower.lower == pytest.approx(-there.upper.upper)
    assert np.array_equal(here.mean, there.mean)


def test_judges_of_shrout_and_fleiss() -> None:
    """0.29 in the paper; 0.019 to 0.761 is what R's psych::ICC prints for its ICC2."""
    found = intraclass_correlation(JUDGES)
    assert [found.estimate, found.lower, found.upper] == pytest.approx([0.2898, 0.0188, 0.7611], abs=5e-5)


def test_mean_squares_worked_by_hand() -> None:
    """Two readers, three patients: BMS 7/6, JMS 1/6, EMS 1/6, so ICC = (7/6 - 1/6) / (7/6 + 1/6 + 0) = 3/4."""
    found = intraclass_correlation(np.array([[0.0, 0.0], [1.0, 0.0], [1.5, 1.5]]))
    rows = [0, 0.5, 1.5]
    bms = 2 * sum((row - 2 / 3) ** 2 for row in rows) / 2
    jms = 3 * sum((column - 2 / 3) ** 2 for column in (2.5 / 3, 0.5)) / 1
    ems = (
        1 + 2.25 * 2 - 2 * sum(row**2 for row in rows) - 3 * sum(c**2 for c in (2.5 / 3, 0.5)) + 6 * (2 / 3) ** 2
    ) / 2
    assert found.estimate == pytest.approx((bms - ems) / (bms + ems + 2 * (jms - ems) / 3))


def test_interval_holds_the_true_correlation() -> None:
    """Patients, readers and errors are normal with variances 4, 0.04 and 1."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        ratios = rng.normal(0, 2, (30, 1)) + rng.normal(0, 0.2, (1, 3)) + rng.normal(0, 1, (30, 3))
        found = intraclass_correlation(ratios)
        held += found.lower <= 4 / 5.04 <= found.upper
    assert 925 <= held <= 980


def test_a_constant_offset_lowers_it_as_no_correlation_would() -> None:
    ratios = np.linspace(0.1, 0.8, 12)
    same = intraclass_correlation(np.stack([ratios, ratios], axis=1))
    offset = intraclass_correlation(np.stack([ratios, ratios + 0.2], axis=1))
    assert same.estimate == pytest.approx(1)
    assert offset.estimate < 0.8


def test_scale_and_origin_do_not_matter() -> None:
    here, there = intraclass_correlation(JUDGES), intraclass_correlation(JUDGES / 100 + 3)
    assert here.estimate == pytest.approx(there.estimate)
    assert here.lower == pytest.approx(there.lower)


def test_ratios_that_do_not_differ_have_none() -> None:
    assert math.isnan(intraclass_correlation(np.full((4, 2), 0.3)).estimate)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 patients and 4 readers, expected at least 3 and 2"):
        intraclass_correlation(JUDGES[:2])
    with pytest.raises(ValueError, match="found 2 and 2 ratios, expected both readers' ratios"):
        bland_altman([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(ValueError, match="found 3 and 4 ratios"):
        bland_altman([0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4])
