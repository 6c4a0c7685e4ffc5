"""`marrowscope report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run that `marrowscope predict` wrote.")],
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the report; default RUN/report.")] = None,
    fields_from: Annotated[
        Path | None, typer.Option(help="Folder with the images, where they have moved since the prediction.")
    ] = None,
) -> None:
    """Write the report of RUN again: a page for the cohort and one for every patient, readable offline.

    Example: marrowscope report runs/first
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.report import write_report

    with progress_bar("Writing pages") as advance:
        index = write_report(run, out, images_root=fields_from, progress=advance)
    typer.echo(f"Report: {index}")
