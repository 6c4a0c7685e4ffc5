"""Counts that reconcile: what went in is what came out plus what was rejected, by reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Tally:
    """One kind of thing through one stage. ``changed`` counts what was kept but altered (repaired, clipped).

    Raises ValueError when the numbers do not add up: something was lost in silence, which is a defect of ours.
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
        """All rejections together."""
        return sum(self.rejected.values())


@dataclass(frozen=True, slots=True)
class CohortCounts:
    """Rows of patients.csv, image files and annotation shapes of a cohort, each reconciled."""

    patients: Tally
    images: Tally
    shapes: Tally
    n_annotation_files_broken: int
