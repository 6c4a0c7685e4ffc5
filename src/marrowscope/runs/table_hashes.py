"""The hashes of a run's tables, stated in its manifest: what a later command reads is what the prediction wrote.

A table that was changed, removed or added after the run was made is refused. Runs of earlier versions state no hashes;
``older_run_remarks`` says so, and they are read all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from marrowscope.errors import RunError
from marrowscope.imaging import sha256_file
from marrowscope.runs.manifest import MANIFEST_NAME, Manifest, read_manifest
from marrowscope.runs.schemas import TableKind

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = tuple(f"{kind}.parquet" for kind in get_args(TableKind))


def hash_tables(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each table in ``folder``, by file name; a run without slides has no regions.parquet."""
    return {name: sha256_file(folder / name) for name in _NAMES if (folder / name).is_file()}


def read_checked_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished run whose tables are the ones it states.

    Raises RunError as ``read_manifest`` does, and where a table is changed, missing or not stated.
    """
    manifest = read_manifest(folder)
    if not manifest.tables:
        return manifest
    try:
        found = hash_tables(folder)
    except OSError as error:
        message = f"{error.filename}: cannot be read ({error.strerror}); check the file and its permissions"
        raise RunError(message) from error
    for name in _NAMES:
        if found.get(name) != manifest.tables.get(name):
            message = (
                f"{folder / name}: found {_stated(found.get(name))}, expected {_stated(manifest.tables.get(name))} as "
                f"in {MANIFEST_NAME}; copy the run again, or run `marrowscope predict` again"
            )
            raise RunError(message)
    return manifest


def _stated(sha256: str | None) -> str:
    return f"SHA-256 {sha256}" if sha256 else "no such table"
