from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from marrowscope.statistics.mcnemar import mcnemar_exact


@given(st.integers(0, 60), st.integers(0, 60))
def test_p_is_that_of_the_exact_binomial_test(a: int, b: int) -> None:
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected)
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_by_hand() -> None:
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="found -1 and 3 pairs"):
        mcnemar_exact(-1, 3)
