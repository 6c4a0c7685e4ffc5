"""`marrowscope simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Argument(help="New or empty folder for the cohort.")],
    *,
    patients: Annotated[int, typer.Option(help="Number of patients.")] = 6,
    centers: Annotated[
        int | None,
        typer.Option(help="Number of centers, each with its own stain, scale and camera (default: up to 2)."),
    ] = None,
    fields: Annotated[int, typer.Option(help="Minimum number of fields of view per patient.")] = 10,
    prefix: Annotated[
        str, typer.Option(help="Patients are PREFIX0001 and so on; cohorts used together need different prefixes.")
    ] = "P",
    seed: Annotated[int, typer.Option(help="Random seed for every cell, style and differential.")] = 0,
    workers: Annotated[int, typer.Option(help="Number of processes; does not change the result.")] = 1,
    min_cells: Annotated[
        int, typer.Option(help="Add fields, up to twice --fields, until each patient has this many annotated cells.")
    ] = 0,
    composition: Annotated[
        str,
        typer.Option(
            help="differential: typical of the diagnosis; balanced: all codes about equally often, for training."
        ),
    ] = "differential",
    neighbors: Annotated[
        str,
        typer.Option(
            "--neighbors",
            "--neighbours",
            help="islands: as in real smears. The others place the same cells in rows, with composite blast-like cells "
            "next to each other (correlated), at random (independent), or next to other cells (reversed).",
        ),
    ] = "islands",
    diagnosis: Annotated[
        list[str] | None, typer.Option(help="Diagnosis to give to the patients; repeat for several, used in turn.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier simulated cohort.")] = False,
) -> None:
    """Simulate a cohort of smears with exact ground truth: images, LabelMe polygons and tables of every cell.

    To continue an interrupted simulation, run the same command again.

    Example: marrowscope simulate cohort --patients 12 --centers 3 --fields 10 --seed 1 --workers 2
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.config import validate_config
    from marrowscope.simulate import SimulationConfig, simulate_cohort

    values = {
        "patients": patients,
        "centers": min(2, patients) if centers is None else centers,
        "fields": fields,
        "prefix": prefix,
        "seed": seed,
        "workers": workers,
        "min_cells": min_cells,
        "composition": composition,
        "neighbors": neighbors,
        "diagnoses": tuple(diagnosis or ()),
    }
    config = validate_config(SimulationConfig, values, "simulate")
    with progress_bar("Simulating patients") as advance:
        n_kept = simulate_cohort(out, config, progress=advance, overwrite=overwrite)
    if n_kept:
        typer.echo(f"Continued an interrupted simulation: {n_kept} of {patients} patients already drawn.", err=True)
    typer.echo(
        f"Cohort of {patients} patients from {config.centers} centers, ground truth in truth_cells.parquet: {out}"
    )
