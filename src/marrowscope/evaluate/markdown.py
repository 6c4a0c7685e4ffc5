"""Write an evaluation as Markdown: a summary of all centers, then every table of every center."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

from marrowscope.evaluate.across_centers import ACROSS_NATURE
from marrowscope.evaluate.call_scores import NO_CALLS
from marrowscope.evaluate.catalog import CATALOG, SUMMARY_FIGURES, Method
from marrowscope.evaluate.frames import MATCHED, NOT_STATED
from marrowscope.evaluate.ratio_scores import own_rates_sentence, threshold_sentence
from marrowscope.evaluate.scorer import FEW_PATIENTS, INTERVAL_NATURE
from marrowscope.records import Interval
from marrowscope.runs.schemas import CALLS
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.evaluate.evaluation import Evaluation
    from marrowscope.evaluate.scorer import Figure
    from marrowscope.evaluate.scores import CenterScores


_SHOWN_RISKS = (0.1, 0.2, 0.3, 0.5, 0.8)


def as_markdown(evaluation: Evaluation) -> str:
    """Return the evaluation as readable tables."""
    linked = evaluation.linked
    only_run, only_cohort = linked.n_fields_only_in_run, linked.n_fields_only_in_cohort
    outside = linked.n_cells_outside_regions
    learned = threshold_sentence(evaluation.config.threshold, evaluation.run.bundle)
    not_read = [f"Expert cells of slides outside the regions that the run read, not compared: {outside}."]
    lines = [
        "# Evaluation",
        "",
        f"Value [95% interval]. {INTERVAL_NATURE}",
        "",
        "For research use only; it does not diagnose.",
        f"Fields only in the run: {only_run}; only in the cohort: {only_cohort}.",
        *(not_read if outside else []),
        *([own_rates_sentence([table_cell(name) for name in own])] if (own := evaluation.own_rates) else []),
        *([table_cell(learned)] if learned else []),
        "",
        "## Main figures; cell figures are over all expert cells, a missed cell counts as wrong",
        "",
        f"| center | patients | {' | '.join(SUMMARY_FIGURES.values())} |",
        "|---|---|" + "---|" * len(SUMMARY_FIGURES),
    ]
    for scores in evaluation.centers:
        figures = [scores.figure(key) for key in SUMMARY_FIGURES]
        values = [f"{figure_text(figure)}, n {figure.n}" for figure in figures]
        lines.append(f"| {table_cell(scores.center)} | {scores.n_patients} | {' | '.join(values)} |")
    lines += _across(evaluation)
    lines += _normal_blasts(evaluation)
    for scores in evaluation.centers:
        patients, fields = count_of(scores.n_patients, "patient"), count_of(scores.n_fields, "field")
        lines += ["", f"## {table_cell(scores.center)}: {patients}, {fields}"]
        lines += _figures(scores)
        lines += _calls(scores)
        lines += _subgroups(scores)
        lines += _decision_curve(scores)
        lines += _classes(scores)
    return "\n".join(lines) + "\n"


def figure_text(figure: Figure) -> str:
    """Return value, interval and marks in one line, or why there is no value."""
    if figure.undefined:
        return f"not defined: {figure.undefined}"
    return interval_text(figure.value) + (f" {figure.marks}" if figure.marks else "")


def interval_text(value: Interval) -> str:
    """Return ``0.910 [0.880, 0.930]``; with fewer than two patients there are no limits."""
    if math.isnan(value.estimate):
        return "not defined"
    if math.isnan(value.lower):
        return f"{value.estimate:.3f} [no interval]"
    return f"{value.estimate:.3f} [{value.lower:.3f}, {value.upper:.3f}]"


def _across(evaluation: Evaluation) -> list[str]:
    """One line per figure summarized over centers; nothing with a single center."""
    if not evaluation.across_centers:
        return []
    lines = ["", "## Centers as a sample of centers: random effects", "", ACROSS_NATURE, ""]
    head = ["figure", "centers", "mean [95% interval]", "a new center, 95%", "tau2", "I2", "Q test p", "left out"]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for item in evaluation.across_centers:
        title, names = CATALOG[item.key].title, "; ".join(item.left_out)
        if item.undefined:
            lines.append(
                f"| {title} | {item.n_centers} | not defined: {item.undefined} | | | | | {table_cell(names)} |"
            )
            continue
        new = f"{item.prediction_lower:.3f} to {item.prediction_upper:.3f}"
        cells = [title, item.n_centers, interval_text(item.mean), new, f"{item.tau2:.4f} ({item.scale})"]
        cells += [f"{item.i2:.2f}", f"{item.p:.3f}", table_cell(names)]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def _figures(scores: CenterScores) -> list[str]:
    lines: list[str] = []
    for group, figures in groupby(scores.figures, key=lambda figure: figure.kind.group):
        lines += ["", f"### {group}", "", "| figure | value | all negative | n | patients | note |"]
        lines.append("|---|---|---|---|---|---|")
        for figure in figures:
            kind, warning = figure.kind, figure.warning.text if figure.warning else ""
            reference = "" if figure.reference is None or math.isnan(figure.reference) else f"{figure.reference:.3f}"
            limits = kind.method is not Method.BOOTSTRAP and not math.isnan(figure.value.lower)
            method = f"interval: {kind.method}" if limits else ""
            note = "; ".join(text for text in (warning, figure.note, method) if text)
            lines.append(
                f"| {kind.title} | {table_cell(figure_text(figure))} | {reference} "
                f"| {figure.n} {kind.unit.of(figure.n)} | {figure.n_patients} | {table_cell(note)} |"
            )
    return lines


def _calls(scores: CenterScores) -> list[str]:
    if scores.calls.is_empty():
        return ["", f"### Calls by diagnosis: {NO_CALLS}"]
    head = ["diagnosis", "patients", *(call.replace("_", " ") for call in CALLS), "correct of decided", "share correct"]
    lines = ["", "### Calls by diagnosis; decided: called above or below", "", f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * len(head))
    for row in scores.calls.iter_rows(named=True):
        title = row["diagnosis"] or (row["group"] if row["group"] == NOT_STATED else f"**all {row['group']}**")
        counts = [str(row["n_patients"]), *(str(row[f"n_{call}"]) for call in CALLS)]
        right = ["", ""]
        if row["measure"]:
            share = "not defined: no patient decided"
            if row["right"] is not None:
                share = interval_text(Interval(row["right"], row["right_lower"], row["right_upper"]))
            right = [f"{row['n_right']} of {row['n_decided']}", f"{row['measure']} {share}"]
        lines.append(f"| {' | '.join([table_cell(title), *counts, *right])} |")
    return lines


def _subgroups(scores: CenterScores) -> list[str]:
    if not scores.subgroups:
        return []
    head = ["subgroup", "patients", "ratio MAE", "bias", "annotated inside", "AML, others", "AML AUC"]
    lines = ["", "### Subgroups, counted ratio; no difference between them is tested", "", f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * len(head))
    for item in scores.subgroups:
        sides = f"{item.n_aml}, {item.n_other}{' of all' if item.against_all else ''}"
        values = [interval_text(value) for value in (item.mae, item.bias, item.coverage)]
        name = table_cell(f"{item.attribute.replace('_', ' ')}: {item.value}")
        cells = [name, _few(item.n_patients), *values, sides, interval_text(item.auc)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _decision_curve(scores: CenterScores) -> list[str]:
    """Return a row per rule, with a column for some of the risks; decision_curve.csv has every one."""
    if not scores.decision_curve:
        return []
    lines = ["", "### Net benefit of acting from a risk of AML on; acting on no one: 0", ""]
    lines.append(f"| act on | patients | {' | '.join(f'{100 * risk:.0f}%' for risk in _SHOWN_RISKS)} |")
    lines.append("|---|---|" + "---|" * len(_SHOWN_RISKS))
    for rule in dict.fromkeys(point.rule for point in scores.decision_curve):
        points = [point for point in scores.decision_curve if point.rule == rule and point.risk in _SHOWN_RISKS]
        values = [interval_text(point.net_benefit) for point in points]
        lines.append(f"| {rule} | {points[0].n} | {' | '.join(values)} |")
    return lines


def _classes(scores: CenterScores) -> list[str]:
    lines: list[str] = []
    for over in dict.fromkeys(item.over for item in scores.class_figures):
        title = "matched cells" if over == MATCHED else "all expert cells, a missed cell counts as wrong"
        lines += ["", f"### Categories, {title}", "", "| category | n | patients | called | precision | recall | F1 |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [
            f"| {table_cell(item.label)} | {item.n} | {_few(item.n_patients)} | {item.n_called} "
            f"| {interval_text(item.precision)} | {interval_text(item.recall)} | {interval_text(item.f1)} |"
            for item in scores.class_figures
            if item.over == over
        ]
    if scores.class_recalls:
        lines += ["", "### Detection recall by class", "", "| class | n | patients | before rules | after rules |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| {item.kind} {table_cell(item.label)} | {item.n} | {_few(item.n_patients)} "
            f"| {interval_text(item.before_rules)} | {interval_text(item.after_rules)} |"
            for item in scores.class_recalls
        ]
    return lines


def _few(n_patients: int) -> str:
    """Return the number of patients, marked if fewer than five."""
    return f"{n_patients}{' *' if n_patients < FEW_PATIENTS else ''}"


def _normal_blasts(evaluation: Evaluation) -> list[str]:
    rows = evaluation.centers[-1].normal_blasts if evaluation.centers else ()
    if not rows:
        return []
    codes = [code for code, _ in rows[0].n_by_code]
    head = ["center", "diagnosis", "patients", "expert cells", *codes, "of them found", "called CBLC"]
    lines = ["", f"## Blasts labeled normal ({', '.join(codes)}) by center and diagnosis", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        counts = [row.n_patients, row.n_cells, *(n for _, n in row.n_by_code), row.n_found, row.n_called_cblc]
        cells = [table_cell(row.center), table_cell(row.diagnosis), *(str(count) for count in counts)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table_cell(text: str) -> str:
    """Escape user-given text so that it stays inside its table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
