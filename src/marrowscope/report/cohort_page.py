"""The cohort page: one line per patient, and the ratios by diagnosis and by center as strips of marks."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from marrowscope.report.differential_rows import SIMULATED_MARK
from marrowscope.report.verdict import Ratio, call_of, is_out_of_depth, is_unvalidated, shown_ratio, threshold_band

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.report.strings import Strings
    from marrowscope.runs.schemas import PatientRow

_BIN = 0.012
"""Marks closer than this on the scale (0-1) are stacked."""

_MOST_STACKED = 9

Grouping = Literal["center", "diagnosis"]
"""Columns by which patients are grouped and filtered."""


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One patient's line."""

    row: PatientRow
    ratio: Ratio
    call: str
    flags: tuple[str, ...]

    @property
    def is_out_of_depth(self) -> bool:
        """Whether the line has no numerator, no ratio and no interval."""
        return is_out_of_depth(self.row)

    @property
    def has_threshold(self) -> bool:
        """Whether the study threshold holds for this patient; none does where the center is not validated."""
        return self.row.threshold is not None

    @property
    def n_left_out(self) -> int:
        """Contours refused and cells that are not countable."""
        return (self.row.n_rejected or 0) + (self.row.n_not_countable or 0)


@dataclass(frozen=True, slots=True)
class Dot:
    """One patient of a strip: place on the scale (0-1) and level in its stack, from 0."""

    patient_id: str
    share: float
    level: int
    call: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The patients of one diagnosis or center; a patient without a ratio has no dot but counts in ``n``.

    ``has_threshold``: the study threshold holds for one of them; it is drawn beside no others.
    """

    name: str
    n: int
    dots: tuple[Dot, ...]
    has_threshold: bool
    median: float | None
    lowest: float | None
    highest: float | None

    @property
    def levels(self) -> int:
        """The largest number of dots in one stack."""
        return 1 + max((dot.level for dot in self.dots), default=0)


@dataclass(frozen=True, slots=True)
class CohortPage:
    """What the cohort page prints; ``threshold`` is None if the bundle has none, and has no limits if it was given.

    ``threshold_of`` is the first patient whom it holds for: the row says on whom it was learned.
    """

    rows: tuple[CohortRow, ...]
    by_diagnosis: tuple[Strip, ...]
    by_center: tuple[Strip, ...]
    threshold: Ratio | None
    threshold_of: PatientRow | None
    n_without_ratio: int
    n_wide: int
    is_corrected: bool
    is_unvalidated: bool
    n_out_of_depth: int
    simulated_only: tuple[str, ...] = ()

    def values(self, column: Grouping) -> list[str]:
        """List the values that a filter of ``column`` offers, in order."""
        found = {str(getattr(item.row, column)) for item in self.rows if getattr(item.row, column)}
        return sorted(found, key=str.casefold)

    @property
    def calls(self) -> list[str]:
        """The calls that occur, in the order of their first patient."""
        return list(dict.fromkeys(item.call for item in self.rows))

    @property
    def flags(self) -> list[str]:
        """The flags that occur."""
        return sorted({flag for item in self.rows for flag in item.flags})


def cohort_page(rows: Sequence[PatientRow]) -> CohortPage:
    """Make the page's record from the rows of the patients table."""
    lines = tuple(
        CohortRow(row, shown_ratio(row), call_of(row), tuple(item.flag for item in row.flags or ())) for row in rows
    )
    known = next((row for row in rows if row.threshold is not None), None)
    return CohortPage(
        rows=lines,
        by_diagnosis=strips(lines, "diagnosis"),
        by_center=strips(lines, "center"),
        threshold=Ratio(known.threshold, *(threshold_band(known) or (None, None))) if known else None,
        threshold_of=known,
        n_without_ratio=sum(line.ratio.share is None for line in lines),
        n_wide=sum(line.ratio.is_wide for line in lines),
        is_corrected=any(row.corrected_ratio is not None for row in rows),
        is_unvalidated=any(is_unvalidated(row) and not is_out_of_depth(row) for row in rows),
        n_out_of_depth=sum(is_out_of_depth(row) for row in rows),
        simulated_only=simulated_only_names(rows),
    )


def simulated_only_names(rows: Sequence[PatientRow]) -> tuple[str, ...]:
    """Name what the bundle learned from simulated cells only: categories, plasma and single codes, each once."""
    names = [name for row in rows for name in (*(row.simulated_only or ()), *(row.simulated_only_codes or ()))]
    return tuple(dict.fromkeys(names))


def learned_alone(names: Sequence[str], texts: Strings) -> str:
    """Say what the bundle learned from simulated cells only: codes as they are, what has none by its word."""
    return texts("learned.cohort", names=", ".join(texts.texts.get(f"badge.{name}", name) for name in names))


def learned_sentence(names: Sequence[str], texts: Strings) -> str | None:
    """Explain the mark where names stand without a footnote of their own; None where nothing is marked."""
    return f"{SIMULATED_MARK} {learned_alone(names, texts)}" if names else None


def strips(lines: Sequence[CohortRow], column: Grouping) -> tuple[Strip, ...]:
    """Make one strip per value of ``column``, the highest median first and those without a ratio last."""
    groups: dict[str, list[CohortRow]] = {}
    for line in lines:
        groups.setdefault(str(getattr(line.row, column) or "\N{EN DASH}"), []).append(line)
    made = [_strip(name, group) for name, group in groups.items()]
    return tuple(sorted(made, key=lambda item: (item.median is None, -(item.median or 0.0), item.name)))


def _strip(name: str, lines: Sequence[CohortRow]) -> Strip:
    placed = sorted(
        ((share, line) for line in lines if (share := line.ratio.headline) is not None),
        key=lambda pair: (pair[0], pair[1].row.patient_id),
    )
    dots: list[Dot] = []
    last_at: list[float] = []  # position of the last dot of each level
    for share, line in placed:
        level = next((k for k, at in enumerate(last_at) if share - at >= _BIN), len(last_at))
        level = min(level, _MOST_STACKED - 1)
        if level == len(last_at):
            last_at.append(share)
        last_at[level] = share
        dots.append(Dot(line.row.patient_id, share, level, line.call))
    shares = [share for share, _ in placed]
    ends = (median(shares), shares[0], shares[-1]) if shares else (None, None, None)
    return Strip(name, len(lines), tuple(dots), any(line.has_threshold for line in lines), *ends)
