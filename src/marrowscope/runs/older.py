"""Sentences on what an older run lacks; the run is reported anyway, and the reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from marrowscope.runs.manifest import MANIFEST_NAME
from marrowscope.runs.parquet import absent_columns
from marrowscope.runs.schemas import TableKind
from marrowscope.runs.table_hashes import read_checked_manifest

if TYPE_CHECKING:
    from pathlib import Path


def older_run_remarks(run_dir: Path) -> tuple[str, ...]:
    """List what a run lacks compared with a current one, one sentence per file; empty if nothing is missing.

    Raises RunError if ``run_dir`` is not a finished run, or if its tables differ from its manifest.
    """
    manifest = read_checked_manifest(run_dir)
    bundle = manifest.bundle
    hashes = {
        "the bundle": bundle.sha256,
        "its vocabulary": bundle.vocabulary.sha256 if bundle.vocabulary else None,
        "the tables": manifest.tables,
    }
    unstated = [name for name, sha256 in hashes.items() if not sha256]
    absent = {MANIFEST_NAME: f"SHA-256 of {' and '.join(unstated)}" if unstated else ""}
    for kind in get_args(TableKind):
        path = run_dir / f"{kind}.parquet"
        absent[path.name] = ", ".join(absent_columns(path, kind)) if path.is_file() else ""
    return tuple(
        f"{name}: found no {what}, which older runs do not have; it is taken as not known"
        for name, what in absent.items()
        if what
    )
