"""`marrowscope predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.scale_option import parse_um_per_px

_EXIT_INCOMPLETE = 1


def predict(
    inputs: Annotated[list[Path], typer.Argument(help="A cohort, patient folders, image files or slides.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; must be new or empty.")],
    *,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Model bundle; default: demonstration.")] = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(parser=parse_um_per_px, metavar="FLOAT", help="Micrometers per pixel of images that state none."),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Cells to read of a slide; 0: all. Default: 500 of a whole-slide image, all of a plain one.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, or a device of the backend (see `marrowscope doctor`).")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto: the fastest that passed the bundle's accuracy gate; or f32, bf16, f16, int8.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; default: all this process may use.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes with a core each; default: one a core for 300 images or more.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops classified at once.")] = 16,
    morphology: Annotated[
        bool, typer.Option("--morphology/--no-morphology", help="Measure each cell; a fifth of the time.")
    ] = True,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the report too.")] = True,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="Predict copies of a photograph too, each as an image of its own.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's counts as JSON.")] = False,
) -> None:
    """Predict the cells and the CBLC ratio of every patient behind INPUTS.

    Writes fields.parquet, cells.parquet, patients.parquet, manifest.json and report/. An image that cannot be read,
    or that belongs to no patient, is recorded, the rest is predicted, and the exit code is 1. A call that was stopped
    goes on where it was when the same one is made again. A slide is read in its best regions, each of which is an
    image, until they hold the wanted number of cells; regions.parquet says which and why.

    Example: marrowscope predict my-cohort --out runs/first
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.config import validate_config
    from marrowscope.predict import PredictConfig
    from marrowscope.predict import predict as run_prediction
    from marrowscope.studies.demo import demonstration_bundle

    values = {
        "um_per_px": um_per_px,
        "cells": cells,
        "backend": backend,
        "device": device,
        "precision": precision,
        "threads": threads,
        "processes": processes,
        "batch_size": batch_size,
        "morphology": morphology,
    }
    config = validate_config(PredictConfig, values, where="marrowscope predict")
    with progress_bar("Predicting images", enabled=not as_json) as advance:
        prediction = run_prediction(
            inputs,
            bundle or demonstration_bundle(),
            out,
            config=config,
            overwrite=overwrite,
            command=["marrowscope", *sys.argv[1:]],
            progress=advance,
            keep_copies=keep_copies,
        )
    if report:
        from marrowscope.errors import RunError
        from marrowscope.report import write_report

        try:
            write_report(out, workers=2)
        except RunError as error:  # the run is whole: its tables stand, and what hinders the report is said
            report = False
            typer.echo(f"No report: {error}", err=True)
    counts = prediction.manifest.counts
    if prediction.manifest.images_resumed:
        resumed = _counted(prediction.manifest.images_resumed, "image")
        typer.echo(f"Went on with an earlier call: {resumed} had been predicted.", err=True)
    if as_json:
        typer.echo(counts.model_dump_json(indent=2))
    else:
        patients, images = _counted(counts.patients, "patient"), _counted(counts.images_read, "image")
        rejected = _counted(sum(counts.rejected.values()), "contour")
        typer.echo(
            f"{_counted(counts.cells, 'cell')} of {patients} in {images}: "
            f"{counts.cblc} CBLC of {counts.countable} countable; {rejected} rejected."
        )
        typer.echo(f"Report: {out / 'report' / 'index.html'}" if report else f"Tables: {out}")
    if prediction.manifest.bundle.demonstration:
        typer.echo(
            "Demonstration models, trained mostly on simulated cells: not for real smears. See --bundle.", err=True
        )
    for fault in prediction.manifest.faults:
        typer.echo(f"Input: {fault}", err=True)
    for failure in prediction.manifest.failures:
        typer.echo(f"Not predicted: {failure.error}", err=True)
    if counts.images_failed or counts.left_out:
        raise typer.Exit(_EXIT_INCOMPLETE)


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
