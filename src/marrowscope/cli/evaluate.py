"""`marrowscope evaluate`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run that `marrowscope predict` wrote.")],
    cohort: Annotated[Path, typer.Argument(help="The annotated cohort the run was predicted from.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json, metrics.csv and metrics.md.")],
    *,
    tile_grid: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNSxROWS",
            help="Fields are mosaics of tiles (4x3): an unmatched detection at a seam counts neither way.",
        ),
    ] = None,
    edge_margin: Annotated[
        float | None, typer.Option(min=0, help="How near to an edge or seam that is, in pixels (default 4).")
    ] = None,
    min_iou: Annotated[float | None, typer.Option(help="Contour IoU from which a cell is found (default 0.5).")] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Mapping of another label scheme to the vocabulary: a name or a TOML file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the bootstrap over patients (default 0).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of the tables.")] = False,
) -> None:
    """Measure RUN against the expert polygons of COHORT, centre by centre, each figure with n and 95% interval.

    Example: marrowscope evaluate runs/first my-cohort --out runs/first-metrics
    """
    from marrowscope.cli.progress import progress_bar
    from marrowscope.cohort import read_cohort
    from marrowscope.config import validate_config
    from marrowscope.evaluate import EvaluateConfig, as_markdown, evaluate_run, write_evaluation
    from marrowscope.runs import read_manifest
    from marrowscope.vocabulary import load_mapping, load_vocabulary

    columns, rows = _parse_grid(tile_grid)
    values = {"edge_margin_px": edge_margin, "min_iou": min_iou, "seed": seed}
    config = validate_config(
        EvaluateConfig,
        {"tile_columns": columns, "tile_rows": rows}
        | {key: value for key, value in values.items() if value is not None},
        where="marrowscope evaluate",
    )
    read_manifest(run)  # a folder that is no run is refused before the cohort's images are read
    vocabulary = load_vocabulary()
    labels = None if mapping is None else load_mapping(mapping)
    # The pixels are not needed: the images' hashes say that they are the predicted ones.
    with progress_bar("Reading annotations", enabled=not as_json) as advance:
        truth = read_cohort(cohort, vocabulary=vocabulary, mapping=labels, decode=False, progress=advance)
    with progress_bar("Measuring centers", enabled=not as_json) as advance:
        evaluation = evaluate_run(run, truth.patients, truth.fields, vocabulary, config=config, progress=advance)
    write_evaluation(evaluation, out)
    if as_json:
        typer.echo((out / "metrics.json").read_text(encoding="utf-8"))
        return
    typer.echo(as_markdown(evaluation))
    typer.echo(f"Written: {out / 'metrics.md'}, metrics.csv, metrics.json, ratios.csv")
    lost = [fault for fault in truth.faults if fault.loses_data]
    if lost:
        typer.echo(f"{len(lost)} faults of the cohort lose data; see `marrowscope cohort check {cohort}`", err=True)


def _parse_grid(text: str | None) -> tuple[int, int]:
    """Read ``4x3`` as (columns, rows); nothing is (1, 1)."""
    from marrowscope.errors import ConfigError

    if text is None:
        return 1, 1
    found = re.fullmatch(r"([1-9]\d*)\s*[xX]\s*([1-9]\d*)", text.strip())
    if not found:
        message = f"--tile-grid: found {text!r}, expected columns x rows such as 4x3"
        raise ConfigError(message)
    return int(found[1]), int(found[2])
