"""Temperatures of a cross-fit and their effect: out-of-fold cells of all folds, by head and center."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.statistics.temperature import (
    Calibration,
    binary_event,
    calibration_figures,
    nested_calibration,
    reliability_table,
    trained_labels,
)
from marrowscope.train.config import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.train.out_of_fold import HeadPriors


def calibrate_folds(
    cells: pl.DataFrame, folds: Sequence[int], members: Mapping[str, tuple[str, Mapping[str, HeadPriors]]]
) -> tuple[Calibration, pl.DataFrame, pl.DataFrame]:
    """Fit a temperature for each head on every out-of-fold cell.

    ``cells`` are the rows of ``oof.parquet``, ``folds`` their numbers in ascending order, ``members`` map the folder of
    each fold's training, in the same order, to the hash of its weights and its priors. Returns the temperatures; the
    negative log-likelihood (nats) and calibration error before and after, by head and center; and their bins.
    """
    priors = [found for _, found in members.values()]
    fold_of = cells["fold"].to_numpy()
    place = np.searchsorted(np.array(folds), fold_of)
    heads, figures, bins = {}, [], []
    for head in HEADS:
        implied, wanted = (
            np.stack([getattr(found[head], name) for found in priors])[place] for name in ("implied", "wanted")
        )
        labels = cells[f"label_{head}"].to_numpy()
        logits = cells[f"logp_{head}"].to_numpy().astype(np.float64)
        heads[head], before, after = nested_calibration(logits, labels, fold_of, implied, wanted)
        for center, rows in _groups(cells["center"], trained_labels(labels, implied)):
            n = {"n_cells": len(rows), "n_patients": cells["patient_id"][rows].n_unique()}
            (nll_before, ece_before), (nll_after, ece_after) = (
                calibration_figures(values[rows], labels[rows]) for values in (before, after)
            )
            figures.append(
                {"head": head, "center": center, **n, "nll_before": nll_before, "nll_after": nll_after}
                | {"ece_before": ece_before, "ece_after": ece_after}
            )
            for state, values in (("before", before), ("after", after)):
                table = reliability_table(*binary_event(values[rows], labels[rows]))
                bins += [
                    {"head": head, "center": center, "calibration": state, "bin": index}
                    | {name: getattr(row, name) for name in row.__slots__}
                    for index, row in enumerate(table)
                ]
    calibration = Calibration(
        source=cells["source"][0],
        n_patients=cells["patient_id"].n_unique(),
        members={folder: weights for folder, (weights, _) in members.items()},
        heads=heads,
    )
    return calibration, pl.DataFrame(figures), pl.DataFrame(bins)


def _groups(centers: pl.Series, known: NDArray[np.bool_]) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Return the rows of all known cells, then those of each center by name."""
    yield "all", np.flatnonzero(known)
    for center in centers.unique().sort().to_list():
        yield center, np.flatnonzero(known & (centers == center).to_numpy())
