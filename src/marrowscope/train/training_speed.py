"""Training speed: the model's step alone, and the whole loop from crops on disk.

Steps: under every ``Variant`` (precision, memory layout, compilation) in turn, the step runs again and again on a fixed
batch on the device; then, for each number of workers, the step alone and the loop that reads, augments, moves and
steps run in turn. The invariant: only times measured back to back in the same round are divided, so a machine shared
with others slows both sides of a ratio; rates in crops/s apply to the machine as it was.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from marrowscope.errors import ConfigError
from marrowscope.train.crop_set import class_priors
from marrowscope.train.loader import StageBatches, TrainingBatch, batches_from
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, ClassifierInfo, new_classifier
from marrowscope.train.stage import STEPS_BETWEEN_READS, configure_torch
from marrowscope.train.step import TrainingStep, autocasts, make_optimizer
from marrowscope.train.targets import standardize
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.crop_set import CropSet, IntArray

_LEARNING_RATE = 1e-5  # any: a step takes as long at every rate, and this one keeps random crops finite
_PREFETCH = 2  # batches that a worker of PyTorch's loader makes ahead
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the same step; ``deterministic`` restricts it to repeatable algorithms."""

    precision: str
    channels_last: bool = True
    compiled: bool = False
    deterministic: bool = True

    @property
    def name(self) -> str:
        """Label for a table."""
        words = [self.precision, "channels last" if self.channels_last else "channels first"]
        words += ["compiled"] * self.compiled + ["any algorithm"] * (not self.deterministic)
        return ", ".join(words)


class Seconds(NamedTuple):
    """Duration of a round of steps: wall-clock time, and CPU time of this process."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rounds of one measurement beside its reference: equally many crops, back to back."""

    name: str
    crops_per_round: int
    own: tuple[Seconds, ...]
    reference: tuple[Seconds, ...]
    in_process: bool = field(metadata={"why": "one CPU thread does all the work of both sides"})

    @property
    def ratios(self) -> tuple[float, ...]:
        """Rate over the reference's rate, per round; above 1 is faster than the reference.

        From CPU seconds where one thread does all the work, since other work on the machine cannot change those.
        """
        pairs = zip(self.own, self.reference, strict=True)
        return tuple(base.cpu / own.cpu if self.in_process else base.wall / own.wall for own, base in pairs)

    @property
    def ratio(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def crops_per_second(self) -> float:
        """Median wall-clock rate."""
        return self.crops_per_round / statistics.median(seconds.wall for seconds in self.own)


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Variants of the step beside the configured one (the first), and loops beside the configured step alone.

    ``pipeline_crops_per_cpu_second`` is what one core reads, augments and assembles without a network.
    """

    device: str
    batch_size: int
    pipeline_crops_per_cpu_second: float
    steps: tuple[Pairs, ...]
    loops: tuple[Pairs, ...]


def bench_training(
    crop_set: CropSet,
    config: ClassifierConfig,
    *,
    n_steps: int | None = None,
    rounds: int = 3,
    workers: Sequence[int] = (0, 1, 2),
    with_compile: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> BenchResult:
    """Measure on the labeled crops of ``crop_set``, ``rounds`` times ``n_steps`` (default: 5, on CUDA 50) per side.

    Raises ConfigError when the crops do not fill one batch.
    """
    rows = np.flatnonzero(crop_set.sets.may_be.any(axis=1)).astype(np.int64)
    if len(rows) < config.batch_size:
        message = (
            f"{crop_set.folder}: found {count_of(len(rows), 'labeled crop')}, expected at least one batch of "
            f"{config.batch_size}; "
            "lower batch_size or use a larger crop set"
        )
        raise ConfigError(message)
    tell = on_progress or (lambda _words: None)
    device = configure_torch(config)
    n_steps = n_steps or (50 if device.type == "cuda" else 5)
    bench = _Bench(crop_set, rows, config, device=device, n_steps=n_steps, rounds=rounds)
    tell("reading and augmenting alone")
    pipeline = bench.pipeline_rate()
    usual = Variant("bf16" if autocasts(config, device) else "float32", compiled=config.compile)
    variants = _variants(usual, device, with_compile=with_compile)
    tell("step alone: " + "; ".join(variant.name for variant in variants))
    steps = bench.compare_steps(variants)
    loops = []
    for count in workers:
        tell(f"whole loop, {count_of(count, 'worker')}")
        loops.append(bench.compare_loop(usual, count, pause_s=2 * _PREFETCH * config.batch_size / pipeline))
    return BenchResult(
        device=torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {count_of(config.threads, 'thread')}",
        batch_size=config.batch_size,
        pipeline_crops_per_cpu_second=pipeline,
        steps=steps,
        loops=tuple(loops),
    )


def _variants(usual: Variant, device: torch.device, *, with_compile: bool) -> tuple[Variant, ...]:
    """List the configured way first, then each change of one or two settings, once."""
    plain = [
        replace(usual, precision=precision, channels_last=last)
        for precision, last in itertools.product(("float32", "bf16"), (True, False))
    ]
    compiled = [replace(variant, compiled=True) for variant in plain if variant.channels_last] if with_compile else []
    free = [replace(usual, deterministic=False)] if device.type == "cuda" else []
    return tuple(dict.fromkeys([usual, *plain, *compiled, *free]))


class _Bench:
    """The crops, the settings and the clock of one measurement."""

    def __init__(
        self,
        crop_set: CropSet,
        rows: IntArray,
        config: ClassifierConfig,
        *,
        device: torch.device,
        n_steps: int,
        rounds: int,
    ) -> None:
        self._crop_set, self._rows, self._config, self._device = crop_set, rows, config, device
        self._n_steps, self._rounds = n_steps, rounds
        self._batches = StageBatches(crop_set, rows, config, 1)
        self._fixed = self._batches[0, 0].to(device)

    def pipeline_rate(self) -> float:
        """Measure crops per CPU second of reading, augmenting and assembling, without a network."""
        keys = self._keys(self._n_steps)

        def work() -> None:
            for key in keys:
                self._batches[key]

        return self._config.batch_size * self._n_steps / self._timed(work).cpu

    def compare_steps(self, variants: Sequence[Variant]) -> tuple[Pairs, ...]:
        """Time every variant's step on the fixed batch in each round; the first variant is the reference."""
        works = [self._alone(variant) for variant in variants]
        table = [[self._timed(work) for work in works] for _ in range(self._rounds)]
        return tuple(
            self._pairs(variant.name, [row[place] for row in table], [row[0] for row in table])
            for place, variant in enumerate(variants)
        )

    def compare_loop(self, variant: Variant, workers: int, *, pause_s: float) -> Pairs:
        """Time the step alone and the whole loop in each round.

        What the workers made ahead is discarded before a round of the loop, and ``pause_s`` lets them refill after it:
        no work of one side runs in the time of the other.
        """
        alone, step = self._alone(variant), self._step(variant)
        ahead = workers * _PREFETCH
        keys = self._keys(self._rounds * (self._n_steps + ahead) + 1)
        batches = batches_from(self._batches, keys, workers, pin=self._device.type == "cuda")
        step(next(batches))

        def loop() -> None:
            unread = []
            for batch in itertools.islice(batches, self._n_steps):
                unread.append(step(batch)["total"])
                if len(unread) == STEPS_BETWEEN_READS[self._device.type]:
                    torch.stack(unread).tolist()
                    unread.clear()

        own, reference = [], []
        for _ in range(self._rounds):
            reference.append(self._timed(alone))
            for _ in itertools.islice(batches, ahead):
                pass
            own.append(self._timed(loop))
            time.sleep(min(pause_s, _LONGEST_PAUSE_S) if workers else 0)
        return self._pairs(count_of(workers, "worker"), own, reference, in_process=workers == 0)

    def _alone(self, variant: Variant) -> Callable[[], None]:
        """Return a function that steps the fixed batch, warmed up."""
        step = self._step(variant)

        def work() -> None:
            torch.use_deterministic_algorithms(mode=variant.deterministic, warn_only=True)
            for _ in range(self._n_steps):
                step(self._fixed)

        step(self._fixed)
        step(self._fixed)
        return work

    def _step(self, variant: Variant) -> Callable[[TrainingBatch], dict[str, torch.Tensor]]:
        """Make a network and its training step according to ``variant``."""
        config = self._config.model_copy(update={"precision": variant.precision, "compile": variant.compiled})
        info = _info(self._crop_set, self._rows, config)
        model = new_classifier(
            config.architecture,
            len(info.categories),
            config.dropout,
            config.seed,
            n_morphology=len(info.morphology),
            norm=config.norm,
        )
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        model.to(self._device).to(memory_format=layout).train()
        step = TrainingStep(
            model,
            make_optimizer(model, config),
            config,
            info,
            crop_set=self._crop_set,
            training_rows=self._rows,
        )
        forward = step.forward
        step.forward = lambda crops: forward(crops.contiguous(memory_format=layout))
        return lambda batch: step(batch, learning_rate=_LEARNING_RATE, seed=0)

    def _keys(self, n: int) -> list[tuple[int, int]]:
        """Return the (epoch, step) of ``n`` batches."""
        per_epoch = len(self._batches.order(0)) // self._config.batch_size
        return [divmod(place, per_epoch) for place in range(n)]

    def _timed(self, work: Callable[[], None]) -> Seconds:
        """Time ``work`` until the device is done with it."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self._wait()
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _pairs(
        self, name: str, own: Sequence[Seconds], reference: Sequence[Seconds], *, in_process: bool = True
    ) -> Pairs:
        return Pairs(
            name=name,
            crops_per_round=self._n_steps * self._config.batch_size,
            own=tuple(own),
            reference=tuple(reference),
            in_process=in_process and self._device.type == "cpu" and self._config.threads == 1,
        )


def _info(crop_set: CropSet, rows: IntArray, config: ClassifierConfig) -> ClassifierInfo:
    """Describe the network that the configuration trains on ``rows``."""
    return ClassifierInfo(
        architecture=config.architecture,
        categories=crop_set.categories,
        crop_px=config.crop_px,
        um_per_px=crop_set.um_per_px,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        priors=class_priors(crop_set.class_shares(rows)),
        imbalance=config.imbalance,
        tau=config.tau,
        norm=config.norm,
        morphology=standardize(crop_set.measured, rows)[0] if config.loss_weights["morphology"] > 0 else (),
        initial_weights="random",
    )
