"""The differential, M:E and the blast estimate as a patient's PDF prints them, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.report.differential_rows import SIGNS, outside_of
from marrowscope.report.palette import category_color, lineage_color
from marrowscope.report.pdf_axes import blast_axis, round_up
from marrowscope.report.pdf_text import one_line, percent_range, plain
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from marrowscope.report.words import Words
    from marrowscope.runs.tables import CategoryShare, LineageShare, PatientRow


def differential_part(row: PatientRow, words: Words) -> dict[str, Any]:
    """Give the table of the categories, what it is of, and what its signs mean."""
    rows = [
        _share_row(item, item.share_nucleated, item.n_nucleated)
        | {
            "code": one_line(item.category),
            "name": one_line(words.category(item.category)),
            "color": category_color(item.category, item.lineage),
        }
        for item in row.differential or ()
    ]
    if row.reference_source:
        source = f"{words.strings('differential.source')} {one_line(row.reference_source)}"
        lines = [words.strings("differential.marks"), source]
    else:
        lines = [words.strings("differential.no_reference")]
    return {
        "title": words.strings("differential.heading"),
        "note": plain(words.text("pdf.differential_note", cells=words.count("nucleated", row.n_nucleated))),
        "heads": _heads(words, words.strings("differential.code")),
        "rows": rows,
        **_bars(rows),
        "lines": lines,
    }


def lineage_part(row: PatientRow, words: Words) -> dict[str, Any]:
    """Give the table of the lineages."""
    rows = [
        _share_row(item, item.share, item.n)
        | {"code": "", "name": words.name("lineage", item.lineage), "color": lineage_color(item.lineage)}
        for item in row.lineages or ()
    ]
    return {"heads": _heads(words, words.strings("differential.lineage")), "rows": rows, **_bars(rows)}


def _share_row(item: CategoryShare | LineageShare, share: float | None, n: int) -> dict[str, Any]:
    """Give one line: count, share with its sign, interval and range, as text and as positions (0-1)."""
    low, high = item.reference_low, item.reference_high
    reference = None if low is None or high is None else [low, high]
    interval = None if item.lower is None or item.upper is None else [item.lower, item.upper]
    sign = SIGNS.get(outside_of(share, item.lower, item.upper, low, high) or "", "")
    mark = item.reference_mark or ""
    return {
        "n": integer(n),
        "share": share,
        "interval": interval,
        "sign": sign,
        "text": "" if share is None else f"{100 * share:.1f}%",
        "interval_text": "" if interval is None else percent_range(*interval),
        "reference": reference,
        "reference_text": "" if reference is None else f"{percent_range(*reference)} {mark}".strip(),
    }


def _bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the end of the bars' scale, that of the longest interval or reference range."""
    ends = [side[-1] for row in rows for side in (row["interval"], row["reference"]) if side is not None]
    end = round_up(max(ends, default=0.0))
    return {"max": end, "end": f"{100 * end:.0f}%"}


def _heads(words: Words, first: str) -> list[str]:
    keys = ("differential.cells", "differential.share", "differential.interval", "differential.reference")
    return [first, *(words.strings(key) for key in keys)]


def ratio_part(row: PatientRow, words: Words) -> dict[str, Any]:
    """Give M:E with its formula, and how many cells the differential has beside how many are asked for."""
    lines = []
    if row.me_numerator is not None:
        counts = {"m": integer(row.me_numerator), "e": integer(row.me_denominator or 0)}
        formula = plain(words.text("differential.me_formula", **counts))
        if row.me_ratio is None:
            lines.append(f"{formula}: {words.strings('differential.me_none')}")
        else:
            limits = words.numbers(row.me_lower, row.me_upper)
            lines.append(f"{formula} = {row.me_ratio:.1f} ({words.strings('differential.interval')}: {limits})")
        if row.me_reference_low is not None:
            reference = words.numbers(row.me_reference_low, row.me_reference_high)
            lines.append(f"{words.strings('differential.reference')}: {reference}")
    if row.adequacy is not None:
        adequacy = plain(words.text(f"differential.adequacy.{row.adequacy}", n=integer(row.n_nucleated)))
        lines.append(f"{words.strings('differential.adequacy')}: {adequacy}")
    return {"title": words.strings("differential.me"), "lines": lines or [words.strings("differential.no_reference")]}


def blast_part(row: PatientRow, words: Words) -> dict[str, Any]:
    """Give the myeloid blast estimate, its scale with the marks at 10% and 20%, and the sentence on them."""
    title, note = words.strings("blasts.heading"), words.strings("blasts.marks")
    if row.who_least is None:
        return {"title": title, "axis": None, "lines": [words.strings("blasts.none")], "note": note}
    least, most = words.percent(row.who_least), words.percent(row.who_most)
    key = "blasts.single" if least == most else "blasts.range"
    values = {"least": least} if least == most else {"least": least, "most": most}
    lead = {
        "least": words.count("called", row.who_n_least),
        "n_most": integer(row.who_n_most),
        "interval": words.interval(row.who_lower, row.who_upper),
    }
    lines = [plain(words.text(key, **values)), plain(words.text("blasts.lead", **lead)), words.strings("blasts.codes")]
    if row.who_declared and words.has(f"blasts.declared.{row.who_declared}"):
        lines.append(words.strings(f"blasts.declared.{row.who_declared}"))
    return {"title": title, "axis": blast_axis(row), "lines": lines, "note": note}
