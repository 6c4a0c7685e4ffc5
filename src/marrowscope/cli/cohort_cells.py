"""`marrowscope cohort import --cells`: a cohort of photographs of single cells. Its options, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from marrowscope.cli.options import DEFAULT, SEGMENTER_HELP, parse_um_per_px
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.studies.import_cells import ImportedCells

_EXIT_UNREADABLE = 1
_PANEL = "Single cells"
_SPECIMENS = ("marrow", "blood", "unknown")

CellsOption = Annotated[
    Path | None,
    typer.Option(
        "--cells",
        show_default="none",
        help="Folder, or CSV file, of photographs of single cells.",
        rich_help_panel=_PANEL,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", show_default="none", help="New or empty folder for the cohort.", rich_help_panel=_PANEL
    ),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--um-per-px",
        show_default="the photograph's own",
        parser=parse_um_per_px,
        metavar="FLOAT",
        help="Micrometers per pixel of photographs that state none.",
        rich_help_panel=_PANEL,
    ),
]
LabelsOption = Annotated[
    str,
    typer.Option(
        "--labels-from",
        help="folder: a folder of the path is the label; file-name: the name up to the first _, -, space or dot.",
        rich_help_panel=_PANEL,
    ),
]
PatientFolderOption = Annotated[
    int | None,
    typer.Option(
        "--patient-folder",
        min=1,
        show_default="none",
        help="Level of the folders that are patients, 1 the topmost.",
        rich_help_panel=_PANEL,
    ),
]
PatientPatternOption = Annotated[
    str | None,
    typer.Option(
        "--patient-pattern",
        show_default="none",
        help="Regular expression searched in the path below the folder; its first group is the patient.",
        rich_help_panel=_PANEL,
    ),
]
PerPatientOption = Annotated[
    int | None,
    typer.Option(
        "--cells-per-patient",
        min=1,
        show_default="120",
        help="Size of the pseudo-patients where no patient is known.",
        rich_help_panel=_PANEL,
    ),
]
CenterOption = Annotated[
    str | None,
    typer.Option("--center", show_default="the mapping's name", help="Center of all cells.", rich_help_panel=_PANEL),
]
DiagnosisOption = Annotated[str, typer.Option("--diagnosis", help="Diagnosis of all patients.", rich_help_panel=_PANEL)]
SpecimenOption = Annotated[
    str, typer.Option("--specimen", help="marrow or blood, of all patients.", rich_help_panel=_PANEL)
]
SegmenterOption = Annotated[
    Path | None, typer.Option("--segmenter", show_default=DEFAULT, help=f"{SEGMENTER_HELP}.", rich_help_panel=_PANEL)
]
KeepCutOption = Annotated[
    bool,
    typer.Option(
        "--keep-cut", help="Keep cells whose contour touches the photograph's border.", rich_help_panel=_PANEL
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the counts of single cells as JSON.", rich_help_panel=_PANEL)
]


def refuse_sources(source: Path | None, cells: Path | None, out: Path | None) -> NoReturn:
    """Raise ConfigError for a call that names neither annotations nor a set of single cells, or both."""
    from marrowscope.errors import ConfigError

    if source is not None and source.is_dir() and cells is None:
        message = (
            f"{source}: found a folder, expected an annotation file; photographs of single cells, a folder for each "
            f"class, are imported with --cells FOLDER --out COHORT"
        )
        raise ConfigError(message)
    given = {"an annotation file": source, "--cells": cells, "--out": out}
    found = " and ".join(name for name, value in given.items() if value is not None) or "neither"
    message = (
        f"found {found}, expected either an annotation file, or --cells with --out; see `marrowscope cohort import "
        "--help`"
    )
    raise ConfigError(message)


def import_set(
    cells: Path,
    out: Path,
    *,
    mapping: str | None,
    vocabulary: Path | None,
    um_per_px: float | None,
    labels_from: str,
    patients: tuple[int | None, str | None, int | None],
    facts: tuple[str | None, str, str],
    segmenter: Path | None,
    keep_cut: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Import a set of single cells and print its counts by label."""
    from marrowscope.bundle.shipped import segmenter_path
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort.single_cells import CELLS_PER_PATIENT, LABEL_PLACES, PatientRule, list_pictures
    from marrowscope.errors import ConfigError
    from marrowscope.machine import available_cores
    from marrowscope.segment.segmenter import Segmenter
    from marrowscope.studies.import_cells import SetFacts, import_cells
    from marrowscope.vocabulary import load_mapping, load_vocabulary

    patient_folder, patient_pattern, cells_per_patient = patients
    center, diagnosis, specimen = facts
    for option, value, allowed in (
        ("--labels-from", labels_from, LABEL_PLACES),
        ("--specimen", specimen, _SPECIMENS),
    ):
        if value not in allowed:
            message = f"{option}: found {value!r}, expected {', '.join(allowed[:-1])} or {allowed[-1]}; correct it"
            raise ConfigError(message)
    if sum(rule is not None for rule in patients) > 1:
        message = (
            "found several of --patient-folder, --patient-pattern and --cells-per-patient, expected one; choose one"
        )
        raise ConfigError(message)
    words, labels = load_vocabulary(vocabulary), load_mapping(mapping) if mapping else None
    if labels is not None:
        labels.check_against(words)
    rule = PatientRule(patient_folder, patient_pattern, cells_per_patient or CELLS_PER_PATIENT)
    pictures, is_pseudo = list_pictures(cells, words, labels, labels_from=labels_from, patients=rule)
    with progress_bar("Finding the center cells", enabled=not as_json) as advance:
        done = import_cells(
            pictures,
            SetFacts(center or (labels.name if labels else cells.stem), diagnosis, specimen, um_per_px, is_pseudo),
            Segmenter.from_onnx(segmenter_path(segmenter or Path(DEFAULT))),
            out,
            mapping=labels,
            keep_cut=keep_cut,
            overwrite=overwrite,
            threads=available_cores(),
            progress=advance,
        )
    for problem in (*done.notes, *done.problems):
        typer.echo(problem, err=True)
    if as_json:
        typer.echo((out / "import.json").read_text(encoding="utf-8"), nl=False)
    else:
        _print_counts(done, is_pseudo=is_pseudo)
    if done.problems:
        raise typer.Exit(_EXIT_UNREADABLE)


def _print_counts(done: ImportedCells, *, is_pseudo: bool) -> None:
    from rich.markup import escape

    from marrowscope.cli.tables import new_table, print_table

    table = new_table("label", "code", "pictures", "imported", "left out", title=str(done.folder))
    total = done.total
    for label, tally in {**done.by_label, "all": total}.items():
        left_out = ", ".join(f"{reason} {n}" for reason, n in tally.rejected.items()) or "-"
        code = done.codes.get(label, "") or "-"
        table.add_row(escape(label), escape(code), str(tally.n_in), str(tally.n_out), left_out)
    print_table(table)
    kind = "pseudo-patients, dealt by chance: no person" if is_pseudo else "patients"
    typer.echo(
        f"{count_of(total.n_out, 'cell')} of {done.n_patients} {kind}; every outline is the segmenter's and enters no "
        "detection figure. cells.csv lists each picture."
    )
