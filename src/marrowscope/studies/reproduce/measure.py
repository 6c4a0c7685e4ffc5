"""A few seconds of each kind of work, timed on this machine before a long study.

A scratch cohort of two patients is simulated, segmented, cut and predicted; the classifier (and the segmenter, if the
preset trains one) is trained on it for some steps. The rates include whatever else the machine is doing.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.bundle import SEGMENTER_FILE, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort import read_cohort
from marrowscope.cohort.folds import write_split
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.fit import fit_classifier
from marrowscope.prepare import prepare_crops
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import simulate_cohort
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.worker import Worker
from marrowscope.studies.reproduce.plan import Machine, Rates
from marrowscope.train.segmenter_data import labeled_fields
from marrowscope.train.segmenter_fit import train_segmenter
from marrowscope.train.stage import configure_torch

if TYPE_CHECKING:
    from marrowscope.cohort import Cohort
    from marrowscope.studies.reproduce.presets import Preset
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.segmenter_config import SegmenterTrainingConfig
    from marrowscope.train.stage import Progress

_STEPS = {"cpu": 8, "cuda": 80}
"""Number of timed training steps, by device: on CUDA the loop reports at every twentieth."""
_WINDOWS = 32


def measure_rates(preset: Preset, machine: Machine) -> Rates:
    """Time a little of each kind of work in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="marrowscope-plan-") as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        config = preset.simulation().model_copy(update={"fields": 1})
        simulate_cohort(folder / "cohort", config, patients=[preset.patient_numbers(name)[0] for name in _ends(preset)])
        simulate_s = (time.perf_counter() - started) / len(_ends(preset))
        cohort = read_cohort(folder / "cohort")
        bundle = load_bundle(demonstration_bundle())
        segmenter = Segmenter.from_onnx(bundle.folder / SEGMENTER_FILE)
        n_fields = len(cohort.fields)
        for _ in range(2):  # the first pass through a network allocates for every shape it meets
            started = time.perf_counter()
            prepared = prepare_crops(
                cohort.patients, cohort.fields, folder / "crops", segmenter=segmenter, overwrite=True
            )
            prepare_s = (time.perf_counter() - started) / n_fields
        images = collect_inputs([folder / "cohort"]).images
        worker = Worker(bundle, PredictConfig())
        for _ in range(2):
            started = time.perf_counter()
            for _ in worker.find(images):
                pass
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


def _ends(preset: Preset) -> tuple[str, str]:
    """Return the first center and the last."""
    return preset.internal_centers[0], preset.external_centers[-1]


def on_machine(config: ClassifierConfig, machine: Machine) -> ClassifierConfig:
    """Return a training the machine's threads and device, and worker processes on a GPU: a CPU has none to spare."""
    here = config.model_copy(update={"threads": machine.threads, "device": machine.device})
    feeds = configure_torch(here).type == "cuda"
    return here.model_copy(update={"workers": machine.workers}) if feeds else here


def _training_rate(config: ClassifierConfig, folder: Path, machine: Machine) -> float:
    """Measure crops per second over the later half of a few steps: the first ones also load and warm up."""
    stage = config.stages[0].model_copy(update={"epochs": 1})
    few = on_machine(config, machine).model_copy(update={"stages": (stage,), "epoch_crops": None})
    n_steps = _STEPS[configure_torch(few).type]
    split = _repeat_crops(folder / "crops", stage.train_on, n_steps * config.batch_size)
    times: list[tuple[int, float]] = []

    def note(now: Progress) -> None:
        if now.finished_epoch is None:
            times.append((now.step, time.perf_counter()))

    fit_classifier(folder / "crops", folder / "fit", few, split=split, on_progress=note)
    (first, started), (last, ended) = times[(len(times) - 1) // 2], times[-1]
    return (last - first) * config.batch_size / (ended - started)


def _repeat_crops(crops_folder: Path, source: str, n_wanted: int) -> Path:
    """Repeat the crops of the set's first patient until there are enough for a few steps; returns a split file."""
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
    """Measure seconds per window of the segmenter's second epoch: the first one warms up."""
    few = config.model_copy(
        update={
            "epochs": 2,
            "crops_per_field": _WINDOWS,
            "max_images_per_epoch": _WINDOWS,
            "max_val_windows": 1,
            "threads": machine.threads,
            "device": machine.device,
        }
    )
    times: list[float] = []
    train_segmenter(
        labeled_fields(cohort.fields, "plan"), folder, few, progress=lambda _line: times.append(time.perf_counter())
    )
    epochs = times[-3:-1]  # the lines: windows, threads, epoch 1, epoch 2, best checkpoint
    return (epochs[1] - epochs[0]) / _WINDOWS
