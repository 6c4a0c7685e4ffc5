"""What one stage learns from, and a network for it: shared by the tests of engine, step and determinism."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.train.crop_set import class_priors, open_crop_set
from marrowscope.train.model import CellClassifier, ClassifierInfo, new_classifier
from marrowscope.train.stage import StageInputs
from marrowscope.train.targets import standardize
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig


def stage_inputs(folder: Path, config: ClassifierConfig, n_rows: int | None = None) -> StageInputs:
    """Give expert crops of four patients to train on and predicted ones of two others to select on."""
    crop_set = open_crop_set(folder, load_vocabulary())
    rows = crop_set.rows({"p0", "p1", "p2", "p3"}, "expert")[:n_rows]
    info = ClassifierInfo(
        architecture=config.architecture,
        categories=crop_set.categories,
        crop_px=config.crop_px,
        um_per_px=0.3,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        priors=class_priors(crop_set.class_shares(rows)),
        imbalance=config.imbalance,
        tau=config.tau,
        norm=config.norm,
        morphology=standardize(crop_set.measured, rows)[0],
        initial_weights="random",
    )
    return StageInputs(crop_set, rows, crop_set.rows({"p4", "p5"}, "predicted"), info, "fingerprint")


def tiny_model(config: ClassifierConfig) -> CellClassifier:
    """Give an untrained network with a morphology head for the three columns of the crop set."""
    return new_classifier(config.architecture, 16, config.dropout, config.seed, n_morphology=3, norm=config.norm)
