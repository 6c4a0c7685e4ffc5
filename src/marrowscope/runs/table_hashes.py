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
from marrowscope.runs.shard_record import SHARD_NAME, is_shard

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = (*(f"{kind}.parquet" for kind in get_args(TableKind)), SHARD_NAME)


def hash_tables(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each table in ``folder``, by file name, and of a shard's record.

    A run without slides has no regions.parquet.
    """
    return {name: sha256_file(folder / name) for name in _NAMES if (folder / name).is_file()}


def read_checked_manifest(folder: Path, *, of_shard: bool = False) -> Manifest:
    """Read the manifest of a finished run whose tables are the ones it states.

    Raises RunError as ``read_manifest`` does, where a table is changed, missing or not stated, and for the run of a
    shard unless ``of_shard``: what other shards have too still counts in it.
    """
    manifest = read_manifest(folder)
    if is_shard(folder) and not of_shard:
        message = (
            f"{folder}: found one shard of a prediction, expected a whole run; put all shards together with "
            "`marrowscope merge`"
        )
        raise RunError(message)
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
