"""`marrowscope quantify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.options import AmlOption, BackendOption, ScaleOption, check_aml
from marrowscope.wording import count_of


def quantify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Model bundle to measure, or default or demo.")],
    cohort: Annotated[
        Path | None,
        typer.Argument(
            metavar="COHORT",
            show_default="none",
            help="Annotated cohort of held-out patients, whom the networks never saw.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    domain: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<run>",
            show_default="none",
            help="Run of patients that the networks never saw, to set the limit of out of depth; repeat for several.",
        ),
    ] = None,
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

    With --domain, the new bundle also knows which images and cells it is made for: of a patient beyond, `predict`
    reports counts by category and no ratio. Runs need no annotations, and must not be of an external center. COHORT may
    then be left out: error rates stay as they are.

    Example: marrowscope quantify bundle held-back-cohort --out bundle-measured
    """
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort.patients import read_patients
    from marrowscope.config import validate_config
    from marrowscope.errors import ConfigError
    from marrowscope.predict import PredictConfig
    from marrowscope.studies.bundle_domain import domain_sentence, measure_domain, set_domain
    from marrowscope.studies.error_rates import quantify_bundle

    bundle = bundle_path(bundle)
    if aml and cohort is not None:
        check_aml("--aml", aml, cohort, {patient.diagnosis for patient in read_patients(cohort).patients})
    measured = measure_domain(domain) if domain else None
    if cohort is None and measured is None:
        message = "found neither COHORT nor --domain, expected at least one of them; name what is to be measured"
        raise ConfigError(message)
    if cohort is None and measured is not None:
        set_domain(bundle, measured, out, overwrite=overwrite)
    elif cohort is not None:
        config = validate_config(
            PredictConfig, {"um_per_px": um_per_px, "backend": backend}, where="marrowscope quantify"
        )
        with progress_bar("Predicting images") as advance:
            written = quantify_bundle(
                bundle, cohort, out, threshold=threshold, aml_diagnoses=tuple(aml or ("AML",)), domain=measured,
                config=config, overwrite=overwrite, progress=advance,
            )  # fmt: skip
        typer.echo(written.quantification.sentence() if written.quantification else "")
        if remark := _specimen_remark(cohort):
            typer.echo(remark, err=True)
    if measured is not None:
        typer.echo(domain_sentence(measured))
    typer.echo(f"Bundle: {out}")


def _specimen_remark(cohort: Path) -> str:
    """Say how many patients state no specimen, and what that costs them; empty where all do."""
    from marrowscope.cohort.patients import read_patients
    from marrowscope.records import SPECIMENS

    n_unknown = sum(patient.specimen not in SPECIMENS for patient in read_patients(cohort).patients)
    if not n_unknown:
        return ""
    return (
        f"Specimen unknown: {count_of(n_unknown, 'patient')}. Rates are of one specimen, so that none of them counts "
        "toward opening a center; state marrow or blood in the column specimen of patients.csv."
    )
