"""``marrowscope scale``: micrometers per pixel of photographs that state none, from their erythrocytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marrowscope.cli.progress import progress_bar
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.cells.fitting_scale import FolderScale

_EXIT_INCOMPLETE = 1


def scale(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES", help="A cohort, patient folders or image files; slides are left out."),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimates as JSON.")] = False,
) -> None:
    """Estimate the scale of photographs from the diameter of their erythrocytes, folder by folder.

    Use it where the microscope's own scale is not known: photographs of a stage micrometer are better. Anemias change
    the erythrocytes, and the estimate with them. The exit code is 1 if a folder has no estimate.

    Example: marrowscope scale my-cohort/P001
    """
    from marrowscope.cells.fitting_scale import estimate_scales

    with progress_bar("Measuring erythrocytes", enabled=not as_json) as advance:
        estimates = estimate_scales(images, advance)
    if as_json:
        typer.echo(json.dumps([asdict(item) | {"folder": str(item.folder)} for item in estimates], indent=2))
    else:
        _show(estimates)
    for sentence in [sentence for item in estimates for sentence in item.unread]:
        typer.echo(f"Not measured: {sentence}", err=True)
    if any(item.um_per_px is None or item.unread for item in estimates):
        raise typer.Exit(_EXIT_INCOMPLETE)


def _show(estimates: tuple[FolderScale, ...]) -> None:
    """Print the estimates for a reader, and what they rest on."""
    from rich.markup import escape

    from marrowscope.cells.erythrocyte_size import MIN_POOLED, NORMAL_UM
    from marrowscope.cli.tables import new_table, print_table

    table = new_table(
        "folder", "images", "erythrocytes", "diameter, px", "um per px", "95% interval", title="Scale from erythrocytes"
    )
    for item in estimates:
        name = escape(str(item.folder))
        counts = (str(item.n_images), str(item.n_erythrocytes))
        if item.um_per_px is None:
            table.add_row(name, *counts, "", "none", "")
            continue
        interval = f"{item.lower:.3g} to {item.upper:.3g}"
        table.add_row(name, *counts, f"{item.diameter_px:.1f}", f"{item.um_per_px:.3g}", interval)
    print_table(table)
    if any(item.um_per_px is None for item in estimates):
        least = count_of(MIN_POOLED, "whole, single erythrocyte")
        typer.echo(f"none: found too few erythrocytes, expected at least {least}; add photographs of thinner areas.")
    if n_slides := sum(item.n_slides for item in estimates):
        typer.echo(f"{count_of(n_slides, 'slide')} left out: slides state their scale.")
    typer.echo(
        f"The erythrocytes are taken to be normal: {NORMAL_UM} um on average. Microcytosis (iron deficiency, "
        "thalassemia) and macrocytosis (megaloblastic anemia, MDS, some treatments) change their size: the scale then "
        "comes out too large or too small by as much, and the interval does not hold that. "
        "Use several patients of one microscope, or a stage micrometer."
    )
