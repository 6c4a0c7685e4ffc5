"""The classifier's gain from larger crops: training and held-out crops at several sizes, one short training each.

    python -m benchmarks.resolution_crops cut SEG.onnx COHORT OUT [--sizes 96 128 160 224] [--with-expert]
    python -m benchmarks.resolution_crops recipes OUT                              a TOML file for each size
    marrowscope train classifier CUT/128 --split SPLIT --config RECIPES/128.toml --out TRAINED/128       and so on
    python -m benchmarks.resolution_crops table TEST_CUT TRAINED [--reference 96] [--json]

A field is segmented once and its cells are cut at every size, so that only the number of pixels differs: the side stays
28.8 um. In source images of 0.15 um per px that is 192 px: 224 px are upsampled without new detail. The held-out cells
are cut with `--with-expert`: an expert cell without a contour is wrong. The recipe is one stage on predicted contours
from Lite0's weights with mirrors and turns only, whose strengths do not depend on the pixel size.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.progress import track

from benchmarks.ablation import FIGURES, NO_AUGMENTATION, ONE_STAGE, PLAIN_LOSSES, as_table, compare, judge
from marrowscope.cells.crop import CropSpec, cut_crops
from marrowscope.cells.match import match_contours
from marrowscope.cells.quality import QualityRules, apply_quality_rules
from marrowscope.cohort import read_cohort
from marrowscope.disk import write_json
from marrowscope.imaging import read_image
from marrowscope.prepare import stored_side_px
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.crop_set import CELLS_NAME, CROPS_NAME, SUMMARY_NAME, CropSetSummary, open_crop_set
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from marrowscope.records import Annotation, ContourArray, Field

SIZES_PX = (96, 128, 160, 224)
REFERENCE_PX = 96
RECIPE = 'init = "lite0"\nimbalance = "none"\nseed = 1\nthreads = {threads}\nbatch_size = 64\n'
EPOCH_CROPS = 5120
EPOCHS = 2


@dataclass(frozen=True, slots=True)
class PlannedCrop:
    """A cell to cut: its contour, the contour's source, and its row in the table."""

    contour_xy: ContourArray
    row: dict[str, Any]


def plan_field(field: Field, segmenter: Segmenter, *, with_expert: bool) -> list[PlannedCrop]:
    """Find the cells of one field that the quality rules keep and an expert polygon matches, as `prepare` does."""
    scale = field.um_per_px
    if scale is None:
        message = f"{field.path}: found no scale, expected um_per_px in patients.csv; add the column"
        raise SystemExit(message)
    detections = segmenter.detect(read_image(field.path), scale)
    reasons = apply_quality_rules(detections, QualityRules(), field.width_px, field.height_px, scale)
    kept = [detection.contour_xy for detection, reason in zip(detections, reasons, strict=True) if reason is None]
    pairs = match_contours(kept, [annotation.contour_xy for annotation in field.annotations]).pairs
    chosen: list[tuple[ContourArray, str, Annotation, float | None]] = [
        (kept[pair.predicted], "predicted", field.annotations[pair.expert], pair.iou) for pair in pairs
    ]
    if with_expert:
        chosen += [(annotation.contour_xy, "expert", annotation, None) for annotation in field.annotations]
    return [
        PlannedCrop(
            contour,
            {
                "cell_id": f"{field.field_id}#{annotation.shape_index}/{source}",
                "field_id": field.field_id,
                "patient_id": field.patient_id,
                "center": field.center,
                "image_sha256": field.sha256,
                "source": source,
                "expert_code": annotation.code,
                "match_iou": iou,
                "um_per_px": scale,
            },
        )
        for contour, source, annotation, iou in chosen
    ]


def cut(arguments: argparse.Namespace) -> None:
    """Write one crop set per size, all of the same cells in the same order."""
    segmenter = Segmenter.from_onnx(arguments.segmenter)
    cohort = read_cohort(arguments.cohort, vocabulary=load_vocabulary())
    diagnosis_of = {patient.patient_id: patient.diagnosis for patient in cohort.patients}
    annotated = [field for field in cohort.fields if field.annotated]
    plans = [
        (field, plan_field(field, segmenter, with_expert=arguments.with_expert))
        for field in track(annotated, "segmenting")
    ]
    rows = [item.row | {"diagnosis": diagnosis_of[field.patient_id]} for field, plan in plans for item in plan]
    arrays = {}
    for size in arguments.sizes:
        folder = arguments.out / str(size)
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(rows), stored_side_px(size), stored_side_px(size), 3)
        arrays[size] = np.lib.format.open_memmap(folder / CROPS_NAME, mode="w+", dtype=np.uint8, shape=shape)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / CELLS_NAME)
    start = 0
    for field, plan in track(plans, "cutting"):
        if not plan:
            continue
        image = read_image(field.path)
        for size, crops in arrays.items():
            contours = [item.contour_xy for item in plan]
            crops[start : start + len(plan)], _ = cut_crops(
                image,
                contours,
                plan[0].row["um_per_px"],
                CropSpec(size_px=size),
                margin_px=(stored_side_px(size) - size) // 2,
            )
        start += len(plan)
    for size, crops in arrays.items():
        crops.flush()
        spec = CropSpec(size_px=size)
        summary = CropSetSummary(crop=spec, stored_px=stored_side_px(size), segmenter_sha256=segmenter.sha256)
        write_json(arguments.out / str(size) / SUMMARY_NAME, summary.model_dump(mode="json"))


def recipes(arguments: argparse.Namespace) -> None:
    """Write the settings of every size's training; they differ only in the size."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    stage = ONE_STAGE.format(source="predicted", select="predicted").replace("epochs = 10", f"epochs = {EPOCHS}")
    for size in arguments.sizes:
        head = RECIPE.format(threads=arguments.threads) + f"crop_px = {size}\nepoch_crops = {EPOCH_CROPS}\n"
        (arguments.out / f"{size}.toml").write_text(head + stage + PLAIN_LOSSES + NO_AUGMENTATION, encoding="utf-8")


def table(arguments: argparse.Namespace) -> None:
    """Print the figures of every finished size on the held-out patients, and their difference from the reference."""
    vocabulary = load_vocabulary()
    sizes = [size for size in arguments.sizes if (arguments.trained / str(size) / "classifier.safetensors").is_file()]
    sets = {size: open_crop_set(arguments.crops / str(size), vocabulary) for size in sizes}
    everything = {}
    for center in sorted(sets[arguments.reference].cells["center"].unique().to_list()):
        judged = {
            size: [judge(arguments.trained / str(size), crop_set, center, vocabulary)]
            for size, crop_set in sets.items()
        }
        reference = judged[arguments.reference]
        figures = {f"{size} px": compare(judged[size], reference, arguments.resamples) for size in sizes}
        everything[center] = figures
        n_patients, n_cells = len(set(reference[0].patients)), len(reference[0].patients)
        if not arguments.json:
            print(f"\nCenter {center}: {n_patients} patients, {n_cells} expert cells\n")
            print(as_table(figures, dict.fromkeys(figures, 1)))
    if arguments.json:
        print(json.dumps({"figures": FIGURES, "centers": everything}, indent=2))


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(sizes=list(SIZES_PX))
    commands = parser.add_subparsers(dest="command", required=True)
    cutting = commands.add_parser("cut")
    cutting.add_argument("segmenter", type=Path)
    cutting.add_argument("cohort", type=Path)
    cutting.add_argument("out", type=Path)
    cutting.add_argument("--with-expert", action="store_true")
    cutting.add_argument("--sizes", type=int, nargs="+", default=list(SIZES_PX))
    writing = commands.add_parser("recipes")
    writing.add_argument("out", type=Path)
    writing.add_argument("--threads", type=int, default=1)
    judging = commands.add_parser("table")
    judging.add_argument("crops", type=Path)
    judging.add_argument("trained", type=Path)
    judging.add_argument("--reference", type=int, default=REFERENCE_PX)
    judging.add_argument("--resamples", type=int, default=1000)
    judging.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    {"cut": cut, "recipes": recipes, "table": table}[arguments.command](arguments)


if __name__ == "__main__":
    main()
