"""`marrowscope demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the cohort, the run and the report.")] = Path(
        "marrowscope-demo"
    ),
    *,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; another seed gives other cells and another ground truth.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes for the simulation.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demonstration.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Simulate six patients from two centers, predict them and write the report.

    Prints each patient's predicted CBLC ratio next to the exact simulated one. The images are simulated and the models
    are for demonstration: the figures show that the pipeline works, not how well it does on a laboratory's own smears.

    Example: marrowscope demo --seed 7 --out demo-7
    """
    import dataclasses
    import json

    from marrowscope.cli.progress import staged_progress
    from marrowscope.studies.demo import run_demo

    with staged_progress(enabled=not as_json) as advance:
        result = run_demo(
            out,
            seed=seed,
            workers=workers,
            overwrite=overwrite,
            command=["marrowscope", *sys.argv[1:]],
            progress=advance,
        )
    if as_json:
        patients = [dataclasses.asdict(patient) | {"true_ratio": patient.true_ratio} for patient in result.patients]
        typer.echo(json.dumps({"report": str(result.report), "patients": patients}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "patient", "center", "diagnosis", "CBLC of countable", "corrected (95% interval)", "exact ratio", "call"
    )
    for patient in result.patients:
        corrected = (
            "no corrected ratio"
            if patient.corrected is None
            else f"{patient.corrected:.3f} ({patient.lower:.3f}-{patient.upper:.3f})"
        )
        is_withheld = patient.ratio is None and patient.n_countable > 0
        counted = "out of depth" if is_withheld else f"{patient.n_cblc} of {patient.n_countable}"
        table.add_row(
            patient.patient_id,
            patient.center,
            patient.diagnosis,
            counted if patient.ratio is None else f"{counted} = {patient.ratio:.3f}",
            corrected,
            f"{patient.true_ratio:.3f}",
            patient.call or "none",
        )
    Console(width=120).print(table)
    typer.echo(
        "Corrected for the classifier's errors; the interval is for these fields. For research use, not a diagnosis."
    )
    typer.echo(f"Report: {result.report}")
