"""How many kept contours outline a cell a second time, and whether refusing them loses a cell, as one JSON object.

    python benchmarks/double_contours.py SEG.onnx COHORT [--fields N] [--um-per-px X]

Two kept contours are one cell if they share more than half of the smaller one. Expert cells are counted as found before
and after the rule (contour IoU >= 0.5): of a simulated cohort, whose cells touch and whose contours are exact, a found
cell that is lost is a fault of the rule. ``--fields`` takes that many fields, drawn with seed 0.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from marrowscope import geometry
from marrowscope.cells.match import match_contours
from marrowscope.cells.quality import QualityRules, judge_contours, refuse_overlaps
from marrowscope.cohort import read_cohort
from marrowscope.imaging import read_image
from marrowscope.segment.segmenter import Segmenter
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from marrowscope.records import Field


def count(segmenter: Segmenter, field: Field, um_per_px: float) -> Counter[str]:
    """Count the contours, pairs and found expert cells of one field, without and with the rule."""
    rules = QualityRules()
    image = read_image(field.path)
    contours = [detection.contour_xy for detection in segmenter.detect(image, um_per_px)]
    judged = judge_contours(contours, rules, image.shape[1], image.shape[0], um_per_px)
    expert = [annotation.contour_xy for annotation in field.annotations]
    counts = Counter(fields=1, expert=len(expert))
    for name, judgments in (("before", judged), ("after", refuse_overlaps(judged, contours, rules))):
        kept = [contour for contour, item in zip(contours, judgments, strict=True) if item.reason is None]
        counts[f"kept_{name}"] += len(kept)
        counts[f"pairs_{name}"] += len(geometry.shared_areas(geometry.Rings.of(kept), rules.max_overlap)[0])
        counts[f"found_{name}"] += len(match_contours(kept, expert).pairs)
    return counts


def main() -> None:
    """Print the counts of all fields together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--fields", type=int)
    parser.add_argument("--um-per-px", type=float)
    arguments = parser.parse_args()
    segmenter = Segmenter.from_onnx(arguments.segmenter)
    fields = list(read_cohort(arguments.cohort, vocabulary=load_vocabulary()).fields)
    drawn = np.random.default_rng(0).permutation(len(fields))[: arguments.fields]
    total: Counter[str] = Counter()
    for index in track(drawn.tolist(), "detecting"):
        scale = fields[index].um_per_px or arguments.um_per_px
        if scale is None:
            message = f"{fields[index].path}: found no scale, expected um per px; give --um-per-px"
            raise SystemExit(message)
        total += count(segmenter, fields[index], scale)
    print(json.dumps(dict(total), indent=2))


if __name__ == "__main__":
    main()
