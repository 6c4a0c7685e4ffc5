"""`marrowscope report`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.report.problems import PatientProblem


_EXIT_INCOMPLETE = 1


class Format(StrEnum):
    """Formats in which a run can be written."""

    html = "html"
    pdf = "pdf"
    csv = "csv"
    json = "json"
    fhir = "fhir"


class Lang(StrEnum):
    """Language of pages, PDF and FHIR."""

    en = "en"
    zh = "zh"


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder written by `marrowscope predict`.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", show_default="RUN/report for html, RUN for the others", help="Folder to write to."),
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", "-f", help="What to write; repeat for several.", show_default="html"),
    ] = None,
    lang: Annotated[Lang, typer.Option(help="Language of pages, PDF and FHIR.")] = Lang.en,
    font_path: Annotated[
        Path | None,
        typer.Option(
            show_default="the fonts of the system", help="Folder with a font for the PDF, if Chinese text needs one."
        ),
    ] = None,
    fields_from: Annotated[
        Path | None,
        typer.Option(
            show_default="as predicted", help="Folder with the images, if they have moved since the prediction."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that write patient pages.")] = 2,
) -> None:
    """Write the report of RUN again: one page for the cohort and one per patient, readable offline.

    With --format, write PDF (two pages per patient), CSV, JSON or FHIR instead, or several of them. A patient whose
    data cannot be shown, or whose images are missing, is named; all others are complete, and the exit code is 1.

    Example: marrowscope report runs/first --format html --format pdf
    """
    from marrowscope.cli.addresses import mirror, shown
    from marrowscope.cli.progress import progress_bar
    from marrowscope.errors import InputError
    from marrowscope.runs.older import older_run_remarks

    if fields_from is not None and not fields_from.is_dir():
        message = f"--fields-from {fields_from}: found a file, expected the folder of the images; choose another"
        raise InputError(message)
    wanted = set(formats or [Format.html])
    problems: list[PatientProblem] = []
    on_problem = problems.append
    if Format.pdf in wanted:
        from marrowscope.report.pdf import write_pdfs
        from marrowscope.report.typeset import find_pdf_fonts

        find_pdf_fonts(lang, font_path)  # report a missing font before anything is written
    for remark in older_run_remarks(run):
        typer.echo(f"Older run: {remark}", err=True)
    store = mirror()
    if store is not None and fields_from is None and wanted & {Format.html, Format.pdf}:
        fields_from = store.pictures_of(run)
    if Format.html in wanted:
        from marrowscope.report import write_report

        with progress_bar("Writing pages") as advance:
            index = write_report(
                run, out, lang=lang, images_root=fields_from, workers=workers, progress=advance, on_problem=on_problem
            )
        typer.echo(f"Report: {shown(index)}")
    n_of_pages = len(problems)
    if Format.pdf in wanted:
        folder = (out or run) / "pdf"
        with progress_bar("Writing PDFs") as advance:
            write_pdfs(
                run,
                folder,
                lang=lang,
                font_path=font_path,
                images_root=fields_from,
                progress=advance,
                on_problem=on_problem,
            )
        typer.echo(f"PDF: {shown(folder)}")
    _write_tables(run, out, wanted, lang, on_problem)
    if Format.html in wanted and len(problems) > n_of_pages:
        from marrowscope.report.html import rewrite_index

        rewrite_index(run, problems, out, lang=lang)  # the cohort's page names what the other formats met, too
    for problem in dict.fromkeys(problems):
        typer.echo(f"Incomplete: {problem.sentence()}", err=True)
    if problems:
        raise typer.Exit(_EXIT_INCOMPLETE)


def _write_tables(
    run: Path, out: Path | None, wanted: set[Format], lang: Lang, on_problem: Callable[[PatientProblem], None]
) -> None:
    """Write the formats that programs read."""
    from marrowscope.cli.addresses import shown

    if Format.csv in wanted:
        from marrowscope.report.exchange import write_csv

        typer.echo(f"CSV: {', '.join(shown(path) for path in write_csv(run, out, on_problem=on_problem))}")
    if Format.json in wanted:
        from marrowscope.report.run_json import write_json

        typer.echo(f"JSON: {shown(write_json(run, out, on_problem=on_problem))}")
    if Format.fhir in wanted:
        from marrowscope.report.fhir import write_fhir

        folder = (out or run) / "fhir"
        write_fhir(run, folder, lang=lang, on_problem=on_problem)
        typer.echo(f"FHIR: {shown(folder)}")
