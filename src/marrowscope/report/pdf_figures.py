"""The figures of ``figures.py`` as the plain values that ``templates/patient.typ`` draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.report.figures import round_up
from marrowscope.report.pdf_text import one_line, percent_range, plain
from marrowscope.report.words import integer

if TYPE_CHECKING:
    from marrowscope.report.differential_rows import Line
    from marrowscope.report.figures import Figure, PatientFigures, Scale, ShareTable
    from marrowscope.report.words import Words


def figure_part(figure: Figure) -> dict[str, Any]:
    """Return one figure of ``PatientFigures.further``; the note on its marks stands beside a value alone."""
    said = [figure.value] if figure.value is not None else []
    return {
        "title": figure.title,
        "axis": None if figure.scale is None else scale_part(figure.scale),
        "lines": [plain(line) for line in (*said, *figure.lines)],
        "note": "" if figure.value is None else plain(figure.note),
    }


def scale_part(scale: Scale) -> dict[str, Any]:
    """Return a scale with everything on it; a span of zero width is a point.

    Every patient's scale ends at 100%, as on the page, so that sheets laid side by side compare.
    """
    ticks = [{"at": percent / 100, "label": f"{percent}%"} for percent in range(0, 101, 20)]
    is_point = scale.span is not None and scale.span[0] == scale.span[1]
    return {
        "max": 1.0,
        "ticks": ticks,
        "marks": [{"at": mark.at, "label": mark.label} for mark in scale.marks],
        "band": scale.band,
        "interval": scale.interval,
        "estimate": scale.span[1] if is_point and scale.span else scale.estimate,
        "range": None if is_point else scale.span,
        "counted": scale.beside.share if scale.beside else None,
    }


def scale_legend(scale: Scale | None, words: Words) -> list[str]:
    """Return the legend of the signs on the ratio's scale; empty without a scale."""
    if scale is None:
        return []
    point = [f"● {words.strings('scale.corrected')}"] if scale.estimate is not None else []
    signs = [*point, f"○ {scale.beside_name}"] if scale.beside else []
    if scale.note is not None:
        signs.append(plain(scale.note))
    return ["   ".join(signs)] if signs else []


def shares_part(table: ShareTable, words: Words) -> dict[str, Any]:
    """Return a table of shares; its bars share an axis that covers the longest interval or reference range."""
    of_shares = ("differential.share", "differential.interval", "differential.reference")
    heads = [words.strings("differential.cells")]
    heads += [words.strings(key) if table.has_shares else "" for key in of_shares]
    rows = [_share_row(line, words) for line in table.lines]
    end = round_up(max((side[1] for row in rows for side in (row["interval"], row["reference"]) if side), default=0.0))
    return {
        "title": table.title,
        "heads": [table.first_head, *heads],
        "has_shares": table.has_shares,
        "rows": rows,
        "max": end,
        "end": f"{100 * end:.0f}%",
    }


def _share_row(line: Line, words: Words) -> dict[str, Any]:
    """Return one line: count, share with its sign, interval and range, as text and as positions (0-1)."""
    low, high = line.reference_low, line.reference_high
    reference = None if low is None or high is None else (low, high)
    interval = None if line.lower is None or line.upper is None else (line.lower, line.upper)
    return {
        "code": one_line(words.code(line.code)),
        "name": one_line(f"{line.name} {line.mark}".strip()),
        "color": line.color,
        "n": integer(line.n),
        "share": line.share,
        "interval": interval,
        "sign": line.sign,
        "text": "" if line.share is None else f"{100 * line.share:.1f}%",
        "interval_text": "" if interval is None else percent_range(*interval),
        "reference": reference,
        "reference_text": ""
        if reference is None
        else f"{percent_range(*reference)} {line.reference_mark or ''}".strip(),
    }


def reference_lines(figures: PatientFigures) -> list[str]:
    """List the sentences on reference ranges, each with its source."""
    return [" ".join(filter(None, (plain(note.text), one_line(note.source)))) for note in figures.reference_notes]


def quotient_part(figures: PatientFigures, words: Words) -> dict[str, Any]:
    """Return M:E with its formula, and the number of cells of the differential with the number required."""
    strings, lines, me = words.strings, [], figures.me
    if me is not None:
        formula = plain(me.formula)
        if me.value is None:
            lines.append(f"{formula}: {strings('differential.me_none')}")
        else:
            limits = words.numbers(me.lower, me.upper)
            lines.append(f"{formula} = {me.value:.1f} ({strings('differential.interval')}: {limits})")
        if me.reference is not None:
            lines.append(f"{strings('differential.reference')}: {words.numbers(*me.reference)}")
    if figures.adequacy is not None:
        lines.append(f"{strings('differential.adequacy')}: {plain(figures.adequacy)}")
    if not figures.categories.has_shares:
        lines = [strings("differential.me_out_of_depth")]
    return {"title": strings("differential.me"), "lines": lines or [strings("differential.no_me")]}
