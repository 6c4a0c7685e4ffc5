"""`marrowscope simulate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.options import MAX_SEED
from marrowscope.wording import count_of


class Composition(StrEnum):
    """Which codes a patient's cells have."""

    DIFFERENTIAL = "differential"
    BALANCED = "balanced"


class Neighbors(StrEnum):
    """Which cells lie next to each other."""

    ISLANDS = "islands"
    CORRELATED = "correlated"
    INDEPENDENT = "independent"
    REVERSED = "reversed"


class Diagnosis(StrEnum):
    """Diagnoses of differentials.toml, listed here so that ``--help`` need not read it."""

    CONTROL = "control"
    REACTIVE_LEFTSHIFT = "reactive_leftshift"
    MEGALOBLASTIC = "megaloblastic"
    MDS_IB = "MDS-IB"
    AML_M1 = "AML_M1"
    AML_M2 = "AML_M2"
    APL = "APL"
    AML_M4 = "AML_M4"
    AML_M5A = "AML_M5a"
    AML_M5B = "AML_M5b"
    AEL = "AEL"
    AMKL = "AMKL"
    ALL_OOS = "ALL_oos"


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder for the cohort.")],
    *,
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 6,
    centers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="2, or 1 for a single patient",
            help="Number of centers, each with its own stain, scale and camera; at most --patients.",
        ),
    ] = None,
    fields: Annotated[int, typer.Option(min=1, help="Minimum number of fields of view per patient.")] = 10,
    prefix: Annotated[
        str, typer.Option(help="Patients are PREFIX0001 and so on; cohorts used together need different prefixes.")
    ] = "P",
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Random seed for every cell, style and differential.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes; does not change the result.")] = 1,
    min_cells: Annotated[
        int,
        typer.Option(min=0, help="Add fields, up to twice --fields, until each patient has this many annotated cells."),
    ] = 0,
    composition: Annotated[
        Composition,
        typer.Option(
            help="differential: typical of the diagnosis; balanced: all codes about equally often, for training."
        ),
    ] = Composition.DIFFERENTIAL,
    neighbors: Annotated[
        Neighbors,
        typer.Option(
            "--neighbors",
            "--neighbours",
            help="islands: as in real smears. The others place the same cells in rows, with composite blast-like cells "
            "next to each other (correlated), at random (independent), or next to other cells (reversed).",
        ),
    ] = Neighbors.ISLANDS,
    diagnosis: Annotated[
        list[Diagnosis] | None,
        typer.Option(
            show_default="drawn at random",
            help="Diagnosis to give to the patients; repeat for several, used in turn.",
        ),
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
        "composition": composition.value,
        "neighbors": neighbors.value,
        "diagnoses": tuple(name.value for name in diagnosis or ()),
    }
    config = validate_config(SimulationConfig, values, "marrowscope simulate")
    with progress_bar("Simulating patients") as advance:
        n_kept = simulate_cohort(out, config, progress=advance, overwrite=overwrite)
    if n_kept:
        typer.echo(f"Continued an interrupted simulation: {n_kept} of {patients} patients already drawn.", err=True)
    typer.echo(
        f"Cohort of {count_of(patients, 'patient')} from {count_of(config.centers, 'center')}, ground truth in "
        f"truth_cells.parquet: {out}"
    )
