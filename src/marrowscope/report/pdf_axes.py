"""The scales of the PDF, as plain values: how far each goes, its ticks, its marks, its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marrowscope.report.pdf_text import plain

if TYPE_CHECKING:
    from marrowscope.report.verdict import Verdict
    from marrowscope.report.words import Words
    from marrowscope.runs.tables import PatientRow

_ENDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_STEPS = {0.05: 0.01, 0.1: 0.02, 0.2: 0.05, 0.3: 0.1, 0.4: 0.1, 0.5: 0.1, 0.6: 0.1, 0.8: 0.2, 1.0: 0.2}
_WHO_MARKS = (0.1, 0.2)
"""Blast thresholds of WHO 2022 and ICC 2022; they belong to the blast estimate alone."""


def round_up(value: float) -> float:
    """Give the end of a scale (a share, 0-1) that holds ``value``."""
    return next((end for end in _ENDS if value <= end), 1.0)


def ratio_axis(row: PatientRow, said: Verdict, words: Words) -> dict[str, Any] | None:
    """Give the scale of the ratio with its interval, the share as counted, and the study threshold; None without."""
    shown, threshold = said.shown, row.threshold
    if shown.share is None:
        return None
    band = said.threshold_band
    values = (shown.share, shown.upper, threshold, band[1] if band else None, said.counted.share)
    end = round_up(max(value for value in values if value is not None))
    label = "" if threshold is None else words.strings("scale.threshold", t=words.percent(threshold))
    return {
        "max": end,
        "ticks": _ticks(end),
        "marks": [] if threshold is None else [{"at": threshold, "label": label}],
        "band": list(band) if band else None,
        "interval": None if shown.lower is None else [shown.lower, shown.upper],
        "estimate": shown.share,
        "range": None,
        "counted": said.counted.share if said.is_corrected else None,
    }


def ratio_legend(said: Verdict, words: Words) -> list[str]:
    """Say what the marks on the ratio's scale are; nothing without a scale."""
    strings = words.strings
    marks = [f"● {strings('scale.corrected')}   ○ {strings('scale.raw')}"] if said.is_corrected else []
    if said.threshold_note is not None:
        marks.append(plain(said.threshold_note))
    return ["   ".join(marks)] if marks else []


def blast_axis(row: PatientRow) -> dict[str, Any]:
    """Give the scale of the blast estimate: its range as the band, the sampling's limits, marks at 10% and 20%."""
    end = max(0.3, round_up(row.who_upper or 0.0))
    return {
        "max": end,
        "ticks": _ticks(end),
        "marks": [{"at": at, "label": f"{100 * at:.0f}%"} for at in _WHO_MARKS],
        "band": None,
        "interval": [row.who_lower, row.who_upper],
        "estimate": row.who_most if row.who_least == row.who_most else None,
        "range": None if row.who_least == row.who_most else [row.who_least, row.who_most],
        "counted": None,
    }


def _ticks(end: float) -> list[dict[str, Any]]:
    step = _STEPS[end]
    return [{"at": index * step, "label": f"{100 * index * step:.0f}%"} for index in range(round(end / step) + 1)]
