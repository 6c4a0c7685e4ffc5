"""From crops to a trained classifier: split, one stage after another, best weights.

A training folder has
    split.csv                the patients for training and validation, and those held out
    fit.json                 everything to repeat the training: configuration, hashes, versions, machine; and its result
    <n>-<stage>/             checkpoint.safetensors, best.safetensors, metrics.csv, tensorboard/
    classifier.safetensors   the weights kept of the last stage, with everything needed for export in the header
Stage 1 (GT-to-YOLO) trains on crops cut from expert contours. Stage 2 (YOLO-to-YOLO) continues from the weights kept of
it on crops cut from predicted contours. Kept are those of the best epoch on predicted crops of validation patients, of
the last step, or their moving average (``select``). A training that was killed and resumed ends with the same weights.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.cohort.folds import Role, check_split, read_split, split_patients, write_split
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import written_whole
from marrowscope.errors import ConfigError, RunError
from marrowscope.imaging import sha256_file
from marrowscope.runs.folder import refuse_file
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME, fill, hash_weights, load_tensors, read_part
from marrowscope.train.config import HEADS, PLASMA
from marrowscope.train.crop_set import SUMMARY_NAME, CropSet, class_priors, open_crop_set
from marrowscope.train.crossfit_record import CROSSFIT_NAME
from marrowscope.train.device import choose_device
from marrowscope.train.imbalance import correct_all
from marrowscope.train.initial_weights import InitialWeights, check_initial_weights, load_initial_weights
from marrowscope.train.losses import check_terms
from marrowscope.train.model import CellClassifier, ClassifierInfo, check_architecture, new_classifier
from marrowscope.train.needed_parts import check_crop_size, check_parts
from marrowscope.train.soft_labels import check_groups
from marrowscope.train.stage import (
    BEST_NAME,
    CHECKPOINT_NAME,
    Progress,
    StageInputs,
    check_rows,
    describe_machine,
    fit_stage,
)
from marrowscope.train.targets import standardize
from marrowscope.train.teacher import ask_teacher, check_teacher, read_teacher
from marrowscope.train.training_record import (
    FIT_NAME,
    EpochRow,
    StageCounts,
    TrainingRecord,
    TrainingResult,
    UsedTeacher,
    describe_data,
    read_training,
    write_training,
)
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.train.config import ClassifierConfig, StagePlan
    from marrowscope.train.crop_set import IntArray
    from marrowscope.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class FitResult:
    """A trained classifier: its file, the SHA-256 of its weights, and the epoch they are from."""

    weights_path: Path
    weights_sha256: str
    best: EpochRow
    info: ClassifierInfo


def fit_classifier(
    crops: Path,
    out: Path,
    config: ClassifierConfig,
    *,
    split: Path | None = None,
    vocabulary: Vocabulary | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train on the crop set ``crops`` through every stage of ``config`` and write the training folder ``out``.

    ``split`` has each patient's role; without it, or without validation patients in it, a share of the training
    patients is drawn for validation if the best epoch is to be kept. Raises InputError for a crop set or split that
    cannot be used, RunError if ``out`` has a training and ``resume`` is off, ConfigError for settings that do not fit,
    and TrainingError if training cannot continue.
    """
    check_start(out, config)
    _refuse_earlier(out, resume=resume)
    vocabulary = vocabulary or load_vocabulary()
    check_groups(config.confusable, vocabulary)
    crop_set = open_crop_set(crops, vocabulary)
    if config.coarse_target == "main":
        crop_set = crop_set.with_main_categories()
    roles = _roles(crop_set, split, config)
    _check_data(crop_set, roles, config)
    teacher = None
    if config.teacher is not None:
        teacher = read_teacher(config.teacher)
        check_teacher(teacher, crop_set)
    record = _describe(crop_set, roles, config, vocabulary, teacher)
    earlier = _earlier_record(out, record.fingerprint())
    if earlier is not None:
        if (finished := _finished(out, earlier)) is not None:
            return finished
        record = record.going_on_from(earlier)
    _begin(out, roles, record)
    best_path, counts = _fit_stages(
        crop_set, roles, config, out, teacher=teacher, fingerprint=record.fingerprint(), on_progress=on_progress
    )
    return _finish(out, best_path, record.model_copy(update={"stages": counts}))


def check_start(out: Path, config: ClassifierConfig, *, in_folds: bool = False) -> None:
    """Check, before any work, that a training or a cross-fit can start in ``out``.

    Raises RunError if ``out`` is a file, a crop set or a cohort; ConfigError for loss terms, a device, a trunk, a
    teacher or initial weights that do not exist. A training that has started needs no initial weights. ``in_folds``: a
    teacher is refused, since it may have learned from the patients that a fold holds out.
    """
    refuse_file(out)
    for name, kind in ((SUMMARY_NAME, "crop set"), (PATIENTS_NAME, "cohort")):
        if (out / name).exists():
            message = f"{out}: found a {kind} ({name}), expected a folder for the training only; choose another"
            raise RunError(message)
    check_terms(config.loss_weights)
    choose_device(config.device)
    check_architecture(config.architecture, config.crop_px, config.norm)
    if config.teacher is not None:
        _check_teacher(config.teacher, in_folds=in_folds)
    if not any((out / name).is_file() for name in (FIT_NAME, CROSSFIT_NAME)):
        check_initial_weights(config.architecture, config.init, config.norm)


def _check_teacher(given: str, *, in_folds: bool) -> None:
    """Refuse a teacher that cannot be read, and any in a cross-fit."""
    if in_folds:
        message = (
            f"teacher: found {given!r} in a cross-fit, expected none: a teacher that learned from the patients that a "
            "fold holds out would tell of them; remove it, or train once without folds"
        )
        raise ConfigError(message)
    read_teacher(given)


def _refuse_earlier(out: Path, *, resume: bool) -> None:
    """Refuse a folder that has a training, unless it is to be resumed."""
    if (out / FIT_NAME).exists() and not resume:
        message = f"{out}: found an earlier training, expected a new folder; add --resume or choose another folder"
        raise RunError(message)


def _roles(crop_set: CropSet, split: Path | None, config: ClassifierConfig) -> dict[str, Role]:
    """Read the split, or draw validation patients if there are none and the best epoch is to be kept."""
    roles: dict[str, Role] = {} if split is None else read_split(split)
    if "validation" in roles.values():
        return roles
    patients = crop_set.cells.select("patient_id", "center", "diagnosis").unique("patient_id")
    drawn = [patient for patient in patients["patient_id"] if split is None or roles.get(patient) == "train"]
    if config.select != "best":
        return roles | dict.fromkeys(sorted(drawn), "train")
    kept = patients.filter(patients["patient_id"].is_in(drawn))
    return roles | split_patients(kept, config.validation_fraction, config.seed)


def _plans(config: ClassifierConfig) -> list[StagePlan]:
    """Return the stages with at least one epoch, in order; there is at least one."""
    return [plan for plan in config.stages if plan.epochs]


def _check_data(crop_set: CropSet, roles: Mapping[str, Role], config: ClassifierConfig) -> None:
    """Refuse a split with leakage, crops that lack what the configuration needs, and stages without crops."""
    check_split(crop_set.cells, roles)
    check_crop_size(crop_set, config)
    check_parts(crop_set, config)
    for plan in _plans(config):
        check_rows(plan, *_rows(crop_set, roles, plan), config.select)


def _describe(
    crop_set: CropSet,
    roles: Mapping[str, Role],
    config: ClassifierConfig,
    vocabulary: Vocabulary,
    teacher: Bundle | None,
) -> TrainingRecord:
    """Record what determines the weights; the split is hashed in its written form."""
    described = describe_data(crop_set, config, vocabulary)
    if teacher is not None:
        used = UsedTeacher(name=teacher.spec.name, version=teacher.spec.version, sha256=teacher.spec_sha256)
        described = described.model_copy(update={"teacher": used})
    with tempfile.TemporaryDirectory(prefix="marrowscope-fit-") as scratch:
        path = Path(scratch) / SPLIT_NAME
        write_split(path, roles)
        split_sha256 = sha256_file(path)
    return TrainingRecord(**dict(described), split_sha256=split_sha256, machine=describe_machine(config))


def _begin(out: Path, roles: Mapping[str, Role], record: TrainingRecord) -> None:
    """Write the split, and everything needed to repeat the training."""
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(out / SPLIT_NAME) as temporary:
        write_split(temporary, roles)
    write_training(out, record)


def _fit_stages(
    crop_set: CropSet,
    roles: dict[str, Role],
    config: ClassifierConfig,
    out: Path,
    *,
    teacher: Bundle | None,
    fingerprint: str,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[Path, dict[str, StageCounts]]:
    """Train the stages in order, each from the best weights of the one before; return the last ones, and counts."""
    heads = _heads(crop_set, roles, config)
    model = _new_model(crop_set, config, heads)
    counts: dict[str, StageCounts] = {}
    best_path, info = out / CLASSIFIER_NAME, None
    for number, plan in enumerate(_plans(config), start=1):
        folder = out / f"{number}-{plan.name}"
        start = _start(model, config, folder, best_path if number > 1 else None, info)
        inputs = _stage_inputs(crop_set, roles, plan, config=config, start=start, heads=heads, fingerprint=fingerprint)
        if teacher is not None:
            inputs = replace(
                inputs, taught=ask_teacher(teacher, crop_set, inputs.training_rows, threads=config.threads)
            )
        counts[plan.name] = _count(crop_set, inputs)
        fit_stage(model, inputs, config, plan=plan, stage=number, folder=folder, on_progress=on_progress)
        best_path, info = folder / BEST_NAME, inputs.info
    return best_path, counts


def _heads(crop_set: CropSet, roles: Mapping[str, Role], config: ClassifierConfig) -> tuple[str, ...]:
    """Return the heads of the network: that of plasma cells where the crops of every stage have both answers."""
    every = [_rows(crop_set, roles, plan)[0] for plan in _plans(config)]
    learns = config.loss_weights[PLASMA] > 0 and all(crop_set.has_plasma(rows) for rows in every)
    return (*HEADS, PLASMA) if learns else HEADS


def _new_model(crop_set: CropSet, config: ClassifierConfig, heads: Sequence[str]) -> CellClassifier:
    """Make the network with random initial weights that depend only on the seed."""
    return new_classifier(
        config.architecture,
        len(crop_set.categories),
        config.dropout,
        config.seed,
        n_morphology=len(crop_set.measured) if config.loss_weights["morphology"] > 0 else 0,
        norm=config.norm,
        plasma=PLASMA in heads,
    )


def _start(
    model: CellClassifier, config: ClassifierConfig, folder: Path, previous: Path | None, info: ClassifierInfo | None
) -> InitialWeights:
    """Initialize the model from the stage before or by ``config.init``; a first stage that has started is fixed."""
    if previous is not None and info is not None:
        fill(model, load_tensors(previous)[0], previous)
        return InitialWeights(info.initial_weights, info.mean, info.std, info.initial_sha256)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.is_file():
        pinned = read_part(ClassifierInfo, load_tensors(checkpoint)[1], "info", checkpoint)
        return InitialWeights(pinned.initial_weights, pinned.mean, pinned.std, pinned.initial_sha256)
    loaded = load_initial_weights(model, config.architecture, config.init)
    return replace(loaded, sha256=hash_weights(model.state_dict()))


def _stage_inputs(
    crop_set: CropSet,
    roles: dict[str, Role],
    plan: StagePlan,
    *,
    config: ClassifierConfig,
    start: InitialWeights,
    heads: Sequence[str],
    fingerprint: str,
) -> StageInputs:
    """Choose the stage's training and validation crops, and describe its weights."""
    training_rows, validation_rows = _rows(crop_set, roles, plan)
    shares = crop_set.class_shares(training_rows, heads)
    priors, corrections = class_priors(shares), correct_all(shares, config)
    targets = standardize(crop_set.measured, training_rows)[0] if config.loss_weights["morphology"] > 0 else ()
    info = ClassifierInfo(
        architecture=config.architecture,
        categories=crop_set.categories,
        crop_px=config.crop_px,
        um_per_px=crop_set.um_per_px,
        mean=start.mean,
        std=start.std,
        priors=priors,
        imbalance=config.imbalance,
        tau=config.tau,
        implied={head: correction.implied for head, correction in corrections.items()},
        norm=config.norm,
        views=config.views,
        morphology=targets,
        initial_weights=start.source,
        segmenter_sha256=crop_set.summary.segmenter_sha256,
        initial_sha256=start.sha256,
    )
    return StageInputs(crop_set, training_rows, validation_rows, info, fingerprint)


def _rows(crop_set: CropSet, roles: Mapping[str, Role], plan: StagePlan) -> tuple[IntArray, IntArray]:
    """Choose the crops that a stage trains on, and those it is validated on."""
    train, validation = ({name for name, given in roles.items() if given == role} for role in ("train", "validation"))
    return crop_set.rows(train, plan.train_on), crop_set.rows(validation, plan.select_on)


def _count(crop_set: CropSet, inputs: StageInputs) -> StageCounts:
    """Count a stage's crops and patients for training and validation."""
    patients = crop_set.cells["patient_id"]
    return StageCounts(
        training_crops=len(inputs.training_rows),
        validation_crops=len(inputs.validation_rows),
        training_patients=patients[inputs.training_rows].n_unique(),
        validation_patients=patients[inputs.validation_rows].n_unique(),
    )


def _earlier_record(out: Path, fingerprint: str) -> TrainingRecord | None:
    """Return the earlier training's record; refuse different crops or settings before it is replaced."""
    try:
        earlier = read_training(out)
    except RunError:
        return None  # an unreadable record is no loss: checkpoints have their own fingerprint
    if earlier.fingerprint() != fingerprint:
        message = (
            f"{out}: found a training with other crops, another split or other settings, expected the same as in the "
            "first call; resume with the first call's arguments or choose another --out"
        )
        raise RunError(message)
    return earlier


def _finished(out: Path, earlier: TrainingRecord) -> FitResult | None:
    """Return the result of a finished training if its weights are unchanged."""
    final = out / CLASSIFIER_NAME
    if earlier.result is None or not final.is_file():
        return None
    result = _result(final)
    return result if result.weights_sha256 == earlier.result.weights_sha256 else None


def _result(final: Path) -> FitResult:
    """Read the weights' hash, their epoch and their own metadata."""
    tensors, meta = load_tensors(final)
    return FitResult(
        final,
        hash_weights(tensors),
        read_part(EpochRow, meta, "epoch", final),
        read_part(ClassifierInfo, meta, "info", final),
    )


def _finish(out: Path, best_path: Path, record: TrainingRecord) -> FitResult:
    """Move the best weights to their place and complete fit.json."""
    final = out / CLASSIFIER_NAME
    with written_whole(final) as temporary:
        shutil.copyfile(best_path, temporary)
    result = _result(final)
    summary = TrainingResult(
        weights_sha256=result.weights_sha256,
        best_epoch=result.best,
        initial_weights=result.info.initial_weights,
        initial_sha256=result.info.initial_sha256,
        categories_not_trained=result.info.categories_not_trained,
    )
    write_training(out, record.model_copy(update={"result": summary}))
    return result
