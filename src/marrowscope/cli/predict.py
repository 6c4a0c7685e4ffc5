"""`marrowscope predict`."""

from __future__ import annotations

import itertools
import json
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    from collections.abc import Mapping, Sequence

    from marrowscope.cohort.inputs import Inputs
    from marrowscope.cohort.shards import Block, Shard
    from marrowscope.report.problems import PatientProblem
    from marrowscope.runs.manifest import Manifest, RunCounts
    from marrowscope.runs.schemas import PatientRow

_EXIT_INCOMPLETE = 1
_LOOSE = "Of folders without patients.csv"


def _dated_run() -> Path:
    """Return a folder here with today's date that does not exist yet; an interrupted run of that name is continued."""
    name = f"marrowscope-run-{datetime.now().astimezone().date().isoformat()}"
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists())


def predict(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUTS", help="A cohort, patient folders, image files or slide files.")
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            default_factory=_dated_run,
            show_default="marrowscope-run-DATE, here",
            help="Folder for the run: new or empty, and outside INPUTS.",
        ),
    ],
    bundle: BundleOption = None,
    um_per_px: ScaleOption = None,
    specimen: Annotated[
        Literal["marrow", "blood"] | None,
        typer.Option(
            show_default="unknown",
            help="The specimen; reference ranges, M:E and blasts need it.",
            rich_help_panel=_LOOSE,
        ),
    ] = None,
    age_group: Annotated[
        Literal["adult", "child"] | None,
        typer.Option(
            show_default="unknown",
            help="The age group; reference ranges are for adults.",
            rich_help_panel=_LOOSE,
        ),
    ] = None,
    sex: Annotated[
        Literal["female", "male"] | None,
        typer.Option(show_default="unknown", help="The sex.", rich_help_panel=_LOOSE),
    ] = None,
    diagnosis: Annotated[
        str | None,
        typer.Option(metavar="<name>", show_default="unknown", help="The diagnosis given.", rich_help_panel=_LOOSE),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default="500 on a whole-slide image, all on a plain image",
            help="Cells to find per slide; 0: all.",
        ),
    ] = None,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    processes: ProcessesOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops per classifier batch.")] = 16,
    morphology: MorphologyOption = True,
    reference_ranges: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Reference ranges of adult marrow: wintrobe (12 men, 1944), theml, or a TOML file of your laboratory.",
        ),
    ] = "wintrobe",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Also write the report.")] = True,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="Also predict copies of a photograph, each as a separate image.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="<i/n>",
            show_default="all patients",
            help="Predict block i of n blocks of the patients, without a report; see `marrowscope merge`.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="<address>",
            show_default="this machine",
            help="Predict on the Ray cluster at this address (HOST:PORT, or auto); needs the extra `cluster`.",
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="With --ray: accept processors with different features; last digits may differ."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts and each patient's figures as JSON.")
    ] = False,
) -> None:
    """Predict the cells and the CBLC ratio of every patient in INPUTS.

    Writes fields.parquet, cells.parquet, patients.parquet, manifest.json and report/. A picture that is not predicted
    is named with the reason, all others are predicted, and the exit code is 1. To continue an interrupted prediction,
    run the same command again. A slide is read region by region, best regions first, until
    enough cells are found; each region becomes one image, and regions.parquet lists which were chosen and why.

    Example: marrowscope predict my-cohort --out runs/first
    """
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cli.addresses import mirror, saving, shown, stored_output
    from marrowscope.cli.predicted_patients import patient_figures, patient_rows, print_patients
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort.shards import Shard
    from marrowscope.cohort.stated import Stated
    from marrowscope.config import validate_config
    from marrowscope.predict import PredictConfig
    from marrowscope.predict import predict as run_prediction
    from marrowscope.runs.folder import refuse_run_folder

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
        "reference_ranges": reference_ranges,
    }
    config = validate_config(PredictConfig, values, where="marrowscope predict")
    _refuse_unfit(ray, {"--shard": shard, "--threads": threads, "--processes": processes}, mixed=mixed)
    block = None if shard is None else Shard.parse(shard)
    report = report and block is None
    stated = Stated(specimen=specimen, age_group=age_group, sex=sex, diagnosis=diagnosis)
    no_report: list[str] = []
    problems: list[PatientProblem] = []

    with progress_bar("Predicting images", enabled=not as_json) as advance:
        shared: dict[str, Any] = {
            "config": config,
            "overwrite": overwrite,
            "command": ["marrowscope", *sys.argv[1:]],
            "progress": saving(advance),
            "finish": partial(_write_report, problems, no_report) if report else None,
            "keep_copies": keep_copies,
            "stated": stated,
        }
        if ray is None:
            found: Sequence[Path] | Inputs | Block = inputs
            if (store := mirror()) is not None:
                refuse_run_folder(out, overwrite=overwrite)  # before anything is fetched
                found = store.inputs(inputs, stated=stated, shard=block)
            prediction = run_prediction(found, bundle_path(bundle), out, shard=block, **shared)
        else:
            from marrowscope.cluster.across import predict_across

            listed = inputs if (store := mirror()) is None else store.listed(inputs, stated=stated)
            there = stored_output()
            prediction = predict_across(
                listed, bundle, out, address=ray, mixed=mixed, say=_warn, stored=there, **shared
            )
    for reason in no_report:
        report = False
        _warn(f"No report: {reason}")
    counts = prediction.manifest.counts
    if prediction.manifest.images_resumed:
        resumed = count_of(prediction.manifest.images_resumed, "image")
        _warn(f"Continued an interrupted prediction: {resumed} already predicted.")
    rows = [] if block else patient_rows(prediction)  # a shard has no figures yet: others may have its images too
    if as_json:
        figures = patient_figures(rows)
        typer.echo(json.dumps(counts.model_dump(mode="json") | {"run": shown(out), "by_patient": figures}, indent=2))
    else:
        if block is None:
            print_patients(rows)
        _print_counts(counts, rows, has_figures=block is None)
        typer.echo(f"Report: {shown(out / 'report' / 'index.html')}" if report else f"Tables: {shown(out)}")
    _print_remarks(prediction.manifest, rows, problems, block)
    if counts.images_failed or counts.left_out or problems:
        raise typer.Exit(_EXIT_INCOMPLETE)


def _warn(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _write_report(problems: list[PatientProblem], no_report: list[str], folder: Path) -> None:
    """Write the report into the run before it is in its place: a call killed here goes on when made again."""
    from marrowscope.cli.addresses import in_addresses, mirror
    from marrowscope.disk import note_exit_code
    from marrowscope.errors import RunError
    from marrowscope.report import write_report

    store = mirror()
    try:
        pictures = None if store is None else store.pictures_of(folder)
        write_report(folder, workers=2, on_problem=problems.append, images_root=pictures)
        if problems:
            note_exit_code(folder, _EXIT_INCOMPLETE)
    except RunError as error:  # the run is whole: its tables stand, and what hinders the report is said
        no_report.append(in_addresses(str(error)))


def _refuse_unfit(ray: str | None, others: Mapping[str, object], *, mixed: bool) -> None:
    """Raise ConfigError for options that do not go together with --ray, or without it."""
    from marrowscope.errors import ConfigError

    given = [name for name, value in others.items() if value is not None]
    if ray is not None and given:
        message = f"found --ray with {given[0]}, expected one of them; the cluster's slots decide, leave {given[0]} out"
        raise ConfigError(message)
    if ray is None and mixed:
        message = "found --mixed without --ray, expected both; shards are put together with `marrowscope merge --mixed`"
        raise ConfigError(message)


def _print_remarks(
    manifest: Manifest, rows: Sequence[PatientRow], problems: Sequence[PatientProblem], block: Shard | None
) -> None:
    """Print on standard error what a reader of the figures has to know."""
    from marrowscope.cli.predicted_patients import specimen_remark

    if block is not None:
        typer.echo(f"Shard {block}: put all {block.of} together with `marrowscope merge`.", err=True)
    if manifest.bundle.demonstration:
        typer.echo(
            "Demonstration models, trained mostly on simulated cells, not for real smears; see --bundle.", err=True
        )
    remarks = [f"Input: {fault}" for fault in manifest.faults]
    remarks += specimen_remark(rows)
    remarks += [f"Not predicted: {failure.error}" for failure in manifest.failures]
    remarks += [f"Incomplete in the report: {problem.sentence()}" for problem in problems]
    for remark in remarks:
        typer.echo(remark, err=True)


def _print_counts(counts: RunCounts, rows: Sequence[PatientRow], *, has_figures: bool) -> None:
    """Print the sums of a run in one line, and how many patients have no ratio."""
    patients, images = count_of(counts.patients, "patient"), count_of(counts.images_read, "image")
    rejected = count_of(sum(counts.rejected.values()), "contour")
    # A sum over patients of whom one is out of depth would give its count away.
    n_out_of_depth = sum(row.state == "out_of_depth" for row in rows)
    called = f"{counts.cblc} CBLC of " if has_figures and not n_out_of_depth else ""
    typer.echo(
        f"{count_of(counts.cells, 'cell')} from {patients} in {images}: "
        f"{called}{counts.countable} countable; {rejected} rejected."
    )
    if n_out_of_depth:
        typer.echo(f"Out of depth, without a ratio: {count_of(n_out_of_depth, 'patient')}; the report says why.")
