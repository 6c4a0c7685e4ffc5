"""Prediction speed: the whole pipeline beside its networks alone, beside another pipeline, and as the input grows.

In each round, the same images are predicted as a user would predict them (read, segmented, measured, classified, tables
written), and then both networks run alone, as often and on inputs of the same shapes. Invariant: only times measured
back to back in the same round are divided, so that a machine shared with others slows both sides of a ratio. Networks
are opened and run once before a clock starts; the cost of opening is measured separately, as the cold start.
"""

from __future__ import annotations

import json
import statistics
import subprocess  # for runs with their own memory, and the pipeline to compare with
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.match import match_contours
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.errors import ImageError, InputError
from marrowscope.predict import predict
from marrowscope.segment.letterbox import letterbox
from marrowscope.streaming.pool import PROCESSOR, WorkerPool, open_worker
from marrowscope.streaming.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    import polars as pl

    from marrowscope.bundle import Bundle
    from marrowscope.records import ContourArray, InputImage
    from marrowscope.streaming.config import PredictConfig

_WARM_UP = 16


STAGES = {
    "read": "read, hash, decode",
    "field": "field measures",
    "erythrocytes": "erythrocytes",
    "place": "to the network's grid",
    "segment": "segmenter network",
    "contours": "contours",
    "judge": "rules and rows",
    "crop": "crops and masks",
    "morphology": "morphology",
    "classify": "classifier network",
}
"""The stages that a worker times, in words."""


@dataclass(frozen=True, slots=True)
class Took:
    """Wall-clock seconds, and this process's CPU seconds."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """One round: ``whole`` prediction, its ``networks`` alone, seconds per stage (all threads together)."""

    whole: Took
    networks: Took
    stages: Mapping[str, float]
    other_s: float | None = None

    @property
    def over_networks(self) -> float:
        """Time of the whole prediction over that of the networks alone."""
        return self.whole.wall_s / self.networks.wall_s

    @property
    def over_other(self) -> float | None:
        """Time of the other pipeline over ours."""
        return None if self.other_s is None else self.other_s / self.whole.wall_s


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Measurements on ``n_fields`` images with ``n_cells`` kept cells: the settings, and every round."""

    n_fields: int
    n_cells: int
    setting: Mapping[str, Any]
    rounds: tuple[Round, ...]
    agreement: Mapping[str, float] | None = None

    def median(self, figure: Callable[[Round], float]) -> float:
        """Compute the median of a figure over the rounds."""
        return statistics.median(figure(entry) for entry in self.rounds)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        fields_per_s = self.n_fields / self.median(lambda entry: entry.whole.wall_s)
        medians: dict[str, float] = {
            "fields_per_second": fields_per_s,
            "cells_per_second": fields_per_s * self.n_cells / self.n_fields,
            "whole_over_networks": self.median(lambda entry: entry.over_networks),
        }
        if all(entry.over_other is not None for entry in self.rounds):
            medians["other_over_whole"] = self.median(lambda entry: entry.over_other or 0.0)
        rounds = [
            {
                "whole_s": entry.whole.wall_s,
                "whole_cpu_s": entry.whole.cpu_s,
                "networks_s": entry.networks.wall_s,
                "networks_cpu_s": entry.networks.cpu_s,
                "other_s": entry.other_s,
                "stages_s": dict(entry.stages),
            }
            for entry in self.rounds
        ]
        return {
            "fields": self.n_fields,
            "cells": self.n_cells,
            "setting": dict(self.setting),
            "medians": medians,
            "agreement": None if self.agreement is None else dict(self.agreement),
            "rounds": rounds,
        }


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """A whole command in its own process: number of images, wall-clock seconds, peak memory."""

    n_fields: int
    wall_s: float
    peak_megabytes: float


def resized_bundle(bundle: Bundle, long_side_px: int, long_side_um: float, crop_px: int) -> Bundle:
    """Return ``bundle`` with a segmenter input of ``long_side_px`` for images ``long_side_um`` long, and other crops.

    For timing only: its networks were not trained at these sizes.
    """
    um_per_px = long_side_um / long_side_px
    spec = bundle.spec.model_copy(
        update={
            "segmenter": bundle.spec.segmenter.model_copy(update={"um_per_px": um_per_px}),
            "crop": bundle.spec.crop.model_copy(update={"size_px": crop_px}),
        }
    )
    return replace(bundle, spec=spec)


def measure_speed(
    paths: Sequence[Path],
    bundle: Bundle,
    config: PredictConfig,
    *,
    rounds: int = 3,
    other: Sequence[str] = (),
    on_progress: Callable[[str], None] = lambda _words: None,
) -> SpeedResult:
    """Measure ``rounds`` rounds on the images in ``paths``.

    ``other`` is the command of another pipeline: each round calls it with ``--contours FILE``; it prints JSON with
    ``seconds`` and writes its contours by image path.
    """
    inputs = collect_inputs(paths)
    alone = Worker(bundle, config)  # whose networks run by themselves
    shapes = _input_shapes(alone, inputs.images)
    measured: list[Round] = []
    with (
        tempfile.TemporaryDirectory(prefix="marrowscope-bench-") as scratch,
        open_worker(bundle, config, len(inputs.images)) as worker,
    ):
        for images in (inputs.images[:_WARM_UP], inputs.images[: _WARM_UP * worker.n_threads]):
            for _ in worker.find(images):
                pass
        _networks_alone(alone, shapes, len(alone.blank_batch()))
        run, contours_file = Path(scratch) / "run", Path(scratch) / "contours.json"
        for number in range(1, rounds + 1):
            worker.clock.reset()
            started = time.perf_counter(), time.process_time()
            prediction = predict(paths, bundle, run, config=config, overwrite=True, worker=worker, keep_copies=True)
            whole = _since(*started)
            stages = worker.clock.seconds()
            whole = replace(whole, cpu_s=whole.cpu_s + stages.pop(PROCESSOR, 0.0))
            networks = _networks_alone(alone, shapes, prediction.manifest.counts.cells)
            other_s = _run_other(other, contours_file) if other else None
            measured.append(Round(whole, networks, stages, other_s))
            words = f"round {number} of {rounds}: {whole.wall_s:.1f} s, networks alone {networks.wall_s:.1f} s"
            on_progress(words + (f", the other {other_s:.1f} s" if other_s is not None else ""))
        agreement = None
        if other:
            theirs = json.loads(contours_file.read_text(encoding="utf-8"))
            agreement = agree(_contours_by_path(prediction.cells, prediction.fields), theirs)
    setting = {
        "backend": worker.backend,
        "device": worker.device,
        "precision": worker.precision,
        "processes": worker.n_threads if isinstance(worker, WorkerPool) else 1,
        "threads": 1 if isinstance(worker, WorkerPool) else worker.n_threads,
        "morphology": config.morphology,
        "segmenter_um_per_px": bundle.spec.segmenter.um_per_px,
        "crop_px": bundle.spec.crop.size_px,
        "members": len(bundle.classifier_files),
    }
    return SpeedResult(
        len(inputs.images), prediction.manifest.counts.cells, setting, tuple(measured), agreement=agreement
    )


def _input_shapes(worker: Worker, images: Iterable[InputImage]) -> Counter[tuple[int, ...]]:
    """Count the input shapes (1, h, w, 3) of the segmenter for ``images``, without unreadable ones."""
    found: Counter[tuple[int, ...]] = Counter()
    for item in images:
        try:
            field = worker.read(item)
        except ImageError:
            continue
        found[letterbox(field.pixels, field.pixels_um_per_px, worker.finder.segmenter.config)[0].shape] += 1
    return found


def _networks_alone(worker: Worker, shapes: Counter[tuple[int, ...]], n_cells: int) -> Took:
    """Run the networks as often as a prediction does, in the same order and from as many threads, and nothing else."""
    images = {shape: np.full(shape, 128, dtype=np.uint8) for shape in shapes}
    crops = worker.blank_batch()
    canvases = list(shapes.elements())
    n_batches = -(-n_cells // len(crops))
    with ThreadPoolExecutor(worker.n_threads) as pool:
        started = time.perf_counter(), time.process_time()
        running: list[Future[Any]] = []
        for index, shape in enumerate(canvases, start=1):
            running.append(pool.submit(worker.finder.segmenter.run, images[shape]))
            n_due = n_batches * index // len(canvases) - n_batches * (index - 1) // len(canvases)
            running += [pool.submit(worker.run_classifiers, crops) for _ in range(n_due)]
        for done in running:
            done.result()
        return _since(*started)


def measure_growth(
    paths: Sequence[Path], options: Sequence[str], sizes: Sequence[int], um_per_px: float
) -> list[GrowthPoint]:
    """Predict growing numbers of images, each with the whole command in its own process; images are repeated.

    The first size is measured twice and its first time dropped: files and compiled code are cold then.
    """
    images = [image.path for image in collect_inputs(paths).images]
    points = []
    with tempfile.TemporaryDirectory(prefix="marrowscope-bench-") as scratch:
        for number, size in enumerate([sizes[0], *sizes]):
            folder = Path(scratch) / f"{number}" / "patients"
            for index in range(size):
                source = images[index % len(images)]
                target = folder / f"P{index // 20:04}" / f"{index:05}{source.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source.resolve())
            command = [sys.executable, "-m", "marrowscope.cli.main", "predict", str(folder), "--no-report", "--json"]
            command += ["--keep-copies", "--out", str(folder.parent / "run"), "--um-per-px", str(um_per_px), *options]
            points.append(GrowthPoint(size, *_run_and_watch(command)))
    return points[1:]


def agree(ours: Mapping[str, Sequence[ContourArray]], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Match the cells of two pipelines at contour IoU 0.5: counts, share of either matched, mean IoU of the pairs."""
    n_ours = n_theirs = 0
    ious: list[float] = []
    for path, found in ours.items():
        others = [np.asarray(contour, dtype=np.float64).reshape(-1, 2) for contour in theirs.get(path, [])]
        pairs = match_contours(found, others).pairs
        ious += [pair.iou for pair in pairs]
        n_ours, n_theirs = n_ours + len(found), n_theirs + len(others)
    return {
        "cells": n_ours,
        "cells_other": n_theirs,
        "matched_share": len(ious) / n_ours if n_ours else float("nan"),
        "matched_share_other": len(ious) / n_theirs if n_theirs else float("nan"),
        "mean_iou": float(np.mean(ious)) if ious else float("nan"),
    }


def _contours_by_path(cells: pl.DataFrame, fields: pl.DataFrame) -> dict[str, list[ContourArray]]:
    path_of = dict(fields.select("field_id", "path").iter_rows())
    found: dict[str, list[ContourArray]] = {path: [] for path in path_of.values()}
    for field_id, points in cells.select("field_id", "contour_xy").iter_rows():
        found[path_of[field_id]].append(np.asarray(points, dtype=np.float64).reshape(-1, 2))
    return found


def _run_other(command: Sequence[str], contours_file: Path) -> float:
    """Run the other pipeline; returns the seconds it reports."""
    done = subprocess.run(  # noqa: S603 - the user's command
        [*command, "--contours", str(contours_file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        message = f"{' '.join(command)}: ended with {done.returncode} {last}, expected JSON; run it by itself"
        raise InputError(message)
    return float(json.loads(done.stdout[done.stdout.index("{") :])["seconds"])


_WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
raise SystemExit(done.returncode)
"""


def _run_and_watch(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; returns its wall-clock seconds and the peak memory of its largest process in MB (Linux, macOS).

    A small process watches: a child's peak starts at that of its parent.
    """
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"{' '.join(command)}: ended with {done.returncode} ({done.stderr[-300:]}); run it by itself"
        raise InputError(message)
    wall_s, peak = (float(word) for word in done.stdout.split())
    return wall_s, peak / (1e6 if sys.platform == "darwin" else 1e3)


def _since(wall: float, cpu: float) -> Took:
    return Took(time.perf_counter() - wall, time.process_time() - cpu)
