"""``marrowscope cohort folds``: draw the folds of a cohort or crop set once, and refuse folds that leak."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.wording import count_of

if TYPE_CHECKING:
    import polars as pl

    from marrowscope.cohort.folds import Folds

_N_FOLDS = 5
CELLS_NAME = "cells.parquet"


class Scheme(StrEnum):
    """How the patients are divided."""

    PATIENT = "patient"
    CENTER = "center"


def folds(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCES", help="Cohorts, or crop sets written by `prepare`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Fold file to write (CSV).")],
    *,
    scheme: Annotated[
        Scheme, typer.Option(help="patient: folds balanced by center and diagnosis; center: one fold per center.")
    ] = Scheme.PATIENT,
    n_folds: Annotated[
        int | None,
        typer.Option("--folds", min=2, show_default=str(_N_FOLDS), help="Number of folds with --scheme patient."),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(
            show_default="none", help="Center whose patients stay out of every fold; repeat for several centers."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for assigning patients to folds.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Divide patients into folds for cross-fitting, and write a fold file that later trainings reuse.

    Folds with the same image on two sides, as an identical file or a near-duplicate, are refused and the images named.
    The same input and seed give the same file; an existing file with different folds is never replaced.

    Example: marrowscope cohort folds my-cohort --external C4 --external C5 --out folds.csv
    """
    import polars as pl

    from marrowscope.cohort.folds import check_folds, leave_one_center_out, make_folds, write_folds
    from marrowscope.errors import ConfigError

    if scheme is Scheme.CENTER and n_folds is not None:
        message = f"found --folds {n_folds} with --scheme center, expected none: every center is a fold; remove --folds"
        raise ConfigError(message)
    tables = [_read_source(source, quiet=as_json) for source in sources]
    patients = pl.concat([table for table, _ in tables])
    if scheme is Scheme.CENTER:
        drawn = leave_one_center_out(patients, external or ())
    else:
        drawn = make_folds(patients, n_folds or _N_FOLDS, seed, external or ())
    images = pl.concat([table for _, table in tables], how="diagonal")
    check_folds(images, drawn)
    new = write_folds(out, drawn, patients)
    n_unknown = images.filter(pl.col("image_dhash").is_null())["image_sha256"].n_unique()
    if as_json:
        typer.echo(json.dumps(_result(out, scheme, drawn, patients, n_unknown) | {"new": new}, ensure_ascii=False))
        return
    _print_counts(out, drawn, patients)
    if n_unknown:
        typer.echo(f"Not checked for near-duplicates, for lack of a fingerprint: {count_of(n_unknown, 'image')}.")
    typer.echo(f"{out}: {count_of(len(drawn), 'patient')}" + ("." if new else ", unchanged."))


def _read_source(source: Path, *, quiet: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the patients and the images of a cohort or a crop set."""
    from marrowscope.cohort.patients import PATIENTS_NAME
    from marrowscope.errors import InputError

    if (source / CELLS_NAME).is_file():
        return _read_crop_set(source)
    if not (source / PATIENTS_NAME).is_file():
        message = (
            f"{source}: found neither {PATIENTS_NAME} nor {CELLS_NAME}, expected a cohort or a crop set; "
            "choose another folder"
        )
        raise InputError(message)
    return _read_cohort(source, quiet=quiet)


def _read_crop_set(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    from marrowscope.errors import InputError
    from marrowscope.runs.parquet import readable

    patient_columns = ["patient_id", "center", "diagnosis"]
    image_columns = ["patient_id", "field_id", "image_sha256", "image_dhash"]
    path, advice = folder / CELLS_NAME, "make the crop set again with `marrowscope prepare`"
    with readable(path, InputError, advice, "cannot be read"):
        cells = pl.read_parquet(path, glob=False)
        if "image_dhash" not in cells.columns:  # crop sets of earlier versions
            cells = cells.with_columns(pl.lit(None, dtype=pl.String).alias("image_dhash"))
        return cells.select(patient_columns).unique(), cells.select(image_columns).unique()


def _read_cohort(root: Path, *, quiet: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort, require_clean
    from marrowscope.cohort.duplicates import fingerprint_fields

    cohort = require_clean(read_cohort(root, decode=False))
    photographed = {image.patient_id for image in cohort.fields}
    listed = [patient for patient in cohort.patients if patient.patient_id in photographed]
    rows = [(patient.patient_id, patient.center, patient.diagnosis) for patient in listed]
    schema = dict.fromkeys(("patient_id", "center", "diagnosis"), pl.String())
    with progress_bar("Fingerprinting images", enabled=not quiet) as advance:
        images = fingerprint_fields(cohort.fields, progress=advance)
    return pl.DataFrame(rows, schema=schema, orient="row"), images


def _counts(drawn: Folds, patients: pl.DataFrame) -> list[tuple[str, str, dict[int | None, int]]]:
    """Count patients per fold (None: external) for each center and diagnosis, sorted."""
    counts: dict[tuple[str, str], dict[int | None, int]] = {}
    for patient, center, diagnosis in patients.sort("center", "diagnosis").iter_rows():
        by_fold = counts.setdefault((center, diagnosis), {})
        by_fold[drawn[patient]] = by_fold.get(drawn[patient], 0) + 1
    return [(*stratum, by_fold) for stratum, by_fold in counts.items()]


def _numbers(drawn: Folds) -> list[int | None]:
    """List the folds in order, with None last if there are external patients."""
    inside: list[int | None] = [*sorted({fold for fold in drawn.values() if fold is not None})]
    return inside + ([None] if None in drawn.values() else [])


def _result(out: Path, scheme: Scheme, drawn: Folds, patients: pl.DataFrame, n_unknown: int) -> dict[str, object]:
    return {
        "folds_path": str(out),
        "scheme": scheme.value,
        "n_folds": len(set(drawn.values()) - {None}),
        "n_patients": len(drawn),
        "n_external": sum(fold is None for fold in drawn.values()),
        "n_images_without_fingerprint": n_unknown,
        "counts": [
            {"center": center, "diagnosis": diagnosis, "fold": "external" if fold is None else fold, "n_patients": n}
            for center, diagnosis, by_fold in _counts(drawn, patients)
            for fold, n in by_fold.items()
        ],
    }


def _print_counts(out: Path, drawn: Folds, patients: pl.DataFrame) -> None:
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table

    numbers = _numbers(drawn)
    heads = ["external" if number is None else f"fold {number}" for number in numbers]
    table = new_table("center", "diagnosis", *heads, "patients", title=str(out))
    for center, diagnosis, by_fold in _counts(drawn, patients):
        cells = [by_fold.get(number, 0) for number in numbers]
        table.add_row(escape(center), escape(diagnosis), *map(str, (*cells, sum(cells))))
    totals = [sum(fold == number for fold in drawn.values()) for number in numbers]
    table.add_row("all", "", *map(str, (*totals, len(drawn))))
    print_table(table)
