"""How well a segmenter finds cells it was not trained on: recall, precision and mean IoU, as one JSON object.

    python benchmarks/detection.py cohort SEG.onnx COHORT [--tiles 4x3] [--half 0|1] [--patients FILE]
    python benchmarks/detection.py plasma SEG.onnx FOLDER   (images and annotations.coco.json; only plasma cells)
    python benchmarks/detection.py boxes  SEG.onnx FOLDER   (YOLO boxes; erythrocytes give the scale) [--stems FILE]
    python benchmarks/detection.py dense  SEG.onnx COHORT   (simulated: every outline is known, those of neighbors too)

A detection matches at contour IoU >= 0.5 (boxes: box IoU >= 0.5). An unmatched detection at the edge of an image or a
tile is ignored, because cut cells are not annotated; so is a match with a contour that a network drew. `--half` keeps
every second patient, in the order of their names: tune on one half, report on the other. `box_share` is the mean
share of an outline that is straight along its bounding box (train/boxy_outlines.py; a circle has 0.14), of contours
that touch no edge. In `dense`, a contour runs over a neighbor if it holds more than a tenth of a cell other than its
own, not counting what its own cell covers (`_kept`: of the contours that the quality rules keep).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rich.progress import track

from marrowscope import geometry
from marrowscope.cells.match import match_contours
from marrowscope.cells.quality import QualityRules, apply_quality_rules
from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import EvaluateConfig, touches_edge
from marrowscope.imaging import read_image
from marrowscope.records import ContourArray, Field
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.boxy_outlines import box_share
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

PLASMA_CELL_DIAMETER_UM = 14.5
"""Middle of the size range of plasma cells, 9-20 um: it gives the scale of images that state none."""

SPILL = 0.1
"""A contour that holds more than this share of another cell runs over it."""

_COUNTED = ("n_fields", "n_cells", "n_touching", "n_contours", "n_kept", "found", "over", "over_kept")
DENSE_FIELD = 0.25
"""A field is dense where at least this share of its cells comes within a pixel of another."""


def score_cohort(segmenter: Segmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compute recall, precision and mean IoU per center, before and after the quality rules."""
    columns, rows = (int(part) for part in arguments.tiles.split("x"))
    config = EvaluateConfig(tile_columns=columns, tile_rows=rows)
    cohort = read_cohort(arguments.source, vocabulary=load_vocabulary())
    chosen = sorted({field.patient_id for field in cohort.fields})
    if arguments.patients:
        listed = set(arguments.patients.read_text(encoding="utf-8").split())
        chosen = [patient for patient in chosen if patient in listed]
    if arguments.half is not None:
        chosen = chosen[arguments.half :: 2]
    counts: dict[str, dict[str, Any]] = {}
    for field in track([field for field in cohort.fields if field.patient_id in set(chosen)], "detecting"):
        scale = field.um_per_px or arguments.um_per_px
        detections = segmenter.detect(read_image(field.path), scale)
        reasons = apply_quality_rules(detections, QualityRules(), field.width_px, field.height_px, scale)
        contours = [detection.contour_xy for detection in detections]
        kept = [contour for contour, reason in zip(contours, reasons, strict=True) if reason is None]
        sums = counts.setdefault(
            field.center, {"patients": set(), "fields": 0, "expert": 0, "detections": 0, "ious": [], "boxy": []}
        )
        sums["boxy"] += _box_shares(contours, field, config)
        sums["patients"].add(field.patient_id)
        sums["fields"] += 1
        sums["expert"] += sum(not annotation.network_contour for annotation in field.annotations)
        sums["detections"] += len(contours)
        for name, side in (("all", contours), ("kept", kept)):
            _add_matches(sums, name, side, field, config)
    return {center: _shares(sums) for center, sums in sorted(counts.items())}


def _add_matches(
    sums: dict[str, Any], name: str, contours: list[ContourArray], field: Field, config: EvaluateConfig
) -> None:
    matching = match_contours(contours, [annotation.contour_xy for annotation in field.annotations])
    wrong = sum(not touches_edge(contours[index], field, config) for index in matching.unmatched_predicted)
    found = [pair for pair in matching.pairs if not field.annotations[pair.expert].network_contour]
    sums[f"found_{name}"] = sums.get(f"found_{name}", 0) + len(found)
    sums[f"wrong_{name}"] = sums.get(f"wrong_{name}", 0) + wrong
    if name == "all":
        sums["ious"] += [pair.iou for pair in found]


def _shares(sums: dict[str, Any]) -> dict[str, Any]:
    shares = {
        "n_patients": len(sums["patients"]),
        "n_fields": sums["fields"],
        "n_expert": sums["expert"],
        "detections_per_field": sums["detections"] / sums["fields"],
        "mean_iou": float(np.mean(sums["ious"])) if sums["ious"] else None,
        "box_share": float(np.mean(sums["boxy"])) if sums["boxy"] else None,
    }
    for name in ("all", "kept"):
        found, wrong = sums[f"found_{name}"], sums[f"wrong_{name}"]
        shares[f"recall_{name}"] = found / max(1, sums["expert"])
        shares[f"precision_{name}"] = found / max(1, found + wrong)
    return shares


def _box_shares(contours: list[ContourArray], field: Field, config: EvaluateConfig) -> list[float]:
    scale = field.um_per_px or 0.3
    return [box_share(contour, scale) for contour in contours if not touches_edge(contour, field, config)]


def score_plasma(segmenter: Segmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compute recall of plasma cells per camera; other cells are not annotated, so there is no precision."""
    document = json.loads((arguments.source / "annotations.coco.json").read_text(encoding="utf-8"))
    camera_of = {image["id"]: tuple(image["camera_size"]) for image in document["images"]}
    contours_of: dict[int, list[ContourArray]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in annotation["segmentation"]]
        contours_of[annotation["image_id"]].append(max(parts, key=geometry.area))
    diameters: dict[tuple[int, ...], list[float]] = {}
    for image_id, contours in contours_of.items():
        diameters.setdefault(camera_of[image_id], []).extend(2 * (geometry.area(c) / np.pi) ** 0.5 for c in contours)
    scale_of = {camera: PLASMA_CELL_DIAMETER_UM / float(np.median(found)) for camera, found in diameters.items()}
    figures: dict[str, Any] = {}
    for image in track(document["images"], "detecting"):
        camera = camera_of[image["id"]]
        detections = segmenter.detect(read_image(arguments.source / image["file_name"]), scale_of[camera])
        expert = contours_of[image["id"]]
        matching = match_contours([detection.contour_xy for detection in detections], expert)
        sums = figures.setdefault(
            "x".join(map(str, camera)),
            {"um_per_px": scale_of[camera], "n_fields": 0, "n_expert": 0, "found": 0, "n": 0, "ious": [], "boxy": []},
        )
        size = image["width"], image["height"]
        field = Field("", "", "", arguments.source, "", *size, scale_of[camera])
        sums["ious"] += [pair.iou for pair in matching.pairs]
        sums["boxy"] += _box_shares([detection.contour_xy for detection in detections], field, EvaluateConfig())
        sums["n_fields"] += 1
        sums["n_expert"] += len(expert)
        sums["found"] += len(matching.pairs)
        sums["n"] += len(detections)
    ious = [iou for sums in figures.values() for iou in sums["ious"]]
    boxy = [share for sums in figures.values() for share in sums["boxy"]]
    for sums in figures.values():
        sums["detections_per_field"] = sums.pop("n") / sums["n_fields"]
        sums["recall"] = sums["found"] / sums["n_expert"]
        sums["mean_iou"], sums["box_share"] = float(np.mean(sums.pop("ious"))), float(np.mean(sums.pop("boxy")))
    totals = [sum(sums[name] for sums in figures.values()) for name in ("found", "n_expert")]
    means = {"mean_iou": float(np.mean(ious)), "box_share": float(np.mean(boxy))}
    return figures | {"recall": totals[0] / totals[1], "n_expert": totals[1], **means}


def score_dense(segmenter: Segmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compute, on simulated fields, how many contours run over a neighbor, in dense fields and in all."""
    cohort = read_cohort(arguments.source, vocabulary=load_vocabulary())
    figures: dict[str, dict[str, float]] = {}
    for field in track(cohort.fields, "detecting"):
        scale = field.um_per_px or arguments.um_per_px
        detections = segmenter.detect(read_image(field.path), scale)
        reasons = apply_quality_rules(detections, QualityRules(), field.width_px, field.height_px, scale)
        contours = [item.contour_xy for item in detections]
        cells = [shapely.Polygon(item.contour_xy).buffer(0) for item in field.annotations]
        touching = [any(shapely.distance(cell, other) < 1 for other in cells if other is not cell) for cell in cells]
        matching = match_contours(contours, [item.contour_xy for item in field.annotations])
        over = [_runs_over(shapely.Polygon(contour).buffer(0), cells) for contour in contours]
        kept = [reason is None for reason in reasons]
        names = ["all", "dense"] if cells and np.mean(touching) >= DENSE_FIELD else ["all"]
        for name in names:
            sums = figures.setdefault(name, dict.fromkeys((*_COUNTED, "iou"), 0.0))
            sums["n_fields"] += 1
            sums["n_cells"] += len(cells)
            sums["n_touching"] += sum(touching)
            sums["n_contours"] += len(contours)
            sums["found"] += len(matching.pairs)
            sums["over"] += sum(over)
            sums["n_kept"] += sum(kept)
            sums["over_kept"] += sum(wrong and whole for wrong, whole in zip(over, kept, strict=True))
            sums["iou"] += sum(pair.iou for pair in matching.pairs)
    for sums in figures.values():
        sums["mean_iou"] = sums.pop("iou") / max(1.0, sums["found"])
        sums["recall"] = sums["found"] / max(1.0, sums["n_cells"])
        sums["over_share"] = sums["over"] / max(1.0, sums["n_contours"])
        sums["over_share_kept"] = sums["over_kept"] / max(1.0, sums["n_kept"])
    return figures


def _runs_over(contour: shapely.Geometry, cells: Sequence[shapely.Polygon]) -> bool:
    """Tell whether a contour holds more than a tenth of a cell other than the one it shares most with."""
    shared = [float(shapely.area(shapely.intersection(contour, cell))) for cell in cells]
    if not shared or max(shared) == 0:
        return False
    own = cells[int(np.argmax(shared))]
    others = [cell for cell, area in zip(cells, shared, strict=True) if cell is not own and area > 0]
    held = [shapely.area(shapely.intersection(contour, shapely.difference(cell, own))) for cell in others]
    return any(area > SPILL * shapely.area(cell) for area, cell in zip(held, others, strict=True))


def score_boxes(segmenter: Segmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compute recall and precision against boxes of white cells, per image size; every white cell is boxed there."""
    from marrowscope.train.segmenter_boxes import box_fields  # noqa: PLC0415  needs the training extra

    stems = set(arguments.stems.read_text(encoding="utf-8").split()) if arguments.stems else None
    figures: dict[str, dict[str, float]] = {}
    items = [item for item in box_fields(arguments.source) if stems is None or item.image_path.stem in stems]
    for item in track(items, "detecting"):
        image = read_image(item.image_path)
        height, width = image.shape[:2]
        detections = segmenter.detect(image, item.um_per_px)
        found = [_box_contour(detection.contour_xy) for detection in detections]
        expert = [_box_contour(contour) for contour in item.contours_xy]
        matching = match_contours(found, expert)
        field = Field("", "", "", item.image_path, "", width, height, item.um_per_px)
        wrong = sum(not touches_edge(found[index], field, EvaluateConfig()) for index in matching.unmatched_predicted)
        sums = figures.setdefault(
            f"{width}x{height}", {"um_per_px": item.um_per_px, "n_fields": 0, "n_expert": 0, "found": 0, "wrong": 0}
        )
        sums["n_fields"] += 1
        sums["n_expert"] += len(expert)
        sums["found"] += len(matching.pairs)
        sums["wrong"] += wrong
    total = {name: sum(sums[name] for sums in figures.values()) for name in ("n_fields", "n_expert", "found", "wrong")}
    result: dict[str, Any] = {**figures, "all": total}
    for sums in result.values():
        sums["recall"] = sums["found"] / max(1, sums["n_expert"])
        sums["precision"] = sums["found"] / max(1, sums["found"] + sums["wrong"])
    return result


def _box_contour(contour_xy: ContourArray) -> ContourArray:
    x0, y0, x1, y1 = geometry.bounding_box(contour_xy)
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("cohort", "plasma", "boxes", "dense"))
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--tiles", default="1x1")
    parser.add_argument("--half", type=int, choices=(0, 1))
    parser.add_argument("--patients", type=Path)
    parser.add_argument("--stems", type=Path)
    parser.add_argument("--um-per-px", type=float)
    parser.add_argument("--mask-level", type=float, default=0.0)
    parser.add_argument("--box-margin-px", type=float, default=0.0)
    arguments = parser.parse_args()
    stated = Segmenter.from_onnx(arguments.segmenter).config
    drawn = {"mask_level": arguments.mask_level, "box_margin_px": arguments.box_margin_px}
    segmenter = Segmenter.from_onnx(arguments.segmenter, stated.model_copy(update=drawn))
    scores = {"cohort": score_cohort, "plasma": score_plasma, "boxes": score_boxes, "dense": score_dense}
    score = scores[arguments.kind]
    print(json.dumps(score(segmenter, arguments), indent=2))


if __name__ == "__main__":
    main()
