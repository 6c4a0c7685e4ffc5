"""`marrowscope demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from marrowscope.studies.demo import Demonstration


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page, the runs and the cohort.")] = Path(
        "marrowscope-demo"
    ),
    *,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; another seed gives other simulated cells and another ground truth.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes for the simulation.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demonstration.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Predict two pseudo-patients of real cells and six simulated patients, and show them on one page.

    The real cells are photographs inside the package, from bone marrow and blood; each call stands beside the expert's
    label. The simulated patients' ratios stand beside the exact ones. Nothing here says how marrowscope does in another
    hospital.

    Example: marrowscope demo --seed 7 --out demo-7
    """
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
        typer.echo(json.dumps(_as_json(result), indent=2))
        return
    _print_real(result)
    _print_simulated(result)
    typer.echo(f"Page: {result.page}")
    typer.echo(f"Report of the real cells: {result.real_report}")
    typer.echo(f"Report of the simulated patients: {result.report}")
    typer.echo(
        f"To correct and sign these cells (with the extra `review`): marrowscope review {result.real_report.parents[1]}"
    )


def _as_json(result: Demonstration) -> dict[str, Any]:
    import dataclasses

    from marrowscope.evaluate.labeled_cells import LabeledPatient
    from marrowscope.studies.real_patients import SOURCES

    simulated = [dataclasses.asdict(patient) | {"true_ratio": patient.true_ratio} for patient in result.patients]
    names = [item.name for item in dataclasses.fields(LabeledPatient) if item.name != "cells"]
    real = [
        {name: getattr(patient, name) for name in names} | {"source": SOURCES[patient.center].citation}
        for patient in result.real_patients
    ]
    return {
        "page": str(result.page),
        "real_report": str(result.real_report),
        "real_patients": real,
        "simulated_only": list(result.simulated_only),
        "report": str(result.report),
        "patients": simulated,
    }


def _print_real(result: Demonstration) -> None:
    """Print the real pseudo-patients, one row each."""
    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.report.cohort_page import learned_alone
    from marrowscope.report.strings import load_strings
    from marrowscope.studies.real_patients import SOURCES

    table = new_table(
        "patient",
        "source",
        "cells found of labeled",
        "category right",
        "CBLC right",
        "called CBLC of countable",
        title="Real cells, beside the experts' labels",
    )
    for patient in result.real_patients:
        counted = f"{patient.n_cblc} of {patient.n_countable}"
        table.add_row(
            patient.patient_id,
            SOURCES[patient.center].place,
            f"{patient.n_found} of {patient.n_labeled}",
            f"{patient.n_category_right} of {patient.n_found}",
            f"{patient.n_cblc_right} of {patient.n_cblc_stated}",
            "no ratio: out of depth" if patient.state == "out_of_depth" else counted,
        )
    print_table(table)
    typer.echo(
        "Photographs of single cells, put together to pseudo-patients that mix donors. A coarse label counts as right "
        "where the call lies in its set. Nothing here says how marrowscope does in another hospital."
    )
    if result.simulated_only:
        typer.echo(learned_alone(result.simulated_only, load_strings()))
    typer.echo()


def _print_simulated(result: Demonstration) -> None:
    """Print the simulated patients, one row each, and on whom the threshold of their calls was learned."""
    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.report.demo_page import threshold_words
    from marrowscope.report.words import load_words

    table = new_table(
        "patient",
        "center",
        "diagnosis",
        "CBLC of countable",
        "corrected (95% interval)",
        "exact ratio",
        "call",
        title="Simulated patients, beside the exact ratio",
    )
    words = load_words()
    for patient in result.patients:
        corrected = (
            "no corrected ratio"
            if patient.corrected is None
            else f"{words.interval(patient.lower, patient.upper)}, no single ratio"
            if patient.interval_is_wide
            else f"{words.percent(patient.corrected)} ({words.interval(patient.lower, patient.upper)})"
        )
        counted = "out of depth" if patient.n_cblc is None else f"{patient.n_cblc} of {patient.n_countable}"
        table.add_row(
            patient.patient_id,
            patient.center,
            patient.diagnosis,
            counted if patient.ratio is None else f"{counted} = {words.percent(patient.ratio)}",
            corrected,
            words.percent(patient.true_ratio),
            patient.call or "none",
        )
    print_table(table)
    typer.echo(
        "Corrected for the classifier's errors; the interval is for these fields. For research use, not a diagnosis."
    )
    if learned := threshold_words(result.patients, words):
        typer.echo(learned)
