"""`marrowscope compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import AmlOption, BootstrapSeedOption, MappingsOption, check_aml
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.cohort import Cohort
    from marrowscope.evaluate.comparison import ComparedSide
    from marrowscope.evaluate.comparison_output import ComparisonDocument
    from marrowscope.vocabulary import CenterMappings, Vocabulary

_MAIN_FIGURES = (
    "cblc_weighted_f1_all_expert",
    "category_weighted_f1_all_expert",
    "detection_recall",
    "patient_ratio_mae",
    "patient_ratio_mae_corrected_ratio",
    "aml_auc_delong_predicted_ratio",
    "aml_auc_delong_corrected_ratio",
)
"""What the terminal shows; the files have everything."""

_SIDE = "A run written by `marrowscope predict`, or a cohort that another reader annotated."


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[Path, typer.Argument(metavar="B", help=_SIDE)],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="The annotated cohort that both are compared with.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables.")],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            show_default="each run's own, if any",
            help="CBLC ratio (0-1) above which a patient counts as AML, on both sides.",
        ),
    ] = None,
    aml_diagnosis: AmlOption = None,
    mapping: MappingsOption = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            show_default="the built-in one", help="Vocabulary of the runs' bundles, if they have their own (TOML)."
        ),
    ] = None,
    seed: BootstrapSeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead of the table.")] = False,
) -> None:
    """Compare two runs, or two readers, with the expert polygons of COHORT, paired by patient.

    Every figure is given for A, for B, and as A - B with a 95% interval. AUCs are compared by DeLong's test, decisions
    by McNemar's exact test. Only fields that both sides have are used.

    Example: marrowscope compare runs/new runs/old my-cohort --out runs/new-against-old
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort
    from marrowscope.config import validate_config
    from marrowscope.disk import new_folder
    from marrowscope.errors import InputError
    from marrowscope.evaluate import EvaluateConfig
    from marrowscope.evaluate.comparison import compare_sides
    from marrowscope.evaluate.comparison_output import (
        COMPARISON_KIND,
        COMPARISON_NAME,
        comparison_document,
        write_comparison,
    )
    from marrowscope.vocabulary import load_mappings, load_vocabulary

    values = {"seed": seed, "threshold": threshold, "aml_diagnoses": aml_diagnosis or None}
    config = validate_config(
        EvaluateConfig, {key: value for key, value in values.items() if value is not None}, where="marrowscope compare"
    )
    words, labels = load_vocabulary(vocabulary), load_mappings(mapping or ())
    with new_folder(out, COMPARISON_KIND, overwrite=overwrite, error=InputError) as folder:
        sides = [_read_side(path, words, labels, quiet=as_json) for path in (a, b)]
        with progress_bar("Reading annotations", enabled=not as_json) as advance:
            truth = read_cohort(cohort, vocabulary=words, mapping=labels, decode=False, progress=advance)
        _refuse_several(cohort, truth)
        check_aml("--aml-diagnosis", aml_diagnosis, cohort, {patient.diagnosis for patient in truth.patients})
        fields = (*truth.fields, *truth.slides)
        with progress_bar("Measuring centers", enabled=not as_json) as advance:
            comparison = compare_sides(
                sides[0], sides[1], truth.patients, fields, words, config=config, progress=advance
            )
        write_comparison(comparison, folder)
    _say_lost(cohort, truth)
    if as_json:
        typer.echo((out / COMPARISON_NAME).read_text(encoding="utf-8"))
        return
    _print(comparison_document(comparison))
    typer.echo(f"Every figure: {out / 'comparison.md'}; tables beside it.")


def _read_side(path: Path, words: Vocabulary, labels: CenterMappings | None, *, quiet: bool) -> ComparedSide:
    """Read a cohort as another reader, anything else as a run, which has a patients.csv too if exported as CSV."""
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort
    from marrowscope.cohort.patients import PATIENTS_NAME
    from marrowscope.evaluate.comparison import read_run_side, reader_side
    from marrowscope.runs.manifest import MANIFEST_NAME

    is_run = (path / MANIFEST_NAME).is_file() and (path / "cells.parquet").is_file()
    if is_run or not (path / PATIENTS_NAME).is_file():
        return read_run_side(path, words)
    with progress_bar("Reading annotations", enabled=not quiet) as advance:
        reader = read_cohort(path, vocabulary=words, mapping=labels, decode=False, progress=advance)
    _refuse_several(path, reader)
    _say_lost(path, reader)
    return reader_side(path, reader.fields, words)


def _refuse_several(path: Path, cohort: Cohort) -> None:
    """Refuse a cohort that several readers annotated: which one is meant is not told."""
    from marrowscope.errors import CohortError

    if cohort.readers:
        message = (
            f"{path}: found annotations of the same images by {', '.join(cohort.readers)}, expected one reader; "
            "`marrowscope evaluate` measures a run against each and compares the readers"
        )
        raise CohortError(message)


def _say_lost(path: Path, cohort: Cohort) -> None:
    """Say how many faults of a cohort lose cells, images or patients."""
    lost = [fault for fault in cohort.faults if fault.loses_data]
    if lost:
        faults = count_of(len(lost), "fault")
        typer.echo(f"{faults} in {path} would lose data; see `marrowscope cohort check {path}`", err=True)


def _print(document: ComparisonDocument) -> None:
    """Print the main figures of every center, and the decisions over all."""
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.evaluate.comparison_output import difference_text, p_text, threshold_lines

    table = new_table("center", "figure", "A", "B", "A - B, 95% interval", "p", title="Comparison, paired by patient")
    for center in document.centers:
        title = f"{center.center}\n{count_of(center.n_patients, 'patient')}"
        for figure in (figure for figure in center.figures if figure.key in _MAIN_FIGURES):
            values = ["" if value is None else f"{value:.3f}" for value in (figure.a, figure.b)]
            cells = [title, figure.figure, *values, difference_text(figure), p_text(figure.p)]
            table.add_row(*(escape(cell) for cell in cells))
            title = ""
        table.add_section()
    print_table(table)
    typer.echo(f"A: {document.a}. B: {document.b}. {count_of(document.n_fields, 'annotated field')} of both.")
    for line in threshold_lines(document):
        typer.echo(line)
    last = document.centers[-1]
    for row in last.decisions:
        counts = f"only A right {row.only_a_right}, only B right {row.only_b_right}, McNemar's exact p "
        shown = p_text(row.p, row.undefined)
        typer.echo(f"{row.figure}, {last.center}: {shown if row.undefined else counts + shown}.")
