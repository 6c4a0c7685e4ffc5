"""crossfit.json: what a cross-fit learns from, and the result of each fold. Nothing here needs PyTorch."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import Field

from marrowscope import __version__
from marrowscope.cohort.folds import TRAINS_IN_EVERY, fold_word
from marrowscope.config import FrozenModel, load_record
from marrowscope.disk import write_json
from marrowscope.errors import RunError
from marrowscope.train.config import Source  # noqa: TC001  pydantic reads it
from marrowscope.train.training_record import EpochRow, LearnedFrom, StageCounts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from marrowscope.train.training_record import FinishedTraining

CROSSFIT_NAME = "crossfit.json"


class FoldResult(FrozenModel):
    """The result of one fold."""

    weights_sha256: str
    split_sha256: str
    initial_weights: str
    best_epoch: EpochRow
    stages: dict[str, StageCounts]
    versions: dict[str, str]


class CrossFitRecord(LearnedFrom):
    """Content of crossfit.json; ``folds`` is empty and ``oof_sha256`` null until every fold is trained."""

    schema_version: int = 1
    created_utc: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    marrowscope_version: str = __version__
    seed: int
    segmenter_sha256: str | None = None
    assigned_sha256: str = Field(description="SHA-256 of the patients with the fold that leaves each out")
    n_folds: int
    n_external_patients: int
    predicted_crops: Source = Field(description="contours of the crops predicted out of fold")
    folds: dict[str, FoldResult] = Field(default_factory=dict, description="by number")
    oof_sha256: str | None = Field(default=None, description="of all folds' out-of-fold predictions")


def hash_folds(assigned: Mapping[str, int | None]) -> str:
    """Hash which fold leaves each patient out; equal for equal folds, in any order."""
    ordered = {
        patient: fold_word(fold) if fold in {None, TRAINS_IN_EVERY} else fold
        for patient, fold in sorted(assigned.items())
    }
    return hashlib.sha256(json.dumps(ordered).encode()).hexdigest()


def fold_result(fit: FinishedTraining) -> FoldResult:
    """Extract from a fold's record what the cross-fit's record states about it."""
    return FoldResult(
        weights_sha256=fit.result.weights_sha256,
        split_sha256=fit.split_sha256,
        initial_weights=fit.result.initial_weights,
        best_epoch=fit.result.best_epoch,
        stages=fit.stages,
        versions=fit.versions,
    )


def differences(ours: LearnedFrom, theirs: LearnedFrom) -> list[str]:
    """List what differs but must be equal across one cross-fit folder."""
    other = theirs.decisive()
    return [name for name, value in ours.decisive().items() if other[name] != value]


def write_crossfit(folder: Path, record: CrossFitRecord) -> None:
    """Write crossfit.json atomically; what is not there yet is left out."""
    absent = {name for name in ("folds", "oof_sha256") if not getattr(record, name)}
    write_json(folder / CROSSFIT_NAME, record.model_dump(mode="json", exclude=absent))


def read_crossfit(folder: Path) -> CrossFitRecord:
    """Read crossfit.json of a cross-fit folder; RunError, in one sentence, for a wrong type or a missing key."""
    advice = "give the --out of `marrowscope train classifier --folds`"
    return load_record(CrossFitRecord, folder / CROSSFIT_NAME, error=RunError, advice=advice)
