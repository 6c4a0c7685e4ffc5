"""Missed cells that were found: expert polygons below IoU 0.5 that lie inside a predicted contour.

    python benchmarks/missed_cells.py RUN COHORT [--inside 0.9] [--json]

A polygon drawn around the nucleus alone cannot match the contour of the whole cell. Per center and raw code: expert
polygons, those that no kept contour matches, and of these, those with at least ``--inside`` of their area in one
contour.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import shapely

from marrowscope.cohort import read_cohort
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary

MIN_IOU = 0.5


def polygons(contours: list[list[float]]) -> list[shapely.Polygon | shapely.MultiPolygon]:
    """Convert flat contours x0, y0, x1, y1, ... to valid polygons."""
    shapes = [shapely.Polygon(np.reshape(contour, (-1, 2))).buffer(0) for contour in contours]
    return [shape for shape in shapes if isinstance(shape, shapely.Polygon | shapely.MultiPolygon)]


def count(run: Path, cohort: Path, inside: float) -> dict[str, dict[str, list[int]]]:
    """Count polygons, unmatched ones and unmatched ones inside a contour, by center and raw code."""
    kept = read_table(run / "cells.parquet", "cells").filter(pl.col("reject_reason").is_null())
    found = {str(key[0]): polygons(group["contour_xy"].to_list()) for key, group in kept.group_by("field_id")}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for field in read_cohort(cohort, vocabulary=load_vocabulary(), decode=False).fields:
        contours = found.get(field.field_id, [])
        for item in field.annotations:
            expert = shapely.Polygon(item.contour_xy).buffer(0)
            shared = [contour.intersection(expert).area for contour in contours]
            unions = [contour.area + expert.area - area for contour, area in zip(contours, shared, strict=True)]
            overlap = max((area / union for area, union in zip(shared, unions, strict=True)), default=0.0)
            tally = counts.setdefault((field.center, item.code), Counter())
            tally["all"] += 1
            if overlap < MIN_IOU:
                tally["unmatched"] += 1
                tally["inside"] += max(shared, default=0.0) >= inside * expert.area
    result: dict[str, dict[str, list[int]]] = {}
    for (center, code), tally in sorted(counts.items(), key=lambda item: -item[1]["unmatched"]):
        result.setdefault(center, {})[code] = [tally["all"], tally["unmatched"], tally["inside"]]
    return result


def main() -> None:
    """Parse the command line and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--inside", type=float, default=0.9)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    counts = count(given.run, given.cohort, given.inside)
    if given.json:
        print(json.dumps(counts, indent=2))
        return
    for center, codes in counts.items():
        total = [sum(values) for values in zip(*codes.values(), strict=True)]
        print(f"\nCenter {center}\n\n| code | expert polygons | unmatched | of these inside a contour |")
        print("|---|---|---|---|")
        for code, values in [("all", total), *codes.items()]:
            if values[1]:
                print(f"| {code} | " + " | ".join(map(str, values)) + " |")


if __name__ == "__main__":
    main()
