"""A trained classifier's predictions on crops it has not learned from, as a table readable without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from marrowscope.train.checkpoint import hash_weights, load_tensors, read_part
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.config import HEADS
from marrowscope.train.model import ClassifierInfo
from marrowscope.train.stage import configure_torch
from marrowscope.train.validation import predict_logits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.crop_set import CropSet, IntArray

_CELL_COLUMNS = (
    "cell_id", "field_id", "patient_id", "center", "diagnosis", "specimen", "source", "expert_code", "cut",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeadPriors:
    """Class shares (k,) of one head: those its logits assume, and the target of its probabilities."""

    implied: NDArray[np.float64]
    wanted: NDArray[np.float64]


def predict_table(weights: Path, crop_set: CropSet, rows: IntArray, config: ClassifierConfig) -> pl.DataFrame:
    """Predict the unchanged crops of ``rows`` on the device of ``config``: one row per crop, in order.

    Besides the cell's own columns it has, by head, the label and ``logp_<head>``: the log-probabilities (k,) as
    trained, minus infinity for a class that was never trained.
    """
    device = configure_torch(config)
    model, info, _ = load_classifier(weights)
    logits = predict_logits(model.to(device), crop_set, rows, info, batch_size=config.batch_size)
    # Crop sets of earlier versions have no specimen, and do not mark the cells cut by an edge.
    table = crop_set.cells[rows].select(name for name in _CELL_COLUMNS if name in crop_set.cells.columns)
    for head in HEADS:  # the folds' tables are one: a head that only some of them have is left out
        values = logits[head]
        known = torch.tensor(info.trained(head))
        log_p = torch.log_softmax(values.masked_fill(~known, -math.inf), dim=1).numpy()
        table = table.with_columns(
            pl.Series(f"label_{head}", crop_set.labels[head][rows], dtype=pl.Int64()),
            pl.Series(f"logp_{head}", log_p, dtype=pl.Array(pl.Float32(), log_p.shape[1])),
        )
    return table


def read_priors(weights: Path, decision_tau: float | None = 0.0) -> tuple[str, dict[str, HeadPriors]]:
    """Return the SHA-256 of a classifier's weights, and the priors of each head.

    The target prior is that of ``decision_tau`` (see ``ClassifierInfo.implied_prior``), by default the shares of the
    classifier's training cells.
    """
    tensors, meta = load_tensors(weights)
    info = read_part(ClassifierInfo, meta, "info", weights)
    priors = {
        head: HeadPriors(np.array(info.implied_prior(head)), np.array(info.implied_prior(head, decision_tau)))
        for head in HEADS
    }
    return hash_weights(tensors), priors
