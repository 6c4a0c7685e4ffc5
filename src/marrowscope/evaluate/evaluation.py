"""Compute figures per center from the tables of a run and the experts' polygons.

1. ``slide_regions.split_slides``: a slide's annotation is divided among the regions that the run read.
2. ``link.link_cells``: the run's contours are matched to the expert polygons of the same image, once with every
   contour (before the quality rules) and once with the kept cells.
3. ``scores.score_center``: figures with n and an interval; ``reliability`` and each module ``*_scores`` compute one
   kind of figure.
4. ``across_centers``: the main figures of at least five centers as a sample of centers.
5. ``output.write_evaluation``: metrics.json (everything), tables as CSV, metrics.md to read.

``catalog`` has the key, title and scale of every figure; ``frames`` has the columns of every table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.errors import InputError
from marrowscope.evaluate.across_centers import AcrossCenters, across_centers
from marrowscope.evaluate.document import EvaluatedRun
from marrowscope.evaluate.frames import ALL_CENTERS
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.evaluate.participants import Flow, flows
from marrowscope.evaluate.ratio_scores import centers_with_own_rates, with_assessment
from marrowscope.evaluate.scores import CenterScores, score_center
from marrowscope.evaluate.slide_regions import split_slides
from marrowscope.runs.checked_rows import read_rows, scan_rows
from marrowscope.runs.parquet import read_table
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.vocabulary import are_compatible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import Field, Patient
    from marrowscope.runs.manifest import Manifest
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores per center, followed by all centers if there are several, and what was compared.

    ``across_centers`` has the summary over centers, if there are several; ``flows`` counts who was left out, and why.
    ``own_rates`` are centers whose ratios were corrected with rates measured in the center itself.
    """

    centers: tuple[CenterScores, ...]
    linked: LinkedCells
    config: EvaluateConfig
    categories: tuple[str, ...]
    run: EvaluatedRun
    across_centers: tuple[AcrossCenters, ...] = ()
    flows: tuple[Flow, ...] = ()
    own_rates: tuple[str, ...] = ()


def evaluate_run(
    run: Path,
    patients: Sequence[Patient],
    fields: Sequence[Field],
    vocabulary: Vocabulary,
    *,
    config: EvaluateConfig | None = None,
    rejected_patients: Mapping[str, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare the run folder ``run`` with a cohort's annotated fields.

    ``rejected_patients`` are rows of patients.csv that the cohort's reader could not use, by reason; they only count.

    Raises InputError if no annotated field of the cohort is in the run, if an image of the same name differs, or if the
    run was made with another vocabulary; RunError if a table of the run differs from its manifest or has
    rows that cannot be scored.
    """
    config = config or EvaluateConfig()
    manifest = read_checked_manifest(run)
    refuse_other_vocabulary(run, manifest, vocabulary)
    run_fields = read_rows(run, "fields", vocabulary.categories)
    run_cells = scan_rows(run, "cells", vocabulary.categories)
    plans = run / "regions.parquet"
    regions = read_table(plans, "regions") if plans.is_file() else None
    fields, n_outside = split_slides(fields, run_fields, run_cells, regions, config.min_iou)
    linked = link_cells(run_fields, run_cells, patients, fields, vocabulary, config=config)
    linked = replace(linked, n_cells_outside_regions=n_outside)
    run_patients = read_rows(run, "patients", vocabulary.categories)
    ratios = with_assessment(linked.ratios, run_patients)
    linked = replace(linked, ratios=ratios)
    threshold = manifest.bundle.threshold
    if config.threshold is None and threshold is not None:
        config = config.model_copy(update={"threshold": float(threshold)})
    names = sorted(set(linked.ratios["center"]))
    groups = [(name, pl.col("center") == name) for name in names]
    if len(names) > 1:
        groups.append((ALL_CENTERS, pl.lit(value=True)))
    centers = []
    for done, (name, of_center) in enumerate(groups, start=1):
        centers.append(
            score_center(
                name,
                linked.expert.filter(of_center),
                linked.detections.filter(of_center),
                linked.ratios.filter(of_center),
                vocabulary.categories,
                config=config,
            )
        )
        if progress:
            progress(done, len(groups))
    return Evaluation(
        centers=tuple(centers),
        linked=linked,
        config=config,
        categories=vocabulary.categories,
        run=EvaluatedRun(
            created_utc=manifest.created_utc,
            marrowscope_version=manifest.marrowscope_version,
            bundle=manifest.bundle.stated(),
            backend=manifest.backend,
            device=manifest.device,
            precision=manifest.precision,
            input_sha256=manifest.input_sha256,
            config_sha256=manifest.config_sha256,
        ),
        across_centers=across_centers(centers[: len(names)], linked.ratios, config),
        flows=flows(
            linked,
            config,
            n_patients=len(patients) + sum((rejected_patients or {}).values()),
            n_rejected_patients=rejected_patients or {},
            n_contours=manifest.counts.contours,
            n_rejected_contours=manifest.counts.rejected,
        ),
        own_rates=centers_with_own_rates(run_patients, ratios["patient_id"]),
    )


def refuse_other_vocabulary(run: Path, manifest: Manifest, vocabulary: Vocabulary) -> None:
    """Refuse a run whose categories may not mean the same as the cohort's codes."""
    used = manifest.bundle.vocabulary
    if used and used.sha256 and not are_compatible(used.sha256, vocabulary.sha256):
        message = (
            f"{run}: found a run predicted with vocabulary {used.name} {used.version}, expected {vocabulary.name} "
            f"{vocabulary.version} as for the cohort; give the vocabulary of the run's bundle with --vocabulary"
        )
        raise InputError(message)
