from __future__ import annotations

import math

import numpy as np
import pytest

from marrowscope.statistics.net_benefit import net_benefit


def test_net_benefit_by_hand() -> None:
    """Of 100 patients, 30 true and 10 false positives: at a risk of 20%, four false ones cost as much as one true."""
    found = net_benefit(np.array([30.0]), np.array([10.0]), np.array([100.0]), np.array([0.2, 0.5]))
    assert found.tolist() == [pytest.approx([0.30 - 0.10 / 4, 0.30 - 0.10])]


def test_treating_everyone_is_worth_nothing_where_the_risk_is_the_prevalence() -> None:
    """There treating everyone equals treating no one (Vickers and Elkin 2006)."""
    found = net_benefit(np.array([40.0]), np.array([60.0]), np.array([100.0]), np.array([0.3, 0.4, 0.5]))
    assert found[0, 1] == pytest.approx(0)
    assert found[0, 0] > 0 > found[0, 2]


def test_without_patients_there_is_none() -> None:
    assert math.isnan(net_benefit(np.zeros(1), np.zeros(1), np.zeros(1), np.array([0.5]))[0, 0])
