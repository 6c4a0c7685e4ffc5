"""``marrowscope bench``: measure how fast parts of the program run on this machine."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.bench_predict import predict
from marrowscope.cli.command import add_command

if TYPE_CHECKING:
    from marrowscope.train.training_speed import BenchResult, Pairs

app = typer.Typer(name="bench", no_args_is_help=True, help="Measure how fast parts of the program run on this machine.")


def train(
    crops: Annotated[
        Path | None,
        typer.Argument(metavar="CROPS", show_default="random crops", help="Crop set written by `prepare`."),
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option(show_default="none", help="TOML file with settings of ClassifierConfig.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, show_default="5, or 50 on CUDA", help="Steps per side and round.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; the median ratio is reported.")] = 3,
    workers: Annotated[
        list[int] | None,
        typer.Option(min=0, show_default="0, 1 and 2", help="Number of workers to try; repeat for several."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, show_default="2, or as in --config", help="CPU threads for the network.")
    ] = None,
    with_compile: Annotated[
        bool, typer.Option("--compile", help="Also try torch.compile; compiling takes minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rounds as JSON.")] = False,
) -> None:
    """Measure classifier training: several variants of the model step alone, then the whole training loop.

    The loop also reads, augments and transfers every batch; a ratio of 0.9 or more means that the device is kept busy.
    Each ratio compares times from the same round, so that a busy machine does not distort it.

    Example: marrowscope bench train crops/ --steps 10 --workers 0 --workers 4
    """
    from tempfile import TemporaryDirectory

    from marrowscope.config import load_config
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.crop_set import open_crop_set
    from marrowscope.train.random_crops import write_random_crops
    from marrowscope.train.training_speed import bench_training
    from marrowscope.vocabulary import load_vocabulary

    settings = load_config(ClassifierConfig, config, {"threads": threads})
    vocabulary = load_vocabulary()
    with ExitStack() as stack:
        if crops is None:
            folder = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))  # files may be mapped
            crops = write_random_crops(folder, list(vocabulary.codes), n=max(512, 2 * settings.batch_size))
        result = bench_training(
            open_crop_set(crops, vocabulary),
            settings,
            n_steps=steps,
            rounds=rounds,
            workers=workers or (0, 1, 2),
            with_compile=with_compile,
            on_progress=lambda words: typer.echo(words, err=True),
        )
    if as_json:
        typer.echo(json.dumps(_as_json(result), indent=2))
        return
    _print_tables(result)


def _as_json(result: BenchResult) -> dict[str, object]:
    """Return all measurements and their medians."""
    import dataclasses

    def rounds(pairs: Pairs) -> dict[str, object]:
        return {
            "name": pairs.name,
            "crops_per_second": pairs.crops_per_second,
            "ratio": pairs.ratio,
            "ratios": pairs.ratios,
            "seconds": [seconds._asdict() for seconds in pairs.own],
            "reference_seconds": [seconds._asdict() for seconds in pairs.reference],
            "ratios_of": "cpu" if pairs.in_process else "wall",
        }

    values = {name: value for name, value in dataclasses.asdict(result).items() if name not in {"steps", "loops"}}
    return values | {"steps": [rounds(pairs) for pairs in result.steps], "loops": [rounds(p) for p in result.loops]}


def _print_tables(result: BenchResult) -> None:
    """Print one table for the steps and one for the loops."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100)
    for title, rows, reference in (
        ("Step alone", result.steps, "the first"),
        ("Whole loop", result.loops, "the step alone"),
    ):
        table = Table("", "crops/s", f"relative to {reference}", "range", title=title, title_justify="left")
        for pairs in rows:
            low, high = min(pairs.ratios), max(pairs.ratios)
            table.add_row(pairs.name, f"{pairs.crops_per_second:.1f}", f"{pairs.ratio:.3f}", f"{low:.3f}-{high:.3f}")
        console.print(table)
    typer.echo(
        f"{result.device}; batch size {result.batch_size}; one core reads and augments "
        f"{result.pipeline_crops_per_cpu_second:.0f} crops/s"
    )


add_command(app, predict)
add_command(app, train, trains=True)
