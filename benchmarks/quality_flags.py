"""How often the flags of a field are raised on fields as they are, and on the same fields with an added defect.

    python benchmarks/quality_flags.py --pack NAME=FOLDER[,FOLDER] ... [--training FOLDER[,FOLDER]] [--every N]
                                       [--measures FILE] [--json]

A FOLDER is a cohort with patients.csv, or one with annotations.coco.json (marrow-fields: bars cropped, the scale from
its plasma cells). The stain is compared with that of `--training`, and, for every other patient, with that of the
remaining half of the same pack. `--every` uses each Nth field; `--measures` saves the measures (Parquet) and reads them
again if they exist, for trying thresholds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from rich.progress import track

from marrowscope import geometry
from marrowscope.cells.field_measures import measure_field
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.imaging import read_image
from marrowscope.patient.flags import (
    FIELD_FLAGS,
    FlagRules,
    StainReference,
    field_flags,
    fit_stain_reference,
    stain_distance,
)
from marrowscope.records import ImageArray

PLASMA_CELL_DIAMETER_UM = 14.5
Defect = Callable[[ImageArray, float], ImageArray]


def blurred(sigma_um: float) -> Defect:
    """Blur the field as if out of focus: a Gaussian of this standard deviation."""
    return lambda image, um_per_px: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_um / um_per_px))


def exposed(factor: float) -> Defect:
    """Multiply the gray levels, clipped at white."""
    return lambda image, _: np.asarray(cv2.convertScaleAbs(image, alpha=factor))


def restained(red: float, green: float, blue: float) -> Defect:
    """Multiply the optical density of each channel, relative to the field's own background (95% quantile)."""

    def defect(image: ImageArray, _: float) -> ImageArray:
        white = np.quantile(image.reshape(-1, 3), 0.95, axis=0) + 1
        light = np.minimum((np.arange(256)[:, None] + 1) / white, 1.2) ** np.array([red, green, blue])
        table = np.clip(white * light - 0.5, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, table[None]), dtype=np.uint8)

    return defect


DEFECTS: Mapping[str, tuple[str, Defect]] = {
    "blur 0.5 um": ("blurred", blurred(0.5)),
    "blur 0.7 um": ("blurred", blurred(0.7)),
    "blur 1 um": ("blurred", blurred(1.0)),
    "light x0.5": ("exposure", exposed(0.5)),
    "light x0.7": ("exposure", exposed(0.7)),
    "light x1.3": ("exposure", exposed(1.3)),
    "light x1.5": ("exposure", exposed(1.5)),
    "stain x0.5": ("stain_far", restained(0.5, 0.5, 0.5)),
    "stain x2": ("stain_far", restained(2, 2, 2)),
    "hue red x1.4 blue x0.7": ("stain_far", restained(1.4, 1, 0.7)),
    "hue red x0.7 blue x1.4": ("stain_far", restained(0.7, 1, 1.4)),
    "hue green x0.7": ("stain_far", restained(1, 0.7, 1)),
}
AS_IT_IS = "as it is"


def cohort_fields(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield path, scale, patient and center of every image of a cohort."""
    inputs = collect_inputs([folder])
    center_of = {patient.patient_id: patient.center for patient in inputs.patients}
    for image in inputs.images:
        patient = f"{folder.name}/{image.patient_id}"
        center = f"{folder.name}/{center_of[image.patient_id]}"
        yield {"path": image.path, "um_per_px": image.um_per_px, "patient_id": patient, "center": center}


def coco_fields(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the same for marrow-fields: each image is a patient, each camera a center."""
    document = json.loads((folder / "annotations.coco.json").read_text(encoding="utf-8"))
    camera_of = {image["id"]: "x".join(map(str, image["camera_size"])) for image in document["images"]}
    diameters: dict[str, list[float]] = {}
    for annotation in document["annotations"]:
        parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in annotation["segmentation"]]
        area = max(geometry.area(part) for part in parts)
        diameters.setdefault(camera_of[annotation["image_id"]], []).append(2 * (area / np.pi) ** 0.5)
    for image in document["images"]:
        camera = camera_of[image["id"]]
        scale = PLASMA_CELL_DIAMETER_UM / float(np.median(diameters[camera]))
        name = image["file_name"]
        yield {"path": folder / name, "um_per_px": scale, "patient_id": name, "center": camera}


def without_bars(image: ImageArray) -> ImageArray:
    """Crop the uniform bars above and below a letterboxed image."""
    rows = np.flatnonzero(image.std(axis=1).max(axis=1) > 6)  # noqa: PLR2004 - JPEG leaves less on a uniform bar
    return np.ascontiguousarray(image[rows[0] + 2 : rows[-1] - 1])


def measure_pack(name: str, folders: list[Path], every: int, defects: list[str]) -> pl.DataFrame:
    """Measure the fields of a pack, as they are and with each defect."""
    fields = []
    for folder in folders:
        fields += list((coco_fields if (folder / "annotations.coco.json").is_file() else cohort_fields)(folder))
    rows = []
    for field in track(fields[::every], name):
        image = read_image(field["path"])
        if (field["path"].parent / "annotations.coco.json").is_file():
            image = without_bars(image)
        for defect in defects:
            seen = image if defect == AS_IT_IS else DEFECTS[defect][1](image, field["um_per_px"])
            measures = measure_field(seen, field["um_per_px"])
            rows.append(field | {"path": str(field["path"]), "pack": name, "defect": defect} | measures)
    return pl.DataFrame(rows, infer_schema_length=None)


def judge(measures: pl.DataFrame, reference: StainReference | None, rules: FlagRules) -> pl.DataFrame:
    """Add the stain distance and one column per flag."""
    rows = []
    for row in measures.iter_rows(named=True):
        judged = row | {"stain_distance": stain_distance(row, reference)}
        raised = field_flags(judged, rules)
        rows.append(judged | {flag.key: flag.key in raised for flag in FIELD_FLAGS})
    return pl.DataFrame(rows, infer_schema_length=None)


def table(judged: pl.DataFrame, own: pl.DataFrame, flags: tuple[str, ...]) -> list[dict[str, Any]]:
    """Compute the share of fields that raise the expected flag, by pack and defect."""
    rows: list[dict[str, Any]] = []
    for pack in judged["pack"].unique(maintain_order=True):
        for defect in (AS_IT_IS, *DEFECTS):
            for flag in flags if defect == AS_IT_IS else (DEFECTS[defect][0],):
                found = judged.filter(pack=pack, defect=defect)
                within = own.filter(pack=pack, defect=defect)
                row = {"pack": pack, "defect": defect, "flag": flag, "n": len(found), "share": found[flag].mean()}
                if flag == "stain_far":
                    row |= {"share_own": within[flag].mean(), "n_own": len(within)}
                rows.append(row)
    return rows


def quantiles(measures: pl.DataFrame) -> None:
    """Print quantiles of each measure, by pack and defect."""
    for (pack, defect), part in measures.group_by("pack", "defect", maintain_order=True):
        cells = [f"{pack:16s} {defect:24s}"]
        for name in ("sharpness", "background", "clipped", "stain_distance"):
            values = part[name].drop_nulls().drop_nans()
            shown = " ".join(f"{values.quantile(q) or 0:.3f}" for q in (0, 0.02, 0.5, 0.98, 1))
            cells.append(f"{name} {shown} ({len(part) - len(values)} null)")
        print(" | ".join(cells))


def main() -> None:
    """Measure, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", action="append", required=True)
    parser.add_argument("--training", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--measures", type=Path)
    parser.add_argument("--quantiles", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    packs = {name: [Path(part) for part in value.split(",")] for name, value in (p.split("=") for p in arguments.pack)}
    if arguments.measures and arguments.measures.is_file():
        measures = pl.read_parquet(arguments.measures)
    else:
        parts = [measure_pack(name, folders, arguments.every, [AS_IT_IS, *DEFECTS]) for name, folders in packs.items()]
        if arguments.training:
            training = [Path(part) for part in arguments.training.split(",")]
            parts.insert(0, measure_pack("training", training, arguments.every, [AS_IT_IS]))
        measures = pl.concat(parts)
        if arguments.measures:
            measures.write_parquet(arguments.measures)
    reference = fit_stain_reference(measures.filter(pack="training"))
    rules = FlagRules()
    tested, own = measures.filter(pl.col("pack") != "training"), []
    for pack in packs:
        part = tested.filter(pack=pack)
        odd = part["patient_id"].unique().sort()[::2].implode()
        fitted = fit_stain_reference(part.filter(pl.col("patient_id").is_in(odd), defect=AS_IT_IS))
        own.append(judge(part.filter(~pl.col("patient_id").is_in(odd)), fitted, rules))
    judged, judged_own = judge(tested, reference, rules), pl.concat(own, how="diagonal_relaxed")
    if arguments.quantiles:
        quantiles(judged)
        print("stain against every second patient of the same pack")
        quantiles(judged_own)
    rows = table(judged, judged_own, tuple(flag.key for flag in FIELD_FLAGS))
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| pack | fields | defect | flag | raised | raised, own reference |\n|---|---|---|---|---|---|")
    for row in rows:
        within = f"{row['share_own']:.1%} of {row['n_own']}" if "share_own" in row else ""
        line = (row["pack"], row["n"], row["defect"], row["flag"], f"{row['share']:.1%}", within)
        print("| " + " | ".join(map(str, line)) + " |")


if __name__ == "__main__":
    main()
