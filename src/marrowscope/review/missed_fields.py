"""Cells that the machine missed, from whole fields that a reader checked.

The audit's frame holds found cells only. Of the M fields of a patient, at least three are drawn at random and searched
whole; what the reader adds there stands for all fields: (M / m) times the added cells, in numerator and denominator.
Their spread is that of counts: the mean per field is drawn from Gamma(added / d + pseudo-count, m / d), and the cells
of the other M - m fields are Poisson around it, where d says how much more the fields differ than Poisson counts do.
The pseudo-count is 1 of CBLC and 0 of others for the upper limit of the ratio, and the reverse for the lower one, as
in ``audited_ratio``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from marrowscope.review.audit import CBLC, OTHER
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

IntArray = NDArray[np.int64]
RealArray = NDArray[np.float64]

End = Literal["lower", "upper"]

FEWEST_FIELDS = 3
PSEUDO_COUNTS: dict[End, tuple[float, float]] = {"lower": (0.0, 1.0), "upper": (1.0, 0.0)}
_PRIOR_FIELDS = 10


@dataclass(frozen=True, slots=True)
class CheckedFields:
    """Cells added in each checked field, (m, 2): CBLC and other countable ones; ``n_fields`` is M, all fields."""

    added: IntArray
    n_fields: int

    def __post_init__(self) -> None:
        """Refuse fewer than three fields, unless the patient has no more: two cannot stand for the others."""
        n_checked = len(self.added)
        if not min(FEWEST_FIELDS, self.n_fields) <= n_checked <= self.n_fields or n_checked == 0:
            message = (
                f"found {count_of(n_checked, 'checked field')} of {self.n_fields}, expected at least {FEWEST_FIELDS} "
                "drawn at random and searched whole; check more fields, or give the figure for found cells only"
            )
            raise ValueError(message)

    @property
    def expanded(self) -> RealArray:
        """Cells missed in all fields by this estimate, (3,) by side."""
        total = self.added.sum(axis=0) * (self.n_fields / len(self.added))
        return np.array([total[CBLC], total[OTHER], 0.0])

    @property
    def dispersion(self) -> float:
        """Variance over mean of a field's added cells, at least 1; the Poisson value 1 has the weight of 10 fields."""
        totals = self.added.sum(axis=1)
        mean, m = float(totals.mean()), len(totals)
        own = float(totals.var(ddof=1)) / mean if m > 1 and mean > 0 else 1.0
        return max(1.0, (_PRIOR_FIELDS + (m - 1) * own) / (_PRIOR_FIELDS + m - 1))

    def draw(self, n_draws: int, rng: np.random.Generator, end: End) -> RealArray:
        """Draw the missed cells of all fields, (d, 2), for one end of the ratio's interval.

        Those added are certain, those of the fields that nobody checked are drawn.
        """
        added, m = self.added.sum(axis=0), len(self.added)
        if m == self.n_fields:
            return np.broadcast_to(added.astype(np.float64), (n_draws, 2)).copy()
        d = self.dispersion
        mean = rng.standard_gamma(added / d + PSEUDO_COUNTS[end], (n_draws, 2)) * d / m
        # Poisson counts with d times their variance: d times a Poisson count of a d-th of the mean.
        others = rng.poisson(mean * (self.n_fields - m) / d) * d
        return np.asarray(added + others, dtype=np.float64)


def draw_fields(field_ids: Iterable[str], seed: str, n: int = FEWEST_FIELDS) -> tuple[str, ...]:
    """Draw ``n`` fields at random to be searched whole, in the order to search them; all of them if there are fewer."""
    fields = sorted(set(field_ids))
    return tuple(sorted(fields, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())[:n])


def check_fields(added: Sequence[tuple[int, int]], n_fields: int) -> CheckedFields:
    """Make the record of ``added`` (CBLC, other countable) cells by checked field."""
    return CheckedFields(np.array(added, dtype=np.int64).reshape(-1, 2), n_fields)
