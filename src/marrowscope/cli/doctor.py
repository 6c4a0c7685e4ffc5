"""``marrowscope doctor``: what is installed, what will be used, and whether a bundle passes its golden sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.doctor import Diagnosis

_EXIT_UNHEALTHY = 1


def doctor(
    *,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", show_default="default", help="Bundle to check.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show versions, runtimes, devices and the precision in use, and rerun a bundle's golden sample on every runtime.

    The exit code is 1 when no runtime is installed or a golden sample fails.

    Example: marrowscope doctor --bundle my-bundle
    """
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.doctor import examine
    from marrowscope.errors import BundleError

    missing = ""
    try:
        bundle = bundle_path(bundle)
    except BundleError as error:
        missing = str(error)
    diagnosis = examine(bundle)
    if as_json:
        typer.echo(json.dumps(diagnosis.as_dict(), indent=2))
    else:
        _show(diagnosis, missing)
    if not diagnosis.healthy:
        raise typer.Exit(_EXIT_UNHEALTHY)


def _show(diagnosis: Diagnosis, missing: str) -> None:
    """Print the diagnosis for a reader."""
    facts = diagnosis.as_dict()
    typer.echo(f"marrowscope {facts['marrowscope']}, Python {facts['python']}, {facts['platform']}")
    typer.echo(count_of(diagnosis.n_cores, "processor core"))
    for title, versions in (("packages", diagnosis.versions), ("training", diagnosis.training_versions)):
        listed = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        typer.echo(f"{title}: {listed}")
    for name, devices in diagnosis.devices.items():
        typer.echo(f"{name}: {', '.join(devices) or 'not installed'}")
    if diagnosis.chosen is None:
        typer.echo("will use: nothing, no inference runtime is installed; run `pip install onnxruntime`")
    elif diagnosis.choice is None:
        typer.echo(f"will use: {diagnosis.chosen}, in f32 unless a bundle passed the gate of a lower precision")
    else:
        typer.echo(f"will use: {diagnosis.chosen} in {diagnosis.choice.precision}")
        for name, reason in diagnosis.choice.reasons.items():
            typer.echo(f"  {name}: {reason}")
    if diagnosis.bundle is None:
        typer.echo(f"bundle: none checked. {missing}".rstrip())
        return
    typer.echo(f"bundle: {diagnosis.bundle.name} {diagnosis.bundle.version}, all file hashes match")
    for result in diagnosis.golden:
        typer.echo(result.sentence())
