"""`marrowscope prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from marrowscope.records import Field, Patient


def prepare(
    cohorts: Annotated[list[Path], typer.Argument(help="One or more annotated cohorts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the crop set.")],
    *,
    segmenter: Annotated[
        Path | None, typer.Option(help="Segmenter (.onnx); without it only expert crops are cut.")
    ] = None,
    um_per_px: Annotated[
        float | None, typer.Option(min=0.01, max=2.0, help="Micrometres per pixel of images that state none.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
) -> None:
    """Cut the training crops of annotated cohorts, from expert and from predicted contours.

    Predicted contours take the code of the expert polygon they match (IoU >= 0.5, one to one).

    Example: marrowscope prepare cohort --segmenter segmenter/segmenter.onnx --out crops
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort, require_clean
    from marrowscope.prepare import prepare_crops
    from marrowscope.segment.segmenter import Segmenter
    from marrowscope.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    patients: list[Patient] = []
    fields: list[Field] = []
    for root in cohorts:
        cohort = read_cohort(root, vocabulary=vocabulary, um_per_px=um_per_px)
        require_clean(cohort)
        patients += cohort.patients
        fields += cohort.fields
    with progress_bar("Segmenting and cutting") as advance:
        prepared = prepare_crops(
            patients,
            fields,
            out,
            segmenter=None if segmenter is None else Segmenter.from_onnx(segmenter, backend=backend),
            um_per_px=um_per_px,
            progress=advance,
        )
    typer.echo(
        f"{prepared.n_expert} expert crops, {prepared.n_predicted} matched predicted crops; missed "
        f"{prepared.n_missed}, unlabelled {prepared.n_unlabelled}, rejected by the quality rules {prepared.n_rejected}."
    )
    typer.echo(f"Crop set: {out}")
