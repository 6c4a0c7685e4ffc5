"""Summarize a cohort: counts by center, diagnosis and code, as plain values for a table or for JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marrowscope.cohort.reader import Cohort
    from marrowscope.records import JsonDict


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Counts of one center or one diagnosis; ``n_countable`` and ``n_cblc`` are out of ``n_cells`` annotated cells.

    ``n_undecided`` are those whose coarse label leaves open if they are CBLC or if they are countable.
    """

    name: str
    n_patients: int
    n_images: int
    n_annotated_images: int
    n_not_exhaustive: int
    n_cells: int
    n_countable: int
    n_cblc: int
    n_undecided: int


@dataclass(frozen=True, slots=True)
class CodeCounts:
    """Annotated cells of one code; ``by_center`` and ``by_diagnosis`` reveal a code that gives away the diagnosis.

    A coarse label has a row of its own; its ``category`` lists every category that its cells may have.
    """

    code: str
    name: str
    category: str
    n_cells: int
    by_center: dict[str, int]
    by_diagnosis: dict[str, int]


def count_by_center(cohort: Cohort) -> tuple[GroupCounts, ...]:
    """Count patients, images and cells of every center, by name."""
    return _count_groups(cohort, {patient.patient_id: patient.center for patient in cohort.patients})


def count_by_diagnosis(cohort: Cohort) -> tuple[GroupCounts, ...]:
    """Count patients, images and cells of every diagnosis, by name."""
    return _count_groups(cohort, {patient.patient_id: patient.diagnosis for patient in cohort.patients})


def count_by_code(cohort: Cohort) -> tuple[CodeCounts, ...]:
    """Count the annotated cells of every label that occurs: codes in the vocabulary's order, then coarse labels."""
    by_center: defaultdict[str, Counter[str]] = defaultdict(Counter)
    by_diagnosis: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (code, center, diagnosis), n in cohort.cells().items():
        by_center[code][center] += n
        by_diagnosis[code][diagnosis] += n
    codes = cohort.vocabulary.codes
    ordered = [code for code in codes if code in by_center] + sorted(by_center.keys() - codes.keys())
    return tuple(
        CodeCounts(
            code=label,
            name=codes[label].name if label in codes else "coarse label",
            category=", ".join(cohort.vocabulary.read_label(label).categories),
            n_cells=by_center[label].total(),
            by_center=dict(sorted(by_center[label].items())),
            by_diagnosis=dict(sorted(by_diagnosis[label].items())),
        )
        for label in ordered
    )


def summarize(cohort: Cohort) -> JsonDict:
    """Return everything that `marrowscope cohort check --json` prints."""
    return {
        "schema_version": 1,
        "vocabulary": {
            "name": cohort.vocabulary.name,
            "version": cohort.vocabulary.version,
            "sha256": cohort.vocabulary.sha256,
        },
        "loses_data": cohort.loses_data,
        "counts": asdict(cohort.counts),
        "centers": [asdict(row) for row in count_by_center(cohort)],
        "diagnoses": [asdict(row) for row in count_by_diagnosis(cohort)],
        "codes": [asdict(row) for row in count_by_code(cohort)],
        "faults": [{**asdict(fault), "sentence": fault.sentence()} for fault in cohort.faults],
    }


def _count_groups(cohort: Cohort, group_of: dict[str, str]) -> tuple[GroupCounts, ...]:
    labels = {text: cohort.vocabulary.read_label(text) for text, _, _ in cohort.cells()}
    rows = []
    for name in sorted(set(group_of.values())):
        fields = [field for field in (*cohort.fields, *cohort.slides) if group_of[field.patient_id] == name]
        cells = [labels[item.code] for field in fields for item in field.annotations]
        rows.append(
            GroupCounts(
                name=name,
                n_patients=sum(group == name for group in group_of.values()),
                n_images=len(fields),
                n_annotated_images=sum(field.annotated for field in fields),
                n_not_exhaustive=sum(field.annotated and not field.exhaustive for field in fields),
                n_cells=len(cells),
                n_countable=sum(label.countable is True for label in cells),
                n_cblc=sum(label.cblc is True for label in cells),
                n_undecided=sum(label.countable is None or label.cblc is None for label in cells),
            )
        )
    return tuple(rows)
