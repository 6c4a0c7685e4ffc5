"""The ratio of a patient whose every cell was named: x of n, with no correction for a classifier.

Two intervals, never mixed: one takes the cells as independent draws ("these fields"), the other the fields as a sample
of the smear. Neither knows of dilution or of how the fields were chosen.

Beside it: what reviewing some cells does not change, and how far a review has come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marrowscope.records import Interval
from marrowscope.review.audit import CBLC, OTHER
from marrowscope.review.audited_ratio import (
    N_DRAWS,
    PSEUDO_COUNTS,
    AuditedRatio,
    RatioInterval,
    draw_smear,
    share,
)
from marrowscope.statistics.clusters import share_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from marrowscope.review.audit import AuditCounts, FrameCell
    from marrowscope.review.missed_fields import CheckedFields

RealArray = NDArray[np.float64]

WANTED_CELLS = 500
"""Nucleated cells of a differential count (Lee et al., ICSH guidelines, Int J Lab Hematol 2008;30:349)."""

WANTED_SMEARS = 2
"""Smears to spread them over, by the same guidelines."""


@dataclass(frozen=True, slots=True)
class FullReview:
    """x CBLC of n countable cells, all named by eye, those that were added in checked fields included.

    With checked fields that leave others unchecked, the estimate is that of all fields and may differ from x / n; it is
    x / n wherever every field, or none, was checked. ``found_cells_only``: none was.
    """

    x: int
    n: int
    fields: Interval
    smear: Interval
    level: float
    found_cells_only: bool


@dataclass(frozen=True, slots=True)
class MachineCount:
    """The machine's x of n, and the same with the readers' corrections so far.

    ``is_estimate`` is never true of the corrected count: readers look at the cells they doubt, so it is no estimate of
    the ratio until a random audit or a full review is done.
    """

    x: int
    n: int
    corrected_x: int
    corrected_n: int
    n_reviewed: int
    n_cells: int

    @property
    def is_estimate(self) -> bool:
        """Whether the corrected count may stand for the ratio: only where every cell was named."""
        return self.n_reviewed == self.n_cells


@dataclass(frozen=True, slots=True)
class CategoryShare:
    """A category's named cells, and its share of them."""

    category: str
    x: int
    share: Interval


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a differential count has come: n of 500 cells, on how many of two smears, None where unknown."""

    n: int
    wanted: int
    n_smears: int | None
    wanted_smears: int
    categories: tuple[CategoryShare, ...]


def full_review_interval(
    x: int,
    n: int,
    *,
    level: float = 0.95,
    effect: float = 1.0,
    missed: CheckedFields | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> FullReview:
    """Give x of n with its sampling interval, Jeffreys', with n independent cells and with n / ``effect`` of them.

    x and n are found cells; those of ``missed`` are added to them. With checked fields that leave others unchecked, the
    missed cells are drawn and both intervals are those of the draws. Raises ValueError unless 0 <= x <= n.
    """
    if not 0 <= x <= n:
        message = f"found a reviewed ratio of x={x} among n={n}, expected 0 <= x <= n"
        raise ValueError(message)
    if missed is None:
        fields, smear = (share_interval(x, n, d, level) for d in (1.0, effect))
        return FullReview(x, n, fields, smear, level, found_cells_only=True)
    rng = np.random.default_rng(seed)
    found = np.array([x, n - x, 0])
    point = missed.expanded + found
    estimate = float(share(point[CBLC], point[CBLC] + point[OTHER]))
    intervals = []
    for d in (1.0, effect):
        draws = []
        for end in PSEUDO_COUNTS:
            totals = missed.draw(n_draws, rng, end) + found[:2]
            n_drawn = totals.sum(axis=-1)
            draws.append(draw_smear(share(totals[:, 0], n_drawn), n_drawn, d, rng))
        intervals.append(_two_sided(draws[0], draws[1], estimate, level))
    added = missed.added.sum(axis=0)
    x, n = x + int(added[CBLC]), n + int(added.sum())
    return FullReview(x, n, intervals[0], intervals[1], level, found_cells_only=False)


def census_ratio(
    counts: AuditCounts, *, level: float, effect: float = 1.0, missed: CheckedFields | None = None
) -> AuditedRatio:
    """Give the ratio of an audit that ended in naming every cell: a full review's x of n and its sampling interval.

    The audit's own interval is about cells that nobody named; with none of them it would have no width at all, beside
    a full review of the same names that has one.
    """
    totals = counts.named.sum(axis=0)
    found = full_review_interval(
        int(totals[CBLC]), int(totals[CBLC] + totals[OTHER]), level=level, effect=effect, missed=missed
    )
    fields, smear = (
        RatioInterval(given.estimate, given.lower, given.upper, level) for given in (found.fields, found.smear)
    )
    n_named, n_cells = int(counts.named.sum()), int(counts.n_cells.sum())
    return AuditedRatio(fields, smear, n_named, n_cells, found.found_cells_only, found.x, found.n)


def _two_sided(draws_lower: RealArray, draws_upper: RealArray, estimate: float, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = (draws[np.isfinite(draws)] for draws in (draws_lower, draws_upper))
    if not (len(low) and len(high) and np.isfinite(estimate)):
        return Interval(float("nan"), 0.0, 1.0)
    lower, upper = float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))
    return Interval(
        estimate, 0.0 if estimate == 0 else min(lower, estimate), 1.0 if estimate == 1 else max(upper, estimate)
    )


def machine_count(frame: Iterable[FrameCell], sides: Mapping[str, int]) -> MachineCount:
    """Count the machine's calls, and the calls with the named cells (``sides`` by cell id) in the place of theirs."""
    x = n = corrected_x = corrected_n = reviewed = cells = 0
    for cell in frame:
        cells += 1
        n += cell.called_countable
        x += cell.called_countable and cell.called_cblc
        side = sides.get(cell.cell_id)
        if side is None:
            corrected_n += cell.called_countable
            corrected_x += cell.called_countable and cell.called_cblc
            continue
        reviewed += 1
        corrected_n += side in {CBLC, OTHER}
        corrected_x += side == CBLC
    return MachineCount(x, n, corrected_x, corrected_n, reviewed, cells)


def review_progress(
    counts: Mapping[str, int], n_smears: int | None, *, level: float = 0.95, effect: float = 1.0
) -> Progress:
    """Give each category's share of the named cells with its interval; ``counts`` are cells of the differential."""
    n = sum(counts.values())
    shares = tuple(CategoryShare(name, x, share_interval(x, n, effect, level)) for name, x in counts.items())
    return Progress(n, WANTED_CELLS, n_smears, WANTED_SMEARS, shares)
