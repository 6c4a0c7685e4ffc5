"""Temperatures and joint weights of a cross-fit, and their effect on out-of-fold cells by head and center."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.statistics.joint_fit import HeldOut, fit_joint, yes_and_no
from marrowscope.statistics.temperature import (
    Calibration,
    apply_temperature,
    binary_event,
    calibration_figures,
    nested_calibration,
    reliability_table,
    trained_labels,
)
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.config import HEADS
from marrowscope.train.left_out_cells import OOF_NAME, read_left_out
from marrowscope.train.out_of_fold import read_priors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.train.out_of_fold import HeadPriors
    from marrowscope.vocabulary import Vocabulary


JOINT = "joint"
"""What calibration.csv and reliability.csv call p_cblc of all heads together."""


def calibrate_folds(
    cells: pl.DataFrame,
    folds: Sequence[int],
    members: Mapping[str, tuple[str, Mapping[str, HeadPriors]]],
    vocabulary: Vocabulary,
) -> tuple[Calibration, pl.DataFrame, pl.DataFrame]:
    """Fit a temperature for each head, and the weights of all heads together, on every out-of-fold cell.

    ``cells`` are the rows of ``oof.parquet``, ``folds`` their numbers in ascending order, ``members`` map the folder of
    each fold's training, in the same order, to the hash of its weights and its priors. Returns the calibration; the
    negative log-likelihood (nats) and calibration error before and after, by head and center; and their bins.
    """
    priors = [found for _, found in members.values()]
    fold_of = cells["fold"].to_numpy()
    place = np.searchsorted(np.array(folds), fold_of)
    heads, outputs, effects = {}, {}, {}
    for head in HEADS:
        implied, wanted = (
            np.stack([getattr(found[head], name) for found in priors])[place] for name in ("implied", "wanted")
        )
        labels = cells[f"label_{head}"].to_numpy()
        logits = cells[f"logp_{head}"].to_numpy().astype(np.float64)
        heads[head], before, after = nested_calibration(logits, labels, fold_of, implied, wanted)
        outputs[head] = (logits, implied, wanted)
        effects[head] = _Effect(before, after, labels, trained_labels(labels, implied))

    def heads_without(fold: int | None) -> dict[str, NDArray[np.float64]]:
        fitted = {
            head: found.temperature if fold is None else found.nested_temperatures[str(fold)]
            for head, found in heads.items()
        }
        return {head: apply_temperature(*outputs[head], fitted[head]) for head in HEADS}

    cblc = np.where(effects["cblc"].known, cells["label_cblc"].to_numpy(), -1)
    held_out = HeldOut(cells["expert_code"].to_list(), cblc, fold_of, mean_shares(priors))
    joint, before, after = fit_joint(held_out, heads_without, vocabulary)
    effects[JOINT] = _Effect(yes_and_no(before), yes_and_no(after), cblc, cblc >= 0)
    calibration = Calibration(
        source=cells["source"][0],
        n_patients=cells["patient_id"].n_unique(),
        members={folder: weights for folder, (weights, _) in members.items()},
        heads=heads,
        joint=joint,
    )
    return calibration, *_tables(cells, effects)


def mean_shares(priors: Sequence[Mapping[str, HeadPriors]]) -> dict[str, NDArray[np.float64]]:
    """Return the class shares (k,) that the ensemble's probabilities assume by head: the mean over its members."""
    return {head: np.mean([found[head].wanted for found in priors], axis=0) for head in HEADS}


def with_joint(crossfit: Path, calibration: Calibration, vocabulary: Vocabulary) -> Calibration:
    """Return the calibration of a cross-fit folder with its joint part, fitted now where an earlier version did not.

    Without the out-of-fold predictions it stays as it is.
    """
    if calibration.joint is not None or not (crossfit / OOF_NAME).is_file():
        return calibration
    cells = read_left_out(crossfit / OOF_NAME)
    priors = {name: read_priors(crossfit / name / CLASSIFIER_NAME) for name in calibration.members}
    fitted, _, _ = calibrate_folds(cells, sorted(cells["fold"].unique().to_list()), priors, vocabulary)
    return calibration.model_copy(update={"joint": fitted.joint})


@dataclass(frozen=True, slots=True)
class _Effect:
    """Probabilities (n, k) before and after, the labels (n,), and which cells count."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    labels: NDArray[np.int64]
    known: NDArray[np.bool_]


def _tables(cells: pl.DataFrame, effects: Mapping[str, _Effect]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the figures and the bins of each head, by center."""
    figures, bins = [], []
    for head, effect in effects.items():
        for center, rows in _groups(cells["center"], effect.known):
            n = {"n_cells": len(rows), "n_patients": cells["patient_id"][rows].n_unique()}
            (nll_before, ece_before), (nll_after, ece_after) = (
                calibration_figures(values[rows], effect.labels[rows]) for values in (effect.before, effect.after)
            )
            figures.append(
                {"head": head, "center": center, **n, "nll_before": nll_before, "nll_after": nll_after}
                | {"ece_before": ece_before, "ece_after": ece_after}
            )
            for state, values in (("before", effect.before), ("after", effect.after)):
                table = reliability_table(*binary_event(values[rows], effect.labels[rows]))
                bins += [
                    {"head": head, "center": center, "calibration": state, "bin": index}
                    | {name: getattr(row, name) for name in row.__slots__}
                    for index, row in enumerate(table)
                ]
    return pl.DataFrame(figures), pl.DataFrame(bins)


def _groups(centers: pl.Series, known: NDArray[np.bool_]) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Return the rows of all known cells, then those of each center by name."""
    yield "all", np.flatnonzero(known)
    for center in centers.unique().sort().to_list():
        yield center, np.flatnonzero(known & (centers == center).to_numpy())
