"""Saliency before and after the border terms: where the evidence for a cell's category is, in pictures and shares.

    python benchmarks/saliency.py BEFORE AFTER CROPS --out border_saliency.webp [--maps 200]

BEFORE and AFTER are training folders or weights files, CROPS a crop set of simulated cells. Rows of the picture: the
crop with the cell's contour, class activation maps before and after, occlusion maps before and after. Also prints the
share of each map outside the dilated contour, mean over cells with an interval over patients. A last feature map of 3 x
3 is coarse: the picture illustrates; the proofs are border_swap, neighbor_conflict and ring_only.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from marrowscope.statistics.intervals import bootstrap_over_groups
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.border_proof import (
    activation_maps,
    occlusion_maps,
    paint_map,
    predict_crops,
    share_outside,
)
from benchmarks.proof_cells import ProofSelection, load_cells, load_trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.border_proof import IntArray, RealArray
    from benchmarks.proof_cells import ProofCells
    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo

Maps = dict[str, "NDArray[np.float32]"]
WEBP_QUALITY = 80
GAP_PX = 3


def maps_of(model: CellClassifier, info: ClassifierInfo, crops: ImageArray, classes: IntArray) -> Maps:
    """Compute class activation and occlusion maps (n, s, s) of one model for the cells' true categories."""

    def predict(covered: ImageArray) -> RealArray:
        return predict_crops(model, info, covered)["category"]

    occluded = occlusion_maps(predict, crops, classes)
    return {"activation": activation_maps(model, info, crops, classes), "occlusion": occluded}


def choose_pictures(cells: ProofCells, n: int) -> list[int]:
    """Return the first cell of each of the ``n`` most frequent categories."""
    category = cells.labels["category"]
    common = np.argsort(-np.bincount(category), kind="stable")[:n]
    return [int(np.flatnonzero(category == k)[0]) for k in common if (category == k).any()]


def picture(crops: ImageArray, masks: MaskArray, maps: list[NDArray[np.float32]]) -> ImageArray:
    """Arrange crops (n, s, s, 3) and their maps, one column per cell, with white gaps."""
    rows = [[paint_map(crop, np.zeros_like(maps[0][0]), mask) for crop, mask in zip(crops, masks, strict=True)]]
    for heat in maps:
        top = heat.max(axis=(1, 2), keepdims=True)
        scaled = np.divide(heat, top, out=np.zeros_like(heat), where=top > 0)
        rows.append([paint_map(*cell) for cell in zip(crops, scaled, masks, strict=True)])
    side = crops.shape[1] + GAP_PX
    sheet = np.full((len(rows) * side - GAP_PX, len(crops) * side - GAP_PX, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            sheet[y * side : y * side + tile.shape[0], x * side : x * side + tile.shape[1]] = tile
    return sheet


def _mean_of(values: RealArray) -> Callable[[IntArray], float]:
    return lambda rows: float(np.nanmean(values[rows]))


def main() -> None:
    """Parse the command line, write the picture and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="picture, .webp or .png")
    parser.add_argument("--maps", type=int, default=200, help="number of cells with measured maps, drawn at random")
    parser.add_argument("--pictures", type=int, default=8, help="cells in the picture")
    parser.add_argument("--source", choices=("expert", "predicted"), default="predicted")
    parser.add_argument("--roles", default="test", help="comma-separated; patients not in AFTER's split count as test")
    parser.add_argument("--dilation-px", type=float, default=3.0)
    arguments = parser.parse_args()
    trained = {"before": load_trained(arguments.before), "after": load_trained(arguments.after)}
    selection = ProofSelection(
        source=arguments.source,
        roles=tuple(arguments.roles.split(",")),
        dilation_px=arguments.dilation_px,
        most=arguments.maps,
    )
    cells = load_cells(arguments.crops, arguments.after, trained["after"][1], selection, load_vocabulary())
    found = {name: maps_of(*model, cells.crops, cells.labels["category"]) for name, model in trained.items()}
    area = float((~cells.masks).mean())
    figures: dict[str, Any] = {"n_cells": len(cells.crops), "left_out": cells.left_out, "area_outside_contour": area}
    lines = ["| map | model | share outside the dilated contour (95%) |", "|---|---|---|"]
    for kind in ("activation", "occlusion"):
        for name in trained:
            shares = share_outside(found[name][kind], cells.masks, arguments.dilation_px)
            interval = bootstrap_over_groups(cells.patients, _mean_of(shares))
            figures[f"{kind} {name}"] = [interval.estimate, interval.lower, interval.upper]
            middle, low, high = (100 * value for value in figures[f"{kind} {name}"])
            lines.append(f"| {kind} | {name} | {middle:.1f}% ({low:.1f} to {high:.1f}) |")
    chosen = choose_pictures(cells, arguments.pictures)
    kinds = [(kind, name) for kind in ("activation", "occlusion") for name in trained]
    sheet = picture(cells.crops[chosen], cells.masks[chosen], [found[name][kind][chosen] for kind, name in kinds])
    quality = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY] if arguments.out.suffix == ".webp" else []
    cv2.imwrite(str(arguments.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), quality)
    figures["columns"] = [cells.table["expert_code"][row] for row in chosen]
    print("\n".join(lines))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
