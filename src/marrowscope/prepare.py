"""Cohort to crops: segment, apply the quality rules, match to the expert polygons, cut.

A crop set is a folder of
    crops.npy     (n, s, s, 3) uint8 RGB, s = the network's crop with a margin for augmentation
    masks.npy     (n, s, s) bool, the cell's mask in the same frame
    cells.parquet a row per crop: where it comes from, what the expert called it, its morphology as measured
    missed.parquet a row per expert cell that no predicted contour matched
    fields.parquet a row per field with a crop: how sharp, bright and stained it is
    prepare.json  crop specification, segmenter hash, counts
Every expert polygon gives a crop with source "expert"; every predicted contour that matches one and passes the
quality rules gives a crop with source "predicted" and the expert's code. Two passes: contours first, so that the
number of crops is known, then the crops, written to disk as they are cut.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec, cut_crop, cut_crops
from marrowscope.cells.field_measures import FIELD_MEASURES, measure_field
from marrowscope.cells.match import match_contours
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS, measure
from marrowscope.cells.quality import QualityRules, apply_quality_rules
from marrowscope.cohort.duplicates import image_fingerprint
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import name_files, refuse_foreign_folder
from marrowscope.errors import InputError, ScaleError
from marrowscope.imaging import read_image
from marrowscope.patient.flags import TRAINING_FIELDS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import Annotation, ContourArray, Field, ImageArray, Patient
    from marrowscope.segment.segmenter import Segmenter

STORED_CROP_PX = 136
"""Side of a stored crop: 96 px times the square root of 2, so that any rotation stays inside it."""

SUMMARY_NAME = "prepare.json"
CROP_SET_KIND = "crop set"
CROP_SET_FILES = ("crops.npy", "masks.npy", "cells.parquet", "missed.parquet", TRAINING_FIELDS_NAME, SUMMARY_NAME)
CropSource = Literal["expert", "predicted"]
CELLS_SCHEMA: dict[str, pl.DataType] = {
    "cell_id": pl.String(),
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "image_sha256": pl.String(),
    "image_dhash": pl.String(),
    "source": pl.String(),
    "expert_code": pl.String(),
    "match_iou": pl.Float64(),
    "cut": pl.Boolean(),
    "um_per_px": pl.Float64(),
    "area_um2": pl.Float64(),
    "circularity": pl.Float64(),
    **{name: pl.Float64() for name in MORPHOLOGY_COLUMNS},
}
MISSED_SCHEMA: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "shape_index": pl.Int64(),
    "expert_code": pl.String(),
    "cut": pl.Boolean(),
}
FIELDS_SCHEMA: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    **{name: pl.Float64() for name in FIELD_MEASURES if name != "stain_distance"},  # measured from these fields
}


@dataclass(frozen=True, slots=True)
class _PlannedCrop:
    contour_xy: ContourArray
    source: CropSource
    expert_code: str
    shape_index: int
    match_iou: float | None
    cut: bool


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """One field, its scale, what is to be cut from it, and what the segmenter missed, added or was refused."""

    field: Field
    um_per_px: float
    crops: tuple[_PlannedCrop, ...]
    missed: tuple[Annotation, ...] = ()
    n_unlabelled: int = 0
    n_rejected: int = 0


@dataclass(frozen=True, slots=True)
class PreparedCrops:
    """What ``prepare_crops`` made: the folder and its counts (they reconcile: expert = matched + missed).

    ``n_missed_cut`` of the missed are cut by the image's edge, where the quality rules keep no contour.
    """

    folder: Path
    n_expert: int
    n_predicted: int
    n_missed: int
    n_missed_cut: int
    n_unlabelled: int
    n_rejected: int


def prepare_crops(
    patients: Iterable[Patient],
    fields: Sequence[Field],
    out: Path,
    *,
    segmenter: Segmenter | None = None,
    rules: QualityRules | None = None,
    spec: CropSpec | None = None,
    um_per_px: float | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedCrops:
    """Cut the crops of every annotated field and write the crop set to ``out``.

    Without a segmenter only expert crops are cut. ``um_per_px`` is the scale of fields that state none;
    ``progress`` gets (steps done, steps in all). Raises InputError when no annotation holds a cell, two patients have
    one name, or ``out`` holds a finished crop set and ``overwrite`` is off; ScaleError when a field has no scale.
    """
    spec = spec or CropSpec()
    rules = rules or QualityRules()
    check_crop_folder(out, overwrite=overwrite)
    annotated = [field for field in fields if field.annotated]
    if not any(field.annotations for field in annotated):
        message = f"found {len(fields)} fields and no annotation, expected expert polygons; annotate the fields first"
        raise InputError(message)
    diagnosis_of = _diagnoses(patients)
    scales = [_scale_of(field, um_per_px) for field in annotated]
    steps = _Steps(len(annotated) * (2 if segmenter else 1), progress)
    plans = []
    for field, scale in zip(annotated, scales, strict=True):
        plan = _plan_expert(field, scale)
        if segmenter:
            plan = _plan_predicted(plan, segmenter, rules)
            steps.done_one()
        plans.append(plan)
    out.mkdir(parents=True, exist_ok=True)
    name_files(out, CROP_SET_KIND, CROP_SET_FILES)
    (out / SUMMARY_NAME).unlink(missing_ok=True)  # written last: while it is absent the crop set is not complete
    cells, measured = _cut_all(plans, spec, out, diagnosis_of, steps)
    cells.write_parquet(out / "cells.parquet")
    measured.write_parquet(out / TRAINING_FIELDS_NAME)
    missed = _missed_table(plans)
    missed.write_parquet(out / "missed.parquet")
    n_predicted = int((cells["source"] == "predicted").sum())
    prepared = PreparedCrops(
        folder=out,
        n_expert=cells.height - n_predicted,
        n_predicted=n_predicted,
        n_missed=missed.height,
        n_missed_cut=int(missed["cut"].sum()),
        n_unlabelled=sum(plan.n_unlabelled for plan in plans),
        n_rejected=sum(plan.n_rejected for plan in plans),
    )
    _write_summary(out, prepared, spec, rules, segmenter)
    return prepared


def check_crop_folder(out: Path, *, overwrite: bool = False) -> None:
    """Refuse a file, a cohort, files of others and, without ``overwrite``, a finished crop set, with an InputError.

    A crop set inside a cohort would be taken for the cohort from then on; one that was interrupted is made anew.
    """
    if (out / PATIENTS_NAME).exists():
        message = (
            f"{out}: found a cohort ({PATIENTS_NAME}), expected a folder of its own for the crop set; choose another"
        )
        raise InputError(message)
    interrupted = not (out / SUMMARY_NAME).exists()
    refuse_foreign_folder(out, CROP_SET_KIND, overwrite=overwrite or interrupted, error=InputError)


def _diagnoses(patients: Iterable[Patient]) -> dict[str, str]:
    """Give each patient's diagnosis; two patients of one name, from two cohorts, would share a side of every split."""
    diagnoses: dict[str, str] = {}
    for patient in patients:
        if patient.patient_id in diagnoses:
            message = (
                f"found patient {patient.patient_id!r} in two cohorts, expected each name once; rename the patients of "
                "one cohort (simulated ones: `marrowscope simulate --prefix`)"
            )
            raise InputError(message)
        diagnoses[patient.patient_id] = patient.diagnosis
    return diagnoses


def _plan_expert(field: Field, um_per_px: float) -> _FieldPlan:
    """Plan a crop of every expert polygon."""
    crops = (
        _PlannedCrop(item.contour_xy, "expert", item.code, item.shape_index, None, _is_cut(item, field))
        for item in field.annotations
    )
    return _FieldPlan(field, um_per_px, tuple(crops))


def _is_cut(item: Annotation, field: Field) -> bool:
    """Say whether the image's edge cuts the expert's cell: the quality rules refuse such a cell, found or not."""
    return geometry.is_cut(item.contour_xy, field.width_px, field.height_px)


def _plan_predicted(plan: _FieldPlan, segmenter: Segmenter, rules: QualityRules) -> _FieldPlan:
    """Segment the field and add a crop of every contour that passes the rules and matches an expert polygon."""
    field = plan.field
    detections = segmenter.detect(read_image(field.path), plan.um_per_px)
    reasons = apply_quality_rules(detections, rules, field.width_px, field.height_px, plan.um_per_px)
    kept = [detection for detection, reason in zip(detections, reasons, strict=True) if reason is None]
    matching = match_contours(
        [detection.contour_xy for detection in kept], [item.contour_xy for item in field.annotations]
    )
    matched = (
        _PlannedCrop(
            contour_xy=kept[pair.predicted].contour_xy,
            source="predicted",
            expert_code=field.annotations[pair.expert].code,
            shape_index=field.annotations[pair.expert].shape_index,
            match_iou=pair.iou,
            cut=_is_cut(field.annotations[pair.expert], field),
        )
        for pair in matching.pairs
    )
    return replace(
        plan,
        crops=(*plan.crops, *matched),
        missed=tuple(field.annotations[index] for index in matching.unmatched_expert),
        n_unlabelled=len(matching.unmatched_predicted),
        n_rejected=len(detections) - len(kept),
    )


def _cut_all(
    plans: Sequence[_FieldPlan], spec: CropSpec, out: Path, diagnosis_of: Mapping[str, str], steps: _Steps
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut every planned crop into the two memory-mapped arrays; gives cells in the same order, and fields measured."""
    n_crops = sum(len(plan.crops) for plan in plans)
    stored = spec.with_margin(STORED_CROP_PX)
    size = stored.size_px
    crops = np.lib.format.open_memmap(out / "crops.npy", mode="w+", dtype=np.uint8, shape=(n_crops, size, size, 3))
    masks = np.lib.format.open_memmap(out / "masks.npy", mode="w+", dtype=np.bool_, shape=(n_crops, size, size))
    rows: list[dict[str, str | float | None]] = []
    measured: list[dict[str, str | float | None]] = []
    for plan in plans:
        field = plan.field
        if not plan.crops:
            steps.done_one()
            continue
        image = read_image(field.path)
        fingerprint = image_fingerprint(image)
        of_field = {"field_id": field.field_id, "patient_id": field.patient_id, "center": field.center}
        measured.append(of_field | _finite(measure_field(image, plan.um_per_px)))
        window = slice(len(rows), len(rows) + len(plan.crops))
        contours = [item.contour_xy for item in plan.crops]
        crops[window], masks[window] = cut_crops(image, contours, plan.um_per_px, stored)
        rows += [
            {
                "cell_id": f"{field.field_id}#{item.shape_index}/{item.source}",
                **of_field,
                "diagnosis": diagnosis_of[field.patient_id],
                "image_sha256": field.sha256,
                "image_dhash": fingerprint,
                "source": item.source,
                "expert_code": item.expert_code,
                "match_iou": item.match_iou,
                "cut": item.cut,
                "um_per_px": plan.um_per_px,
                **_morphology(image, item.contour_xy, plan.um_per_px, spec),
            }
            for item in plan.crops
        ]
        steps.done_one()
    crops.flush()
    masks.flush()
    return pl.DataFrame(rows, schema=CELLS_SCHEMA), pl.DataFrame(measured, schema=FIELDS_SCHEMA)


def _morphology(
    image: ImageArray, contour_xy: ContourArray, um_per_px: float, spec: CropSpec
) -> dict[str, float | None]:
    """Measure one cell on the crop that the network sees, as prediction does; None where not measurable.

    The stored crop has a margin, and with it another background and another rounding of its side to whole pixels.
    """
    crop = cut_crop(image, contour_xy, um_per_px, spec)
    values = {
        "area_um2": geometry.area(contour_xy) * um_per_px**2,
        "circularity": geometry.circularity(contour_xy),
        **measure(crop, contour_xy, um_per_px, spec.um_per_px),
    }
    return _finite(values)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _missed_table(plans: Sequence[_FieldPlan]) -> pl.DataFrame:
    rows = [
        {
            "field_id": plan.field.field_id,
            "shape_index": item.shape_index,
            "expert_code": item.code,
            "cut": _is_cut(item, plan.field),
        }
        for plan in plans
        for item in plan.missed
    ]
    return pl.DataFrame(rows, schema=MISSED_SCHEMA)


def _write_summary(
    out: Path, prepared: PreparedCrops, spec: CropSpec, rules: QualityRules, segmenter: Segmenter | None
) -> None:
    summary = {
        "schema_version": 1,
        "crop": spec.model_dump(mode="json"),
        "stored_px": STORED_CROP_PX,
        "quality_rules": rules.model_dump(mode="json"),
        "segmenter_sha256": segmenter.sha256 if segmenter else None,
        "counts": {
            "expert": prepared.n_expert,
            "predicted": prepared.n_predicted,
            "missed": prepared.n_missed,
            "missed_cut": prepared.n_missed_cut,
            "unlabelled": prepared.n_unlabelled,
            "rejected": prepared.n_rejected,
        },
    }
    (out / SUMMARY_NAME).write_text(json.dumps(summary, indent=2), encoding="utf-8")


class _Steps:
    """Counts the steps of both passes for the progress callback."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def done_one(self) -> None:
        """Report one more step."""
        self._done += 1
        if self._progress:
            self._progress(self._done, self._total)


def _scale_of(field: Field, um_per_px: float | None) -> float:
    scale = field.um_per_px or um_per_px
    if scale is None:
        message = (
            f"{field.path}: found no scale, expected micrometres per pixel from patients.csv; add a um_per_px column "
            "or set --um-per-px"
        )
        raise ScaleError(message)
    return scale
