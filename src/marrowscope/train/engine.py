"""The training loop of one stage, resumable at any step.

Steps: shuffle by (seed, stage, epoch); batches augmented by (seed, epoch, row); AdamW with linear warm-up and cosine
decay as a function of the step; validation after each epoch on unchanged crops; the best epoch by ``selection`` is
kept. The invariant: all that a step depends on is the checkpoint and numbers derived from (seed, stage, epoch, step).
"""

from __future__ import annotations

import csv
import io
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from marrowscope import metrics
from marrowscope.errors import RunError, TrainingError
from marrowscope.train.checkpoint import EpochRow, TrainingState, load_checkpoint, save_checkpoint, save_tensors
from marrowscope.train.dataset import CropSet, IntArray, epoch_order, training_batch, validation_batches
from marrowscope.train.losses import classification_losses, training_offsets, weighted_total
from marrowscope.train.model import HEADS, CellClassifier, ClassifierInfo, ClassifierOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from marrowscope.records import ImageArray
    from marrowscope.train.config import ClassifierConfig, StagePlan

CHECKPOINT_NAME, BEST_NAME, METRICS_NAME = "checkpoint.safetensors", "best.safetensors", "metrics.csv"
_FINAL_RATE = 0.01  # share of the peak learning rate at the end of the cosine


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands: epochs and steps from 1, the mean loss of the epoch so far, crops/s, seconds left."""

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
    """What a stage learns from: the crops, the rows of both sides, what its weights will say, and a fingerprint."""

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


def learning_rate_share(step: int, n_steps: int, warmup: float) -> float:
    """Share of the peak learning rate at ``step`` of ``n_steps``: linear warm-up, then cosine to 1%."""
    n_warmup = max(1, round(warmup * n_steps))
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return _FINAL_RATE + (1 - _FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2


def normalise(batch: ImageArray, info: ClassifierInfo, device: torch.device) -> torch.Tensor:
    """Turn crops (n, s, s, 3) uint8 into the network's input (n, 3, s, s) float32, channels last in memory."""
    pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (info.mean, info.std))
    return (pixels - mean) / std


def fit_stage(
    model: CellClassifier,
    inputs: StageInputs,
    plan: StagePlan,
    stage: int,
    config: ClassifierConfig,
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
    model.to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(model, config, plan)
    loop = _StageLoop(model, optimizer, inputs, plan, stage, config, folder, device, on_progress)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.is_file():
        loop.state = load_checkpoint(checkpoint, model, optimizer)
        if loop.state.fingerprint != inputs.fingerprint:
            message = (
                f"{checkpoint}: made from other crops, another split or other settings than the ones given, expected "
                "equal ones; resume with the first call's arguments or choose another --out"
            )
            raise RunError(message)
    else:
        loop.save()  # pins the initial weights: a resumed run never looks for them again
    if not loop.state.finished:
        loop.run()
    return loop.state


@torch.inference_mode()
def predict_logits(
    model: CellClassifier,
    crop_set: CropSet,
    rows: IntArray,
    info: ClassifierInfo,
    device: torch.device,
    batch_size: int,
) -> ClassifierOutput:
    """Plain logits of unchanged crops, on the CPU; leaves the model in evaluation mode."""
    model.eval()
    parts = [
        model(normalise(batch, info, device))
        for _, batch in validation_batches(crop_set, rows, info.crop_px, batch_size)
    ]
    return ClassifierOutput(*(torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True)))


def probabilities(logits: ClassifierOutput, info: ClassifierInfo) -> dict[str, NDArray[np.float32]]:
    """Softmax of each head (n, k) over its trained classes; exactly 0 for the others."""
    return {
        head: torch.softmax(values.masked_fill(~torch.tensor(info.trained(head)), -math.inf), dim=1).numpy()
        for head, values in logits._asdict().items()
    }


def score(predicted: Mapping[str, NDArray[np.float32]], labels: Mapping[str, IntArray]) -> dict[str, float]:
    """Figures of merit of one epoch; ``selection`` is the mean of CBLC weighted F1 and category macro F1.

    Macro F1 is over the categories with a true cell in these crops. A figure that is undefined is NaN.
    """
    confusion = {
        head: metrics.confusion_matrix(labels[head], predicted[head].argmax(axis=1), predicted[head].shape[1])
        for head in HEADS
    }
    figures = {
        "cblc_weighted_f1": metrics.weighted_f1(confusion["cblc"]),
        "cblc_positive_f1": metrics.positive_f1(confusion["cblc"]),
        "cblc_auc": metrics.roc_auc(labels["cblc"] == 1, predicted["cblc"][:, 1].astype(np.float64)),
        "countable_weighted_f1": metrics.weighted_f1(confusion["countable"]),
        "category_weighted_f1": metrics.weighted_f1(confusion["category"]),
        "category_macro_f1": metrics.macro_f1(confusion["category"]),
    }
    return figures | {"selection": (figures["cblc_weighted_f1"] + figures["category_macro_f1"]) / 2}


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


class _StageLoop:
    """The loop's moving parts: one instance a stage."""

    def __init__(
        self,
        model: CellClassifier,
        optimizer: torch.optim.Optimizer,
        inputs: StageInputs,
        plan: StagePlan,
        stage: int,
        config: ClassifierConfig,
        folder: Path,
        device: torch.device,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.model, self.optimizer, self.inputs, self.plan, self.stage = model, optimizer, inputs, plan, stage
        self.config, self.folder, self.device, self.on_progress = config, folder, device, on_progress
        self.n_steps = max(1, len(inputs.training_rows) // config.batch_size)
        self.state = TrainingState(
            stage=plan.name, epoch=0, step=0, info=inputs.info.model_dump(mode="json"), fingerprint=inputs.fingerprint
        )
        self.offsets = {
            head: training_offsets(torch.tensor(inputs.info.priors[head], device=device), config.imbalance, config.tau)
            for head in HEADS
        }
        self._clock = time.perf_counter()

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.folder / CHECKPOINT_NAME, self.model, self.optimizer, self.state)

    def run(self) -> None:
        """Run the epochs that are left."""
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
        key = (self.config.seed + self.stage * 1_000_003, self.state.epoch)
        order = epoch_order(self.inputs.training_rows, self.config.seed, self.stage, self.state.epoch)
        self.model.train()
        self._clock = time.perf_counter() - self.state.seconds
        while self.state.step < self.n_steps:
            start = self.state.step * self.config.batch_size
            rows = order[start : start + self.config.batch_size]
            batch = training_batch(self.inputs.crop_set, rows, self.config.crop_px, self.config.augment, key)
            sums = self._step(batch, rows)
            self.state = self.state.model_copy(
                update={
                    "step": self.state.step + 1,
                    "loss_sums": {name: self.state.loss_sums.get(name, 0.0) + value for name, value in sums.items()},
                    "seconds": time.perf_counter() - self._clock,
                }
            )
            self._report(None)
            if self.state.step % self.config.checkpoint_every_steps == 0 and self.state.step < self.n_steps:
                self.save()

    def _step(self, batch: ImageArray, rows: IntArray) -> dict[str, float]:
        """Make one optimisation step and give its loss terms with their ``total``."""
        done = self.state.epoch * self.n_steps + self.state.step
        torch.manual_seed((self.config.seed * 1_000 + self.stage) * 10_000_000 + done)  # dropout
        share = learning_rate_share(done, self.plan.epochs * self.n_steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * share
        targets = {head: torch.from_numpy(self.inputs.crop_set.labels[head][rows]).to(self.device) for head in HEADS}
        outputs = self.model(normalise(batch, self.inputs.info, self.device))
        losses = classification_losses(outputs, targets, self.offsets)
        where = f"stage {self.plan.name}, epoch {self.state.epoch + 1}, step {self.state.step + 1}"
        total = weighted_total(losses, self.config.loss_weights, where)  # type: ignore[arg-type]  keys are the heads
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        return {name: float(term.detach()) for name, term in (losses | {"total": total}).items()}

    def _close_epoch(self) -> EpochRow:
        """Validate, keep the best weights, write metrics.csv and the checkpoint."""
        seconds = time.perf_counter() - self._clock
        train = {name: total / self.n_steps for name, total in self.state.loss_sums.items()}
        validation = self._validate()
        row = EpochRow(
            epoch=self.state.epoch + 1,
            seconds=round(seconds, 2),
            crops_per_second=round(self._crops_done() / max(seconds, 1e-9), 2),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            train_loss=train["total"],
            **{f"train_loss_{head}": train[head] for head in HEADS},
            **{name: value if math.isfinite(value) else None for name, value in validation.items()},
        )
        history = (*self.state.history, row)
        best_epoch = max(history, key=lambda item: item.selection).epoch
        self.state = self.state.model_copy(
            update={
                "epoch": row.epoch,
                "step": 0,
                "seconds": 0.0,
                "loss_sums": {},
                "history": history,
                "best_epoch": best_epoch,
                "finished": row.epoch == self.plan.epochs,
            }
        )
        if best_epoch == row.epoch:
            meta = {"info": self.inputs.info.model_dump(mode="json"), "epoch": row.model_dump(mode="json")}
            save_tensors(self.folder / BEST_NAME, self.model.state_dict(), meta)
        _write_csv(self.folder / METRICS_NAME, history)
        self.save()
        self._report(row)
        return row

    def _validate(self) -> dict[str, float]:
        """Losses and figures of merit on the validation crops."""
        rows, crop_set, info = self.inputs.validation_rows, self.inputs.crop_set, self.inputs.info
        logits = predict_logits(self.model, crop_set, rows, info, self.device, self.config.batch_size)
        targets = {head: torch.from_numpy(crop_set.labels[head][rows]) for head in HEADS}
        offsets = {head: offset.cpu() for head, offset in self.offsets.items()}
        losses = {head: float(term) for head, term in classification_losses(logits, targets, offsets).items()}
        total = sum(weight * losses[head] for head, weight in self.config.loss_weights.items())
        figures = score(probabilities(logits, info), {head: crop_set.labels[head][rows] for head in HEADS})
        return {"validation_loss": total, **{f"validation_loss_{head}": losses[head] for head in HEADS}, **figures}

    def _crops_done(self) -> int:
        """Crops trained on in the current epoch."""
        return self.state.step * min(self.config.batch_size, len(self.inputs.training_rows))

    def _report(self, row: EpochRow | None) -> None:
        """Tell the callback where the stage stands."""
        if self.on_progress is None:
            return
        if row is not None:
            left = row.seconds * (self.plan.epochs - row.epoch)
            self.on_progress(
                Progress(
                    self.plan.name, row.epoch, self.plan.epochs, self.n_steps, self.n_steps, row.train_loss,
                    row.crops_per_second, left, row,
                )
            )  # fmt: skip
            return
        state = self.state
        rate = self._crops_done() / max(state.seconds, 1e-9)
        steps_left = (self.plan.epochs - state.epoch) * self.n_steps - state.step
        loss = state.loss_sums["total"] / state.step
        left = steps_left * state.seconds / state.step
        self.on_progress(
            Progress(self.plan.name, state.epoch + 1, self.plan.epochs, state.step, self.n_steps, loss, rate, left)
        )


def _write_csv(path: Path, history: tuple[EpochRow, ...]) -> None:
    """Write metrics.csv, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(EpochRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in history)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    temporary.replace(path)
