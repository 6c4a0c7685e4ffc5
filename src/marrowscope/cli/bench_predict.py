"""``marrowscope bench predict``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import (
    BackendOption,
    BundleOption,
    DeviceOption,
    MorphologyOption,
    PrecisionOption,
    ProcessesOption,
    ScaleOption,
    ThreadsOption,
)
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.studies.prediction_speed import GrowthPoint, SpeedResult

_GROWTH = (50, 200, 800)
_COLD = 1


def predict(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUTS", show_default="a simulated cohort", help="A cohort, folders or images."),
    ] = None,
    *,
    bundle: BundleOption = None,
    fields: Annotated[
        int, typer.Option(min=1, help="Number of images to predict: the first of INPUTS, or simulated ones.")
    ] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; median ratios are reported.")] = 3,
    um_per_px: ScaleOption = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32, show_default="the bundle's", help="Long side of the segmenter's input; needs --crop-size."
        ),
    ] = None,
    crop_size: Annotated[
        int | None,
        typer.Option(
            min=16, show_default="the bundle's", help="Side of a crop; needs --image-size. Only the timings are valid."
        ),
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    processes: ProcessesOption = None,
    morphology: MorphologyOption = True,
    other: Annotated[
        str | None,
        typer.Option(
            show_default="none",
            help="Pipeline script to compare with, and its options, such as benchmarks/usual_pipeline.py.",
        ),
    ] = None,
    other_size: Annotated[
        tuple[int, int], typer.Option(metavar="<image px> <crop px>", help="Image and crop size of --other.")
    ] = (
        640,
        128,
    ),
    growth: Annotated[bool, typer.Option("--growth", help="Also predict 1, 50, 200 and 800 images.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rounds as JSON.")] = False,
) -> None:
    """Measure prediction speed: in total, by stage, relative to its networks alone, and against another pipeline.

    Each ratio compares times from the same round. `--growth` runs the whole command in separate processes, to show its
    startup time and how time and memory grow with the number of images.

    Example: marrowscope bench predict my-cohort --fields 60 --other benchmarks/usual_pipeline.py
    """
    import shlex
    import sys
    from tempfile import TemporaryDirectory

    from marrowscope.bundle import load_bundle
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cohort.inputs import collect_inputs
    from marrowscope.config import validate_config
    from marrowscope.errors import ConfigError
    from marrowscope.streaming.config import PredictConfig
    from marrowscope.studies.prediction_speed import measure_growth, measure_speed, resized_bundle

    if (image_size is None) != (crop_size is None):
        message = "found only one of --image-size and --crop-size, expected both or neither; add or remove one"
        raise ConfigError(message)
    opened = load_bundle(bundle_path(bundle))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="marrowscope-bench-")))
        folder = scratch / "images"
        scale = _link_images(inputs or [_simulated(scratch / "cohort", fields)], folder, fields, um_per_px)
        values = {
            "um_per_px": scale,
            "backend": backend,
            "device": device,
            "precision": precision,
            "threads": threads,
            "processes": processes,
            "morphology": morphology,
        }
        config = validate_config(PredictConfig, values, where="marrowscope bench predict")
        if image_size and crop_size:
            long_side = _long_side(collect_inputs([folder]).images[0].path)
            opened = resized_bundle(opened, image_size, long_side * scale, crop_size)
        command: list[str] = []
        if other:
            script, *given = shlex.split(other)
            command = [sys.executable, script, str(folder), "--json", *given]
            command += ["--image-size", str(other_size[0]), "--crop-size", str(other_size[1])]
        result = measure_speed(
            [folder],
            opened,
            config,
            rounds=rounds,
            other=command,
            on_progress=lambda words: typer.echo(words, err=True),
        )
        options = ["--backend", backend, "--device", device, "--precision", precision]
        options += ["--threads", str(threads)] if threads else []
        options += ["--processes", str(processes)] if processes else []
        options += ["--bundle", str(bundle)] if bundle else []
        options += [] if morphology else ["--no-morphology"]
        points = measure_growth([folder], options, (_COLD, *_GROWTH), scale) if growth else []
    if as_json:
        values = result.as_dict() | {
            "growth": [{"fields": p.n_fields, "wall_s": p.wall_s, "peak_megabytes": p.peak_megabytes} for p in points]
        }
        typer.echo(json.dumps(values, indent=2))
        return
    _print(result, points)


def _simulated(folder: Path, n_fields: int) -> Path:
    """Simulate a cohort of at least ``n_fields`` fields, 20 per patient."""
    from marrowscope.simulate import SimulationConfig, simulate_cohort

    per_patient = min(20, n_fields)
    n_patients = -(-n_fields // per_patient)
    simulate_cohort(
        folder, SimulationConfig(patients=n_patients, centers=min(6, n_patients), fields=per_patient, seed=5)
    )
    return folder


def _link_images(inputs: list[Path], folder: Path, n: int, um_per_px: float | None) -> float:
    """Link the first ``n`` images into one patient's folder and return their scale. Raises ScaleError without one."""
    from marrowscope.cohort.inputs import collect_inputs
    from marrowscope.imaging.scale import choose_scale, metadata_scale

    folder.mkdir()
    images = collect_inputs(inputs).images[:n]
    for index, image in enumerate(images):
        (folder / f"{index:05}{image.path.suffix}").symlink_to(image.path.resolve())
    image = images[0]
    return choose_scale(image.path, metadata_scale(image.path.read_bytes()), image.um_per_px, um_per_px)


def _long_side(path: Path) -> int:
    from marrowscope.imaging import read_image

    return int(max(read_image(path).shape[:2]))


def _print(result: SpeedResult, points: list[GrowthPoint]) -> None:
    """Print the measurements as two tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100)
    values = result.as_dict()
    console.print("  ".join(f"{name} {value}" for name, value in values["setting"].items()))
    table = Table(
        "",
        "median",
        "range",
        title=f"{count_of(result.n_fields, 'image')}, {count_of(result.n_cells, 'cell')}",
        title_justify="left",
    )
    rows = {
        "images/s": [result.n_fields / entry.whole.wall_s for entry in result.rounds],
        "cells/s": [result.n_cells / entry.whole.wall_s for entry in result.rounds],
        "CPU ms per image": [1e3 * entry.whole.cpu_s / result.n_fields for entry in result.rounds],
        "total time / networks alone": [entry.over_networks for entry in result.rounds],
        "the same, in CPU time": [entry.whole.cpu_s / entry.networks.cpu_s for entry in result.rounds],
        "other pipeline / ours": [entry.over_other for entry in result.rounds if entry.over_other is not None],
    }
    import statistics

    from marrowscope.studies.prediction_speed import STAGES

    for name, found in rows.items():
        if found:
            table.add_row(name, f"{statistics.median(found):.2f}", f"{min(found):.2f}-{max(found):.2f}")
    for stage in result.rounds[0].stages:
        found = [1e3 * entry.stages.get(stage, 0.0) / result.n_fields for entry in result.rounds]
        table.add_row(
            f"ms per image: {STAGES[stage]}", f"{statistics.median(found):.2f}", f"{min(found):.2f}-{max(found):.2f}"
        )
    console.print(table)
    if result.agreement:
        console.print("  ".join(f"{name} {value:.4g}" for name, value in result.agreement.items()))
    if points:
        table = Table("images", "seconds", "peak MB", title="The whole command, on its own", title_justify="left")
        for point in points:
            table.add_row(str(point.n_fields), f"{point.wall_s:.1f}", f"{point.peak_megabytes:.0f}")
        console.print(table)
