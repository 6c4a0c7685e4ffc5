"""A patient's figures, each described once: the page and the PDF draw the same record.

A figure has a title, a value, marks on a scale, and sentences. templates/macros.html.j2 and templates/patient.typ draw
it; they know the kinds of figures, not the single figures. To add one, describe it here, add it to FIGURES, and add its
words to data/strings.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.report.differential_rows import Line, category_lines, lineage_lines, outside_of, shown_categories
from marrowscope.report.verdict import is_out_of_depth, is_unvalidated
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markupsafe import Markup

    from marrowscope.report.verdict import Ratio, Verdict
    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow

_ENDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_WHO_MARKS = (0.1, 0.2)
"""Blast thresholds of WHO 2022 and ICC 2022; they apply to the blast estimate only."""

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across a scale and its label; a ``dashed`` one has its label in the middle."""

    at: float
    label: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """The content of one scale of shares (0-1) from 0; ``described`` is its text for screen readers.

    Either ``estimate`` is a point, or ``span`` is a range in its place. ``beside`` is a second ratio named
    ``beside_name``, ``band`` is the interval of a mark, and ``note`` says what is shaded.
    """

    described: str
    interval: Pair | None
    estimate: float | None = None
    span: Pair | None = None
    marks: tuple[Mark, ...] = ()
    band: Pair | None = None
    note: Markup | None = None
    beside: Ratio | None = None
    beside_name: str = ""
    least_end: float = 0.0

    @property
    def end(self) -> float:
        """The end of a scale that need not reach 1: the next round share that covers everything on it."""
        pairs = (self.interval, self.span, self.band)
        values = [pair[1] for pair in pairs if pair is not None] + [mark.at for mark in self.marks]
        points = (self.estimate, self.beside.share if self.beside else None)
        return max(self.least_end, round_up(max([*values, *(value for value in points if value is not None)])))


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its own section; ``key`` is its anchor. Without a value it has only ``lines``."""

    key: str
    title: str
    value: Markup | None
    scale: Scale | None
    lines: tuple[Markup, ...]
    note: Markup


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence and the source that it names, which is in English."""

    text: Markup
    source: str = ""


@dataclass(frozen=True, slots=True)
class ShareTable:
    """Shares of the nucleated cells, one per line, with intervals and, if ``has_reference``, reference ranges.

    Without ``has_shares``, for a patient out of depth, the lines have counts alone.
    """

    title: str
    first_head: str
    lines: tuple[Line, ...]
    has_reference: bool
    has_shares: bool


@dataclass(frozen=True, slots=True)
class Quotient:
    """The M:E ratio: a plain number, its limits (the upper may be open) and its reference range; None if undefined."""

    value: float | None
    lower: float | None
    upper: float | None
    reference: Pair | None
    outside: str | None
    formula: Markup


@dataclass(frozen=True, slots=True)
class PatientFigures:
    """Every figure of one patient; ``further`` are those with their own section, in this order."""

    ratio: Scale | None
    categories: ShareTable
    lineages: ShareTable
    reference_notes: tuple[Note, ...]
    me: Quotient | None
    adequacy: Markup | None
    further: tuple[Figure, ...]


def patient_figures(row: PatientRow, said: Verdict, words: Words, n_cblc: Mapping[str, int]) -> PatientFigures:
    """Describe the figures of a patient; ``n_cblc`` counts the cells called CBLC in each category."""
    has_reference, has_shares = row.reference_source is not None, not is_out_of_depth(row)
    return PatientFigures(
        ratio=_ratio_scale(row, said, words),
        categories=ShareTable(
            title=words.strings("differential.heading"),
            first_head=words.strings("differential.code"),
            lines=category_lines(shown_categories(row), n_cblc if has_shares else {}, words),
            has_reference=has_reference,
            has_shares=has_shares,
        ),
        lineages=ShareTable(
            title=words.strings("differential.heading"),
            first_head=words.strings("differential.lineage"),
            lines=lineage_lines(row.lineages, words),
            has_reference=has_reference,
            has_shares=has_shares,
        ),
        reference_notes=_reference_notes(row, words),
        me=_myeloid_to_erythroid(row, words),
        adequacy=(
            None
            if row.adequacy is None
            else words.text(f"differential.adequacy.{row.adequacy}", n=integer(row.n_nucleated))
        ),
        further=tuple(describe(row, words) for describe in FIGURES),
    )


def _ratio_scale(row: PatientRow, said: Verdict, words: Words) -> Scale | None:
    """Describe the ratio with its interval, the counted share and the study threshold; None without a ratio."""
    shown, threshold, band = said.shown, row.threshold, said.threshold_band
    if shown.share is None or shown.lower is None or shown.upper is None:
        return None
    told = [_told(said.title, said.figure, shown, words)]
    if said.is_corrected:
        counted = words.percent(said.counted.share)
        told.append(_told(words.strings("scale.raw"), counted, said.counted, words))
    if threshold is not None:
        t = words.percent(threshold)
        told.append(
            words.strings("scale.describe_threshold", t=t, interval=words.interval(*band))
            if band
            else words.strings("scale.describe_threshold_alone", t=t)
        )
    return Scale(
        described="; ".join(told),
        interval=(shown.lower, shown.upper),
        estimate=shown.share,
        marks=(
            ()
            if threshold is None
            else (Mark(threshold, words.strings("scale.threshold", t=words.percent(threshold))),)
        ),
        band=band,
        note=said.threshold_note,
        beside=said.counted if said.is_corrected else None,
        beside_name=words.strings("scale.raw"),
    )


def blast_estimate(row: PatientRow, words: Words) -> Figure:
    """Describe the myeloid blast estimate: a range, the sampling limits, and the marks at 10% and 20%."""
    key, title, note = "blasts", words.strings("blasts.heading"), words.text("blasts.marks")
    least, most, lower, upper = row.who_least, row.who_most, row.who_lower, row.who_upper
    if least is None or most is None or lower is None or upper is None:
        why = words.text(f"blasts.{row.state}" if is_unvalidated(row) else "blasts.none")
        return Figure(key, title, value=None, scale=None, lines=(why,), note=note)
    ends = {"least": words.percent(least), "most": words.percent(most)}
    interval = words.interval(lower, upper)
    lines = [
        words.text(
            "blasts.lead",
            least=words.count("called", row.who_n_least or 0),
            n_most=integer(row.who_n_most or 0),
            interval=interval,
        ),
        words.text("blasts.codes"),
    ]
    if row.who_declared and words.has(f"blasts.declared.{row.who_declared}"):
        lines.append(words.text(f"blasts.declared.{row.who_declared}"))
    is_single = row.who_n_least == row.who_n_most
    return Figure(
        key=key,
        title=title,
        value=words.text("blasts.single" if is_single else "blasts.range", **ends),
        scale=Scale(
            described=words.strings("blasts.describe", **ends, interval=interval),
            interval=(lower, upper),
            span=(least, most),
            marks=tuple(Mark(at, f"{100 * at:.0f}%", dashed=True) for at in _WHO_MARKS),
            least_end=0.3,
        ),
        lines=tuple(lines),
        note=note,
    )


FIGURES: tuple[Callable[[PatientRow, Words], Figure], ...] = (blast_estimate,)
"""The figures with their own section, in the order in which the page and the PDF print them."""


def round_up(value: float) -> float:
    """Return the end of a scale (a share, 0-1) that covers ``value``."""
    return next((end for end in _ENDS if value <= end), 1.0)


def _told(name: str, value: str, ratio: Ratio, words: Words) -> str:
    return words.strings("scale.describe", name=name, value=value, interval=words.interval(ratio.lower, ratio.upper))


def _reference_notes(row: PatientRow, words: Words) -> tuple[Note, ...]:
    if is_out_of_depth(row):
        return ()
    if row.reference_source is None:
        return (Note(words.text("differential.no_reference")),)
    return Note(words.text("differential.marks")), Note(words.text("differential.source"), row.reference_source)


def _myeloid_to_erythroid(row: PatientRow, words: Words) -> Quotient | None:
    if row.me_numerator is None:
        return None
    low, high = row.me_reference_low, row.me_reference_high
    counts = {"m": integer(row.me_numerator), "e": integer(row.me_denominator or 0)}
    return Quotient(
        value=row.me_ratio,
        lower=row.me_lower,
        upper=row.me_upper,
        reference=None if low is None or high is None else (low, high),
        outside=outside_of(row.me_ratio, row.me_lower, row.me_upper, low, high),
        formula=words.text("differential.me_formula", **counts),
    )
