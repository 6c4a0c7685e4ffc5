"""When a growing audit may be looked at, and what more cells would change.

A reader who looks after every few cells and stops where the interval pleases has no 95% interval any more. Three looks
are allowed, at 50, 100 and 200 cells, each at level 1 - 0.05 / 3: all three hold together at least 95 times in 100
(Bonferroni), wherever the reader stops and for whatever reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from marrowscope.review.audit import LOOKS, N_SIDES, AuditCounts
from marrowscope.review.audited_ratio import PSEUDO_COUNTS, AuditedRatio, audit_interval

if TYPE_CHECKING:
    from marrowscope.review.audit import Audit

LOOK_LEVEL = 1 - 0.05 / len(LOOKS)
_FUTURES = 40
_FUTURE_DRAWS = 1000

Advice = Literal["all_named", "last_look", "separated", "unlikely_to_separate", "more_may_separate", "narrower"]


@dataclass(frozen=True, slots=True)
class NextLook:
    """What the next look is expected to bring: cells to name, width of the interval now and then (means over futures).

    ``chance_to_separate`` is the share of futures whose interval lies on one side of the threshold; None without one.
    """

    n_more: int
    width_now: float
    width_then: float
    chance_to_separate: float | None


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the ratio at the look's own level, whether to go on, and what that would change.

    ``advice`` is a key: ``all_named`` and ``last_look`` end the audit; ``separated``: the interval lies on one side of
    the threshold; ``unlikely_to_separate`` and ``more_may_separate`` say whether the next look would do so in at least
    one future of five; ``narrower``: without a threshold, only the width is at stake.
    """

    number: int
    ratio: AuditedRatio
    advice: Advice
    next: NextLook | None


def take_look(
    audit: Audit, counts: AuditCounts, look: int, *, threshold: float | None = None, effect: float = 1.0, seed: int = 0
) -> Look:
    """Estimate the ratio at one look of an audit, and foresee the next one.

    ``counts`` are the answers of that look (``audit.count_answers``). ``threshold`` must be one that was learned on
    reviewed ratios: one learned on counted or corrected ratios carries the classifier's errors in it. The future is
    drawn from what the answers so far say about unnamed cells.
    """
    ratio = audit_interval(counts, level=LOOK_LEVEL, effect=effect, seed=seed)
    if not (counts.n_cells - counts.n_named).any():
        return Look(look, ratio, "all_named", None)
    if look + 1 >= len(audit.sizes):
        return Look(look, ratio, "last_look", None)
    following = _foresee(audit, counts, look, ratio, threshold=threshold, seed=seed)
    if threshold is None:
        advice: Advice = "narrower"
    elif ratio.fields.separates(threshold):
        advice = "separated"
    else:
        enough = (following.chance_to_separate or 0.0) >= 0.2  # noqa: PLR2004
        advice = "more_may_separate" if enough else "unlikely_to_separate"
    return Look(look, ratio, advice, following)


def _foresee(
    audit: Audit, counts: AuditCounts, look: int, ratio: AuditedRatio, *, threshold: float | None, seed: int
) -> NextLook:
    rng = np.random.default_rng([seed, look])
    more = np.array([stratum.n_by_look[look + 1] - stratum.n_by_look[look] for stratum in audit.strata], dtype=np.int64)
    if audit.reviewed:
        more = np.concatenate([[0], more])
    pseudo = np.mean(list(PSEUDO_COUNTS.values()), axis=0) / len(counts.n_cells)
    widths, separated = [], 0
    for number in range(_FUTURES):
        shares = rng.standard_gamma(counts.named + pseudo)
        shares /= shares.sum(axis=-1, keepdims=True)
        answers = rng.multinomial(more, shares).reshape(-1, N_SIDES)
        then = AuditCounts(counts.n_cells, counts.named + answers)
        future = audit_interval(then, level=LOOK_LEVEL, n_draws=_FUTURE_DRAWS, seed=seed + number).fields
        widths.append(future.upper - future.lower)
        separated += threshold is not None and future.separates(threshold)
    return NextLook(
        n_more=int(more.sum()),
        width_now=ratio.fields.upper - ratio.fields.lower,
        width_then=float(np.mean(widths)),
        chance_to_separate=None if threshold is None else separated / _FUTURES,
    )
