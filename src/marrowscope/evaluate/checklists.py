"""Reporting checklists with what the evaluation knows filled in; everything else is for the authors to state.

The items are in data/checklists.toml: numbers and short titles in our own words. An answer is a sentence made of the
content of metrics.json. It never says more than that: what the authors must add is named in the same sentence.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from marrowscope.evaluate.catalog import CATALOG
from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.markdown import table_cell
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.evaluate.document import CenterRecord, EvaluationDocument

BY_THE_AUTHORS = "to be stated by the authors"
_NOTE = (
    "What the evaluation knows is filled in; check it before it is copied. The titles are short forms in our own "
    "words: the wording of an item is in the cited paper. For research use only; it does not diagnose."
)


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """One item; ``answer`` is a key of the answers, empty if only the authors can state it."""

    number: str
    title: str
    answer: str


@dataclass(frozen=True, slots=True)
class Checklist:
    """A checklist with its items in order; ``name`` includes the source."""

    key: str
    name: str
    items: tuple[ChecklistItem, ...]


@cache
def load_checklists() -> tuple[Checklist, ...]:
    """Read the checklists of the package."""
    return tuple(
        Checklist(
            key=entry["key"],
            name=entry["name"],
            items=tuple(
                ChecklistItem(item["number"], item["title"], item.get("answer", "")) for item in entry["items"]
            ),
        )
        for entry in _file()["checklist"]
    )


def answers(document: EvaluationDocument) -> dict[str, str]:
    """Return every answer by its key: the fixed sentences of the file, and those that depend on what was measured."""
    fixed = {key: text.format(authors=BY_THE_AUTHORS) for key, text in _file()["fixed"].items()}
    return fixed | {key: answer(document) for key, answer in _COMPUTED.items()}


def checklists_markdown(document: EvaluationDocument) -> str:
    """Return all checklists as tables, each item with its answer or a note that the authors state it."""
    lines = ["# Reporting checklists", "", _NOTE]
    known = answers(document)
    for checklist in load_checklists():
        n_filled = sum(bool(item.answer) for item in checklist.items)
        lines += [
            "",
            f"## {checklist.name}",
            "",
            f"{n_filled} of {count_of(len(checklist.items), 'item')} filled in.",
            "",
        ]
        lines += ["| item | about | answer |", "|---|---|---|"]
        for item in checklist.items:
            said = known[item.answer] if item.answer else BY_THE_AUTHORS
            lines.append(f"| {item.number} | {item.title} | {table_cell(said)} |")
    return "\n".join(lines) + "\n"


@cache
def _file() -> dict[str, Any]:
    text = resources.files("marrowscope.data").joinpath("checklists.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _whole(document: EvaluationDocument) -> CenterRecord:
    """Return the record of all centers, or of the only one."""
    return document.centers[-1]


def _centers(document: EvaluationDocument) -> str:
    own = [center for center in document.centers if center.center != ALL_CENTERS]
    named = ", ".join(f"{center.center} ({count_of(center.n_patients, 'patient')})" for center in own)
    return f"{count_of(len(own), 'center')}: {named}. Places and dates: {BY_THE_AUTHORS}."


def _outcome(document: EvaluationDocument) -> str:
    names = ", ".join(document.config.aml_diagnoses)
    return (
        f"AML is the diagnosis {names} of patients.csv; every other stated diagnosis is not, and patients without one "
        f"are left out. How diagnoses were made: {BY_THE_AUTHORS}."
    )


def _sample_size(document: EvaluationDocument) -> str:
    whole = _whole(document)
    auc = whole.figure("aml_auc_predicted_ratio")
    groups = f"; in the AUC of AML: {auc.note}" if auc and auc.note else ""
    return (
        f"{count_of(whole.n_patients, 'patient')}, {count_of(whole.n_fields, 'field')}{groups}. n stands beside every "
        f"figure of metrics.csv. The justification: {BY_THE_AUTHORS}."
    )


def _model(document: EvaluationDocument) -> str:
    bundle = document.run.bundle
    name = f"{bundle.get('name', 'without a name')} {bundle.get('version', '')}".strip()
    return (
        f"Bundle {name}, SHA-256 {bundle.get('sha256', 'not stated')}: one network finds the cells, one or several "
        f"classifiers call them, and their mean probability counts. Training and choice of the model: {BY_THE_AUTHORS}."
    )


def _predictions(document: EvaluationDocument) -> str:
    run = document.run
    return (
        f"With marrowscope {run.marrowscope_version} on {run.backend}, {run.device}, in {run.precision}, on "
        f"{run.created_utc}; settings SHA-256 {run.config_sha256}, input SHA-256 {run.input_sha256}."
    )


def _threshold(document: EvaluationDocument) -> str:
    threshold = document.config.threshold
    if threshold is None:
        return f"No threshold was used: the figures at a threshold are not defined. The choice: {BY_THE_AUTHORS}."
    return (
        f"A patient is positive with a CBLC ratio above {threshold:.4f}. How and on whom the threshold was chosen, and "
        f"that this was before these patients were seen: {BY_THE_AUTHORS}."
    )


def _clusters(document: EvaluationDocument) -> str:
    own = [center for center in document.centers if center.center != ALL_CENTERS]
    text = (
        "Every figure is given by center; intervals take the patient as the unit, because cells of a patient are alike"
    )
    defined = [item for item in document.across_centers if not item.undefined]
    if defined:
        return f"{text}. {count_of(len(defined), 'figure')} summarized by random effects (across_centers.csv)."
    return f"{text}. Not summarized by random effects: {count_of(len(own), 'center')}, at least 5 needed."


def _subgroups(document: EvaluationDocument) -> str:
    names = list(dict.fromkeys(item.attribute.replace("_", " ") for item in _whole(document).subgroups))
    if not names:
        return f"No column of patients.csv divides the patients. Further analyses: {BY_THE_AUTHORS}."
    return f"Subgroups by {', '.join(names)}: subgroups.csv, without tests. What was planned: {BY_THE_AUTHORS}."


def _indeterminate(document: EvaluationDocument) -> str:
    figures = [_whole(document).figure(key) for key in ("calls_share_indeterminate", "calls_share_without_a_call")]
    said = [figure.note for figure in figures if figure is not None and figure.value is not None]
    if not said:
        return "The run has no calls: none abstains."
    return f"{'; '.join(said)}. They are in no error among the decided."


def _missing_data(document: EvaluationDocument) -> str:
    flow = next((item for item in document.flows if item.key == "patients_aml"), None)
    left = [f"{row.reason}: {row.n}" for box in (flow.boxes if flow else ()) for row in box.left_out if row.n]
    counted = f"; left out of the figures of AML: {', '.join(left)}" if left else ""
    return f"Nothing is imputed: who lacks a value is left out of the figures that need it{counted}."


def _flow(document: EvaluationDocument) -> str:
    parts = [f"{box.n} {box.name}" for flow in document.flows if flow.key == "patients_ratio" for box in flow.boxes]
    return f"{', '.join(parts)}; the diagram is on the page." if parts else "The diagram is on the page."


def _reference(document: EvaluationDocument) -> str:
    return (
        "Experts' outlines with a code each; a cell counts as found by a contour with an IoU of at least "
        f"{document.config.min_iou:g}. Who the experts were, and how far they agree: {BY_THE_AUTHORS}."
    )


def _vocabulary(document: EvaluationDocument) -> str:
    used = document.run.bundle.get("vocabulary") or {}
    name = f"{used.get('name', 'not stated')} {used.get('version', '')}".strip()
    return f"Vocabulary {name}: code, category, CBLC, countable (docs/vocabulary.md)."


def _software(document: EvaluationDocument) -> str:
    versions = f"marrowscope {document.run.marrowscope_version} for the run, {document.marrowscope_version} for the"
    return f"{versions} evaluation (Apache-2.0; the shipped segmenter AGPL-3.0). Own code: {BY_THE_AUTHORS}."


def _specification(document: EvaluationDocument) -> str:
    sha256 = document.run.bundle.get("sha256", "not stated")
    return (
        f"The bundle with SHA-256 {sha256} contains networks, scale, rules and threshold. Where it can be had: "
        f"{BY_THE_AUTHORS}."
    )


def _measures(_: EvaluationDocument) -> str:
    groups = list(dict.fromkeys(kind.group for kind in CATALOG.values()))
    return f"{'; '.join(groups)}. Formulas and sources are in docs/evaluate.md. Which is primary: {BY_THE_AUTHORS}."


_COMPUTED: dict[str, Callable[[EvaluationDocument], str]] = {
    "centers": _centers,
    "outcome": _outcome,
    "sample_size": _sample_size,
    "missing_data": _missing_data,
    "model": _model,
    "clusters": _clusters,
    "measures": _measures,
    "predictions": _predictions,
    "subgroups": _subgroups,
    "threshold": _threshold,
    "software": _software,
    "flow": _flow,
    "specification": _specification,
    "vocabulary": _vocabulary,
    "reference": _reference,
    "uncertainty": lambda document: document.interval,
    "indeterminate": _indeterminate,
}
"""The answers that depend on what was measured, by the key of an item's ``answer``."""
