"""Figures of the segmenter with its quality rules: recall, precision, average precision, recall by class.

Expert cells cut by the image edge are left out, because the quality rules leave out such cells on purpose; one figure
shows what including them would cost in recall. Cells whose outline a network drew are in no figure, nor are the
detections that match them: a network is not measured by its own outlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.ranking import HIT, IGNORED, IOU_LEVELS
from marrowscope.statistics import metrics
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.evaluate.scorer import Figure, Scorer
    from marrowscope.records import Interval


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Detection recall of one raw code or category, before and after the quality rules."""

    kind: str
    label: str
    n: int
    n_patients: int
    before_rules: Interval
    after_rules: Interval


def detection_figures(scorer: Scorer, expert: pl.DataFrame, detections: pl.DataFrame) -> list[Figure]:
    """Compute recall, precision and average precision, at the configured IoU and over the ten COCO levels."""
    drawn = expert.filter(~pl.col("network_contour"))
    whole = drawn.filter(~pl.col("cut"))
    counted = detections.filter(pl.col("exhaustive") & ~pl.col("ignored") & ~pl.col("network_contour"))
    matched = whole.filter("found")
    whole_cells = matched.filter(~pl.col("nucleus_alone"))
    n_ignored = int((detections["ignored"] & detections["exhaustive"]).sum())
    cut_note = f"expert cells not cut by the image edge; {count_of(len(drawn) - len(whole), 'cut cell')} left out"
    if n_of_network := len(expert) - len(drawn):
        cut_note += f", and {n_of_network} whose outline a network drew"
    nuclei = ""
    if n_nuclei := int(matched["nucleus_alone"].sum()):
        nuclei = f"{count_of(n_nuclei, 'polygon')} of the nucleus alone inside a contour found"
        cut_note += f"; {nuclei}"
    return [
        scorer.figure("detection_recall", _mean(scorer, whole, whole["found"]), whole, note=cut_note),
        scorer.figure(
            "detection_recall_cut_cells_included",
            _mean(scorer, drawn, drawn["found"]),
            drawn,
            note=nuclei,
        ),
        scorer.figure(
            "detection_recall_before_quality_rules",
            _mean(scorer, whole, whole["found_before_rules"]),
            whole,
            note=nuclei,
        ),
        scorer.figure(
            "detection_precision",
            _mean(scorer, counted, counted["matched"]),
            counted,
            note=f"{count_of(n_ignored, 'unmatched detection')} at an edge ignored; exhaustively annotated fields only"
            + (f"; {nuclei}" if nuclei else ""),
        ),
        *_average_precisions(scorer, whole, detections),
        scorer.figure("mean_iou_of_matched_contours", _mean(scorer, whole_cells, whole_cells["iou"]), whole_cells),
    ]


def _average_precisions(scorer: Scorer, whole: pl.DataFrame, detections: pl.DataFrame) -> list[Figure]:
    """Compute AP50 and AP50-95 of the kept contours against whole expert cells of exhaustively annotated fields."""
    truth = whole.filter("exhaustive")
    ranked = detections.filter("exhaustive").sort("score", descending=True, nulls_last=True, maintain_order=True)
    n_truth = scorer.sum_by_patient(truth, np.ones(len(truth)))
    outcomes = np.array(ranked["outcomes"].to_list(), dtype=np.int8).reshape(len(ranked), len(IOU_LEVELS))

    def averages(weight: metrics.RealArray, times: metrics.RealArray) -> metrics.RealArray:
        columns = []
        for outcome in outcomes.T:
            counts = outcome != IGNORED
            columns.append(metrics.average_precision(outcome[counts] == HIT, times @ n_truth, weight[:, counts]))
        return np.stack([columns[0], np.mean(columns, axis=0)], axis=1)

    note = (
        f"{count_of(len(ranked), 'kept contour')} by score; a run has no contours below the segmenter's own score "
        "threshold"
    )
    undefined = "no whole expert cell in an exhaustively annotated field"
    return [
        scorer.figure(key, value, truth, note=note, undefined=undefined)
        for key, value in zip(("ap50", "ap50_95"), scorer.of_weights(ranked, averages), strict=True)
    ]


def class_recalls(scorer: Scorer, expert: pl.DataFrame, categories: Sequence[str]) -> tuple[ClassRecall, ...]:
    """Compute the recall of every category and raw code that has an uncut expert cell with an outline drawn by hand."""
    whole = expert.filter(~pl.col("cut") & ~pl.col("network_contour"))
    groups = [("category", name, pl.col("category") == index) for index, name in enumerate(categories)]
    groups += [("code", code, pl.col("code") == code) for code in sorted(set(whole["code"]))]
    kept: list[tuple[str, str, int, int]] = []
    sums: list[metrics.RealArray] = []
    for kind, label, of_class in groups:
        cells = whole.filter(of_class)
        if cells.is_empty():
            continue
        n = scorer.sum_by_patient(cells, np.ones(len(cells)))
        for column in ("found_before_rules", "found"):
            found = scorer.sum_by_patient(cells, cells[column].cast(pl.Float64).to_numpy())
            sums.append(np.stack([found, n], axis=1))
        kept.append((kind, label, len(cells), int((n > 0).sum())))
    if not kept:
        return ()
    intervals = scorer.of_columns(
        np.stack(sums, axis=1), lambda totals: metrics.shares(totals[:, :, 0], totals[:, :, 1])
    )
    return tuple(
        ClassRecall(kind, label, n, n_patients, intervals[2 * index], intervals[2 * index + 1])
        for index, (kind, label, n, n_patients) in enumerate(kept)
    )


def _mean(scorer: Scorer, frame: pl.DataFrame, values: pl.Series) -> Interval:
    """Compute the mean of one value per row; the rows of a patient are resampled together."""
    numbers = values.cast(pl.Float64).to_numpy()
    sums = np.stack([scorer.sum_by_patient(frame, numbers), scorer.sum_by_patient(frame, np.ones(len(frame)))], axis=1)
    return scorer.of_sums(sums, lambda total: metrics.share(total[0], total[1]))
