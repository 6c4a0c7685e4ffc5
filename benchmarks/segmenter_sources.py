"""Prepare the packs as cohorts for `marrowscope train segmenter`: BCCD's drawn masks, and marrow-cells in part.

    python benchmarks/segmenter_sources.py bccd PACKS/bccd-masks OUT       (OUT/bccd-train, -choice and -report)
    python benchmarks/segmenter_sources.py marrow PACKS/marrow-cells OUT [--redraw GRAPH]  (OUT/marrow-train, -report)
    python benchmarks/segmenter_sources.py classes PACKS/marrow-cells OUT --redraw GRAPH  (OUT/marrow-classes)

bccd: the images in the order of the SHA-256 of seed and file name; the first 72 are for the report, the next 30 for
choosing between networks, the rest for training. 0.077 um per px: the erythrocyte boxes of such images give 0.076 to
0.077. marrow: every field is marked as not exhaustive. A contour is kept if it is not boxy (box_share <= 0.30), does
not run over a neighbor (solidity >= 0.95) and has 0.5 to 1.6 times the median area of its label; the last four
patients are for the report. With --redraw, a contour is first replaced by the one that GRAPH draws over the center of
the cell's tile, 2 px beyond its box: boxes cut the large cells of crowded marrow, which would else be missing.
classes: every cell of every patient with the contour that GRAPH draws over the center of its tile, for training a
classifier: the class is the pack's, its contour is not needed. Where GRAPH draws none, the pack's contour stays.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import shapely

from marrowscope import geometry
from marrowscope.cohort import read_cohort
from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.imaging import read_image
from marrowscope.records import Annotation, ContourArray, Field
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.boxy_outlines import box_share
from marrowscope.vocabulary import load_vocabulary

BCCD_UM_PER_PX = 0.077
BCCD_SEED = "segmenter-2"
N_REPORT, N_CHOICE = 72, 30
N_MARROW_REPORT = 4
ANY_CODE = "N5"
"""BCCD's masks have no class and a cohort needs a code; the segmenter reads none."""

REDRAWN = {"mask_level": 0.5, "box_margin_px": 2.0}
TILES = (4, 3)
HORN_UM = 1.5
MAX_BOX_SHARE, MIN_SOLIDITY, AREA_RANGE = 0.3, 0.95, (0.5, 1.6)


def bccd_sides(names: list[str]) -> dict[str, list[str]]:
    """Split file names by the hash of seed and name: report, choice, train."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{BCCD_SEED}:{name}".encode()).hexdigest())
    return {
        "report": order[:N_REPORT],
        "choice": order[N_REPORT : N_REPORT + N_CHOICE],
        "train": order[N_REPORT + N_CHOICE :],
    }


def write_bccd(pack: Path, out: Path) -> None:
    """Write one cohort per side, each image a patient."""
    document = json.loads((pack / "annotations.coco.json").read_text(encoding="utf-8"))
    category = {entry["name"]: entry["id"] for entry in document["categories"]}["cell"]
    cells: dict[int, list[ContourArray]] = defaultdict(list)
    for annotation in document["annotations"]:
        if annotation["category_id"] == category:
            parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in annotation["segmentation"]]
            cells[annotation["image_id"]].append(max(parts, key=geometry.area))
    images = {image["file_name"]: image for image in document["images"]}
    for side, names in bccd_sides(sorted(images)).items():
        folder = out / f"bccd-{side}"
        for name in names:
            stem = Path(name).stem
            (folder / stem).mkdir(parents=True)
            shutil.copyfile(pack / name, folder / stem / name)
            image = images[name]
            shapes = [Annotation(ANY_CODE, contour, index) for index, contour in enumerate(cells[image["id"]])]
            write_labelme((folder / stem / name).with_suffix(".json"), name, image["width"], image["height"], shapes)
        _write_patients(folder, [Path(name).stem for name in names], "bccd", "blood", BCCD_UM_PER_PX)
        print(f"{folder.name}: {len(names)} images, {sum(len(cells[images[name]['id']]) for name in names)} cells")


def write_marrow(pack: Path, out: Path, redraw: Path | None = None) -> None:
    """Write the training and report patients, with good contours alone and every field not exhaustive."""
    cohort = read_cohort(pack, vocabulary=load_vocabulary())
    patients = sorted({field.patient_id for field in cohort.fields})
    sides = {"train": patients[:-N_MARROW_REPORT], "report": patients[-N_MARROW_REPORT:]}
    areas: dict[str, list[float]] = defaultdict(list)
    for field in cohort.fields:
        for item in field.annotations:
            areas[item.code].append(geometry.area(item.contour_xy))
    median = {code: float(np.median(found)) for code, found in areas.items()}
    segmenter = None
    if redraw is not None:
        stated = Segmenter.from_onnx(redraw).config
        segmenter = Segmenter.from_onnx(redraw, stated.model_copy(update=REDRAWN))
    for side, chosen in sides.items():
        folder, reasons = out / f"marrow-{side}", Counter[str]()
        for field in cohort.fields:
            if field.patient_id not in chosen:
                continue
            target = folder / field.patient_id / field.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(field.path, target)
            kept: list[Annotation] = []
            for item in _redrawn(field, segmenter):
                reason = _fault(item, field, median[item.code])
                reasons[reason or "kept"] += 1
                if not reason:
                    kept.append(Annotation(item.code, item.contour_xy, len(kept)))
            write_labelme(
                target.with_suffix(".json"), target.name, field.width_px, field.height_px, kept, exhaustive=False
            )
        scale = next(field.um_per_px for field in cohort.fields)
        _write_patients(folder, chosen, "M", "marrow", scale)
        print(f"{folder.name}: {dict(reasons)}")


def write_classes(pack: Path, out: Path, graph: Path) -> None:
    """Write all patients of marrow-cells with contours of ``graph``, marked as a network's; no field is exhaustive."""
    cohort, segmenter = read_cohort(pack, vocabulary=load_vocabulary()), Segmenter.from_onnx(graph)
    folder, n_cells, n_redrawn = out / "marrow-classes", 0, 0
    for field in cohort.fields:
        target = folder / field.patient_id / field.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(field.path, target)
        shapes = [
            Annotation(label, item.contour_xy, item.shape_index, network_contour=True)
            for label, item in zip(_labels_in(field.path), _redrawn(field, segmenter), strict=True)
        ]
        n_cells += len(shapes)
        n_redrawn += sum(
            new.contour_xy is not old.contour_xy for new, old in zip(shapes, field.annotations, strict=True)
        )
        write_labelme(
            target.with_suffix(".json"), target.name, field.width_px, field.height_px, shapes, exhaustive=False
        )
    shutil.copyfile(pack / "patients.csv", folder / "patients.csv")
    print(f"{folder.name}: {n_cells} cells, {n_redrawn} with the segmenter's contour")


def _labels_in(image: Path) -> list[str]:
    """Return the labels of an image's LabelMe file as they stand there: a mapping reads them later."""
    return [shape["label"] for shape in json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))["shapes"]]


def _redrawn(field: Field, segmenter: Segmenter | None) -> list[Annotation]:
    """Replace contours by what the segmenter draws over the centers of their tiles, which show the labeled cells."""
    if segmenter is None:
        return list(field.annotations)
    found = [item.contour_xy for item in segmenter.detect(read_image(field.path), field.um_per_px or 0.0)]
    cells = [shapely.make_valid(shapely.Polygon(contour)) for contour in found]
    tile = np.array([field.width_px / TILES[0], field.height_px / TILES[1]])
    items = []
    for item in field.annotations:
        center = shapely.Point((item.contour_xy.mean(axis=0) // tile + 0.5) * tile)
        over = [k for k, cell in enumerate(cells) if cell.contains(center)]
        contour = _without_horns(found[over[0]], field.um_per_px or 0.0) if len(over) == 1 else item.contour_xy
        items.append(Annotation(item.code, contour, item.shape_index))
    return items


def _without_horns(contour: ContourArray, um_per_px: float) -> ContourArray:
    """Open a contour by ``HORN_UM``: beyond its box a mask was never held back, and grows horns."""
    cell = shapely.make_valid(shapely.Polygon(contour))
    reach = HORN_UM / um_per_px
    opened = cell.buffer(-reach).buffer(reach)
    parts = [part for part in getattr(opened, "geoms", [opened]) if not part.is_empty]
    if not parts:
        return contour
    return np.asarray(max(parts, key=lambda part: part.area).exterior.coords)[:-1]


def _fault(item: Annotation, field: Field, median_area: float) -> str:
    """Say why a contour is not good enough to learn from; empty if it is."""
    area = geometry.area(item.contour_xy)
    if box_share(item.contour_xy, field.um_per_px or 0.0) > MAX_BOX_SHARE:
        return "boxy"
    if area / shapely.Polygon(item.contour_xy).convex_hull.area < MIN_SOLIDITY:
        return "concave"
    return "" if AREA_RANGE[0] <= area / median_area <= AREA_RANGE[1] else "size"


def _write_patients(folder: Path, names: list[str], center: str, specimen: str, um_per_px: float | None) -> None:
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient_id", "center", "diagnosis", "specimen", "um_per_px"])
        writer.writerows([name, center, "unknown", specimen, um_per_px] for name in names)


def main() -> None:
    """Parse the command line and write the cohorts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("bccd", "marrow", "classes"))
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--redraw", type=Path, metavar="GRAPH")
    arguments = parser.parse_args()
    if arguments.kind == "bccd":
        write_bccd(arguments.pack, arguments.out)
    elif arguments.kind == "classes":
        write_classes(arguments.pack, arguments.out, arguments.redraw)
    else:
        write_marrow(arguments.pack, arguments.out, arguments.redraw)


if __name__ == "__main__":
    main()
