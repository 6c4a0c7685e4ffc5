"""`marrowscope precision`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.scale_option import parse_um_per_px
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.bundle.precisions import PrecisionGate


def precision(
    bundle: Annotated[Path, typer.Argument(help="Model bundle to measure.")],
    cohorts: Annotated[
        list[Path], typer.Argument(help="Annotated cohorts of held-out patients, whom the networks never saw.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    *,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", help="bf16, f16 or int8; repeat for several (default: all that the device supports)."
        ),
    ] = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(
            parser=parse_um_per_px,
            metavar="FLOAT",
            help="Micrometers per pixel of images that do not state their scale.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, or a device of the backend (see `marrowscope doctor`).")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU cores to use (default: all available).")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed for the bootstrap over patients (default 0).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle in --out.")] = False,
) -> None:
    """Measure on COHORTS what a precision below float32 changes, and write a bundle that records it.

    A precision passes the gate if CBLC weighted F1 and the mean error of the CBLC ratio change by less than 0.002 in
    every center. With the new bundle, `predict` uses it by default on processors that support it.

    Example: marrowscope precision bundle annotated-cohort --out bundle-measured
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.config import validate_config
    from marrowscope.evaluate import EvaluateConfig
    from marrowscope.predict import PredictConfig
    from marrowscope.studies.precision_gate import measure_precisions

    values = {"um_per_px": um_per_px, "backend": backend, "device": device, "threads": threads}
    config = validate_config(PredictConfig, values, where="marrowscope precision")
    evaluation = EvaluateConfig() if seed is None else EvaluateConfig(seed=seed)
    with progress_bar("Predicting images") as advance:
        written = measure_precisions(
            bundle, cohorts, out, precisions=precision or (), config=config, evaluation=evaluation,
            overwrite=overwrite, progress=advance,
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
            f"{change.cblc_weighted_f1_change:+.4f}\n{_limits(change.cblc_weighted_f1_interval)}",
            f"{change.ratio_mae:.4f}",
            f"{change.ratio_mae_change:+.4f}\n{_limits(change.ratio_mae_interval)}",
        )
    print_table(table)
    typer.echo(f"{name}: {gate.sentence()}.")


def _limits(interval: tuple[float, float] | None) -> str:
    return "no interval" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
