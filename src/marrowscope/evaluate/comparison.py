"""Compare two runs, or two readers, with the same expert polygons, paired by patient.

1. ``read_side``: a run's tables, or another reader's annotations in the form of a run (``reader_tables``).
2. ``compare_sides``: only the fields that both sides and the cohort have; both are linked to the same expert polygons.
3. ``paired_scores``: per center and over all, each figure of A and B, A minus B, and the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.errors import InputError
from marrowscope.evaluate.evaluation import refuse_other_vocabulary
from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.link import EvaluateConfig, link_cells
from marrowscope.evaluate.paired_scores import PairedDecisions, PairedFigure, Side, paired_decisions, paired_figures
from marrowscope.evaluate.ratio_scores import with_assessment
from marrowscope.evaluate.slide_regions import split_slides
from marrowscope.runs.checked_rows import CheckedRows, read_rows, scan_rows
from marrowscope.runs.parquet import conform, read_table
from marrowscope.runs.table_hashes import read_checked_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.evaluate.link import LinkedCells
    from marrowscope.records import Field, Patient
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One side before it is linked; ``described`` names it in words (a run's bundle, or a reader's folder).

    ``patients`` is the run's own table, None for a reader, who has no corrected ratio and no call. ``regions`` is the
    table of that name of a run with slides.
    """

    name: str
    described: str
    fields: pl.DataFrame
    cells: CheckedRows
    patients: pl.DataFrame | None
    regions: pl.DataFrame | None
    threshold: float | None
    bundle: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ComparedCenter:
    """The paired figures and decisions of one center, or of all together."""

    center: str
    n_patients: int
    n_fields: int
    figures: tuple[PairedFigure, ...]
    decisions: tuple[PairedDecisions, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides, what was compared, and each center's results, followed by all centers if there are several.

    ``n_fields_left_out`` are annotated fields of the cohort that one side or both lack. ``ratios_a`` and ``ratios_b``
    have the same patients in the same order.
    """

    a: ComparedSide
    b: ComparedSide
    config: EvaluateConfig
    n_fields: int
    n_fields_left_out: int
    centers: tuple[ComparedCenter, ...]
    ratios_a: pl.DataFrame
    ratios_b: pl.DataFrame


def read_run_side(run: Path, vocabulary: Vocabulary) -> ComparedSide:
    """Read a run; raises RunError or InputError as ``evaluate_run`` does."""
    manifest = read_checked_manifest(run)
    refuse_other_vocabulary(run, manifest, vocabulary)
    plans = run / "regions.parquet"
    used = manifest.bundle.stated()
    bundle = f"{used.get('name') or 'without a name'} {used.get('version') or ''}".strip()
    return ComparedSide(
        name=run.name,
        described=f"run {run.name} of bundle {bundle}",
        fields=read_rows(run, "fields", vocabulary.categories),
        cells=scan_rows(run, "cells", vocabulary.categories),
        patients=read_rows(run, "patients", vocabulary.categories),
        regions=read_table(plans, "regions") if plans.is_file() else None,
        threshold=None if manifest.bundle.threshold is None else float(manifest.bundle.threshold),
        bundle=used,
    )


def reader_side(folder: Path, fields: Sequence[Field], vocabulary: Vocabulary) -> ComparedSide:
    """Take another reader's annotations for a run: every polygon is a kept cell, its code the call.

    Raises InputError for a label that leaves category, CBLC or countable open: it is no call.
    """
    annotated = [field for field in fields if field.annotated]
    cells = []
    for field in annotated:
        for annotation in field.annotations:
            label = vocabulary.read_label(annotation.code, str(field.path), annotation.shape_index)
            if len(label.categories) > 1 or label.cblc is None or label.countable is None:
                message = (
                    f"{field.path}: found label {label.text!r} in shape {annotation.shape_index}, which leaves the "
                    "category, CBLC or countable open, expected a code that decides them; compare readers who use codes"
                )
                raise InputError(message)
            cells.append(
                {
                    "cell_id": f"{field.field_id}#{annotation.shape_index}",
                    "field_id": field.field_id,
                    "patient_id": field.patient_id,
                    "contour_xy": annotation.contour_xy.ravel().tolist(),
                    "category": label.categories[0],
                    "is_cblc": label.cblc,
                    "is_countable": label.countable,
                }
            )
    rows = [
        {"field_id": field.field_id, "patient_id": field.patient_id, "center": field.center, "sha256": field.sha256}
        | {"path": str(field.path), "width_px": field.width_px, "height_px": field.height_px, "status": "ok"}
        for field in annotated
    ]
    return ComparedSide(
        name=folder.name,
        described=f"reader {folder.name}",
        fields=conform(pl.DataFrame(rows), "fields"),
        cells=CheckedRows.of(conform(pl.DataFrame(cells), "cells")),
        patients=None,
        regions=None,
        threshold=None,
        bundle={},
    )


def compare_sides(
    a: ComparedSide,
    b: ComparedSide,
    patients: Sequence[Patient],
    fields: Sequence[Field],
    vocabulary: Vocabulary,
    *,
    config: EvaluateConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Link both sides to the cohort's annotated fields and compare them, center by center.

    Raises InputError if no annotated field is in both.
    """
    config = config or EvaluateConfig()
    shared = set(a.fields["field_id"]) & set(b.fields["field_id"])
    annotated = [field for field in fields if field.annotated]
    if not shared:
        message = (
            f"found no annotated field that both sides have among {len(a.fields)} of {a.described} and {len(b.fields)} "
            f"of {b.described}, expected some in common; compare runs or readers of the same cohort"
        )
        raise InputError(message)
    linked = [_linked(_shared(side, shared), patients, annotated, vocabulary, config) for side in (a, b)]
    sides = []
    for side, found in zip((a, b), linked, strict=True):
        threshold = side.threshold if config.threshold is None else config.threshold
        sides.append(Side(found.expert, found.detections, found.ratios, threshold))
    names = sorted(set(linked[0].ratios["center"]))
    groups = [(name, pl.col("center") == name) for name in names]
    if len(names) > 1:
        groups.append((ALL_CENTERS, pl.lit(value=True)))
    centers = []
    for done, (name, here) in enumerate(groups, start=1):
        first, second = (
            replace(
                side,
                expert=side.expert.filter(here),
                detections=side.detections.filter(here),
                ratios=side.ratios.filter(here),
            )
            for side in sides
        )
        centers.append(
            ComparedCenter(
                center=name,
                n_patients=len(first.ratios),
                n_fields=first.expert["field_id"].n_unique(),
                figures=tuple(paired_figures(first, second, vocabulary.categories, config)),
                decisions=tuple(paired_decisions(first, second, config)),
            )
        )
        if progress:
            progress(done, len(groups))
    return Comparison(
        a=a,
        b=b,
        config=config,
        n_fields=len(shared) - linked[0].n_fields_only_in_run,
        n_fields_left_out=linked[0].n_fields_only_in_cohort,
        centers=tuple(centers),
        ratios_a=linked[0].ratios,
        ratios_b=linked[1].ratios,
    )


def _shared(side: ComparedSide, shared: set[str]) -> ComparedSide:
    """Return the side with only the fields of ``shared``."""
    is_shared = pl.col("field_id").is_in(shared)
    cells = replace(side.cells, rows=side.cells.rows.filter(is_shared))
    return replace(side, fields=side.fields.filter(is_shared), cells=cells)


def _linked(
    side: ComparedSide,
    patients: Sequence[Patient],
    annotated: Sequence[Field],
    vocabulary: Vocabulary,
    config: EvaluateConfig,
) -> LinkedCells:
    regions, _ = split_slides(annotated, side.fields, side.cells, side.regions, config.min_iou)
    linked = link_cells(side.fields, side.cells, patients, regions, vocabulary, config=config)
    if side.patients is None:
        return linked
    return replace(linked, ratios=with_assessment(linked.ratios, side.patients))
