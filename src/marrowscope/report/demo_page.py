"""Write the page of a demonstration: real cells first, each call beside the expert's label, then simulated patients.

The page is self-contained and has no script; its security policy forbids every request. Of a patient with many labeled
cells the first 60 are shown, wrong calls before right ones, and the right ones spread over the categories.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, get_args

from marrowscope.disk import write_text
from marrowscope.evaluate.labeled_cells import Outcome
from marrowscope.report.cohort_page import learned_sentence
from marrowscope.report.environment import page_style, template_environment
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.report.palette import category_color
from marrowscope.report.pictures import cell_uri
from marrowscope.report.verdict import learned_on
from marrowscope.report.words import load_words
from marrowscope.statistics.intervals import is_wide
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.evaluate.labeled_cells import LabeledCell, LabeledPatient
    from marrowscope.records import ContourArray, ImageArray
    from marrowscope.report.words import Words

MOST_CELLS = 60
"""Cells shown of one patient."""

_ROW = 9
"""Cells in one row of a wide screen."""

_REMARK = re.compile(r" \([^)]*\)")
_SIDE_UM = 21.0
"""Side of a picture: one cell with little around it. A marrow tile is 24 um wide."""


@dataclass(frozen=True, slots=True)
class RealSource:
    """Where a real pseudo-patient comes from: a few words for a table, and the citation for the page."""

    place: str
    citation: str
    doi: str


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """One patient's counted ratio (x of n), corrected ratio with its limits, and call, beside the exact ratio.

    Out of depth, ``n_cblc`` and the ratios are None. The threshold was learned on ``threshold_n_patients``.
    """

    patient_id: str
    center: str
    diagnosis: str
    n_cblc: int | None
    n_countable: int
    ratio: float | None
    corrected: float | None
    lower: float | None
    upper: float | None
    call: str | None
    true_n_cblc: int
    true_n_countable: int
    threshold: float | None = None
    threshold_n_patients: int | None = None
    threshold_simulated: bool | None = None

    @property
    def interval_is_wide(self) -> bool:
        """Whether the interval is too wide for the corrected ratio to be a figure."""
        return is_wide(self.lower, self.upper)

    @property
    def true_ratio(self) -> float:
        """Exact CBLC share (0-1) of the countable cells that lie entirely inside the fields."""
        return self.true_n_cblc / self.true_n_countable


@dataclass(frozen=True, slots=True)
class _ShownCell:
    """One picture of the page; ``uri`` is None where the photograph could not be read again."""

    cell: LabeledCell
    uri: str | None
    color: str
    expert_color: str
    expert_name: str
    called_name: str


@dataclass(frozen=True, slots=True)
class _Group:
    """The shown cells of one outcome, and how many there are in all."""

    outcome: Outcome
    n: int
    cells: tuple[_ShownCell, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    """One real patient: figures, source, pictures."""

    patient: LabeledPatient
    source: RealSource
    groups: tuple[_Group, ...]

    @property
    def n_shown(self) -> int:
        """Number of pictures."""
        return sum(len(group.cells) for group in self.groups)

    @property
    def is_out_of_depth(self) -> bool:
        """Whether no ratio may be made of the machine's count."""
        return self.patient.state == "out_of_depth"


def write_demo_page(
    path: Path,
    real: Sequence[tuple[LabeledPatient, RealSource]],
    simulated: Sequence[PatientComparison],
    *,
    bundles: tuple[str, str],
    real_report: str,
    simulated_report: str,
    simulated_only: Sequence[str] = (),
) -> None:
    """Write the page to ``path``; ``bundles`` are the names of the two, and the reports are links relative to it.

    Calls of what the first bundle learned from simulated cells only (``simulated_only``) are marked.
    """
    words = load_words()
    environment = template_environment()
    environment.filters.update(percent=words.percent)
    environment.globals.update(t=words.text, count=words.count, words=words)
    text = environment.get_template("demo.html.j2").render(
        style=page_style("pages.css", "demo.css"),
        sections=[_section(patient, source, words) for patient, source in real],
        simulated=simulated,
        threshold=threshold_words(simulated, words),
        bundles=bundles,
        simulated_only=simulated_only,
        learned=learned_sentence(simulated_only, words.strings),
        real_report=real_report,
        simulated_report=simulated_report,
    )
    write_text(path, text.lstrip())


def threshold_words(patients: Sequence[PatientComparison], words: Words) -> str:
    """Return the threshold of the calls and on whom it was learned; empty without one."""
    known = next((patient for patient in patients if patient.threshold is not None), None)
    if known is None:
        return ""
    learned = learned_on(known.threshold_n_patients, words, simulated=bool(known.threshold_simulated))
    stated = words.strings("scale.describe_threshold_alone", t=words.percent(known.threshold))
    return f"{stated[0].upper()}{stated[1:]}. {learned or ''}".rstrip()


def chosen_cells(cells: Sequence[LabeledCell], most: int = MOST_CELLS) -> dict[Outcome, tuple[LabeledCell, ...]]:
    """Choose the cells to show, by outcome: wrong answers to CBLC, wrong categories, missed cells, then right calls.

    Each outcome keeps a row for the cells it has, missed cells no more than that; within it the expert's labels take
    turns, so that none of them fills the page alone.
    """
    in_turn = {outcome: _in_turn(cells, outcome) for outcome in get_args(Outcome)}
    kept = {outcome: min(len(found), _ROW) for outcome, found in in_turn.items()}
    left = most
    chosen: dict[Outcome, tuple[LabeledCell, ...]] = {}
    for outcome, found in in_turn.items():
        del kept[outcome]
        limit = max(left - sum(kept.values()), 0)
        chosen[outcome] = found[: min(limit, _ROW) if outcome == "missed" else limit]
        left -= len(chosen[outcome])
    return chosen


def _in_turn(cells: Sequence[LabeledCell], outcome: Outcome) -> tuple[LabeledCell, ...]:
    """Return the cells of one outcome with the expert's labels taking turns."""
    by_label: defaultdict[str, list[LabeledCell]] = defaultdict(list)
    for cell in cells:
        if cell.outcome == outcome:
            by_label[cell.expert].append(cell)
    turns = chain.from_iterable(zip_longest(*(by_label[label] for label in sorted(by_label))))
    return tuple(cell for cell in turns if cell is not None)


def _section(patient: LabeledPatient, source: RealSource, words: Words) -> _Section:
    vocabulary = load_vocabulary()
    lineage_of = {code.category: code.lineage for code in vocabulary.codes.values()}
    names = {code.code: _REMARK.sub("", code.name) for code in vocabulary.codes.values()}
    pixels = FieldPixels()

    def color_of(category: str | None) -> str:
        return category_color(category, lineage_of[category]) if category else "currentcolor"

    images: dict[Path, ImageArray | None] = {}

    def shown(cell: LabeledCell) -> _ShownCell:
        if cell.path not in images:
            image = pixels.read(cell.path, cell.sha256)
            images[cell.path] = None if isinstance(image, str) else image
        return _ShownCell(
            cell=cell,
            uri=_uri(images[cell.path], cell.contour_xy, cell.um_per_px),
            color=color_of(cell.called),
            expert_color=color_of(cell.expert_category),
            expert_name=names.get(cell.expert, ""),  # a coarse label names its set itself
            called_name="" if cell.called is None else words.category(cell.called),
        )

    chosen = chosen_cells(patient.cells)
    groups = tuple(
        _Group(outcome, sum(cell.outcome == outcome for cell in patient.cells), tuple(map(shown, cells)))
        for outcome, cells in chosen.items()
    )
    pixels.close()
    return _Section(patient, source, tuple(group for group in groups if group.n))


def _uri(image: ImageArray | None, contour_xy: ContourArray, um_per_px: float | None) -> str | None:
    return None if image is None else cell_uri(image, contour_xy, um_per_px, _SIDE_UM)
