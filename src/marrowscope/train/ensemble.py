"""The trained classifiers of a bundle: found in their folders, and rejected when they do not belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.config import load_record
from marrowscope.errors import InputError, RunError
from marrowscope.imaging.names import path_below
from marrowscope.statistics.temperature import CALIBRATION_NAME, Calibration
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.crossfit_record import CROSSFIT_NAME
from marrowscope.vocabulary import are_compatible
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.train.model import ClassifierInfo
    from marrowscope.train.training_record import FinishedTraining
    from marrowscope.vocabulary import Vocabulary


def find_members(trainings: Sequence[Path], *, calibrate: bool) -> tuple[list[Path], Calibration | None]:
    """Return the training folders, those of its folds for a cross-fit folder, and the temperatures of the latter."""
    crossfits = [folder for folder in trainings if (folder / CROSSFIT_NAME).is_file()]
    if not crossfits:
        return list(trainings), None
    if len(trainings) > 1:
        message = (
            f"found {count_of(len(trainings), 'folder')}, {crossfits[0]} among them a cross-fit, expected a cross-fit "
            "alone: its "
            "temperatures belong to its own folds; export it alone, or name the folds' folders"
        )
        raise InputError(message)
    path = crossfits[0] / CALIBRATION_NAME
    calibration = load_record(Calibration, path, error=RunError, advice="train every fold, the last one writes it")
    members = [path_below(crossfits[0], name, where=f"{path}, members", error=RunError) for name in calibration.members]
    return members, calibration if calibrate else None


def check_calibrated(trainings: Sequence[Path], records: Sequence[FinishedTraining], calibration: Calibration) -> None:
    """Reject weights other than those whose predictions the temperatures were fitted on."""
    for folder, record in zip(trainings, records, strict=True):
        found, expected = record.result.weights_sha256, calibration.members[folder.name]
        if found != expected:
            message = (
                f"{folder}: found weights {found[:12]}, expected {expected[:12]}, those of {CALIBRATION_NAME}; finish "
                "the cross-fit again with `marrowscope train classifier --folds ... --resume`"
            )
            raise InputError(message)


def check_segmenter(folder: Path, record: FinishedTraining, segmenter: Path, sha256: str, *, allowed: bool) -> None:
    """Reject a segmenter whose contours the classifier never saw."""
    trained_with = record.prepared.segmenter_sha256
    if trained_with and trained_with != sha256 and not allowed:
        message = (
            f"{segmenter}: found SHA-256 {sha256[:12]}, expected {trained_with[:12]}, the segmenter that cut the crops "
            f"of {folder}; pass that one, or add --other-segmenter"
        )
        raise InputError(message)


def check_vocabulary(trainings: Sequence[Path], records: Sequence[FinishedTraining], vocabulary: Vocabulary) -> None:
    """Reject a member that learned its labels from another vocabulary than the bundle's."""
    for folder, record in zip(trainings, records, strict=True):
        trained = record.vocabulary
        if not are_compatible(trained.sha256, vocabulary.sha256):
            message = (
                f"{folder}: trained with vocabulary {trained.name} {trained.version} ({trained.sha256[:12]}), "
                f"found {vocabulary.name} {vocabulary.version} ({vocabulary.sha256[:12]}); train again, or export "
                "with the version of marrowscope it was trained with"
            )
            raise InputError(message)


def common_info(trainings: Sequence[Path]) -> ClassifierInfo:
    """Return the first member's description; reject members with other crops, views or categories."""
    first, *others = [load_classifier(folder / CLASSIFIER_NAME)[1] for folder in trainings]
    for folder, other in zip(trainings[1:], others, strict=True):
        if (other.categories, other.crop_px, other.um_per_px) != (first.categories, first.crop_px, first.um_per_px):
            message = (
                f"{folder}: {other.crop_px} px crops at {other.um_per_px} um per px, expected {first.crop_px} px at "
                f"{first.um_per_px} and equal categories as in {trainings[0]}"
            )
            raise InputError(message)
        if other.views != first.views:
            message = f"{folder}: found views = {other.views}, expected {first.views} as in {trainings[0]}"
            raise InputError(message)
    return first
