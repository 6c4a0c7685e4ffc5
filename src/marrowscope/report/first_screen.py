"""What stands first on a patient's page: standing, blast estimate, CBLC, cells of the 500 wanted, and the worst flag.

Each item repeats a figure or a sentence of the page in short; nothing is computed here but which flag is worst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from marrowscope.report.depth_words import no_flags
from marrowscope.report.figures import blast_range, blast_remarks, why_no_estimate
from marrowscope.report.flag_lines import UNCHECKED, flag_line
from marrowscope.report.verdict import is_out_of_depth
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.report.verdict import Verdict
    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow, RaisedFlag


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its name, what it says, and what is said beside it; ``warns`` where a reader should stop."""

    key: str
    name: str
    value: Markup | str
    beside: Markup | str = ""
    warns: bool = False


def first_screen(row: PatientRow, said: Verdict, words: Words) -> tuple[Item, ...]:
    """Return the items of a patient, always these five in this order."""
    return (_standing(row, words), _blasts(row, words), _cblc(row, said, words), _cells(row, words), _flag(row, words))


def worst_flag(flags: Sequence[RaisedFlag]) -> RaisedFlag | None:
    """Return the flag whose value is farthest beyond its limit, by their ratio; the first of equals, None without any.

    A flag without a value or limit comes after those that have both, and so does that of checks that were not made:
    nobody knows how far beyond they would be, and its limit of 0 would put it before whatever was found.
    """
    return max(flags, key=_excess, default=None)


def _excess(flag: RaisedFlag) -> float:
    """Return the larger of value / limit and limit / value; 0 where one is missing, infinite where one is 0."""
    if flag.value is None or flag.limit is None or flag.flag == UNCHECKED:
        return 0.0
    low, high = sorted((abs(flag.value), abs(flag.limit)))
    return high / low if low else math.inf


def _standing(row: PatientRow, words: Words) -> Item:
    known = row.state is not None
    value = words.strings(f"state.word.{row.state}") if known else words.strings("summary.unknown_state")
    beside = words.strings("summary.simulated") if row.state_reason == "simulated" else ""
    return Item("state", words.strings("summary.state"), value, beside, warns=row.state != "validated")


def _blasts(row: PatientRow, words: Words) -> Item:
    why = why_no_estimate(row, words)
    value = words.strings("summary.no_estimate") if why is not None else blast_range(row, words)
    return Item("blasts", words.strings("summary.blasts"), value, why or Markup(" ").join(blast_remarks(row, words)))


def _cblc(row: PatientRow, said: Verdict, words: Words) -> Item:
    if is_out_of_depth(row) or row.n_cblc is None:
        return Item(
            "cblc", words.strings("summary.cblc"), words.strings("summary.no_figure"), words.text("ratio.out_of_depth")
        )
    counted = words.text("summary.x_of_n", x=integer(row.n_cblc), n=integer(row.n_countable))
    beside = said.composition or ""
    return Item("cblc", words.strings("summary.cblc"), Markup("{} · {}").format(said.figure, counted), beside)


def _cells(row: PatientRow, words: Words) -> Item:
    n = integer(row.n_nucleated)
    if row.adequacy is None:
        why = "summary.specimen_unknown" if not row.has_specimen else ""
        if row.state_reason in {"simulated", "simulated_specimen", "simulated_photographs"}:
            why = "summary.not_judged"
        beside = words.strings(why) if why else ""
        return Item("cells", words.strings("summary.cells"), n, beside)
    told = words.text(f"differential.adequacy.{row.adequacy}", n=n)
    value = words.strings("summary.of_500", n=n)
    return Item("cells", words.strings("summary.cells"), value, told, warns=row.adequacy == "under_300")


def _flag(row: PatientRow, words: Words) -> Item:
    worst = worst_flag(row.flags)
    if worst is None:
        return Item("flag", words.strings("summary.flag"), words.strings("none"), no_flags(row, words))
    line = flag_line(worst, row, (), words)
    told, n_more = line.measured, len(row.flags) - 1
    if n_more:
        told = words.text("summary.more_flags", told=told, n=integer(n_more))
    return Item("flag", words.strings("summary.flag"), line.name, told, warns=True)
