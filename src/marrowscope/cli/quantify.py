"""`marrowscope quantify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.options import AmlOption, BackendOption, ScaleOption


def quantify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Model bundle to measure.")],
    cohort: Annotated[
        Path,
        typer.Argument(metavar="COHORT", help="Annotated cohort of held-out patients, whom the networks never saw."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, show_default="learned from COHORT", help="Study threshold for the corrected ratio (0-1)."
        ),
    ] = None,
    aml: AmlOption = None,
    um_per_px: ScaleOption = None,
    backend: BackendOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier bundle in --out.")] = False,
) -> None:
    """Measure the error rates of BUNDLE on COHORT, learn the study threshold, and write a bundle that records both.

    With the new bundle, `predict` reports corrected ratios with intervals, and calls. The networks are unchanged.

    Example: marrowscope quantify bundle held-back-cohort --out bundle-measured
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.config import validate_config
    from marrowscope.predict import PredictConfig
    from marrowscope.studies.error_rates import quantify_bundle

    config = validate_config(PredictConfig, {"um_per_px": um_per_px, "backend": backend}, where="marrowscope quantify")
    with progress_bar("Predicting images") as advance:
        written = quantify_bundle(
            bundle, cohort, out, threshold=threshold, aml_diagnoses=tuple(aml or ("AML",)), config=config,
            overwrite=overwrite, progress=advance,
        )  # fmt: skip
    typer.echo(written.quantification.sentence() if written.quantification else "")
    typer.echo(f"Bundle: {out}")
