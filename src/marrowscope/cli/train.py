"""``marrowscope train``: train either network on a laboratory's own annotated cohort."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.command import add_command
from marrowscope.cli.options import MAX_SEED, parse_um_per_px
from marrowscope.cli.paths import require_path
from marrowscope.cli.train_classifier import classifier

if TYPE_CHECKING:
    from marrowscope.train.segmenter_data import LabeledField

app = typer.Typer(name="train", no_args_is_help=True, help="Train the segmenter or the classifier on a cohort.")
add_command(app, classifier, trains=True)


def segmenter(
    cohorts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COHORTS",
            show_default="none, with --boxes",
            help="Annotated cohort folders; where cells are left out, what has no contour is ignored. FOLDER:4x3 "
            "marks each image as a mosaic of 4 x 3 photographs; cells cut by the seams are not annotated.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for training windows, checkpoints and segmenter.pt.")
    ],
    boxes: Annotated[
        list[Path] | None,
        typer.Option(
            show_default="none", help="YOLO box data set (0 white cell, 1 erythrocyte); its erythrocytes set the scale."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(show_default="random weights", help="Checkpoint (.pt) or exported graph (.onnx) to start from."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(show_default="none", help="TOML file with settings of SegmenterTrainingConfig.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, show_default="30, or as in --config", help="Number of epochs.")
    ] = None,
    crops_per_field: Annotated[
        int | None, typer.Option(min=1, show_default="4, or as in --config", help="Training windows per field.")
    ] = None,
    max_images_per_epoch: Annotated[
        int | None, typer.Option(min=1, show_default="all, or as in --config", help="Training windows drawn per epoch.")
    ] = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(
            parser=parse_um_per_px,
            metavar="<number>",
            show_default="0.3, or as in --config",
            help="Scale of training and prediction, in micrometers per pixel (0.01 to 2).",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1, show_default="0.002, or as in --config", help="Learning rate of AdamW."),
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(show_default="all", help="Text file with the patient_ids to train on, one per line.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_SEED, show_default="0, or as in --config", help="Random seed for windows, split and order."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")] = False,
) -> None:
    """Train the one-class segmenter (YOLO11n-seg) on annotated fields.

    Writes OUT/segmenter.pt and the exported graph OUT/segmenter/segmenter.onnx. The graph is under AGPL-3.0, like the
    package that trains it.

    Example: marrowscope train segmenter simulated/ blood-control:4x3 --out runs/segmenter --epochs 20
    """
    from marrowscope.config import load_config
    from marrowscope.errors import ConfigError
    from marrowscope.train.segmenter_boxes import box_fields
    from marrowscope.train.segmenter_config import SegmenterTrainingConfig
    from marrowscope.train.segmenter_fit import TRAINING_DATA_FILE, can_go_on, check_segmenter_folder, train_segmenter
    from marrowscope.train.segmenter_graph import export_segmenter

    settings = load_config(
        SegmenterTrainingConfig,
        config,
        {
            "epochs": epochs,
            "crops_per_field": crops_per_field,
            "max_images_per_epoch": max_images_per_epoch,
            "um_per_px": um_per_px,
            "learning_rate": learning_rate,
            "seed": seed,
        },
    )
    if not cohorts and not boxes:
        message = "found neither a cohort nor --boxes, expected data to train on; give a cohort folder"
        raise ConfigError(message)
    check_segmenter_folder(out, settings, resume=resume)
    chosen = None if patients is None else _read_names(patients)
    fields: list[LabeledField] = []
    if not (resume and can_go_on(out)):
        met: set[str] = set()
        for cohort in cohorts or []:
            kept, names = _cohort_fields(cohort, chosen, settings.max_box_share)
            fields += kept
            met |= names
        _check_names(patients, chosen, met)
        for folder in boxes or []:
            fields += box_fields(folder)
    checkpoint = train_segmenter(fields, out, settings, weights=weights, resume=resume, progress=typer.echo)
    fingerprint = (out / TRAINING_DATA_FILE).read_text(encoding="utf-8").strip()
    graph = export_segmenter(
        checkpoint, out / "segmenter" / "segmenter.onnx", settings, training_data_sha256=fingerprint
    )
    typer.echo(f"graph: {graph}")


def _read_names(path: Path) -> frozenset[str]:
    """Read one patient_id per line; blank lines are skipped."""
    from marrowscope.errors import InputError

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot read the list of patients ({error}); expected a text file, one patient_id per line"
        raise InputError(message) from error
    return frozenset(line.strip() for line in lines if line.strip())


def _check_names(path: Path | None, chosen: frozenset[str] | None, met: set[str]) -> None:
    """Refuse names that are in no cohort: a misspelled one would silently reduce the training patients."""
    from marrowscope.errors import InputError

    strange = sorted((chosen or frozenset()) - met)
    if strange:
        shown = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")  # noqa: PLR2004
        message = f"{path}: found {shown}, expected patient_ids from the cohorts; correct the names"
        raise InputError(message)


def _cohort_fields(
    argument: str, patients: frozenset[str] | None, max_box_share: float = 1.0
) -> tuple[list[LabeledField], set[str]]:
    """Read ``FOLDER`` or ``FOLDER:COLUMNSxROWS``: labeled fields of the chosen patients, and all patient names."""
    from marrowscope.cohort import read_cohort, require_clean
    from marrowscope.train.segmenter_data import labeled_fields
    from marrowscope.vocabulary import load_vocabulary

    match = re.fullmatch(r"(?P<folder>.+):(?P<columns>[1-9]\d*)x(?P<rows>[1-9]\d*)", argument)
    folder = Path(match["folder"]) if match else Path(argument)
    require_path(folder)
    tile_grid = (int(match["columns"]), int(match["rows"])) if match else None
    cohort = require_clean(read_cohort(folder, vocabulary=load_vocabulary()))
    kept = [field for field in cohort.fields if patients is None or field.patient_id in patients]
    names = {patient.patient_id for patient in cohort.patients}
    return labeled_fields(kept, folder.resolve().name, tile_grid, max_box_share=max_box_share), names


add_command(app, segmenter, trains=True)
