"""The bundle that predicted a run, found again by its hash: where somebody says, or where the run's command does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marrowscope.bundle import load_bundle
from marrowscope.bundle.description import SPEC_NAME
from marrowscope.bundle.shipped import bundle_path
from marrowscope.errors import BundleError
from marrowscope.imaging import sha256_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.runs.manifest import Manifest

_LONG, _SHORT = "--bundle", "-b"
_SHIPPED = (Path("default"), Path("demo"))


def named_bundle(command: Sequence[str]) -> Path | None:
    """Return what a command line gives as its bundle; None where it names none, so that the default was used."""
    for at, word in enumerate(command):
        if word in {_LONG, _SHORT} and at + 1 < len(command):
            return Path(command[at + 1])
        if word.startswith(f"{_LONG}="):
            return Path(word.removeprefix(f"{_LONG}="))
    return None


def find_run_bundle(manifest: Manifest, moved: Sequence[Path] = ()) -> Bundle:
    """Load the bundle whose hash ``manifest`` states: one of ``moved``, the one its command names, or a shipped one.

    Each graph of it is hashed when it is opened. Raises BundleError where none of that hash is found: its folder was
    moved, or holds another bundle now.
    """
    named = named_bundle(manifest.command)
    for given in (*moved, *([] if named is None else [named]), *_SHIPPED):
        if (folder := _folder_of(given, manifest.bundle.sha256)) is not None:
            return load_bundle(folder, verify=False, with_rates=False)
    place = "the shipped bundles" if named is None else f"{named} and the shipped bundles"
    message = (
        f"found no bundle {manifest.bundle.label} with hash {manifest.bundle.sha256[:12]} in {place}, expected the one "
        "that predicted the run"
    )
    raise BundleError(message)


def refuse_other_bundles(moved: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Raise BundleError for one of ``moved`` that predicted none of the runs: a click would never ask it."""
    for given in moved:
        if all(_folder_of(given, manifest.bundle.sha256) is None for manifest in manifests):
            wanted = ", ".join(dict.fromkeys(f"{item.bundle.label} ({item.bundle.sha256[:12]})" for item in manifests))
            message = f"{given}: found no bundle that predicted a run here, expected {wanted}; name its folder"
            raise BundleError(message)


def _folder_of(given: Path, sha256: str) -> Path | None:
    """Return the folder of the bundle that ``given`` names, where its description has that hash."""
    try:
        folder = bundle_path(given)
    except BundleError:  # a build without this one
        return None
    spec = folder / SPEC_NAME
    return folder if spec.is_file() and sha256_file(spec) == sha256 else None
