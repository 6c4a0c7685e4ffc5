"""The ratio of a patient whose cells were audited: draws of what the cells that nobody named may be.

In each stratum the cells drawn are a simple random sample of its cells, so its unnamed cells are drawn from a
Dirichlet-multinomial: N_h - n_h cells, weights of the counts plus a pseudo-count over {CBLC, other countable, not
countable} (Ericson, J R Stat Soc B 1969;31:195). In each draw, ratio = CBLC of all strata / countable cells of all
strata. Strata seen in full add no spread, so an audit of every cell ends in the plain count.

**Pseudo-counts** are the patient's, not each stratum's: one and a half in all, shared evenly by the H strata with
unnamed cells. Half a count goes to *not countable*. The other one goes to CBLC for the upper limit and to *other
countable* for the lower one: the strata may hold one cell more of either than was seen. With one stratum these are
Clopper's and Pearson's limits, and Jeffreys' lie between them; sharing the count among strata is what Tiwari, Clegg and
Zou (Stat Methods Med Res 2006;15:547) do for weighted sums of rates after Fay and Feuer (Stat Med 1997;16:791). Half a
count of each class in every stratum, the first construction, moves all strata towards the middle at once, and fails
where the ratio is near 5 or 95% (docs/log/review.md).

The point is the stratified estimate, sum N_h p_h / sum N_h c_h with the shares of the sample: no prior in it.

Invariant: only the audit's own counts and the size of the frame enter. The machine's calls decide who is drawn how
often, never the result; a bad classifier makes the interval wide, not wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from marrowscope.review.audit import CBLC, N_SIDES, OTHER

if TYPE_CHECKING:
    from marrowscope.review.audit import AuditCounts
    from marrowscope.review.missed_fields import CheckedFields

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]
Limits = Literal["both", "upper", "lower"]
End = Literal["lower", "upper"]

PSEUDO_COUNTS: dict[End, tuple[float, float, float]] = {"lower": (0.0, 1.0, 0.5), "upper": (1.0, 0.0, 0.5)}
"""Pseudo-counts of {CBLC, other countable, not countable} for each end of the interval, shared by the open strata."""

N_DRAWS = 4000
ONE_SIDED_BELOW = 0.05
"""Below this estimate an upper limit alone is given, above its mirror a lower one: no one asks if 1% is above 0."""


@dataclass(frozen=True, slots=True)
class RatioInterval:
    """A ratio, 0-1, with its limits. ``limits`` says which of them are meant: the other one is then 0 or 1.

    The estimate is NaN and the limits are 0 and 1 where no countable cell is left.
    """

    estimate: float
    lower: float
    upper: float
    level: float
    limits: Limits = "both"

    def separates(self, threshold: float) -> bool:
        """Whether the interval lies wholly on one side of a threshold."""
        return self.upper < threshold or self.lower > threshold


@dataclass(frozen=True, slots=True)
class AuditedRatio:
    """What an audit says of the cells of these fields, and of the smear that they are a sample of.

    ``found_cells_only``: no field was checked for cells that the machine missed. ``n_named`` of ``n_cells`` were seen,
    those named before the audit included. ``x`` of ``n`` countable cells is there only where every cell was named.
    """

    fields: RatioInterval
    smear: RatioInterval
    n_named: int
    n_cells: int
    found_cells_only: bool
    x: int | None = None
    n: int | None = None


def audit_interval(
    counts: AuditCounts,
    *,
    level: float = 0.95,
    effect: float = 1.0,
    missed: CheckedFields | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> AuditedRatio:
    """Estimate the ratio of an audited patient.

    ``effect`` is the design effect of cells within fields (``statistics.clusters.design_effect``) for the smear;
    ``missed`` are fields that were checked whole (``missed_fields``). The same seed gives the same limits.
    """
    rng = np.random.default_rng(seed)
    point = expand(counts.n_cells, counts.named)
    if missed is not None:
        point = point + missed.expanded
    estimate = float(share(point[CBLC], point[CBLC] + point[OTHER]))
    in_fields, in_smear = {}, {}
    for end in PSEUDO_COUNTS:
        totals = draw_totals(counts.n_cells, counts.named, n_draws, rng, end)
        if missed is not None:
            totals = totals + missed.draw(n_draws, rng, end)
        in_fields[end] = share(totals[..., 0], totals.sum(axis=-1))
        in_smear[end] = draw_smear(in_fields[end], totals.sum(axis=-1), effect, rng)
    return AuditedRatio(
        fields=interval_of(in_fields["lower"], in_fields["upper"], estimate, level),
        smear=interval_of(in_smear["lower"], in_smear["upper"], estimate, level),
        n_named=int(counts.named.sum()),
        n_cells=int(counts.n_cells.sum()),
        found_cells_only=missed is None,
    )


def draw_totals(n_cells: IntArray, named: IntArray, n_draws: int, rng: np.random.Generator, end: End) -> RealArray:
    """Draw the patient's cells (..., d, 2): CBLC and other countable ones, named and unnamed, for one end.

    ``n_cells`` is (..., H) and ``named`` (..., H, 3), for many patients at once.
    """
    n_cells, named = np.asarray(n_cells), np.asarray(named)
    is_open = n_cells > named.sum(axis=-1)
    pseudo = np.array(PSEUDO_COUNTS[end]) / np.maximum(is_open.sum(axis=-1), 1)[..., None]
    totals = np.zeros((*n_cells.shape[:-1], n_draws, 2))
    for h in range(n_cells.shape[-1]):
        counts = named[..., h, :]
        totals += counts[..., None, :2]
        if not is_open[..., h].any():
            continue
        n_open = (n_cells[..., h] - counts.sum(axis=-1))[..., None]
        weights = counts + pseudo
        cblc, other, neither = (rng.standard_gamma(weights[..., k, None], totals.shape[:-1]) for k in range(N_SIDES))
        countable = np.maximum(cblc + other, np.finfo(np.float64).tiny)
        n_countable = rng.binomial(n_open, countable / (countable + neither))
        n_cblc = rng.binomial(n_countable, np.minimum(cblc / countable, 1.0))
        totals[..., 0] += n_cblc
        totals[..., 1] += n_countable - n_cblc
    return totals


def expand(n_cells: IntArray, named: IntArray) -> RealArray:
    """Expand the answers to cells of each side (..., 3) of the whole frame: each stratum's shares times its size.

    A stratum of which no cell was named adds nothing.
    """
    n_named = np.asarray(named).sum(axis=-1)
    weight = np.asarray(n_cells) / np.maximum(n_named, 1)
    return np.asarray((named * weight[..., None]).sum(axis=-2), dtype=np.float64)


def draw_smear(ratios: RealArray, n_countable: RealArray, effect: float, rng: np.random.Generator) -> RealArray:
    """Draw the ratio of the smear for each draw of that of these fields: its cells count as n / ``effect``.

    The same Beta as for a share of counted cells (``statistics.clusters.share_interval``). NaN stays NaN.
    """
    effective = np.maximum(n_countable, 1.0) / effect
    known = np.nan_to_num(ratios, nan=0.5)
    drawn = rng.beta(known * effective + 0.5, (1 - known) * effective + 0.5)
    return np.asarray(np.where(np.isnan(ratios), np.nan, drawn), dtype=np.float64)


def interval_of(draws_lower: RealArray, draws_upper: RealArray, estimate: float, level: float) -> RatioInterval:
    """Interval of one patient from the draws (d,) of each end; those without a countable cell are NaN."""
    low, high = (draws[np.isfinite(draws)] for draws in (draws_lower, draws_upper))
    if not (len(low) and len(high) and np.isfinite(estimate)):
        return RatioInterval(float("nan"), 0.0, 1.0, level)
    lower, upper = limits_of(low, high, np.array(estimate), level)
    form: Limits = "upper" if estimate < ONE_SIDED_BELOW else "lower" if estimate > 1 - ONE_SIDED_BELOW else "both"
    return RatioInterval(estimate, float(lower), float(upper), level, form)


def limits_of(
    draws_lower: RealArray, draws_upper: RealArray, estimate: RealArray, level: float
) -> tuple[RealArray, RealArray]:
    """Quantiles of draws (..., d), widened to contain the estimate (...,); one limit alone near 0 and 1.

    The limit that is given alone is that of the two-sided interval. Which form is given depends on the data, so a limit
    of level 1 - alpha alone would miss up to alpha + alpha / 2 of the truths near the switch (Feldman and Cousins, Phys
    Rev D 1998;57:3873, section II); this way the reported set contains the two-sided interval, and covers at least as
    often.
    """
    tail = (1 - level) / 2
    lower = np.minimum(np.quantile(draws_lower, tail, axis=-1), estimate)
    upper = np.maximum(np.quantile(draws_upper, 1 - tail, axis=-1), estimate)
    lower = np.where(estimate < ONE_SIDED_BELOW, 0.0, lower)
    upper = np.where(estimate > 1 - ONE_SIDED_BELOW, 1.0, upper)
    return lower, upper


def share(part: RealArray, whole: RealArray) -> RealArray:
    """Part of a whole; NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(np.asarray(whole) > 0, np.asarray(part) / whole, np.nan), dtype=np.float64)
