"""Calibration on matched cells: whether a probability of 0.8 is right in 8 of 10 cells.

``cblc`` compares p_cblc with whether the cell is CBLC; ``category`` compares the probability of the called category
with whether it is the expert's (top-label). Cells whose coarse label leaves the answer open are left out. Bins have
equal numbers of cells and are the same in every resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.evaluate.catalog import ON_MATCHED
from marrowscope.evaluate.frames import CBLC_HEAD, HEADS
from marrowscope.statistics import metrics
from marrowscope.statistics.recalibration import SMALLEST_PROBABILITY, recalibrate
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.evaluate.scorer import Figure, Scorer
    from marrowscope.records import Interval


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin: ``n`` cells, their mean probability, and the observed share with its interval."""

    head: str
    index: int
    n: int
    mean_probability: float
    share: Interval


def calibration_figures(
    scorer: Scorer, matched: pl.DataFrame, n_bins: int
) -> tuple[list[Figure], tuple[ReliabilityBin, ...]]:
    """Compute the calibration error and Brier score of both heads, recalibration of CBLC, and the diagram's bins."""
    figures: list[Figure] = []
    bins: list[ReliabilityBin] = []
    for head in HEADS:
        column = "p_cblc" if head == CBLC_HEAD else "p_called"
        frame = matched.filter(pl.col(column).is_not_null() & pl.col(head).is_not_null())
        outcome = frame["cblc"] if head == CBLC_HEAD else frame["category"] == frame["predicted_category"]
        probability = frame[column].to_numpy()
        sums = _bin_sums(scorer, frame, probability, outcome.cast(pl.Float64).to_numpy(), n_bins)
        error = scorer.of_sums(sums, lambda total: metrics.expected_calibration_error(*total.T))
        squared = (probability - outcome.cast(pl.Float64).to_numpy()) ** 2
        squares = np.stack(
            [scorer.sum_by_patient(frame, squared), scorer.sum_by_patient(frame, np.ones(len(frame)))], axis=1
        )
        what = "p(CBLC)" if head == CBLC_HEAD else "probability of the called category"
        note = f"{what}; {count_of(sums.shape[1], 'bin')} of equal cell number; resampling itself increases this error"
        figures += [
            scorer.figure(f"{head}_calibration_error{ON_MATCHED.key}", error, frame, note=note),
            scorer.figure(
                f"{head}_brier_score{ON_MATCHED.key}",
                scorer.of_sums(squares, lambda total: metrics.share(total[0], total[1])),
                frame,
                note=f"{what}: mean squared difference from the true outcome; 0 is best",
            ),
        ]
        if head == CBLC_HEAD:
            figures += _recalibration(scorer, frame)
        bins += _bins(scorer, head, sums)
    return figures, tuple(bins)


def _recalibration(scorer: Scorer, frame: pl.DataFrame) -> list[Figure]:
    """Compute slope and intercept of p_cblc, and its calibration in the large, with cluster-robust intervals."""
    found = recalibrate(frame["cblc"].to_numpy(), frame["p_cblc"].to_numpy(), scorer.positions(frame))
    kept = f"p(CBLC) kept inside {SMALLEST_PROBABILITY:g} and 1 - {SMALLEST_PROBABILITY:g}"
    return [
        scorer.figure(f"cblc_calibration_{key}{ON_MATCHED.key}", value, frame, note=note, undefined=undefined)
        for key, value, note, undefined in (
            ("slope", found.slope, f"1 is best; below 1, probabilities are too extreme; {kept}", found.undefined),
            ("intercept", found.intercept, "on the logit scale, read together with the slope", found.undefined),
            (
                "in_the_large",
                found.in_the_large,
                "intercept on the logit scale with slope 1; above 0, p(CBLC) is too low on the whole",
                found.undefined_in_the_large,
            ),
        )
    ]


def _bin_sums(
    scorer: Scorer, frame: pl.DataFrame, probability: metrics.RealArray, outcome: metrics.RealArray, n_bins: int
) -> metrics.RealArray:
    """Sum n, probability and outcome by patient and bin: (patients, bins, 3)."""
    bin_of = metrics.equal_mass_bins(probability, n_bins)
    n_used = int(bin_of.max()) + 1 if len(bin_of) else 0
    sums = np.zeros((len(scorer.patients), n_used, 3))
    where = (scorer.positions(frame), bin_of)
    for part, values in enumerate((np.ones(len(frame)), probability, outcome)):
        np.add.at(sums[:, :, part], where, values)
    return sums


def _bins(scorer: Scorer, head: str, sums: metrics.RealArray) -> list[ReliabilityBin]:
    total = sums.sum(axis=0)
    if not len(total):
        return []
    shares = scorer.of_columns(sums, lambda totals: metrics.shares(totals[:, :, 2], totals[:, :, 0]))
    return [
        ReliabilityBin(head, index, int(n), float(probability / n), shares[index])
        for index, (n, probability, _) in enumerate(total)
    ]
