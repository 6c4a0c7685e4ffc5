"""`marrowscope precision`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import BackendOption, BootstrapSeedOption, DeviceOption, ScaleOption, ThreadsOption
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.bundle.precisions import PrecisionGate


class Lowered(StrEnum):
    """Precisions below f32, as in ``bundle.precisions.FASTEST_FIRST``."""

    BF16 = "bf16"
    BF16_SEGMENTER = "bf16-segmenter"
    F16 = "f16"


def precision(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Model bundle to measure, or default or demo.")],
    cohorts: Annotated[
        list[Path],
        typer.Argument(metavar="COHORTS", help="Annotated cohorts of held-out patients, whom the networks never saw."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    *,
    precision: Annotated[
        list[Lowered] | None,
        typer.Option(
            "--precision",
            show_default="all that the device supports",
            help="Precision to measure against f32; repeat for several. bf16-segmenter keeps the classifiers in f32.",
        ),
    ] = None,
    um_per_px: ScaleOption = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    seed: BootstrapSeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle in --out.")] = False,
) -> None:
    """Measure on COHORTS what a precision below float32 changes, and write a bundle that records it.

    A precision passes the gate if CBLC weighted F1 and the mean error of the CBLC ratio change by less than 0.002 in
    every center. With the new bundle, `predict` uses it by default on processors that support it.

    Example: marrowscope precision bundle annotated-cohort --out bundle-measured
    """
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cli.progress import progress_bar
    from marrowscope.config import validate_config
    from marrowscope.evaluate import EvaluateConfig
    from marrowscope.predict import PredictConfig
    from marrowscope.studies.precision_gate import measure_precisions

    values = {"um_per_px": um_per_px, "backend": backend, "device": device, "threads": threads}
    config = validate_config(PredictConfig, values, where="marrowscope precision")
    evaluation = EvaluateConfig(seed=seed)
    with progress_bar("Predicting images") as advance:
        written = measure_precisions(
            bundle_path(bundle), cohorts, out, precisions=[lowered.value for lowered in precision or ()], config=config,
            evaluation=evaluation, overwrite=overwrite, progress=advance,
        )  # fmt: skip
    for name, gate in written.spec.precisions.items():
        _print_gate(name, gate)
    typer.echo(f"Bundle: {out}")


def _print_gate(name: str, gate: PrecisionGate) -> None:
    """Print one gate: one row per center, and the verdict."""
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table

    table = new_table(
        "center", "CBLC weighted F1", "change", "ratio MAE", "change", title=f"{name} against f32: change, 95% interval"
    )
    for center, change in gate.centers.items():
        table.add_row(
            escape(f"{center}\n{count_of(change.n_patients, 'patient')}, {count_of(change.n_cells, 'cell')}"),
            f"{change.cblc_weighted_f1:.4f}",
            f"{gate.shown(change.cblc_weighted_f1_change)}\n{_limits(change.cblc_weighted_f1_interval)}",
            f"{change.ratio_mae:.4f}",
            f"{gate.shown(change.ratio_mae_change)}\n{_limits(change.ratio_mae_interval)}",
        )
    print_table(table)
    typer.echo(f"{name}: {gate.sentence()}.")


def _limits(interval: tuple[float, float] | None) -> str:
    return "no interval" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
