"""`marrowscope cohort`: check a cohort, draw its folds, export a run for correction, import annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli import cohort_cells
from marrowscope.cli.cohort_folds import folds
from marrowscope.cli.command import add_command
from marrowscope.cli.options import MappingOption, MappingsOption, ReaderOption, ScaleOption, VocabularyOption
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.cohort import Cohort

_EXIT_LOSES_DATA = 2
FORMATS = "|".join(
    sorted(path.stem for path in Path(__file__).parents[1].joinpath("cohort", "formats").glob("[!_]*.py"))
)
"""Names of the annotation formats, listed without importing them so that ``--help`` stays fast."""

app = typer.Typer(no_args_is_help=True, help="Check an annotated cohort, divide it into folds, exchange annotations.")
add_command(app, folds)


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="COHORT", help="Cohort folder: patients.csv and one folder of images per patient.")
    ],
    *,
    um_per_px: ScaleOption = None,
    mapping: MappingsOption = None,
    vocabulary: VocabularyOption = None,
    reader: ReaderOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List every fault of a cohort at once, and count its cells by center, diagnosis and code.

    Where several readers annotated the same images, the annotations of each are checked, one reader after another.
    Exits with code 2 if a cell, an image or a patient would be lost.

    Example: marrowscope cohort check my-cohort
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort
    from marrowscope.cohort.summary import summarize
    from marrowscope.vocabulary import load_mappings, load_vocabulary

    mappings, words = load_mappings(mapping or ()), load_vocabulary(vocabulary)

    def read(whose: str) -> Cohort:
        with progress_bar("Examining images", enabled=not as_json) as advance:
            return read_cohort(
                folder, vocabulary=words, mapping=mappings, um_per_px=um_per_px, reader=whose, progress=advance
            )

    cohort = read(reader)
    if mappings:
        mappings.check_centers({patient.center for patient in cohort.patients})
    several = {name: read(name) for name in cohort.readers} if not reader else {}
    if as_json:
        shown = {"readers": {name: summarize(own) for name, own in several.items()}} if several else summarize(cohort)
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif several:
        for name, own in several.items():
            typer.echo(f"\nAnnotations by {name}")
            _print_cohort(own)
    else:
        _print_cohort(cohort)
    if any(own.loses_data for own in several.values() or [cohort]):
        raise typer.Exit(_EXIT_LOSES_DATA)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder written by `marrowscope predict`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New or empty folder for the cohort of predicted contours.")],
    *,
    file_format: Annotated[
        str, typer.Option("--format", metavar=f"<{FORMATS}>", help="Annotation format.")
    ] = "labelme",
    images: Annotated[bool, typer.Option(help="Copy the images next to the annotations.")] = True,
    vocabulary: VocabularyOption = None,
) -> None:
    """Write a run's predicted cells as annotations, for experts to correct in their own tool.

    A cell without a definite raw code gets its category and a question mark as its label.

    Example: marrowscope cohort export runs/first --out to-correct
    """
    from marrowscope.runs.to_annotations import export_run
    from marrowscope.vocabulary import load_vocabulary

    done = export_run(run, out, file_format, load_vocabulary(vocabulary), copy_images=images)
    typer.echo(
        f"{done.folder}: {count_of(done.n_cells, 'cell')} from {count_of(done.n_images, 'image')} as {file_format}, "
        f"{done.n_to_name} of them to be named; {count_of(done.n_rejected, 'rejected contour')} left out."
    )


def import_(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default="none, with --cells", help="Annotation file to convert."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", show_default="none, with --image", help="Folder below which its images lie."),
    ] = None,
    *,
    image: Annotated[
        Path | None,
        typer.Option("--image", show_default="none", help="Image of an annotation file that names no image."),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar=f"<{FORMATS}>", show_default="detected from its content", help="Format of the file."
        ),
    ] = None,
    reader: Annotated[
        str,
        typer.Option(
            "--reader",
            show_default="the only one",
            help="Whose annotations to take from a file of several readers: id, mail or name.",
        ),
    ] = "",
    mapping: MappingOption = None,
    vocabulary: VocabularyOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing annotations, or an earlier cohort of single cells.")
    ] = False,
    cells: cohort_cells.CellsOption = None,
    out: cohort_cells.OutOption = None,
    um_per_px: cohort_cells.ScaleOption = None,
    labels_from: cohort_cells.LabelsOption = "folder",
    patient_folder: cohort_cells.PatientFolderOption = None,
    patient_pattern: cohort_cells.PatientPatternOption = None,
    cells_per_patient: cohort_cells.PerPatientOption = None,
    center: cohort_cells.CenterOption = None,
    diagnosis: cohort_cells.DiagnosisOption = "unknown",
    specimen: cohort_cells.SpecimenOption = "unknown",
    segmenter: cohort_cells.SegmenterOption = None,
    keep_cut: cohort_cells.KeepCutOption = False,
    as_json: cohort_cells.JsonOption = False,
) -> None:
    """Convert annotations to a LabelMe file next to each image, or make a cohort of photographs of single cells.

    Annotations: nothing is written if a cell would be lost. One that names no image, such as QuPath's own GeoJSON,
    belongs to the image of its file's name, or to --image.

    Single cells (--cells): a folder per class, or a CSV file with the columns image and label. The segmenter outlines
    the cell in the center of each photograph; its neighbors stay unlabeled. Exits with code 1 if a photograph could
    not be read.

    Example: marrowscope cohort import slides.coco.json --images my-cohort --mapping munich-marrow-21

    Example: marrowscope cohort import --cells marrow --mapping munich-marrow-21 --um-per-px 0.096 --out munich
    """
    if cells is not None and out is not None and source is None:
        cohort_cells.import_set(
            cells,
            out,
            mapping=mapping,
            vocabulary=vocabulary,
            um_per_px=um_per_px,
            labels_from=labels_from,
            patients=(patient_folder, patient_pattern, cells_per_patient),
            facts=(center, diagnosis, specimen),
            segmenter=segmenter,
            keep_cut=keep_cut,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    if source is None or cells is not None or out is not None:
        cohort_cells.refuse_sources(source, cells, out)
    _import_annotations(
        source,
        images,
        image,
        file_format=file_format,
        reader=reader,
        mapping=mapping,
        vocabulary=vocabulary,
        overwrite=overwrite,
    )


def _import_annotations(
    source: Path,
    images: Path | None,
    image: Path | None,
    *,
    file_format: str | None,
    reader: str,
    mapping: str | None,
    vocabulary: Path | None,
    overwrite: bool,
) -> None:
    from marrowscope.cohort.convert import import_annotations
    from marrowscope.vocabulary import load_mapping, load_vocabulary

    done = import_annotations(
        source,
        images,
        file_format,
        load_vocabulary(vocabulary),
        image=image,
        mapping=load_mapping(mapping) if mapping else None,
        reader=reader,
        overwrite=overwrite,
    )
    for fault in done.faults:
        typer.echo(fault.sentence(), err=True)
    to_name = f", {done.n_to_name} of them still to be named" if done.n_to_name else ""
    dropped = "".join(f", {n} {reason}" for reason, n in {**done.changed, **done.rejected}.items())
    written = f"{count_of(done.n_cells, 'cell')} in {count_of(done.n_files, 'LabelMe file')}"
    typer.echo(f"{image or images}: {written}{to_name}{dropped}.")


def _print_cohort(cohort: Cohort) -> None:
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table
    from marrowscope.cohort.summary import count_by_center, count_by_code, count_by_diagnosis

    counts = cohort.counts
    table = new_table("", "found", "used", "rejected", "kept but changed", title=str(cohort.root))
    for name, tally in (("patients", counts.patients), ("images", counts.images), ("cells", counts.shapes)):
        table.add_row(name, str(tally.n_in), str(tally.n_out), _reasons(tally.rejected), _reasons(tally.changed))
    print_table(table)
    for title, rows in (("center", count_by_center(cohort)), ("diagnosis", count_by_diagnosis(cohort))):
        table = new_table(
            title,
            "patients",
            "images",
            "annotated",
            "not exhaustive",
            "cells",
            "countable",
            "CBLC",
            "undecided",
            title=f"By {title}",
        )
        for row in rows:
            numbers = (row.n_patients, row.n_images, row.n_annotated_images, row.n_not_exhaustive, row.n_cells)
            table.add_row(escape(row.name), *map(str, (*numbers, row.n_countable, row.n_cblc, row.n_undecided)))
        print_table(table)
    table = new_table("code", "name", "category", "cells", "by center", "by diagnosis", title="By code")
    for item in count_by_code(cohort):
        groups = (escape(_reasons(item.by_center)), escape(_reasons(item.by_diagnosis)))
        table.add_row(escape(item.code), item.name, item.category, str(item.n_cells), *groups)
    print_table(table)
    losing = [fault for fault in cohort.faults if fault.loses_data]
    noted = [fault for fault in cohort.faults if not fault.loses_data]
    for title, faults in (("no data is lost", noted), ("would lose data", losing)):
        if faults:
            typer.echo(f"{count_of(len(faults), 'fault')}: {title}")
        for fault in faults:
            typer.echo(f"  {fault.kind}: {fault.sentence()}")
    typer.echo("No data would be lost." if not losing else "Correct these before you continue.")


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "-"


add_command(app, check)
add_command(app, export, makes_a_folder=True)
add_command(app, import_, name="import", makes_a_folder=True)
