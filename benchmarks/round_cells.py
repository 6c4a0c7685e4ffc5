"""What the rule that a cell is round costs each class, and what it keeps out.

    python benchmarks/round_cells.py [--outlines NAME=COHORT ...] [--drawn NAME=COCO_FILE ...]
        [--run NAME=RUN:COHORT ...] [--segment NAME=COHORT ... --segmenter GRAPH --every N]

- outlines: cells of a LabelMe cohort whose contour is a network's; such a contour is what the rule judges.
- drawn: cells drawn by hand in a COCO file, by category.
- run: contours of ``marrowscope predict``, kept or refused by this rule alone, matched to the cohort's annotated cells
  (IoU of at least 0.5). Those that match none are what the rule is for, where every cell is annotated.
- segment: the same of every Nth field of a cohort, by the segmenter alone, without a prediction.

For each limit of circularity: the share of each class that it refuses, with Wilson's 95% interval at the limit in use.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope import geometry
from marrowscope.bundle.shipped import segmenter_path
from marrowscope.cells.match import match_contours
from marrowscope.cells.quality import QualityRules, judge_contours, refuse_overlaps
from marrowscope.cohort import read_cohort
from marrowscope.imaging import read_image
from marrowscope.runs.parquet import read_table
from marrowscope.segment.segmenter import Segmenter
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from marrowscope.records import Field

LIMITS = (0.70, 0.65, 0.60, 0.55, 0.50, 0.45, 0.40)
FEWEST = 10
"""Cells of a class from which it has a line of its own; smaller classes are together."""
SPURIOUS = "no annotated cell"


def circularities(contours: Sequence[np.ndarray]) -> np.ndarray:
    """Measure contours."""
    return geometry.circularities(geometry.Rings.of(contours))


def of_outlines(cohort: Path) -> dict[str, np.ndarray]:
    """Return the circularities of the network's contours by code."""
    contours = defaultdict(list)
    for field in read_cohort(cohort, vocabulary=load_vocabulary(), decode=False).fields:
        for cell in field.annotations:
            if cell.network_contour:
                contours[cell.code.partition("{")[0]].append(cell.contour_xy)
    return {code: circularities(found) for code, found in contours.items()}


def of_drawings(path: Path) -> dict[str, np.ndarray]:
    """Return the circularities of the polygons of a COCO file by category; the largest part of each."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {item["id"]: item["name"] for item in document["categories"]}
    contours = defaultdict(list)
    for item in document["annotations"]:
        parts = [np.array(part, dtype=np.float64).reshape(-1, 2) for part in item["segmentation"]]
        contours[names[item["category_id"]]].append(max(parts, key=len))
    return {name: circularities(found) for name, found in contours.items()}


def of_run(run: Path, cohort: Path) -> dict[str, np.ndarray]:
    """Return the circularities of a run's contours by the code of the annotated cell that each matches."""
    cells = read_table(run / "cells.parquet", "cells")
    judged = cells.filter(pl.col("reject_reason").is_null() | (pl.col("reject_reason") == "not_round"))
    by_field = {str(key[0]): rows for key, rows in judged.group_by("field_id", maintain_order=True)}
    found: dict[str, list[float]] = defaultdict(list)
    for field in read_cohort(cohort, vocabulary=load_vocabulary(), decode=False).fields:
        rows = by_field.get(field.field_id)
        if rows is not None and field.annotated:
            contours = [np.array(flat, dtype=np.float64).reshape(-1, 2) for flat in rows["contour_xy"]]
            add_matched(found, field, contours, rows["circularity"])
    return {code: np.array(values) for code, values in found.items()}


def of_segmenter(cohort: Path, segmenter: Segmenter, every: int) -> dict[str, np.ndarray]:
    """Return the same of the segmenter's contours in every Nth annotated field, those refused otherwise left out."""
    rules = QualityRules()
    found: dict[str, list[float]] = defaultdict(list)
    read = read_cohort(cohort, vocabulary=load_vocabulary(), decode=False)
    for field in [item for item in read.fields if item.annotated][::every]:
        image, scale = read_image(field.path), field.um_per_px
        if scale is None:
            continue
        contours = [item.contour_xy for item in segmenter.detect(image, scale)]
        height, width = image.shape[:2]
        judged = judge_contours(contours, rules, width, height, scale)
        judged = refuse_overlaps(judged, contours, rules)
        kept = [index for index, item in enumerate(judged) if item.reason in {None, "not_round"}]
        add_matched(found, field, [contours[k] for k in kept], [judged[k].circularity for k in kept])
    return {code: np.array(values) for code, values in found.items()}


def add_matched(
    found: dict[str, list[float]], field: Field, contours: Sequence[np.ndarray], values: Iterable[float]
) -> None:
    """Add the circularity of each contour to the code of the annotated cell that it matches."""
    pairs = match_contours(contours, [cell.contour_xy for cell in field.annotations]).pairs
    code_of = {pair.predicted: field.annotations[pair.expert].code for pair in pairs}
    for index, value in enumerate(values):
        found[code_of.get(index, SPURIOUS).partition("{")[0]].append(value)


def print_price(name: str, by_class: Mapping[str, np.ndarray]) -> None:
    """Print the share refused at each limit, the class with the highest price first."""
    rest = [values for code, values in by_class.items() if len(values) < FEWEST and code != SPURIOUS]
    shown = {code: values for code, values in by_class.items() if len(values) >= FEWEST or code == SPURIOUS}
    if rest:
        shown["all others"] = np.concatenate(rest)
    in_use = QualityRules().min_circularity
    print(f"\n**{name}**\n\n| class | n | {' | '.join(f'{limit:.2f}' for limit in LIMITS)} | 95% at {in_use:.2f} |")
    print("|---|---|" + "---|" * (len(LIMITS) + 1))
    for code, values in sorted(shown.items(), key=lambda item: (item[0] == SPURIOUS, -np.mean(item[1] < in_use))):
        shares = " | ".join(f"{np.mean(values < limit):.3f}" for limit in LIMITS)
        interval = wilson_interval(int((values < in_use).sum()), len(values))
        print(f"| {code} | {len(values)} | {shares} | {interval.lower:.3f}-{interval.upper:.3f} |")


def main() -> None:
    """Print a table for each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outlines", action="append", default=[], metavar="NAME=COHORT")
    parser.add_argument("--drawn", action="append", default=[], metavar="NAME=COCO_FILE")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=RUN:COHORT")
    parser.add_argument("--segment", action="append", default=[], metavar="NAME=COHORT")
    parser.add_argument("--segmenter", type=Path, default=Path("default"), metavar="GRAPH")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    for text in options.outlines:
        name, _, where = text.partition("=")
        print_price(f"{name}, the network's contours", of_outlines(Path(where)))
    for text in options.drawn:
        name, _, where = text.partition("=")
        print_price(f"{name}, drawn by hand", of_drawings(Path(where)))
    for text in options.run:
        name, _, where = text.partition("=")
        run, _, cohort = where.partition(":")
        print_price(f"{name}, predicted", of_run(Path(run), Path(cohort)))
    if options.segment:
        segmenter = Segmenter.from_onnx(segmenter_path(options.segmenter))
        for text in options.segment:
            name, _, where = text.partition("=")
            print_price(f"{name}, by the segmenter", of_segmenter(Path(where), segmenter, options.every))


if __name__ == "__main__":
    main()
