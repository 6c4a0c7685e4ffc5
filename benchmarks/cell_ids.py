"""How many cells have the same id on both runtimes, and how far their contours wobble.

    python benchmarks/cell_ids.py COHORT [COHORT ...] [--bundle BUNDLE] [--other bf16]

Every photograph is read once and segmented by OpenVINO and by ONNX Runtime in float32 (or by OpenVINO twice, in float32
and in --other), as a prediction does it. Contours are paired by their centroids, each the other's nearest. A contour
that only one of them finds has no pair and is counted by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.find import find_cells
from marrowscope.cohort import read_cohort
from marrowscope.geometry import Rings
from marrowscope.records import FoundField, InputImage
from marrowscope.runs.rows import GRID_PX, cell_ids
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.worker import Worker
from marrowscope.vocabulary import load_vocabulary


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--other", help="precision that OpenVINO computes in, in place of ONNX Runtime in float32")
    given = parser.parse_args()
    bundle = load_bundle(given.bundle or demonstration_bundle())
    sides = [("openvino", "f32"), ("openvino", given.other) if given.other else ("onnxruntime", "f32")]
    workers = [
        Worker(bundle, PredictConfig(backend=backend, precision=precision, threads=1, morphology=False))
        for backend, precision in sides
    ]
    n_found, n_equal, n_clashing = [0, 0], 0, 0
    moved: list[float] = []
    for root in given.cohorts:
        for field in read_cohort(root, vocabulary=load_vocabulary()).fields:
            item = InputImage(field.field_id, field.patient_id, field.path, field.um_per_px)
            image = workers[0].read(item)
            found = [
                FoundField(
                    item, field.sha256, image.um_per_px, image.width_px, image.height_px,
                    find_cells(image, worker.finder, morphology=False).cells,
                )
                for worker in workers
            ]  # fmt: skip
            one, other = (cell_ids(side) for side in found)
            n_found = [n_found[0] + len(one), n_found[1] + len(other)]
            n_clashing += len(one) - len(set(one)) + len(other) - len(set(other))
            if one and other:
                distances, pairs = _pair(found[0], found[1])
                moved += distances
                n_equal += sum(one[first] == other[second] for first, second in pairs)
    print(f"{' against '.join(' '.join(side) for side in sides)}: {n_found[0]} and {n_found[1]} contours")
    print(
        f"{len(moved)} pairs, {n_equal} with the same id ({n_equal / max(1, len(moved)):.4%}), {n_clashing} ids twice"
    )
    quantiles = np.quantile(moved, [0.5, 0.99, 0.999, 1.0])
    print(f"centroids apart, median, 99%, 99.9%, most: {', '.join(f'{value:.2g}' for value in quantiles)} px")
    print(f"expected with other ids, by the distance in a grid of {GRID_PX:g} px: {_expected(moved):.2g} cells")


def _pair(one: FoundField, other: FoundField) -> tuple[list[float], list[tuple[int, int]]]:
    """Give the distances in pixels and the indices of contours that are each other's nearest."""
    first, second = (geometry.centroids(Rings.of([cell.contour_xy for cell in side.cells])) for side in (one, other))
    distances, nearest = (np.asarray(found) for found in cKDTree(second).query(first))
    back = np.asarray(cKDTree(first).query(second)[1])
    pairs = [(index, int(partner)) for index, partner in enumerate(nearest) if back[partner] == index]
    return [float(distances[index]) for index, _ in pairs], pairs


def _expected(moved: list[float]) -> float:
    """Give how many cells cross a line of the grid, were they anywhere in it and moved along a diagonal."""
    return float(np.minimum(1.0, np.sqrt(2) * np.array(moved) / GRID_PX).sum())


if __name__ == "__main__":
    main()
