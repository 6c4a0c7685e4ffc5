"""The training loop of one stage, resumable at any step.

Steps: shuffle by (seed, stage, epoch); augment batches by (seed, stage, epoch, row); AdamW with linear warm-up and
cosine decay as a function of the step; validate after each epoch on unchanged crops, where there are validation
patients; keep the weights of the best epoch by ``selection``, those of the last step, or their moving average. The
invariant: a step depends only on the checkpoint and numbers derived from (seed, stage, epoch, step), so a killed stage,
resumed, ends with equal weights.
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch.utils.tensorboard import SummaryWriter

from marrowscope.disk import write_text
from marrowscope.errors import RunError, TrainingError
from marrowscope.train.average import WeightAverage
from marrowscope.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint, save_tensors
from marrowscope.train.device import choose_device
from marrowscope.train.loader import StageBatches, batches_from, steps_of_epoch
from marrowscope.train.losses import check_finite, classification_losses, weighted_total
from marrowscope.train.step import TrainingStep, autocasts, make_optimizer
from marrowscope.train.training_record import VALIDATION_FIGURES, EpochRow, TrainingMachine
from marrowscope.train.validation import predict_logits, probabilities, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig, Select, StagePlan
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.loader import TrainingBatch
    from marrowscope.train.model import CellClassifier, ClassifierInfo
    from marrowscope.train.teacher import Taught

CHECKPOINT_NAME, BEST_NAME, METRICS_NAME = "checkpoint.safetensors", "best.safetensors", "metrics.csv"
_FINAL_RATE = 0.01  # share of the peak learning rate at the end of the cosine
STEPS_BETWEEN_READS = {"cpu": 1, "cuda": 20}
"""Steps between reads of the losses: reading waits for the device, which then waits for the next step."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a stage: epochs and steps from 1, the mean loss of the epoch so far, seconds left in the stage.

    ``finished_epoch`` is set once per epoch, after its validation.
    """

    stage: str
    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    loss: float
    crops_per_second: float
    seconds_left: float
    finished_epoch: EpochRow | None = None


@dataclass(frozen=True, slots=True)
class StageInputs:
    """Inputs of a stage: the crops, the rows of both sides, and the description its weights will carry.

    ``fingerprint`` is a hash of data, split and settings: a checkpoint with another one is not continued. ``taught`` is
    what a teacher says of the crops, None without one.
    """

    crop_set: CropSet
    training_rows: IntArray
    validation_rows: IntArray
    info: ClassifierInfo
    fingerprint: str
    taught: Taught | None = None


def configure_torch(config: ClassifierConfig) -> torch.device:
    """Set threads and deterministic algorithms, and return the device to train on.

    Raises ConfigError for CUDA where torch finds no device.
    """
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    name = choose_device(config.device)
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its sums only with a workspace
    return torch.device(name)


def describe_machine(config: ClassifierConfig) -> TrainingMachine:
    """Describe what ``auto`` became here, and what else about the machine affects the last bits of the weights."""
    device = configure_torch(config)
    return TrainingMachine(
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        precision="bf16" if autocasts(config, device) else "float32",
        threads=config.threads,
        instructions=torch.backends.cpu.get_cpu_capability(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


def learning_rate_share(step: int, n_steps: int, warmup: float) -> float:
    """Share of the peak learning rate at ``step`` (from 0) of ``n_steps``: linear warm-up, then cosine to 1%."""
    n_warmup = max(1, round(warmup * n_steps))
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return _FINAL_RATE + (1 - _FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2


def fit_stage(
    model: CellClassifier,
    inputs: StageInputs,
    config: ClassifierConfig,
    *,
    plan: StagePlan,
    stage: int,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainingState:
    """Train ``model`` in place for one stage and save the weights to keep (``select``) as ``folder``/best.safetensors.

    Resumes from ``folder``/checkpoint.safetensors if there is one. ``stage`` is the number of the stage, part of every
    random key. Raises TrainingError for a side without crops or a loss that is not finite, RunError when the checkpoint
    belongs to other crops or settings.
    """
    check_rows(plan, inputs.training_rows, inputs.validation_rows, config.select)
    folder.mkdir(parents=True, exist_ok=True)
    device = configure_torch(config)
    model.to(device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config)
    average = WeightAverage(model, config.ema_decay) if config.select == "ema" else None
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.is_file():
        state = load_checkpoint(checkpoint, model, optimizer, average.model if average else None)
        if state.fingerprint != inputs.fingerprint:
            message = (
                f"{checkpoint}: found a checkpoint made from other crops, another split or other settings, expected "
                "equal ones; resume with the first call's arguments or choose another --out"
            )
            raise RunError(message)
    else:
        info = inputs.info.model_dump(mode="json")
        state = TrainingState(stage=plan.name, epoch=0, step=0, info=info, fingerprint=inputs.fingerprint)
        # This pins the initial weights: a resumed run keeps them.
        save_checkpoint(checkpoint, model, optimizer, state, average.model if average else None)
    loop = _StageLoop(
        model=model,
        average=average,
        optimizer=optimizer,
        inputs=inputs,
        plan=plan,
        stage=stage,
        config=config,
        folder=folder,
        device=device,
        on_progress=on_progress,
        state=state,
    )
    loop.run()
    return loop.state


def check_rows(plan: StagePlan, training_rows: IntArray, validation_rows: IntArray, select: Select = "best") -> None:
    """Raise TrainingError for a side of a stage without crops; only the best epoch needs validation crops."""
    for side, rows, source in (
        ("training", training_rows, plan.train_on),
        ("validation", validation_rows, plan.select_on),
    ):
        if len(rows) == 0 and (side == "training" or select == "best"):
            message = (
                f"stage {plan.name}: found no labeled crop of source {source!r} among the {side} patients, expected "
                "at least one; check the split, or prepare the crops with a segmenter"
            )
            raise TrainingError(message)


@dataclass(kw_only=True)
class _StageLoop:
    """The loop's mutable state: one instance per stage, changed in place."""

    model: CellClassifier
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    inputs: StageInputs
    plan: StagePlan
    stage: int
    config: ClassifierConfig
    folder: Path
    device: torch.device
    on_progress: Callable[[Progress], None] | None
    state: TrainingState
    make_step: TrainingStep = field(init=False)
    n_steps: int = field(init=False)
    unread: list[dict[str, torch.Tensor]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        inputs, config = self.inputs, self.config
        self.n_steps = steps_of_epoch(len(inputs.training_rows), config)
        self.make_step = TrainingStep(
            self.model,
            self.optimizer,
            config,
            inputs.info,
            crop_set=inputs.crop_set,
            training_rows=inputs.training_rows,
            taught=inputs.taught,
        )

    def run(self) -> None:
        """Run the remaining epochs; none when the stage is finished."""
        batches = self._batches()
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.state.epoch + 1) as board:
            while self.state.epoch < self.plan.epochs:
                self._run_epoch(batches)
                row = self._close_epoch()
                for name, value in row.model_dump(exclude={"epoch"}).items():
                    if value is not None:
                        board.add_scalar(name, value, row.epoch)
                board.flush()

    def _batches(self) -> Iterator[TrainingBatch]:
        """Yield the batches of the stage from its current step; workers read ahead, across epochs too."""
        state, config = self.state, self.config
        keys = [(epoch, step) for epoch in range(state.epoch, self.plan.epochs) for step in range(self.n_steps)]
        batches = StageBatches(self.inputs.crop_set, self.inputs.training_rows, config, self.stage)
        return batches_from(batches, keys[state.step :], config.workers, pin=self.device.type == "cuda")

    def _run_epoch(self, batches: Iterator[TrainingBatch]) -> None:
        """Run the remaining steps of the current epoch."""
        every = self.config.checkpoint_every_steps
        self.model.train()
        start = time.perf_counter() - self.state.seconds
        for batch in islice(batches, self.n_steps - self.state.step):
            self._take_step(batch)
            step = self.state.step
            saves = step % every == 0 and step < self.n_steps
            if saves or step == self.n_steps or len(self.unread) == STEPS_BETWEEN_READS[self.device.type]:
                self._read_losses()
                self._advance(seconds=time.perf_counter() - start)
                self._report()
            if saves:
                self._save()

    def _take_step(self, batch: TrainingBatch) -> None:
        """Make one optimization step and leave its losses on the device."""
        done = self.state.epoch * self.n_steps + self.state.step
        share = learning_rate_share(done, self.plan.epochs * self.n_steps, self.config.warmup)
        seed = (self.config.seed * 1_000 + self.stage) * 10_000_000 + done
        self.unread.append(self.make_step(batch, learning_rate=self.plan.learning_rate * share, seed=seed))
        if self.average is not None:
            self.average.update(self.model, done)
        self._advance(step=self.state.step + 1)

    def _read_losses(self) -> None:
        """Add the unread losses to the epoch's sums, in one transfer; stop at the first that is not finite."""
        table = torch.stack([torch.stack(list(terms.values())) for terms in self.unread]).tolist()
        first = self.state.step - len(self.unread) + 1
        for step, values in enumerate(table, start=first):
            terms = dict(zip(self.unread[0], values, strict=True))
            where = f"stage {self.plan.name}, epoch {self.state.epoch + 1}, step {step}"
            check_finite({name: value for name, value in terms.items() if name != "total"}, where)
            sums = self.state.loss_sums
            self._advance(loss_sums={name: sums.get(name, 0.0) + value for name, value in terms.items()})
        self.unread.clear()

    def _close_epoch(self) -> EpochRow:
        """Validate, save the weights to keep, write metrics.csv and the checkpoint."""
        train = {name: total / self.n_steps for name, total in self.state.loss_sums.items()}
        measured = {
            "epoch": self.state.epoch + 1,
            "seconds": round(self.state.seconds, 2),
            "crops_per_second": round(self._crops_per_second(), 2),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": train["total"],
            "train_losses": {name: value for name, value in train.items() if name != "total"},
            **{name: value if math.isfinite(value) else None for name, value in self._validate().items()},
        }
        row = EpochRow.model_validate(measured)
        history = (*self.state.history, row)
        best_epoch = row.epoch
        if self.config.select == "best":
            best_epoch = max(history, key=lambda item: item.selection or 0.0).epoch
        if best_epoch == row.epoch:
            meta = {"info": self.inputs.info.model_dump(mode="json"), "epoch": row.model_dump(mode="json")}
            save_tensors(self.folder / BEST_NAME, self._kept().state_dict(), meta)
        _write_csv(self.folder / METRICS_NAME, history)
        self._report(row)
        self._advance(epoch=row.epoch, step=0, seconds=0.0, loss_sums={}, history=history, best_epoch=best_epoch)
        self._save()
        return row

    def _kept(self) -> CellClassifier:
        """Return the network whose weights are validated and saved."""
        return self.model if self.average is None else self.average.model

    def _validate(self) -> dict[str, float]:
        """Compute losses and metrics on the validation crops; all NaN without any."""
        rows, crop_set, info = self.inputs.validation_rows, self.inputs.crop_set, self.inputs.info
        if len(rows) == 0:
            return dict.fromkeys(VALIDATION_FIGURES, math.nan)
        logits = predict_logits(self._kept(), crop_set, rows, info, batch_size=self.config.batch_size)
        labels = {head: crop_set.labels[head][rows] for head in info.heads}
        targets = {head: torch.from_numpy(values) for head, values in labels.items()}
        on_cpu = {head: correction.to(torch.device("cpu")) for head, correction in self.make_step.corrections.items()}
        sets = self.make_step.sets_at(torch.from_numpy(rows).to(self.device))
        losses = classification_losses(logits, targets, on_cpu, None if sets is None else sets.to(torch.device("cpu")))
        total = weighted_total(losses, self.config.loss_weights)
        check_finite({head: float(term) for head, term in losses.items()}, f"stage {self.plan.name}, validation")
        terms = {f"validation_loss_{head}": float(term) for head, term in losses.items()}
        return {"validation_loss": float(total), **terms, **score(probabilities(logits, info), labels)}

    def _advance(self, **changes: object) -> None:
        """Replace the state with a changed copy."""
        self.state = self.state.model_copy(update=changes)

    def _save(self) -> None:
        """Write the checkpoint."""
        average = self.average.model if self.average else None
        save_checkpoint(self.folder / CHECKPOINT_NAME, self.model, self.optimizer, self.state, average)

    def _crops_per_second(self) -> float:
        """Compute the rate of the current epoch's training steps, reading and augmentation included."""
        crops = self.state.step * min(self.config.batch_size, len(self.inputs.training_rows))
        return crops / max(self.state.seconds, 1e-9)

    def _report(self, finished: EpochRow | None = None) -> None:
        """Report the stage's progress to the callback, before the epoch's counters are reset."""
        if self.on_progress is None:
            return
        state = self.state
        steps_left = (self.plan.epochs - state.epoch) * self.n_steps - state.step
        self.on_progress(
            Progress(
                stage=self.plan.name,
                epoch=state.epoch + 1,
                n_epochs=self.plan.epochs,
                step=state.step,
                n_steps=self.n_steps,
                loss=state.loss_sums["total"] / state.step,
                crops_per_second=self._crops_per_second(),
                seconds_left=steps_left * state.seconds / state.step,
                finished_epoch=finished,
            )
        )


def _write_csv(path: Path, history: tuple[EpochRow, ...]) -> None:
    """Write metrics.csv atomically; an undefined metric is an empty cell."""
    text = io.StringIO()
    rows = [row.model_dump() for row in history]
    writer = csv.DictWriter(text, fieldnames=list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
