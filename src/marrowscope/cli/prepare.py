"""`marrowscope prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.options import SEGMENTER_HELP, Backend, BackendOption, MappingsOption, ReaderOption, ScaleOption
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import Field, Patient


def prepare(
    cohorts: Annotated[list[Path], typer.Argument(metavar="COHORTS", help="One or more annotated cohorts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crop set.")],
    *,
    segmenter: Annotated[
        Path | None, typer.Option(show_default="none", help=f"{SEGMENTER_HELP}; without it, only expert crops are cut.")
    ] = None,
    um_per_px: ScaleOption = None,
    backend: BackendOption = "auto",
    mapping: MappingsOption = None,
    reader: ReaderOption = "",
    crop_px: Annotated[
        int,
        typer.Option(
            min=32, max=512, help="Side of the network's crop in pixels; it shows 28.8 um whatever its pixels."
        ),
    ] = 96,
    seen_um: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            show_default="none",
            help="Side of the square around each cell beyond which every crop is mirrored, in micrometers.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier crop set.")] = False,
) -> None:
    """Cut training crops from annotated cohorts, along expert and predicted contours.

    A predicted contour takes the code of the expert polygon it matches (IoU >= 0.5, one to one).

    Example: marrowscope prepare cohort --segmenter segmenter/segmenter.onnx --out crops
    """
    cut_crops(
        cohorts,
        out,
        segmenter=segmenter,
        um_per_px=um_per_px,
        backend=backend,
        mapping=mapping or (),
        reader=reader,
        crop_px=crop_px,
        seen_um=seen_um,
        overwrite=overwrite,
    )


def cut_crops(
    cohorts: list[Path],
    out: Path,
    *,
    segmenter: Path | None,
    um_per_px: float | None = None,
    backend: Backend = "auto",
    mapping: Sequence[str] = (),
    reader: str = "",
    crop_px: int = 96,
    seen_um: float | None = None,
    overwrite: bool = False,
    to_stderr: bool = False,
) -> None:
    """Run the command, with a progress bar and a printed summary."""
    from marrowscope.bundle.shipped import segmenter_path
    from marrowscope.cells.crop import CropSpec
    from marrowscope.cli.input_notes import print_scale_notes
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort, require_clean
    from marrowscope.prepare import check_crop_folder, prepare_crops
    from marrowscope.segment.segmenter import Segmenter
    from marrowscope.vocabulary import load_mappings, load_vocabulary

    # Everything cheap is refused before the cohort's images are read.
    check_crop_folder(out, overwrite=overwrite)
    network = None if segmenter is None else Segmenter.from_onnx(segmenter_path(segmenter), backend=backend)
    vocabulary, mappings = load_vocabulary(), load_mappings(mapping)
    patients: list[Patient] = []
    fields: list[Field] = []
    for root in cohorts:
        cohort = read_cohort(root, vocabulary=vocabulary, mapping=mappings, um_per_px=um_per_px, reader=reader)
        require_clean(cohort)
        print_scale_notes(cohort)
        patients += cohort.patients
        fields += cohort.fields
    if mappings:
        mappings.check_centers({patient.center for patient in patients})
    with progress_bar("Segmenting and cutting") as advance:
        prepared = prepare_crops(
            patients,
            fields,
            out,
            segmenter=network,
            spec=CropSpec(size_px=crop_px, seen_um=seen_um),
            um_per_px=um_per_px,
            mappings=mappings,
            overwrite=overwrite,
            progress=advance,
        )
    typer.echo(
        f"{count_of(prepared.n_expert, 'expert crop')}, {count_of(prepared.n_predicted, 'matched predicted crop')}; "
        "missed "
        f"{prepared.n_missed} ({prepared.n_missed_cut} of them cut by the image edge), unlabeled "
        f"{prepared.n_unlabeled}, rejected by the quality rules {prepared.n_rejected}.",
        err=to_stderr,
    )
    if network is None:
        typer.echo(
            "No predicted crops were cut, but training selects its best epoch on them; add --segmenter.", err=True
        )
    if crop_px != CropSpec().size_px:
        typer.echo(f"Crops of {crop_px} px: set crop_px = {crop_px} in the configuration of the training.", err=True)
    typer.echo(f"Crop set: {out}", err=to_stderr)
