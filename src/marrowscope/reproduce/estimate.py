"""How long a reproduction will take, from a few seconds of each kind of work measured on this machine beforehand.

A scratch cohort of two patients is simulated, segmented, cut and predicted; the classifier (and where the preset trains
one, the segmenter) is trained on it for some steps. Rates times numbers give seconds a step. What is left out: reading
files, and whatever else the machine does.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.bundle import SEGMENTER_FILE, load_bundle
from marrowscope.cohort import read_cohort
from marrowscope.cohort.folds import write_split
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.fit import fit_classifier
from marrowscope.predict import CellEngine, PredictConfig
from marrowscope.prepare import STORED_CROP_PX, prepare_crops
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import simulate_cohort
from marrowscope.train.segmenter import train_segmenter
from marrowscope.train.segmenter_data import labelled_fields

if TYPE_CHECKING:
    from marrowscope.cohort import Cohort
    from marrowscope.records import JsonDict
    from marrowscope.reproduce.presets import Preset
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.engine import Progress
    from marrowscope.train.segmenter import SegmenterTrainingConfig

_STEPS = 8
_WINDOWS = 32
_FORWARD_ONLY = 3.0
"""Crops pass through a network about three times as fast when nothing is learned from them."""

_EXPORT_S = 12.0
"""Seconds to export one member and compare it with torch; measured on two cores."""

_SCORE_S_PER_CELL = 0.01
"""Seconds a cell to match, score and probe; measured on two cores."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What may differ between two calls that go on in one folder."""

    workers: int = 2
    threads: int = 2
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured: seconds of one process a field (or training window), crops a second, cells a field.

    ``predict_s`` is for an ensemble of one network. ``window_s`` is None where no segmenter is trained.
    """

    simulate_s: float
    prepare_s: float
    predict_s: float
    train_crops_per_s: float
    cells_per_field: float
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of so many seconds; its ``parts`` markers in the journal begin with ``key``."""

    key: str
    title: str
    seconds: float
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step with its estimate, and the disk space the crops and images will take."""

    steps: tuple[PlannedStep, ...]
    disk_gb: float

    @property
    def seconds(self) -> float:
        """Sum over the steps."""
        return sum(step.seconds for step in self.steps)

    def as_json(self) -> JsonDict:
        """Give steps and sums as plain values."""
        steps = [{"step": step.key, "title": step.title, "seconds": round(step.seconds, 1)} for step in self.steps]
        return {"steps": steps, "seconds": round(self.seconds, 1), "disk_gb": round(self.disk_gb, 1)}

    def seconds_left(self, done: set[str]) -> float:
        """Sum over the steps, less the parts whose markers stand in ``done``."""
        shares = (sum(name.startswith(step.key) for name in done) / step.parts for step in self.steps)
        return sum(step.seconds * (1 - min(share, 1.0)) for step, share in zip(self.steps, shares, strict=True))


def shipped_bundle() -> Path:
    """Folder of the bundle inside the package, whose segmenter ``quick`` uses."""
    return Path(str(files("marrowscope"))) / "data" / "demo_bundle"


def measure_rates(preset: Preset, machine: Machine) -> Rates:
    """Do a little of everything in a scratch folder, and time it."""
    with tempfile.TemporaryDirectory(prefix="marrowscope-plan-") as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        config = preset.simulation().model_copy(update={"fields": 1})
        simulate_cohort(folder / "cohort", config, patients=[preset.patient_numbers(name)[0] for name in _ends(preset)])
        simulate_s = (time.perf_counter() - started) / len(_ends(preset))
        cohort = read_cohort(folder / "cohort")
        bundle = load_bundle(shipped_bundle())
        segmenter = Segmenter.from_onnx(bundle.folder / SEGMENTER_FILE)
        n_fields = len(cohort.fields)
        started = time.perf_counter()
        prepared = prepare_crops(cohort.patients, cohort.fields, folder / "crops", segmenter=segmenter)
        prepare_s = (time.perf_counter() - started) / n_fields
        images = collect_inputs([folder / "cohort"]).images
        engine = CellEngine(bundle, PredictConfig())
        engine.run(images[:1])  # the first pass through a network allocates
        started = time.perf_counter()
        engine.run(images)
        predict_s = (time.perf_counter() - started) / n_fields
        rates = Rates(
            simulate_s=simulate_s,
            prepare_s=prepare_s,
            predict_s=predict_s,
            train_crops_per_s=_training_rate(preset.classifier, folder, machine),
            cells_per_field=prepared.n_expert / n_fields,
        )
        if preset.segmenter is None:
            return rates
        return replace(rates, window_s=_window_seconds(preset.segmenter, cohort, folder / "segmenter", machine))


def make_plan(preset: Preset, rates: Rates, machine: Machine) -> Plan:
    """Multiply rates by numbers."""
    inside = sum(preset.internal) * preset.fields
    outside = sum(preset.external) * preset.fields
    cells = inside * rates.cells_per_field
    outside_cells = outside * rates.cells_per_field
    n_centers = len(preset.patients_by_center)
    seconds = (inside + outside) * rates.simulate_s / machine.workers
    steps = [PlannedStep("simulate", "simulate the patients", seconds, n_centers)]
    if preset.segmenter is not None and rates.window_s is not None:
        n_windows = inside * preset.segmenter.crops_per_field
        n_windows = min(n_windows, preset.segmenter.max_images_per_epoch or n_windows)
        seconds = preset.segmenter.epochs * (n_windows + preset.segmenter.max_val_windows / 2) * rates.window_s
        steps.append(PlannedStep("segmenter", "train the segmenter", seconds))
    n_folds = preset.n_folds
    training = _training_seconds(preset, cells, rates)
    steps += [
        PlannedStep("prepare", "cut the crops", (inside + outside) * rates.prepare_s, 2),
        PlannedStep("crossfit", f"train {n_folds} folds in two stages", training, n_folds),
        PlannedStep("bundle", "export the ensemble", n_folds * _EXPORT_S),
        PlannedStep("predict", "predict the external patients", 2 * n_folds * outside * rates.predict_s, n_folds + 1),
        PlannedStep("evaluate", "evaluate, and fit the probe", (cells + 2 * outside_cells) * _SCORE_S_PER_CELL),
    ]
    crop_bytes = 4 * STORED_CROP_PX**2  # three colours and the mask; expert and predicted contours
    image_bytes = 0.2 * preset.field_px[0] * preset.field_px[1]
    disk = 2 * (cells + outside_cells) * crop_bytes + (inside + outside) * image_bytes
    return Plan(tuple(steps), disk / 1e9)


def _training_seconds(preset: Preset, n_cells: float, rates: Rates) -> float:
    """Crops of every fold: learned from in each epoch, selected on after it, predicted at the end."""
    others = n_cells * (1 - 1 / preset.n_folds)
    n_selecting = others * preset.classifier.validation_fraction
    n_training = min(others - n_selecting, preset.classifier.epoch_crops or others)
    n_epochs = sum(stage.epochs for stage in preset.classifier.stages)
    passed = n_epochs * n_selecting + n_cells / preset.n_folds
    return preset.n_folds * (n_epochs * n_training + passed / _FORWARD_ONLY) / rates.train_crops_per_s


def _ends(preset: Preset) -> tuple[str, str]:
    """Give the first centre and the last."""
    return preset.internal_centers[0], preset.external_centers[-1]


def _training_rate(config: ClassifierConfig, folder: Path, machine: Machine) -> float:
    """Crops a second over the later half of a few steps: the first ones also load and warm up."""
    stage = config.stages[0].model_copy(update={"epochs": 1})
    few = config.model_copy(
        update={"stages": (stage,), "epoch_crops": None, "threads": machine.threads, "device": machine.device}
    )
    split = _repeat_crops(folder / "crops", stage.train_on, _STEPS * config.batch_size)
    times: list[float] = []

    def note(now: Progress) -> None:
        if now.finished_epoch is None:
            times.append(time.perf_counter())

    fit_classifier(folder / "crops", folder / "fit", few, split=split, on_progress=note)
    half = len(times) // 2
    return (len(times) - 1 - half) * config.batch_size / (times[-1] - times[half])


def _repeat_crops(crops_folder: Path, source: str, n_wanted: int) -> Path:
    """Repeat the crops of the set's first patient until there are enough for a few steps; gives a split file."""
    cells = pl.read_parquet(crops_folder / "cells.parquet").with_row_index("row")
    first = cells["patient_id"][0]
    of_first = cells.filter((pl.col("patient_id") == first) & (pl.col("source") == source))
    rows = np.concatenate([cells["row"].to_numpy(), np.resize(of_first["row"].to_numpy(), n_wanted)])
    for name in ("crops.npy", "masks.npy"):
        np.save(crops_folder / name, np.load(crops_folder / name)[rows])
    cells[rows].drop("row").write_parquet(crops_folder / "cells.parquet")
    split = crops_folder / "split.csv"
    write_split(split, {name: "train" if name == first else "validation" for name in set(cells["patient_id"])})
    return split


def _window_seconds(config: SegmenterTrainingConfig, cohort: Cohort, folder: Path, machine: Machine) -> float:
    """Seconds a window of the segmenter's second epoch: the first one warms up."""
    few = config.model_copy(
        update={
            "epochs": 2,
            "crops_per_field": _WINDOWS,
            "max_images_per_epoch": _WINDOWS,
            "max_val_windows": 1,
            "threads": machine.threads,
        }
    )
    times: list[float] = []
    train_segmenter(
        labelled_fields(cohort.fields, "plan"), folder, few, progress=lambda _line: times.append(time.perf_counter())
    )
    epochs = times[-3:-1]  # the lines: windows, threads, epoch 1, epoch 2, best checkpoint
    return (epochs[1] - epochs[0]) / _WINDOWS
