"""The threshold and the call."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.patient.quantify.estimate import RatioEstimate
from marrowscope.patient.quantify.posterior import EDGES, Posterior
from marrowscope.patient.quantify.threshold import StudyThreshold, decide, learn_threshold


def test_threshold_of_separable_groups_is_the_middle_of_the_gap() -> None:
    other, aml = np.linspace(0.0, 0.1, 20), np.linspace(0.3, 0.9, 20)
    found = learn_threshold(np.concatenate([other, aml]), np.repeat([False, True], 20))
    assert found.value == pytest.approx(0.2)
    assert found.separable
    assert (found.sensitivity, found.specificity) == (1.0, 1.0)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower <= found.value <= found.upper


def test_threshold_is_the_smallest_of_the_wanted_specificity() -> None:
    other, aml = np.arange(100) / 100, np.linspace(0.5, 1.0, 30)
    found = learn_threshold(np.concatenate([other, aml]), np.repeat([False, True], [100, 30]))
    assert found.value == pytest.approx(0.94)
    assert found.specificity == 0.95
    below = (other <= found.value - 0.01).mean()
    assert below < 0.95
    assert found.sensitivity == pytest.approx((aml > 0.94).mean())


def test_youden_stands_beside_it() -> None:
    other = np.concatenate([np.full(18, 0.1), np.full(4, 0.9)])
    found = learn_threshold(np.concatenate([other, np.full(20, 0.5)]), np.repeat([False, True], [22, 20]))
    assert found.youden == pytest.approx(0.3)
    assert found.value == 0.9


def test_too_few_patients_give_no_threshold() -> None:
    with pytest.raises(ValueError, match="3 patients with AML and 20 without, expected at least 10"):
        learn_threshold(np.linspace(0, 1, 23), np.repeat([True, False], [3, 20]))


def threshold(value: float = 0.2, lower: float = 0.18, upper: float = 0.22) -> StudyThreshold:
    return StudyThreshold(
        value=value, lower=lower, upper=upper, youden=value, separable=False, sensitivity=None, specificity=None,
        n_aml=0, n_other=0,
    )  # fmt: skip


def estimate(*ratios: float) -> RatioEstimate:
    """Give a posterior that is even over 0.001 around each of the ratios."""
    at = np.sort(ratios)
    below = [np.clip((EDGES - ratio) / 0.001 + 0.5, 0, 1) for ratio in at]
    return RatioEstimate(float(np.median(at)), at[0], at[-1], 1.0, None, Posterior(np.mean(below, axis=0)))


@pytest.mark.parametrize(
    ("draws", "call"),
    [
        (np.full(100, 0.5), "above"),
        (np.full(100, 0.05), "below"),
        (np.repeat([0.1, 0.5], [5, 95]), "above"),
        (np.repeat([0.1, 0.5], [6, 94]), "indeterminate"),
        (np.repeat([0.1, 0.5], [98, 2]), "below"),
        (np.repeat([0.1, 0.5], [97, 3]), "indeterminate"),
    ],
)
def test_call_follows_the_confidence(draws: np.ndarray, call: str) -> None:
    found = decide(estimate(*draws), 200, 10, lymphoid_share=0.1, threshold=threshold())
    assert (found.call, found.reason) == (call, None)
    assert found.confidence == pytest.approx((draws > 0.2).mean())


@pytest.mark.parametrize(("n", "fields", "reason"), [(99, 20, "few_cells"), (100, 4, "few_fields")])
def test_few_cells_or_fields_give_no_call(n: int, fields: int, reason: str) -> None:
    found = decide(estimate(0.9), n, fields, lymphoid_share=0.0, threshold=threshold())
    assert (found.call, found.reason) == ("no_call", reason)


def test_without_a_corrected_ratio_there_is_no_call() -> None:
    nothing = RatioEstimate(np.nan, np.nan, np.nan, 1.0, "rates_too_close", None)
    found = decide(nothing, 200, 10, lymphoid_share=0.0, threshold=threshold())
    assert (found.call, found.reason, found.confidence) == ("no_call", "rates_too_close", None)


def test_below_is_withheld_above_thirty_percent_lymphoid_cells() -> None:
    below, above = estimate(*[0.01] * 50), estimate(*[0.9] * 50)
    assert decide(below, 200, 10, lymphoid_share=0.31, threshold=threshold()).call == "withheld"
    assert decide(below, 200, 10, lymphoid_share=0.30, threshold=threshold()).call == "below"
    assert decide(above, 200, 10, lymphoid_share=0.90, threshold=threshold()).call == "above"


def test_call_that_changes_within_the_thresholds_interval_says_so() -> None:
    near = estimate(*np.full(100, 0.21))
    assert decide(near, 200, 10, lymphoid_share=0.0, threshold=threshold()).depends_on_threshold
    far = estimate(*np.full(100, 0.6))
    assert not decide(far, 200, 10, lymphoid_share=0.0, threshold=threshold()).depends_on_threshold
