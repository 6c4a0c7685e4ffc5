"""The manifest of a run that can be reported, that is, whose categories the reports have words for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import RunError
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.vocabulary import are_compatible, load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.runs.manifest import Manifest


def reportable_manifest(run_dir: Path) -> Manifest:
    """Read the manifest of ``run_dir``, which every format needs first.

    Raises RunError if ``run_dir`` is not a finished run, if a table differs from what the manifest states, or if it was
    predicted with a vocabulary other than the built-in one: probabilities are stored by position, so its categories
    would be printed under wrong names.
    """
    manifest, shipped = read_checked_manifest(run_dir), load_vocabulary()
    used = manifest.bundle.vocabulary
    if used and used.sha256 and not are_compatible(used.sha256, shipped.sha256):
        message = (
            f"{run_dir}: found a run with vocabulary {used.name} {used.version} (SHA-256 "
            f"{used.sha256[:12]}), expected {shipped.name} {shipped.version} ({shipped.sha256[:12]}), whose "
            "categories the reports can name; read its Parquet tables, or report it with the version of marrowscope "
            "that has its vocabulary"
        )
        raise RunError(message)
    return manifest
