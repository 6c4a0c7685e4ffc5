"""What `predict` says of each patient on the terminal: state, "x of n called CBLC", ratio or why not, worst flag.

A patient with many promyelocytes also has the blast estimate with and without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.predict import Prediction
    from marrowscope.runs.schemas import PatientRow

_MOST_SHOWN = 20
"""Patients on the terminal; the report and ``--json`` have all."""
_MOST_NAMED = 3
"""Patients named before the sentence on their state, which many share."""


def patient_rows(prediction: Prediction) -> list[PatientRow]:
    """Return the patients of a run as records, in their order."""
    from marrowscope.runs.schemas import patient_row

    return [patient_row(values) for values in prediction.patients.iter_rows(named=True)]


def patient_figures(rows: Sequence[PatientRow]) -> list[dict[str, Any]]:
    """Return what the terminal shows of every patient, for scripts.

    Out of depth, ``n_cblc`` and the ratio are null. The ratio is null too where its interval is too wide for one, and
    so are the ends of the blast estimate (``who_`` and, with many promyelocytes, ``who_alt_``).
    """
    from marrowscope.report.verdict import is_out_of_depth, shown_ratio

    figures = []
    for row in rows:
        ratio = shown_ratio(row)
        figures.append(
            {
                "patient_id": row.patient_id,
                "state": row.state,
                "state_reason": row.state_reason,
                "n_cblc": None if is_out_of_depth(row) else row.n_cblc,
                "n_countable": row.n_countable,
                "ratio": ratio.headline,
                "ratio_lower": ratio.lower,
                "ratio_upper": ratio.upper,
                "is_corrected": row.corrected_ratio is not None,
                "interval_is_wide": ratio.is_wide,
                **_blasts(row),
                "call": row.call,
                "threshold": row.threshold,
                "threshold_n_patients": row.threshold_n_patients,
                "threshold_simulated": row.threshold_simulated,
                "flags": [item.flag for item in row.flags],
                "simulated_only": None if row.simulated_only is None else list(row.simulated_only),
                "simulated_only_codes": None if row.simulated_only_codes is None else list(row.simulated_only_codes),
            }
        )
    return figures


def _blasts(row: PatientRow) -> dict[str, Any]:
    """Return the blast estimate by the names of the patients table, without a range that is too wide for one."""
    from marrowscope.statistics.intervals import is_wide

    figures: dict[str, Any] = {"who_declared": row.who_declared}
    for name in ("who", "who_alt"):
        least, most, lower, upper = (getattr(row, f"{name}_{end}") for end in ("least", "most", "lower", "upper"))
        ends = (None, None) if least is None or is_wide(lower, upper) else (least, most)
        figures |= dict(zip((f"{name}_least", f"{name}_most"), ends, strict=True))
        figures |= {f"{name}_lower": lower, f"{name}_upper": upper}
    return figures


def specimen_remark(rows: Sequence[PatientRow]) -> list[str]:
    """Say how many patients have an unknown specimen and what they go without; empty where it is known of all."""
    n_unknown = sum(not row.has_specimen for row in rows)
    if not n_unknown:
        return []
    told = (
        f"Specimen unknown: {count_of(n_unknown, 'patient')}, without reference ranges, M:E, adequacy and blast "
        "estimate; state it with --specimen, or in patients.csv."
    )
    return [told]


def print_patients(rows: Sequence[PatientRow]) -> None:
    """Print a line per patient, the first ones of many, and why each has its state; nothing that it withholds."""
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.report.cohort_page import learned_alone, simulated_only_names
    from marrowscope.report.figures import blast_range, blast_remarks
    from marrowscope.report.first_screen import worst_flag
    from marrowscope.report.strings import load_strings
    from marrowscope.report.verdict import standing_sentence
    from marrowscope.report.words import load_words

    strings = load_strings()
    table = new_table("patient", "state", "called CBLC", "ratio", "flags", title="Patients")
    for row in rows[:_MOST_SHOWN]:
        state = strings.choose("state.word", row.state)
        worst, n_more = worst_flag(row.flags), len(row.flags) - 1
        flag = "" if worst is None else strings.choose("flag", worst.flag)
        flag += f" and {count_of(n_more, 'other')}" if n_more > 0 else ""
        table.add_row(*(escape(text) for text in (row.patient_id, state, *_counted_and_ratio(row), flag)))
    print_table(table)
    words = load_words()
    standing_of: dict[str, list[str]] = {}
    for row in rows[:_MOST_SHOWN]:
        if (sentence := standing_sentence(row, words)) is not None:
            standing_of.setdefault(str(sentence.striptags()), []).append(row.patient_id)
    for told, sharing in standing_of.items():
        others = f" and {count_of(len(sharing) - _MOST_NAMED, 'other')}" if len(sharing) > _MOST_NAMED else ""
        typer.echo(f"{', '.join(sharing[:_MOST_NAMED])}{others}: {told}")
    for row in rows[:_MOST_SHOWN]:
        if row.who_alt_least is not None and row.who_least is not None and not row.who_not_learned:
            beside = " ".join(remark.striptags() for remark in blast_remarks(row, words))
            estimate = blast_range(row, words).striptags()
            typer.echo(f"{row.patient_id}: {words.strings('blasts.heading')}: {estimate}. {beside}")
    if len(rows) > _MOST_SHOWN:
        typer.echo(f"{count_of(len(rows) - _MOST_SHOWN, 'more patient')}: see the report or patients.parquet.")
    if names := simulated_only_names(rows):
        typer.echo(learned_alone(names, strings))


def _counted_and_ratio(row: PatientRow) -> tuple[str, str]:
    """Return "x of n" and the ratio with its interval, or why there is none."""
    from marrowscope.report.verdict import is_out_of_depth, shown_ratio

    if is_out_of_depth(row):
        return f"not given; {count_of(row.n_countable, 'countable cell')}", "none: out of depth"
    counted = f"{row.n_cblc} of {row.n_countable}"
    ratio = shown_ratio(row)
    if ratio.share is None or ratio.lower is None or ratio.upper is None:
        return counted, "none: no countable cell"
    how = "corrected" if row.corrected_ratio is not None else "as counted"
    if ratio.is_wide:
        return counted, f"{ratio.lower:.1%} to {ratio.upper:.1%}, {how}: wider than half the scale, no single ratio"
    return counted, f"{ratio.share:.1%} ({ratio.lower:.1%} to {ratio.upper:.1%}), {how}"
