"""McNemar's exact test: whether two sets of paired decisions are wrong equally often."""

from __future__ import annotations

from scipy.stats import binom


def mcnemar_exact(only_a_right: int, only_b_right: int) -> float:
    """Two-sided p that A and B are right equally often, from the pairs in which exactly one of them is right.

    Under equality each such pair is a fair coin, so p is twice the smaller binomial tail, at most 1 (McNemar,
    Psychometrika 1947;12:153; exact form). Without such a pair p is 1: the decisions do not tell A from B.
    Raises ValueError for a negative number.
    """
    if min(only_a_right, only_b_right) < 0:
        message = f"found {only_a_right} and {only_b_right} pairs, expected numbers of at least 0"
        raise ValueError(message)
    n = only_a_right + only_b_right
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(only_a_right, only_b_right), n, 0.5)))
