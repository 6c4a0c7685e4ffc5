"""Counts that reconcile: the number in equals the number out plus the number rejected, by reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Tally:
    """Counts of one kind of item through one stage. ``changed`` counts items kept but altered (repaired, clipped).

    Raises ValueError if the numbers do not add up: then the program has silently lost something, which is a bug.
    """

    n_in: int
    n_out: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that do not reconcile."""
        if self.n_in != self.n_out + self.n_rejected:
            message = f"{self.n_in} in are not {self.n_out} out + {self.n_rejected} rejected ({dict(self.rejected)})"
            raise ValueError(message)

    @property
    def n_rejected(self) -> int:
        """Total number of rejections."""
        return sum(self.rejected.values())


@dataclass(frozen=True, slots=True)
class CohortCounts:
    """Rows of patients.csv, image files and annotation shapes of a cohort, each reconciled."""

    patients: Tally
    images: Tally
    shapes: Tally
    n_annotation_files_broken: int
