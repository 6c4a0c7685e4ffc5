"""Crops to a trained classifier: split, the stages one after the other, the best weights.

A training folder holds
    split.csv                who trained, who selected, who was left out
    fit.json                 all that repeats the training: configuration, hashes, versions, machine; and its result
    <n>-<stage>/             checkpoint.safetensors, best.safetensors, metrics.csv, tensorboard/
    classifier.safetensors   the last stage's best weights, with all that is needed to export them in the header
Stage 1 (GT-to-YOLO) learns from crops cut from expert contours, stage 2 (YOLO-to-YOLO) goes on from its best epoch on
crops cut from predicted contours; both select on predicted ones. A killed call, resumed, ends in equal weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from marrowscope.cohort.folds import Role, check_split, read_split, split_patients, write_split
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.errors import ConfigError, InputError, RunError
from marrowscope.imaging import sha256_file
from marrowscope.runs.folder import refuse_file
from marrowscope.runs.manifest import installed_versions
from marrowscope.train.checkpoint import (
    CLASSIFIER_NAME,
    FIT_NAME,
    SPLIT_NAME,
    EpochRow,
    fill,
    hash_weights,
    load_tensors,
    read_part,
)
from marrowscope.train.dataset import SUMMARY_NAME, CropSet, class_priors, open_crop_set
from marrowscope.train.imbalance import correct_all
from marrowscope.train.initial_weights import InitialWeights, check_initial_weights, load_initial_weights
from marrowscope.train.model import HEADS, CellClassifier, ClassifierInfo, new_classifier
from marrowscope.train.stage import BEST_NAME, Progress, StageInputs, check_rows, describe_machine, fit_stage
from marrowscope.train.targets import standardise
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig, StagePlan
    from marrowscope.train.dataset import IntArray
    from marrowscope.vocabulary import Vocabulary


_NOT_DECISIVE = {"checkpoint_every_steps", "workers", "threads", "device", "precision", "compile"}
"""Settings that change how a training runs, and of what comes out no more than the rounding."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """The trained classifier: its file, the SHA-256 of its weights, and the epoch they come from."""

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

    ``split`` names each patient's role; without it (or without a validation patient in it) a share of the training
    patients is drawn for selection. Raises InputError for a crop set or split that cannot be used, RunError when
    ``out`` holds a training and ``resume`` is off, TrainingError when training cannot go on.
    """
    check_training_folder(out)
    if (out / FIT_NAME).exists() and not resume:
        message = f"{out}: found an earlier training, expected a new folder; add --resume to go on or choose another"
        raise RunError(message)
    machine = describe_machine(config)
    check_initial_weights(config.architecture, config.init, config.norm)
    vocabulary = vocabulary or load_vocabulary()
    crop_set = open_crop_set(crops, vocabulary)
    roles = _roles(crop_set, split, config)
    check_split(crop_set.cells, roles)
    _check_crop_size(crop_set, config)
    _check_parts(crop_set, config)
    plans = [plan for plan in config.stages if plan.epochs]
    for plan in plans:
        check_rows(plan, *_rows(crop_set, roles, plan))
    data_sha256 = {
        name: sha256_file(crops / name)
        for name in ("crops.npy", "masks.npy", "cells.parquet")
        if (crops / name).is_file()
    }
    out.mkdir(parents=True, exist_ok=True)
    new_split = out / f"{SPLIT_NAME}.part"
    write_split(new_split, roles)
    record: dict[str, object] = {
        "config": config.model_dump(mode="json"),
        "crops": str(crops.resolve()),
        "prepared": crop_set.summary,
        "data_sha256": data_sha256,
        "split_sha256": sha256_file(new_split),
        "vocabulary": {"name": vocabulary.name, "version": vocabulary.version, "sha256": vocabulary.sha256},
        "versions": installed_versions() | {"torch": metadata.version("torch"), "timm": metadata.version("timm")},
        "machine": machine,
    }
    fingerprint = _fingerprint(record)
    try:
        earlier = _earlier_record(out / FIT_NAME, fingerprint)
    except RunError:
        new_split.unlink()
        raise
    new_split.replace(out / SPLIT_NAME)
    if earlier is not None:
        if (finished := _finished(out, earlier)) is not None:
            return finished
        record |= _origin(earlier, record)
    _write_json(out / FIT_NAME, record)

    model = new_classifier(
        config.architecture,
        len(vocabulary.categories),
        config.dropout,
        config.seed,
        n_morphology=len(crop_set.measured) if config.loss_weights["morphology"] > 0 else 0,
        norm=config.norm,
    )
    counts: dict[str, dict[str, int]] = {}
    best_path, info = out / CLASSIFIER_NAME, None
    for number, plan in enumerate(plans, start=1):
        folder = out / f"{number}-{plan.name}"
        start = _start(model, config, folder, best_path if number > 1 else None, info)
        inputs = _stage_inputs(crop_set, roles, plan, config=config, start=start, fingerprint=fingerprint)
        counts[plan.name] = _count(crop_set, inputs)
        fit_stage(model, inputs, config, plan=plan, stage=number, folder=folder, on_progress=on_progress)
        best_path, info = folder / BEST_NAME, inputs.info
    return _finish(out, best_path, {**record, "stages": counts})


def check_training_folder(out: Path) -> None:
    """Raise RunError when ``out`` is a file, a crop set or a cohort: a training has a folder of its own."""
    refuse_file(out)
    for name, kind in ((SUMMARY_NAME, "crop set"), (PATIENTS_NAME, "cohort")):
        if (out / name).exists():
            message = f"{out}: found a {kind} ({name}), expected a folder of the training's own; choose another --out"
            raise RunError(message)


def _roles(crop_set: CropSet, split: Path | None, config: ClassifierConfig) -> dict[str, Role]:
    """Read the split, or draw the validation patients where there are none."""
    roles: dict[str, Role] = {} if split is None else read_split(split)
    if "validation" in roles.values():
        return roles
    patients = crop_set.cells.select("patient_id", "center", "diagnosis").unique("patient_id")
    drawn = [patient for patient in patients["patient_id"] if split is None or roles.get(patient) == "train"]
    kept = patients.filter(patients["patient_id"].is_in(drawn))
    return roles | split_patients(kept, config.validation_fraction, config.seed)


def _start(
    model: CellClassifier, config: ClassifierConfig, folder: Path, previous: Path | None, info: ClassifierInfo | None
) -> InitialWeights:
    """Fill the model: from the stage before, or as ``config.init`` says; a started first stage is pinned already."""
    if previous is not None and info is not None:
        fill(model, load_tensors(previous)[0], previous)
        return InitialWeights(info.initial_weights, info.mean, info.std, info.initial_sha256)
    checkpoint = folder / "checkpoint.safetensors"
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
    fingerprint: str,
) -> StageInputs:
    """Choose the stage's crops on both sides and say what its weights will be."""
    training_rows, validation_rows = _rows(crop_set, roles, plan)
    labels = {head: crop_set.labels[head][training_rows] for head in HEADS}
    priors = class_priors(crop_set.labels, training_rows, len(crop_set.categories))
    corrections = correct_all(labels, {head: len(prior) for head, prior in priors.items()}, config)
    targets = standardise(crop_set.measured, training_rows)[0] if config.loss_weights["morphology"] > 0 else ()
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
        morphology=targets,
        initial_weights=start.source,
        segmenter_sha256=crop_set.summary.get("segmenter_sha256"),
        initial_sha256=start.sha256,
    )
    return StageInputs(crop_set, training_rows, validation_rows, info, fingerprint)


def _rows(crop_set: CropSet, roles: Mapping[str, Role], plan: StagePlan) -> tuple[IntArray, IntArray]:
    """Choose the crops a stage learns from, and those it selects on."""
    train, validation = ({name for name, given in roles.items() if given == role} for role in ("train", "validation"))
    return crop_set.rows(train, plan.train_on), crop_set.rows(validation, plan.select_on)


def _count(crop_set: CropSet, inputs: StageInputs) -> dict[str, int]:
    """Count crops and patients on both sides of a stage."""
    sides = {"training": inputs.training_rows, "validation": inputs.validation_rows}
    return {f"{side}_crops": len(rows) for side, rows in sides.items()} | {
        f"{side}_patients": crop_set.cells["patient_id"][rows].n_unique() for side, rows in sides.items()
    }


def _check_crop_size(crop_set: CropSet, config: ClassifierConfig) -> None:
    """Refuse crops smaller than what the network wants to see."""
    if config.crop_px > crop_set.stored_px:
        message = (
            f"crop_px: found {config.crop_px}, expected at most {crop_set.stored_px}, the side of the crops in "
            f"{crop_set.folder}; choose a smaller one"
        )
        raise ConfigError(message)


def _check_parts(crop_set: CropSet, config: ClassifierConfig) -> None:
    """Refuse a crop set that lacks what a loss term needs."""
    terms = [name for name in ("evidence", "consistency") if config.loss_weights[name] > 0]
    if terms and crop_set.masks is None:
        message = f"{crop_set.folder}: found no masks.npy, expected it for the loss terms {' and '.join(terms)}"
    elif config.loss_weights["morphology"] > 0 and not crop_set.measured:
        terms, message = (
            ["morphology"],
            f"{crop_set.folder}: found no morphology column in cells.parquet, expected some",
        )
    else:
        return
    zeros = ", ".join(f"{name} = 0" for name in terms)
    message += f"; make the crop set again with `marrowscope prepare`, or set {zeros} under [loss_weights]"
    raise InputError(message)


def _earlier_record(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Give the earlier training's record; refuse other crops or settings before it is replaced."""
    if not path.is_file():
        return None
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = _fingerprint(earlier)
    except (ValueError, KeyError, TypeError):
        return None  # a record that cannot be read is no loss; the checkpoints have their own fingerprint
    if found != fingerprint:
        message = (
            f"{path.parent}: found a training made from other crops, another split or other settings than the ones "
            "given, expected equal ones; resume with the first call's arguments or choose another --out"
        )
        raise RunError(message)
    return earlier


def _origin(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, object]:
    """Keep the versions and machine a training began with; others that it goes on with are listed beside them."""
    kept = {name: earlier.get(name, record[name]) for name in ("versions", "machine")}
    resumed = list(earlier.get("resumed", []))
    now = {name: record[name] for name in kept}
    if now != (resumed[-1] if resumed else kept):
        resumed.append(now)
    return {**kept, "resumed": resumed} if resumed else {**kept}


def _finished(out: Path, earlier: Mapping[str, Any]) -> FitResult | None:
    """Give the result of a training that is done and whose weights are those it wrote."""
    final = out / CLASSIFIER_NAME
    if "result" not in earlier or not final.is_file():
        return None
    result = _result(final)
    return result if result.weights_sha256 == earlier["result"]["weights_sha256"] else None


def _result(final: Path) -> FitResult:
    """Read the weights' hash, the epoch they come from and what they say of themselves."""
    tensors, meta = load_tensors(final)
    return FitResult(
        final,
        hash_weights(tensors),
        read_part(EpochRow, meta, "epoch", final),
        read_part(ClassifierInfo, meta, "info", final),
    )


def _fingerprint(record: Mapping[str, Any]) -> str:
    """Hash what decides the weights: data, split, vocabulary and settings, less how often they are saved."""
    decisive = {key: record[key] for key in ("data_sha256", "split_sha256", "vocabulary")}
    settings = {key: value for key, value in record["config"].items() if key not in _NOT_DECISIVE}
    return hashlib.sha256(json.dumps(decisive | {"config": settings}, sort_keys=True).encode()).hexdigest()


def _finish(out: Path, best_path: Path, record: dict[str, object]) -> FitResult:
    """Put the best weights in their place and complete fit.json."""
    final = out / CLASSIFIER_NAME
    temporary = final.with_name(final.name + ".part")
    shutil.copyfile(best_path, temporary)
    temporary.replace(final)
    result = _result(final)
    summary = {
        "weights_sha256": result.weights_sha256,
        "best_epoch": result.best.model_dump(mode="json"),
        "initial_weights": result.info.initial_weights,
        "initial_sha256": result.info.initial_sha256,
        "categories_not_trained": result.info.categories_not_trained,
    }
    _write_json(out / FIT_NAME, {**record, "result": summary})
    return result


def _write_json(path: Path, value: dict[str, object]) -> None:
    """Write JSON atomically."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
