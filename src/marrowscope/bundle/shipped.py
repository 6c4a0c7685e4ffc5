"""The bundles inside the package: ``default``, trained on real cells, and ``demo``, trained on simulated ones.

Options take their names in place of a path. A folder of that name, where the call is made, takes precedence.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from marrowscope.bundle.graph_names import SEGMENTER_FILE
from marrowscope.errors import BundleError

_DEFAULT, _DEMO = "default", "demo"
_FOLDERS = {_DEFAULT: "default_bundle", _DEMO: "demo_bundle"}
SHIPPED = tuple(_FOLDERS)
"""The names that options take in place of a path."""


def default_bundle() -> Path:
    """Return the folder of the bundle trained on real cells; BundleError when this build has none."""
    return _folder(_DEFAULT)


def demonstration_bundle() -> Path:
    """Return the folder of the bundle trained on simulated cells; BundleError when this build has none."""
    return _folder(_DEMO)


def is_shipped(given: Path) -> bool:
    """Tell whether a path is the name of a shipped bundle, and no file or folder of that name is there."""
    return str(given) in _FOLDERS and not given.exists()


def bundle_path(given: Path | None) -> Path:
    """Return the folder that ``--bundle`` names, the default bundle where it was not given."""
    if given is None:
        return default_bundle()
    return _folder(str(given)) if is_shipped(given) else given


def segmenter_path(given: Path) -> Path:
    """Return the graph that ``--segmenter`` names: a path, or a shipped bundle's."""
    return _folder(str(given)) / SEGMENTER_FILE if is_shipped(given) else given


def _folder(name: str) -> Path:
    folder = Path(str(files("marrowscope"))) / "data" / _FOLDERS[name]
    if not (folder / "bundle.toml").is_file():
        message = f"{folder}: found no bundle, expected bundle.toml; reinstall marrowscope or give --bundle"
        raise BundleError(message)
    return folder
