"""From a cohort to crops: segment, apply the quality rules, match with the expert polygons, cut.

A crop set is a folder of
    crops.npy     (n, s, s, 3) uint8 RGB, s = the network's crop with a margin for augmentation
    masks.npy     (n, s, s) bool, the cell's mask in the same frame
    cells.parquet a row per crop: its origin, the expert's code, its measured morphology
    missed.parquet a row per expert cell that no predicted contour matched
    fields.parquet a row per field with a crop: its sharpness, brightness and stain
    prepare.json  crop specification, segmenter hash, counts
Every expert polygon gives a crop with source "expert". Every predicted contour that matches one and passes the quality
rules gives a crop with source "predicted" and the expert's code. Prediction uses the same functions to decode
photographs, find cells and cut crops. Crops are written to disk as they are cut, field by field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec, cut_crops, without_margin
from marrowscope.cells.field_measures import measure_field
from marrowscope.cells.find import CellFinder, coarsest_um_per_px, find_cells
from marrowscope.cells.match import match_contours
from marrowscope.cells.morphology import measure_cells
from marrowscope.cells.quality import QualityRules
from marrowscope.cohort.duplicates import image_fingerprint
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import name_files, refuse_foreign_folder, write_json
from marrowscope.errors import InputError
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.imaging.scale import choose_scale
from marrowscope.patient.flags import TRAINING_FIELDS_NAME
from marrowscope.train.crop_set import (
    CELLS_SCHEMA,
    FIELDS_SCHEMA,
    MISSED_SCHEMA,
    SUMMARY_NAME,
    CropCounts,
    CropSetSummary,
    GrowingArray,
    UsedMapping,
    joined_codes,
    used_mappings,
)
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import Annotation, Field, FieldImage, ImageArray, MaskArray, Patient
    from marrowscope.segment.segmenter import Segmenter
    from marrowscope.vocabulary import CenterMappings

_CROP_SET_KIND = "crop set"
_CROP_SET_FILES = ("crops.npy", "masks.npy", "cells.parquet", "missed.parquet", TRAINING_FIELDS_NAME, SUMMARY_NAME)
CropSource = Literal["expert", "predicted"]


@dataclass(frozen=True, slots=True)
class _FieldCrops:
    """Crops of one field (n, s, s, 3), masks (n, s, s), a row for each crop, and the row of the field.

    ``missed`` are expert cells that no contour matched. A field without crops has no row.
    """

    crops: ImageArray
    masks: MaskArray
    rows: list[dict[str, str | float | bool | None]]
    measured: list[dict[str, str | float | None]]
    missed: tuple[Annotation, ...] = ()
    n_unlabeled: int = 0
    n_rejected: int = 0


@dataclass(frozen=True, slots=True)
class PreparedCrops:
    """Result of ``prepare_crops``: the folder and its counts (expert = matched + missed).

    ``n_missed_cut`` of the missed cells are cut by the image's edge, where the quality rules keep no contour.
    """

    folder: Path
    n_expert: int
    n_predicted: int
    n_missed: int
    n_missed_cut: int
    n_unlabeled: int
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
    mappings: CenterMappings | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedCrops:
    """Cut the crops of every annotated field and write the crop set to ``out``.

    Without a segmenter, only expert crops are cut. ``um_per_px`` is the scale of fields that do not state one;
    ``mappings`` translated the labels and are recorded; ``progress`` gets (steps done, total steps). Raises InputError
    if no annotation has a cell, two patients have the same name, or ``out`` has a finished crop set and ``overwrite``
    is off; ScaleError if a field has no scale.
    """
    spec = spec or CropSpec()
    rules = rules or QualityRules()
    check_crop_folder(out, overwrite=overwrite)
    annotated = [field for field in fields if field.annotated]
    if not any(field.annotations for field in annotated):
        message = (
            f"found {count_of(len(fields), 'field')} and no annotation, expected expert polygons; annotate the fields "
            "first"
        )
        raise InputError(message)
    facts_of = _facts(patients)
    scales = [choose_scale(field.path, field.um_per_px, um_per_px) for field in annotated]
    margin_px = (stored_side_px(spec.size_px) - spec.size_px) // 2
    finder = CellFinder(segmenter, rules, spec, margin_px) if segmenter else None
    coarsest = coarsest_um_per_px(segmenter.config.um_per_px if segmenter else spec.um_per_px, spec.um_per_px)
    out.mkdir(parents=True, exist_ok=True)
    name_files(out, _CROP_SET_KIND, _CROP_SET_FILES, whole=True)
    (out / SUMMARY_NAME).unlink(missing_ok=True)  # written last: without it, the crop set is not complete
    rows: list[dict[str, str | float | bool | None]] = []
    measured: list[dict[str, str | float | None]] = []
    missed: list[dict[str, str | int | bool]] = []
    n_unlabeled = n_rejected = n_simulated = 0
    side = spec.size_px + 2 * margin_px
    with (
        GrowingArray(out / "crops.npy", np.uint8, (side, side, 3)) as crops,
        GrowingArray(out / "masks.npy", np.bool_, (side, side)) as masks,
    ):
        for n_done, (field, scale) in enumerate(zip(annotated, scales, strict=True), start=1):
            data = read_file(field.path)
            image = decode_photograph(data, field.path, stated_um_per_px=scale, coarsest_um_per_px=coarsest)
            n_simulated += image.is_simulated
            found = _cut_expert(field, image, spec, margin_px)
            if finder:
                found = _add_predicted(found, field, image, finder)
            crops.append(found.crops)
            masks.append(found.masks)
            rows += [{**row, **facts_of[field.patient_id]} for row in found.rows]
            measured += found.measured
            missed += [_missed_row(field, item) for item in found.missed]
            n_unlabeled, n_rejected = n_unlabeled + found.n_unlabeled, n_rejected + found.n_rejected
            if progress:
                progress(n_done, len(annotated))
    cells = pl.DataFrame(rows, schema=CELLS_SCHEMA)
    cells.write_parquet(out / "cells.parquet")
    pl.DataFrame(measured, schema=FIELDS_SCHEMA).write_parquet(out / TRAINING_FIELDS_NAME)
    missed_table = pl.DataFrame(missed, schema=MISSED_SCHEMA)
    missed_table.write_parquet(out / "missed.parquet")
    n_predicted = int((cells["source"] == "predicted").sum())
    prepared = PreparedCrops(
        folder=out,
        n_expert=cells.height - n_predicted,
        n_predicted=n_predicted,
        n_missed=missed_table.height,
        n_missed_cut=int(missed_table["cut"].sum()),
        n_unlabeled=n_unlabeled,
        n_rejected=n_rejected,
    )
    _write_summary(
        out,
        prepared,
        spec,
        rules,
        segmenter=segmenter,
        mappings=used_mappings(mappings),
        simulated=n_simulated == len(annotated),
    )
    return prepared


def stored_side_px(size_px: int) -> int:
    """Return the side of a stored crop: times the square root of 2, so that every rotation of the crop is inside it.

    Its center is the network's crop, to the bit.
    """
    return size_px + 2 * math.ceil(size_px * (math.sqrt(2) - 1) / 2)


def check_crop_folder(out: Path, *, overwrite: bool = False) -> None:
    """Raise InputError for a file, a cohort, foreign files or, without ``overwrite``, a finished crop set.

    A crop set written into a cohort's folder would later be mistaken for the cohort. An interrupted crop set is made
    again.
    """
    if (out / PATIENTS_NAME).exists():
        message = (
            f"{out}: found a cohort ({PATIENTS_NAME}), expected a separate folder for the crop set; choose another"
        )
        raise InputError(message)
    interrupted = not (out / SUMMARY_NAME).exists()
    refuse_foreign_folder(out, _CROP_SET_KIND, overwrite=overwrite or interrupted, error=InputError)


def _facts(patients: Iterable[Patient]) -> dict[str, dict[str, str]]:
    """Return each patient's diagnosis and specimen; InputError if two, from two cohorts, have the same name."""
    facts: dict[str, dict[str, str]] = {}
    for patient in patients:
        if patient.patient_id in facts:
            message = (
                f"found patient {patient.patient_id!r} in two cohorts, expected unique names; rename the patients of "
                "one cohort (simulated ones: `marrowscope simulate --prefix`)"
            )
            raise InputError(message)
        facts[patient.patient_id] = {"diagnosis": patient.diagnosis, "specimen": patient.specimen.strip().casefold()}
    return facts


def _cut_expert(field: Field, image: FieldImage, spec: CropSpec, margin_px: int) -> _FieldCrops:
    """Cut and measure a crop for every expert polygon, and measure the field."""
    contours = [image.from_file(item.contour_xy) for item in field.annotations]
    scale = image.pixels_um_per_px
    crops, masks = cut_crops(image.pixels, contours, scale, spec, margin_px=margin_px)
    morphology = measure_cells(*without_margin(crops, masks, margin_px), contours, scale, spec.um_per_px)
    measured = []
    if field.annotations:
        of_field = {"field_id": field.field_id, "patient_id": field.patient_id, "center": field.center}
        measured = [of_field | _finite(measure_field(image.pixels, scale))]
    shared = _of_field(field, image)
    rows = [
        shared
        | _of_crop(field, item, "expert", None)
        | _finite(
            {
                "area_um2": geometry.area(item.contour_xy) * image.um_per_px**2,
                "circularity": geometry.circularity(item.contour_xy),
                **values,
            }
        )
        for item, values in zip(field.annotations, morphology, strict=True)
    ]
    return _FieldCrops(crops, masks, rows, measured)


def _add_predicted(expert: _FieldCrops, field: Field, image: FieldImage, finder: CellFinder) -> _FieldCrops:
    """Find the field's cells as in prediction, and add the crops of kept cells that match an expert polygon."""
    found = find_cells(image, finder)
    kept = [found.cells[index] for index in found.kept]
    matching = match_contours([cell.contour_xy for cell in kept], [item.contour_xy for item in field.annotations])
    chosen = [pair.predicted for pair in matching.pairs]
    shared = _of_field(field, image) if chosen else {}
    rows = [
        shared
        | _of_crop(field, field.annotations[pair.expert], "predicted", pair.iou)
        | _finite(
            {
                "area_um2": kept[pair.predicted].area_um2,
                "circularity": kept[pair.predicted].circularity,
                **kept[pair.predicted].morphology,
            }
        )
        for pair in matching.pairs
    ]
    return replace(
        expert,
        crops=np.concatenate([expert.crops, found.crops[chosen]]),
        masks=np.concatenate([expert.masks, found.masks[chosen]]),
        rows=expert.rows + rows,
        missed=tuple(field.annotations[index] for index in matching.unmatched_expert),
        n_unlabeled=len(matching.unmatched_predicted),
        n_rejected=len(found.cells) - len(kept),
    )


def _of_field(field: Field, image: FieldImage) -> dict[str, str | float | bool | None]:
    """Return the values that all rows of one field's crops share."""
    return {
        "field_id": field.field_id,
        "patient_id": field.patient_id,
        "center": field.center,
        "image_sha256": field.sha256,
        "image_dhash": image_fingerprint(image.pixels),
        "um_per_px": image.um_per_px,
        "simulated": image.is_simulated,
    }


def _of_crop(field: Field, item: Annotation, source: CropSource, match_iou: float | None) -> dict[str, Any]:
    """Return the columns that describe what a crop shows."""
    return {
        "cell_id": f"{field.field_id}#{item.shape_index}/{source}",
        "source": source,
        "expert_code": item.code,
        "can_label": joined_codes(field.can_label),
        "match_iou": match_iou,
        "cut": _is_cut(item, field),
    }


def _is_cut(item: Annotation, field: Field) -> bool:
    """Whether the image's edge cuts the expert's cell; the quality rules reject such a cell even if it is found."""
    return geometry.is_cut(item.contour_xy, field.width_px, field.height_px)


def _missed_row(field: Field, item: Annotation) -> dict[str, str | int | bool]:
    return {
        "field_id": field.field_id,
        "shape_index": item.shape_index,
        "expert_code": item.code,
        "cut": _is_cut(item, field),
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _write_summary(
    out: Path,
    prepared: PreparedCrops,
    spec: CropSpec,
    rules: QualityRules,
    *,
    segmenter: Segmenter | None,
    mappings: tuple[UsedMapping, ...],
    simulated: bool,
) -> None:
    summary = CropSetSummary(
        crop=spec,
        stored_px=stored_side_px(spec.size_px),
        quality_rules=rules,
        segmenter_sha256=segmenter.sha256 if segmenter else None,
        simulated=simulated,
        counts=CropCounts(
            expert=prepared.n_expert,
            predicted=prepared.n_predicted,
            missed=prepared.n_missed,
            missed_cut=prepared.n_missed_cut,
            unlabeled=prepared.n_unlabeled,
            rejected=prepared.n_rejected,
        ),
        mappings=mappings,
    )
    write_json(out / SUMMARY_NAME, summary.model_dump(mode="json"))
