"""Estimated time of a reproduction: rates measured on this machine times the numbers of a preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cells.crop import CropSpec
from marrowscope.prepare import stored_side_px
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.records import JsonDict
    from marrowscope.studies.reproduce.presets import Preset

_FORWARD_ONLY = 3.0
"""Crops pass through a network about three times as fast without training."""

_EXPORT_S = 12.0
"""Seconds to export one member and compare it with torch; measured on two cores."""

_SCORE_S_PER_CELL = 0.01
"""Seconds per cell to match, score and probe; measured on two cores."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What may differ between two calls that continue in one folder."""

    workers: int = 2
    threads: int = 2
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured rates: one process's seconds per field (or training window), crops per second, cells per field.

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
    """One step with its estimated seconds; its ``parts`` markers in the journal begin with ``key``."""

    key: str
    title: str
    seconds: float
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step with its estimate, and the disk space for crops and images."""

    steps: tuple[PlannedStep, ...]
    disk_gb: float

    @property
    def seconds(self) -> float:
        """Sum over the steps."""
        return sum(step.seconds for step in self.steps)

    def as_json(self) -> JsonDict:
        """Return steps and sums as plain values."""
        steps = [{"step": step.key, "title": step.title, "seconds": round(step.seconds, 1)} for step in self.steps]
        return {"steps": steps, "seconds": round(self.seconds, 1), "disk_gb": round(self.disk_gb, 1)}

    def seconds_left(self, done: set[str]) -> float:
        """Sum over the steps, minus the parts with a marker in ``done``."""
        shares = (sum(name.startswith(step.key) for name in done) / step.parts for step in self.steps)
        return sum(step.seconds * (1 - min(share, 1.0)) for step, share in zip(self.steps, shares, strict=True))


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
        PlannedStep("crossfit", f"train {count_of(n_folds, 'fold')} in two stages", training, n_folds),
        PlannedStep("bundle", "export the ensemble", n_folds * _EXPORT_S),
        PlannedStep("predict", "predict the external patients", 2 * n_folds * outside * rates.predict_s, n_folds + 1),
        PlannedStep("evaluate", "evaluate, and fit the probe", (cells + 2 * outside_cells) * _SCORE_S_PER_CELL),
    ]
    crop_bytes = 4 * stored_side_px(CropSpec().size_px) ** 2  # three colors and the mask; expert and predicted contours
    image_bytes = 0.2 * preset.field_px[0] * preset.field_px[1]
    disk = 2 * (cells + outside_cells) * crop_bytes + (inside + outside) * image_bytes
    return Plan(tuple(steps), disk / 1e9)


def _training_seconds(preset: Preset, n_cells: float, rates: Rates) -> float:
    """Estimate from the crops of every fold: trained on in each epoch, validated after it, predicted at the end."""
    others = n_cells * (1 - 1 / preset.n_folds)
    n_selecting = others * preset.classifier.validation_fraction
    n_training = min(others - n_selecting, preset.classifier.epoch_crops or others)
    n_epochs = sum(stage.epochs for stage in preset.classifier.stages)
    passed = n_epochs * n_selecting + n_cells / preset.n_folds
    return preset.n_folds * (n_epochs * n_training + passed / _FORWARD_ONLY) / rates.train_crops_per_s
