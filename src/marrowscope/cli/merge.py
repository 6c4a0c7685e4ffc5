"""`marrowscope merge`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from marrowscope.cli.options import BundleOption
from marrowscope.wording import count_of


def merge(
    shards: Annotated[
        list[Path], typer.Argument(metavar="SHARDS", help="The runs of `marrowscope predict --shard`, all of them.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run: new or empty.")],
    *,
    bundle: BundleOption = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Accept shards of processors with different features: last digits may differ."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Put the shards of a prediction together, to the run that one call would have written.

    A shard that is missing, given twice, of another input or made in another way is refused by name. No photograph is
    opened. `marrowscope report OUT` then writes the report.

    Example: marrowscope merge shards/* --out runs/all
    """
    from marrowscope.bundle.shipped import bundle_path
    from marrowscope.cli.addresses import saving, shown
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cluster.merge import merge as merge_shards

    with progress_bar("Merging shards", enabled=not as_json) as advance:
        run = merge_shards(
            shards,
            bundle_path(bundle),
            out,
            mixed=mixed,
            overwrite=overwrite,
            command=["marrowscope", *sys.argv[1:]],
            progress=saving(advance),
        )
    counts = run.manifest.counts
    if as_json:
        typer.echo(json.dumps(counts.model_dump(mode="json") | {"run": shown(out)}, indent=2))
    else:
        typer.echo(
            f"{count_of(len(shards), 'shard')}: {count_of(counts.patients, 'patient')}, "
            f"{count_of(counts.images, 'image')}, {count_of(counts.cells, 'cell')}. Tables: {shown(out)}"
        )
    for fault in run.manifest.faults:
        typer.echo(f"Input: {fault}", err=True)
    if counts.images_failed or counts.left_out:
        raise typer.Exit(1)
