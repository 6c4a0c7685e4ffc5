"""Looks at a growing audit: three of them, each at its own level, and what the next one would change."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.review.audit import CBLC, LOOKS, OTHER, Audit, FrameCell, count_answers, draw_audit
from marrowscope.review.audited_ratio import audit_interval
from marrowscope.review.looks import LOOK_LEVEL, take_look


def audited(n: int, *, ratio: float, reviewed: int = 0) -> tuple[Audit, dict[str, int]]:
    rng = np.random.default_rng(0)
    is_cblc = rng.random(n) < ratio
    p = np.where(is_cblc, rng.beta(5, 1, n), rng.beta(1, 5, n))
    frame = [
        FrameCell(f"c{i}", bool(p[i] >= 0.5), called_countable=True, p_cblc=p[i], reviewed=i < reviewed)
        for i in range(n)
    ]
    return draw_audit(frame, "s"), {f"c{i}": CBLC if is_cblc[i] else OTHER for i in range(n)}


def test_three_looks_together_keep_the_level() -> None:
    assert LOOKS == (50, 100, 200)
    assert 1 - len(LOOKS) * (1 - LOOK_LEVEL) == pytest.approx(0.95)


def test_a_look_is_the_audit_at_its_own_level() -> None:
    audit, sides = audited(500, ratio=0.3)
    counts = count_answers(audit, sides, 0)
    look = take_look(audit, counts, 0, seed=5)
    assert look.ratio == audit_interval(counts, level=LOOK_LEVEL, seed=5)
    usual = audit_interval(counts, seed=5).fields
    assert look.ratio.fields.upper - look.ratio.fields.lower > usual.upper - usual.lower
    assert look == take_look(audit, counts, 0, seed=5)


@pytest.mark.parametrize(
    ("threshold", "advice"), [(None, "narrower"), (0.95, "separated"), ("estimate", "unlikely_to_separate")]
)
def test_advice_says_what_more_cells_would_change(threshold: float | str | None, advice: str) -> None:
    audit, sides = audited(500, ratio=0.3, reviewed=20)
    counts = count_answers(audit, sides, 0)
    value = audit_interval(counts).fields.estimate if isinstance(threshold, str) else threshold
    look = take_look(audit, counts, 0, threshold=value)
    assert look.advice == advice
    assert look.next is not None
    assert look.next.n_more == 50
    assert look.next.width_then < look.next.width_now
    assert (look.next.chance_to_separate is None) == (threshold is None)


def test_a_threshold_just_outside_is_worth_more_cells() -> None:
    audit, sides = audited(500, ratio=0.3)
    counts = count_answers(audit, sides, 0)
    edge = take_look(audit, counts, 0).ratio.fields.upper
    look = take_look(audit, counts, 0, threshold=edge - 0.001)
    assert look.advice == "more_may_separate"
    assert look.next is not None
    assert look.next.chance_to_separate is not None
    assert look.next.chance_to_separate >= 0.2


def test_the_foreseen_width_is_about_what_comes() -> None:
    audit, sides = audited(500, ratio=0.3)
    foreseen = take_look(audit, count_answers(audit, sides, 0), 0).next
    came = take_look(audit, count_answers(audit, sides, 1), 1).ratio.fields
    assert foreseen is not None
    assert foreseen.width_then == pytest.approx(came.upper - came.lower, rel=0.35)


def test_the_last_look_and_a_patient_seen_in_full_end_it() -> None:
    audit, sides = audited(500, ratio=0.3)
    last = take_look(audit, count_answers(audit, sides, 2), 2, threshold=0.5)
    assert (last.advice, last.next) == ("last_look", None)
    small, all_sides = audited(80, ratio=0.3)
    assert small.sizes == (50, 80)
    assert take_look(small, count_answers(small, all_sides, 1), 1).advice == "all_named"
