"""How often a click in the field view gives the outline of the cell there, and how often one where there is none.

    python benchmarks/clicked_outlines.py [--patients 6] [--fields 4] [--score 0.1]

Smears are simulated and predicted with the bundle `demo`; one click goes into each cell that no edge cuts, 15 a field
go onto the background, 2 um or more away from every cell. One JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely

from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.imaging import decode_image, read_file
from marrowscope.predict import predict
from marrowscope.review import clicked_outline
from marrowscope.runs.manifest import read_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.simulate import SimulationConfig, simulate_cohort

BACKGROUND_A_FIELD, AWAY_UM, IOU, MATCH_IOU, SEED = 15, 2.0, 0.7, 0.5, 77


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--score", type=float, default=clicked_outline.LOWEST_SCORE)
    given = parser.parse_args()
    clicked_outline.LOWEST_SCORE = given.score
    with tempfile.TemporaryDirectory() as root:
        print(json.dumps(measure(Path(root), given.patients, given.fields), indent=2))


def measure(root: Path, patients: int, fields: int) -> dict[str, float]:
    """Click into every whole cell and onto the background of simulated fields, and count the answers."""
    config = SimulationConfig(patients=patients, centers=3, fields=fields, seed=SEED)
    simulate_cohort(root / "cohort", config)
    predict([root / "cohort"], load_bundle(demonstration_bundle()), root / "run")
    finder = clicked_outline.open_finder(read_manifest(root / "run"))
    cells = read_table(root / "run" / "cells.parquet", "cells")
    kept: dict[str, list[np.ndarray]] = {}
    for field_id, contour, reason in cells.select("field_id", "contour_xy", "reject_reason").iter_rows():
        kept.setdefault(field_id, [])
        if reason is None:
            kept[field_id].append(np.reshape(contour, (-1, 2)))
    draw = np.random.default_rng(SEED)
    counts = dict.fromkeys(("cells", "outlined", "missed", "missed_outlined", "background", "background_found"), 0)
    seconds = []
    for field in read_table(root / "run" / "fields.parquet", "fields").iter_rows(named=True):
        path, um_per_px, size = Path(field["path"]), field["um_per_px"], (field["width_px"], field["height_px"])
        pixels = decode_image(read_file(path), path.name)
        truth = [np.array(shape["points"]) for shape in json.loads(path.with_suffix(".json").read_text())["shapes"]]
        found = kept.get(field["field_id"], [])
        for outline in truth:
            if geometry.is_cut(outline, *size, 2):
                continue
            place = shapely.Polygon(outline).representative_point()
            begun = time.perf_counter()
            answer = clicked_outline.outline_at(pixels, um_per_px, (place.x, place.y), [], finder)
            seconds.append(time.perf_counter() - begun)
            is_right = answer.contour_xy is not None and geometry.iou(answer.contour_xy, outline) >= IOU
            is_missed = all(geometry.iou(outline, contour) < MATCH_IOU for contour in found)
            counts["missed" if is_missed else "cells"] += 1
            counts["missed_outlined" if is_missed else "outlined"] += is_right
        away = shapely.union_all([shapely.Polygon(one).buffer(AWAY_UM / um_per_px) for one in [*truth, *found]])
        n_left = BACKGROUND_A_FIELD
        while n_left:
            x, y = (float(value) for value in draw.uniform((5, 5), (size[0] - 5, size[1] - 5)))
            if away.contains(shapely.Point(x, y)):
                continue
            n_left -= 1
            counts["background"] += 1
            counts["background_found"] += (
                clicked_outline.outline_at(pixels, um_per_px, (x, y), [], finder).found == "cell"
            )
    return {
        **counts,
        "median_s": round(float(np.median(seconds)), 3),
        "s_95": round(float(np.quantile(seconds, 0.95)), 3),
    }


if __name__ == "__main__":
    main()
