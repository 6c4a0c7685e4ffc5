"""A patient's figures, each described once: the page and the PDF draw the same record.

A figure has a title, a value, marks on a scale, and sentences. templates/macros.html.j2 and templates/patient.typ draw
it; they know the kinds of figures, not the single figures. To add one, describe it here, add it to FIGURES, and add its
words to data/strings.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.patient.lymphoid import is_many
from marrowscope.report.differential_rows import Line, category_lines, lineage_lines, outside_of, shown_categories
from marrowscope.report.verdict import is_out_of_depth, is_unvalidated
from marrowscope.report.words import integer
from marrowscope.statistics.intervals import is_wide
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markupsafe import Markup

    from marrowscope.report.verdict import Ratio, Verdict
    from marrowscope.report.words import Words
    from marrowscope.runs.schemas import PatientRow

_ENDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_BLAST_MARKS = {"marrow": (0.05, 0.10, 0.20), "blood": (0.02, 0.05, 0.10, 0.20)}
"""Blast thresholds of WHO 2022 and ICC 2022 by specimen; they apply to the blast estimate only (docs/report.md)."""

_ERYTHROID_DECLARED = "pure_erythroid_leukaemia"

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across a scale and its label; a ``dashed`` one has its label in the middle."""

    at: float
    label: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """The content of one scale of shares, always from 0 to 1; ``described`` is its text for screen readers.

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
    lead: Markup
    denominators: Markup
    reference_notes: tuple[Note, ...]
    learned_notes: tuple[Markup, ...]
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
            lines=category_lines(shown_categories(row), n_cblc if has_shares else {}, words, row.simulated_only or ()),
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
        lead=words.text("differential.lead", cells=counted_cells(row, words)),
        denominators=denominators(row, words),
        reference_notes=_reference_notes(row, words),
        learned_notes=learned_notes(row, words),
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
        estimate=shown.headline,
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


def why_no_estimate(row: PatientRow, words: Words) -> Markup | None:
    """Return in one sentence why no blasts are estimated; None where they are."""
    if row.who_not_learned:
        return words.text("blasts.not_learned", codes=", ".join(row.who_not_learned))
    if row.who_least is None:
        if is_unvalidated(row):
            return words.text(f"blasts.{row.state}")
        if row.has_specimen and row.n_leukocytes == 0 and row.n_nucleated:
            return words.text("blasts.no_leukocytes", cells=words.count("nucleated", row.n_nucleated))
        if row.has_specimen and row.n_nucleated and row.simulated_only is None:
            return words.text("blasts.sources_unknown")
        return words.text("blasts.none" if row.has_specimen else "blasts.specimen_unknown")
    return None


def blast_marks(row: PatientRow, words: Words) -> Markup:
    """Say what the marks of the patient's specimen mean, and what they do not."""
    specimen, told = row.specimen.strip().casefold(), words.text("blasts.no_marks")
    if specimen in _BLAST_MARKS:
        told = words.text("blasts.marks.meaning", marks=words.text(f"blasts.marks.{specimen}"))
    return told + " " + words.text("blasts.marks.limits")


def blast_estimate(row: PatientRow, words: Words) -> Figure:
    """Describe the myeloid blast estimate: a range, the sampling limits, and the marks of the specimen."""
    key, title, note = "blasts", words.strings("blasts.heading"), blast_marks(row, words)
    least, most, lower, upper = row.who_least, row.who_most, row.who_lower, row.who_upper
    why = why_no_estimate(row, words)
    if why is not None or least is None or most is None or lower is None or upper is None:
        return Figure(key, title, value=None, scale=None, lines=(why or words.text("blasts.none"),), note=note)
    marks = _BLAST_MARKS.get(row.specimen.strip().casefold(), ())
    interval = words.interval(lower, upper)
    told = {"interval": interval, "marks": ", ".join(f"{100 * at:.0f}%" for at in marks)}
    described = words.strings("blasts.describe_wide", **told)
    if not is_wide(lower, upper):
        ends = {"least": words.percent(least), "most": words.percent(most)}
        described = words.strings("blasts.describe", **told, **ends)
    return Figure(
        key=key,
        title=title,
        value=blast_range(row, words),
        scale=Scale(
            described=described,
            interval=(lower, upper),
            span=None if is_wide(lower, upper) else (least, most),
            marks=tuple(Mark(at, f"{100 * at:.0f}%", dashed=True) for at in marks),
        ),
        lines=tuple(_blast_lines(row, interval, words)),
        note=note,
    )


def blast_range(row: PatientRow, words: Words) -> Markup:
    """Return the estimate as a range of shares, or one share, of the cells it counts.

    Where the sampling limits are farther apart than half the scale, they stand alone, as those of a ratio do.
    """
    if is_wide(row.who_lower, row.who_upper):
        return words.text("blasts.no_headline", interval=words.interval(row.who_lower, row.who_upper))
    kind = "single" if row.who_n_least == row.who_n_most else "range"
    cells = words.strings("blasts.of_leukocytes" if row.n_leukocytes is not None else "blasts.of_nucleated")
    return words.text(
        f"blasts.{kind}", least=words.percent(row.who_least), most=words.percent(row.who_most), cells=cells
    )


def blast_remarks(row: PatientRow, words: Words) -> list[Markup]:
    """List what the estimate adds or leaves out and a reader of the number alone would miss; none without one."""
    if row.who_least is None or row.who_not_learned:
        return []
    told = _declared(row, words)
    if row.who_alt_least is not None:
        interval = words.interval(row.who_alt_lower, row.who_alt_upper)
        same = row.who_alt_least == row.who_alt_most
        share = words.percent(row.who_alt_least) if same else words.interval(row.who_alt_least, row.who_alt_most)
        kind = "other_way_wide" if is_wide(row.who_alt_lower, row.who_alt_upper) else "other_way"
        told.append(words.text(f"blasts.{kind}", which=other_way(row, words), share=share, interval=interval))
    if is_many(row.lymphoid_share, row.specimen):
        told.append(words.text("blasts.lymphoid", x=words.percent(row.lymphoid_share)))
    return told


def other_way(row: PatientRow, words: Words) -> str:
    """Say how the second estimate of many promyelocytes counts them: the other way than the first."""
    return words.strings("blasts.without_promyelocytes" if row.who_declared == "apl" else "blasts.with_promyelocytes")


def _declared(row: PatientRow, words: Words) -> list[Markup]:
    """Say what a stated diagnosis adds to the estimate, or in blood does not."""
    if row.who_declared == _ERYTHROID_DECLARED and row.n_leukocytes is not None:
        return [words.text("blasts.declared_in_blood")]
    if not row.who_declared or not words.has(f"blasts.declared.{row.who_declared}"):
        return []
    erythroid = next((item.share for item in row.lineages if item.lineage == "erythroid"), None)
    earliest = next((item.share_nucleated for item in row.differential if item.category == "R"), None)
    counted = {"erythroid": words.percent(erythroid), "proerythroblasts": words.percent(earliest)}
    return [words.text(f"blasts.declared.{row.who_declared}", **counted)]


def _blast_lines(row: PatientRow, interval: str, words: Words) -> list[Markup]:
    """List what was counted, what a stated diagnosis adds, and the same with or without the promyelocytes."""
    least, n_most = words.count("called", row.who_n_least or 0), integer(row.who_n_most or 0)
    lead = "blasts.lead_single" if row.who_n_least == row.who_n_most else "blasts.lead"
    lines = [words.text(lead, least=least, n_most=n_most, interval=interval), words.text("blasts.codes")]
    lines += blast_remarks(row, words)
    if row.who_alt_least is not None:
        lines.append(words.text("blasts.promyelocytes_rule"))
    return lines


FIGURES: tuple[Callable[[PatientRow, Words], Figure], ...] = (blast_estimate,)
"""The figures with their own section, in the order in which the page and the PDF print them."""


def round_up(value: float) -> float:
    """Return the end of a scale (a share, 0-1) that covers ``value``."""
    return next((end for end in _ENDS if value <= end), 1.0)


def _told(name: str, value: str, ratio: Ratio, words: Words) -> str:
    return words.strings("scale.describe", name=name, value=value, interval=words.interval(ratio.lower, ratio.upper))


def counted_cells(row: PatientRow, words: Words) -> Markup:
    """Return the number of cells that the differential divides by, in words: nucleated cells, leukocytes in blood."""
    if row.n_leukocytes is not None:
        return words.count("leukocyte", row.n_leukocytes)
    return words.count("nucleated", row.n_nucleated)


def denominators(row: PatientRow, words: Words) -> Markup:
    """Say what the ratio and the differential divide by, and which cells are in neither."""
    countable = words.count("countable", row.n_countable)
    if row.n_leukocytes is not None:
        leukocytes = words.count("leukocyte", row.n_leukocytes)
        return words.text("differential.denominators_blood", countable=countable, leukocytes=leukocytes)
    nucleated = words.count("nucleated", row.n_nucleated)
    return words.text("differential.denominators", countable=countable, nucleated=nucleated)


def learned_notes(row: PatientRow, words: Words) -> tuple[Markup, ...]:
    """Explain the mark of what was learned from simulated cells only, and name the codes that no marked line covers."""
    only, known = row.simulated_only or (), load_vocabulary().codes
    codes = [code for code in row.simulated_only_codes or () if code in known and known[code].category not in only]
    return (
        *([words.text("learned.footnote")] if only else []),
        *([words.text("learned.codes", codes=", ".join(codes))] if codes else []),
        *_red_cells(row, words),
    )


def _red_cells(row: PatientRow, words: Words) -> list[Markup]:
    """Give the nucleated red cells of blood per 100 leukocytes, or say that there is no leukocyte to divide by."""
    if row.nrbc_per_100 is not None:
        return [words.text("blood.nrbc", n=f"{row.nrbc_per_100:.1f}")]
    if row.n_leukocytes == 0 and row.n_nucleated and not is_out_of_depth(row):
        return [words.text("blood.no_leukocytes", cells=words.count("nucleated", row.n_nucleated))]
    return []


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
