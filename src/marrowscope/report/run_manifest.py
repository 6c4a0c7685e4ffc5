"""The manifest of a run that can be reported: one whose categories are those that the reports have words for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marrowscope.errors import RunError
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.runs.manifest import Manifest


def reportable_manifest(run_dir: Path) -> Manifest:
    """Read the manifest of ``run_dir``, which every format starts with.

    Raises RunError when ``run_dir`` is no finished run, when a table is not the one that the manifest states, and when
    it was predicted with another vocabulary than the one that ships here: probabilities are stored by position, so its
    categories would be printed under wrong names.
    """
    manifest, shipped = read_checked_manifest(run_dir), load_vocabulary()
    used = manifest.bundle.vocabulary
    if used and used.sha256 and used.sha256 != shipped.sha256:
        message = (
            f"{run_dir}: found a run of vocabulary {used.name} {used.version} (SHA-256 "
            f"{used.sha256[:12]}), expected {shipped.name} {shipped.version} ({shipped.sha256[:12]}), whose "
            "categories the reports name; read its Parquet tables, or report it with the version of marrowscope that "
            "has its vocabulary"
        )
        raise RunError(message)
    return manifest
