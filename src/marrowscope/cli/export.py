"""``marrowscope export``: write a bundle from training folders and a segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.options import SEGMENTER_HELP
from marrowscope.wording import count_of


def export(
    trainings: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRAININGS", help="Folders written by `train classifier`: one per member, or one cross-fit."
        ),
    ],
    *,
    segmenter: Annotated[Path, typer.Option(help=f"{SEGMENTER_HELP}; its LICENSE must be next to it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundle.")],
    crops: Annotated[
        Path | None,
        typer.Option(
            show_default="the training's crop set",
            help="Crop set for the parity check and the golden sample; some of its images go into the bundle.",
        ),
    ] = None,
    description: Annotated[
        Path | None,
        typer.Option(
            show_default="none", help="TOML with name, version, purpose, trained_on, threshold and [licenses]."
        ),
    ] = None,
    other_segmenter: Annotated[
        bool,
        typer.Option("--other-segmenter", help="Accept a segmenter other than the one that cut the training crops."),
    ] = False,
    no_calibration: Annotated[
        bool, typer.Option("--no-calibration", help="Leave out the temperatures of the cross-fit.")
    ] = False,
    no_rates: Annotated[
        bool,
        typer.Option("--no-rates", help="Leave out a cross-fit's error rates and threshold: the bundle counts alone."),
    ] = False,
    half_weights: Annotated[
        bool,
        typer.Option("--half-weights", help="Store the classifiers' weights in half precision: half the size."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle in --out.")] = False,
) -> None:
    """Write a bundle: ONNX graphs verified against torch, a golden sample, a model card, and a hash of every file.

    Example: marrowscope export runs/classifier --segmenter runs/segmenter/segmenter/segmenter.onnx --out bundle
    """
    from marrowscope.bundle.shipped import segmenter_path
    from marrowscope.config import load_config
    from marrowscope.export import export_bundle
    from marrowscope.train.bundle_card import BundleDescription

    described = load_config(BundleDescription, description)
    bundle = export_bundle(
        trainings,
        segmenter_path(segmenter),
        out,
        crops=crops,
        description=described,
        other_segmenter=other_segmenter,
        calibrate=not no_calibration,
        half_weights=half_weights,
        with_rates=not no_rates,
        overwrite=overwrite,
    )
    size_mb = sum((bundle.folder / name).stat().st_size for name in bundle.spec.files) / 1e6
    typer.echo(
        f"{bundle.folder}: {bundle.spec.name} {bundle.spec.version}, {count_of(len(bundle.spec.files), 'file')}, "
        f"{size_mb:.1f} MB"
    )
    typer.echo(f"SHA-256 {bundle.spec_sha256}")
