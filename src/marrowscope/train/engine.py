"""The training loop of one stage, resumable at any step.

Steps: shuffle by (seed, stage, epoch); batches augmented by (seed, stage, epoch, row); AdamW with linear warm-up and
cosine decay as a function of the step; validation after each epoch on unchanged crops; the best epoch by
``selection`` is kept. The invariant: all that a step depends on is the checkpoint and numbers derived from (seed,
stage, epoch, step), so a killed stage, resumed, ends in equal weights.
"""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.utils.tensorboard import SummaryWriter

from marrowscope.errors import RunError, TrainingError
from marrowscope.train.checkpoint import EpochRow, TrainingState, load_checkpoint, save_checkpoint, save_tensors
from marrowscope.train.imbalance import correct_all
from marrowscope.train.loader import EpochBatches, TrainingBatch, batches_from, steps_of_epoch
from marrowscope.train.losses import (
    HeadCorrection,
    classification_losses,
    consistency_loss,
    evidence_loss,
    morphology_loss,
    to_tensors,
    weighted_total,
)
from marrowscope.train.model import HEADS
from marrowscope.train.targets import standardise
from marrowscope.train.validation import normalise, predict_logits, probabilities, score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig, StagePlan
    from marrowscope.train.dataset import CropSet, IntArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo, ClassifierOutput

CHECKPOINT_NAME, BEST_NAME, METRICS_NAME = "checkpoint.safetensors", "best.safetensors", "metrics.csv"
_FINAL_RATE = 0.01  # share of the peak learning rate at the end of the cosine


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands: epochs and steps from 1, the mean loss of the epoch so far, seconds left of the stage.

    ``finished_epoch`` is set once an epoch, after its validation.
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
    """What a stage learns from: the crops, the rows of both sides, what its weights will say of themselves.

    ``fingerprint`` is a hash of data, split and settings: a checkpoint with another one is not continued.
    """

    crop_set: CropSet
    training_rows: IntArray
    validation_rows: IntArray
    info: ClassifierInfo
    fingerprint: str


def configure_torch(config: ClassifierConfig) -> torch.device:
    """Set threads and deterministic algorithms, and give the device to train on."""
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocasts(config: ClassifierConfig, device: torch.device) -> bool:
    """Say whether the network runs in bf16 autocast; ``auto`` does on CUDA only (slower on the CPU, docs/train.md)."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")


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
    """Train ``model`` in place for one stage and leave the best epoch's weights in ``folder``/best.safetensors.

    Goes on from ``folder``/checkpoint.safetensors where there is one. ``stage`` is the number of the stage, part of
    every random key. Raises TrainingError for a side without crops or a loss that is not finite, RunError when the
    checkpoint belongs to other crops or settings.
    """
    _check_rows(inputs, plan)
    folder.mkdir(parents=True, exist_ok=True)
    device = configure_torch(config)
    model.to(device).to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, config, plan)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.is_file():
        state = load_checkpoint(checkpoint, model, optimizer)
        if state.fingerprint != inputs.fingerprint:
            message = (
                f"{checkpoint}: made from other crops, another split or other settings than the ones given, expected "
                "equal ones; resume with the first call's arguments or choose another --out"
            )
            raise RunError(message)
    else:
        info = inputs.info.model_dump(mode="json")
        state = TrainingState(stage=plan.name, epoch=0, step=0, info=info, fingerprint=inputs.fingerprint)
        save_checkpoint(checkpoint, model, optimizer, state)  # pins the initial weights: a resumed run keeps them
    loop = _StageLoop(
        model=model,
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


def _check_rows(inputs: StageInputs, plan: StagePlan) -> None:
    """Refuse a side without crops."""
    for side, rows, source in (
        ("training", inputs.training_rows, plan.train_on),
        ("validation", inputs.validation_rows, plan.select_on),
    ):
        if len(rows) == 0:
            message = (
                f"stage {plan.name}: found no labelled crop of source {source!r} among the {side} patients, expected "
                "at least one; check the split, or prepare the crops with a segmenter"
            )
            raise TrainingError(message)


def _optimizer(model: CellClassifier, config: ClassifierConfig, plan: StagePlan) -> torch.optim.AdamW:
    """AdamW; no weight decay on biases and norms."""
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


@dataclass(kw_only=True)
class _StageLoop:
    """The loop's moving parts: one instance a stage, changed in place."""

    model: CellClassifier
    optimizer: torch.optim.Optimizer
    inputs: StageInputs
    plan: StagePlan
    stage: int
    config: ClassifierConfig
    folder: Path
    device: torch.device
    on_progress: Callable[[Progress], None] | None
    state: TrainingState
    corrections: dict[str, HeadCorrection] = field(init=False)
    measured: torch.Tensor = field(init=False)
    forward: Callable[[torch.Tensor], ClassifierOutput] = field(init=False)
    n_steps: int = field(init=False)

    def __post_init__(self) -> None:
        inputs, config = self.inputs, self.config
        self.n_steps = steps_of_epoch(len(inputs.training_rows), config)
        labels = {head: inputs.crop_set.labels[head][inputs.training_rows] for head in HEADS}
        sizes = {head: len(prior) for head, prior in inputs.info.priors.items()}
        self.corrections = to_tensors(correct_all(labels, sizes, config), self.device)
        self.measured = torch.from_numpy(standardise(inputs.crop_set.measured, inputs.training_rows)[1])
        self.forward = torch.compile(self.model) if config.compile else self.model

    def run(self) -> None:
        """Run the epochs that are left; none when the stage is finished."""
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.state.epoch + 1) as board:
            while self.state.epoch < self.plan.epochs:
                self._run_epoch()
                row = self._close_epoch()
                for name, value in row.model_dump(exclude={"epoch"}).items():
                    if value is not None:
                        board.add_scalar(name, value, row.epoch)
                board.flush()

    def _run_epoch(self) -> None:
        """Run the steps of the current epoch that are left."""
        config = self.config
        batches = EpochBatches(self.inputs.crop_set, self.inputs.training_rows, config, self.stage, self.state.epoch)
        self.model.train()
        start = time.perf_counter() - self.state.seconds
        for batch in batches_from(batches, self.state.step, config.workers, pin=self.device.type == "cuda"):
            terms = self._step(batch)
            sums = {name: self.state.loss_sums.get(name, 0.0) + term for name, term in terms.items()}
            self._advance(step=self.state.step + 1, loss_sums=sums, seconds=time.perf_counter() - start)
            self._report()
            if self.state.step % config.checkpoint_every_steps == 0 and self.state.step < self.n_steps:
                self._save()

    def _step(self, batch: TrainingBatch) -> dict[str, float]:
        """Make one optimisation step and give its loss terms with their ``total``."""
        done = self.state.epoch * self.n_steps + self.state.step
        torch.manual_seed((self.config.seed * 1_000 + self.stage) * 10_000_000 + done)  # dropout
        share = learning_rate_share(done, self.plan.epochs * self.n_steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * share
        losses = self._losses(batch)
        where = f"stage {self.plan.name}, epoch {self.state.epoch + 1}, step {self.state.step + 1}"
        total = weighted_total(losses, self.config.loss_weights, where)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        return {name: float(term.detach()) for name, term in (losses | {"total": total}).items()}

    def _losses(self, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """Give every loss term that is switched on."""
        weights, rows, n = self.config.loss_weights, batch.rows.numpy(), len(batch.rows)
        targets = {head: torch.from_numpy(self.inputs.crop_set.labels[head][rows]).to(self.device) for head in HEADS}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocasts(self.config, self.device)):
            output = self.forward(normalise(batch.crops, self.inputs.info, self.device))
        logits = {head: values[:n] for head, values in output.logits().items()}
        losses = classification_losses(logits, targets, self.corrections)
        if weights["morphology"] > 0:
            losses["morphology"] = morphology_loss(output.morphology[:n], self.measured[batch.rows].to(self.device))
        if weights["evidence"] > 0:
            losses["evidence"] = evidence_loss(self.model, output.evidence[:n], targets, batch.masks.to(self.device))
        if weights["consistency"] > 0:
            swapped = {head: values[n:] for head, values in output.logits().items()}
            seen = {head: values[: len(swapped[head])] for head, values in logits.items()}
            losses["consistency"] = consistency_loss(seen, swapped, self.corrections)
        return losses

    def _close_epoch(self) -> EpochRow:
        """Validate, keep the best weights, write metrics.csv and the checkpoint."""
        train = {name: total / self.n_steps for name, total in self.state.loss_sums.items()}
        measured = {
            "epoch": self.state.epoch + 1,
            "seconds": round(self.state.seconds, 2),
            "crops_per_second": round(self._crops_per_second(), 2),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": train["total"],
            **{f"train_loss_{name}": value for name, value in train.items() if name != "total"},
            **{name: value if math.isfinite(value) else None for name, value in self._validate().items()},
        }
        row = EpochRow.model_validate(measured)
        history = (*self.state.history, row)
        best_epoch = max(history, key=lambda item: item.selection).epoch
        if best_epoch == row.epoch:
            meta = {"info": self.inputs.info.model_dump(mode="json"), "epoch": row.model_dump(mode="json")}
            save_tensors(self.folder / BEST_NAME, self.model.state_dict(), meta)
        _write_csv(self.folder / METRICS_NAME, history)
        self._report(row)
        self._advance(epoch=row.epoch, step=0, seconds=0.0, loss_sums={}, history=history, best_epoch=best_epoch)
        self._save()
        return row

    def _validate(self) -> dict[str, float]:
        """Losses and figures of merit on the validation crops."""
        rows, crop_set, info = self.inputs.validation_rows, self.inputs.crop_set, self.inputs.info
        logits = predict_logits(self.model, crop_set, rows, info, batch_size=self.config.batch_size)
        labels = {head: crop_set.labels[head][rows] for head in HEADS}
        targets = {head: torch.from_numpy(values) for head, values in labels.items()}
        on_cpu = {head: HeadCorrection(o.cpu(), w.cpu(), gamma) for head, (o, w, gamma) in self.corrections.items()}
        losses = classification_losses(logits, targets, on_cpu)
        total = weighted_total(losses, self.config.loss_weights, f"stage {self.plan.name}, validation")
        terms = {f"validation_loss_{head}": float(term) for head, term in losses.items()}
        return {"validation_loss": float(total), **terms, **score(probabilities(logits, info), labels)}

    def _advance(self, **changes: object) -> None:
        """Replace the state by a changed copy."""
        self.state = self.state.model_copy(update=changes)

    def _save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.folder / CHECKPOINT_NAME, self.model, self.optimizer, self.state)

    def _crops_per_second(self) -> float:
        """Rate of the current epoch's training steps, reading and augmentation included."""
        crops = self.state.step * min(self.config.batch_size, len(self.inputs.training_rows))
        return crops / max(self.state.seconds, 1e-9)

    def _report(self, finished: EpochRow | None = None) -> None:
        """Tell the callback where the stage stands, before the epoch's counters are put back."""
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
    """Write metrics.csv, atomically; an undefined figure is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(EpochRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in history)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(path)
