"""`marrowscope reproduce`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import MAX_SEED

if TYPE_CHECKING:
    from marrowscope.studies.reproduce.plan import Plan

_EXIT_BELOW_PROBE = 1


class PresetName(StrEnum):
    """Size of the study."""

    QUICK = "quick"
    PAPER = "paper"


class Device(StrEnum):
    """Device that trains the classifiers."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def reproduce(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the study; an interrupted study continues.")],
    *,
    preset: Annotated[
        PresetName, typer.Option(help="quick: minutes on two cores; paper: 258 patients, all networks trained.")
    ] = PresetName.QUICK,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_SEED,
            show_default="the preset's",
            help="Random seed; another seed gives other patients and folds.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes for the simulation.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for training.")] = 2,
    device: Annotated[Device, typer.Option(help="Device that trains the classifiers.")] = Device.AUTO,
    plan: Annotated[bool, typer.Option("--plan", help="Print how long it will take, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json (with --plan: the plan).")] = False,
) -> None:
    """Repeat the paper's study on simulated patients: six centers, two-stage cross-fit, ensemble, external centers.

    First estimates how long it will take, from a short measurement on this machine. To continue an interrupted study,
    run the same command again. Writes table.md, table.csv and summary.json; exits with code 1 if the ensemble does not
    beat the color-and-shape probe on every external center.

    Example: marrowscope reproduce --preset quick --out reproduction
    """
    import json

    from marrowscope.cli.progress import staged_progress
    from marrowscope.studies.reproduce import PRESETS
    from marrowscope.studies.reproduce.plan import Machine
    from marrowscope.studies.reproduce.study import plan_study
    from marrowscope.studies.reproduce.study import reproduce as run_study

    chosen = PRESETS[preset.value].with_seed(seed)
    machine = Machine(workers=workers, threads=threads, device=device.value)
    if plan:
        planned = plan_study(out, chosen, machine)
        if as_json:
            typer.echo(json.dumps(planned.as_json(), indent=2))
        else:
            _print_plan(planned, planned.seconds)
        return
    with staged_progress(enabled=not as_json) as advance:
        result = run_study(
            out,
            chosen,
            machine,
            command=["marrowscope", *sys.argv[1:]],
            on_plan=None if as_json else _print_plan,
            progress=advance,
        )
    if as_json:
        typer.echo((out / "summary.json").read_text(encoding="utf-8"))
    else:
        typer.echo((out / "table.md").read_text(encoding="utf-8"))
        minutes = sum(result.seconds.values()) / 60
        typer.echo(f"Took {minutes:.1f} minutes, {result.plan.seconds / 60:.1f} expected. Written: {out / 'table.md'}")
    if not result.comparison.beats_probe:
        typer.echo("The ensemble does not beat the color-and-shape probe on every external center.", err=True)
        raise typer.Exit(_EXIT_BELOW_PROBE)


def _print_plan(plan: Plan, seconds_left: float) -> None:
    """Print the steps with their minutes on standard error, since the table goes to standard output."""
    for step in plan.steps:
        typer.echo(f"{step.seconds / 60:8.1f} min  {step.title}", err=True)
    typer.echo(
        f"{plan.seconds / 60:8.1f} min  in total, {seconds_left / 60:.1f} left; {plan.disk_gb:.1f} GB on disk", err=True
    )
