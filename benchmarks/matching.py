"""Time to match the contours of one crowded image: 1,000 predicted to 1,000 expert ones, each overlapping a few.

python -m benchmarks.matching [--cells 1000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np

from marrowscope import geometry
from marrowscope.cells.match import match_contours, match_iou_matrix

if TYPE_CHECKING:
    from marrowscope.records import ContourArray

_SPACING_PX, _RADIUS_PX, _POINTS = 38.0, 24.0, 140


def draw_cells(n_cells: int, seed: int = 0) -> tuple[list[ContourArray], list[ContourArray]]:
    """Draw uneven cells on a jittered grid, closer than their diameter, and the same cells found slightly displaced."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_cells)))
    rows, columns = np.divmod(np.arange(n_cells), side)
    centers = np.column_stack([columns, rows]) * _SPACING_PX + rng.normal(0, 4, (n_cells, 2))
    expert = [_outline(rng, center) for center in centers]
    predicted = [_outline(rng, center + rng.normal(0, 2, 2)) for center in centers]
    rng.shuffle(predicted)
    return predicted, expert


def _outline(rng: np.random.Generator, center_xy: ContourArray) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    wave = 0.06 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.04 * np.sin(3 * angle + rng.uniform(0, 6))
    radius = _RADIUS_PX * rng.uniform(0.8, 1.2) * (1 + wave)
    return center_xy + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    predicted, expert = draw_cells(options.cells)
    seconds, overlaps, assignments = [], [], []
    for _ in range(options.repeats):
        start = time.perf_counter()
        iou = geometry.iou_matrix(predicted, expert)
        middle = time.perf_counter()
        match_iou_matrix(iou)
        end = time.perf_counter()
        matching = match_contours(predicted, expert)
        overlaps.append(middle - start)
        assignments.append(end - middle)
        seconds.append(time.perf_counter() - end)
    n_overlaps = int((iou > 0).sum())
    print(f"{options.cells} x {options.cells} contours, {n_overlaps} overlapping pairs, {len(matching.pairs)} matched")
    print(f"all {min(seconds):.3f} s: IoU {min(overlaps):.3f} s, assignment {min(assignments):.3f} s")


if __name__ == "__main__":
    main()
