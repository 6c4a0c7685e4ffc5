"""Files that belong to a slide and are not separate images: the parts of a .mrxs and of a .vms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PART_OF_VMS = re.compile(r"=\s*([^=\r\n]+\.jpe?g)\s*$", re.IGNORECASE | re.MULTILINE)
"""A .vms is a list of key=value lines; ImageFile, MapFile, MacroImage and similar keys name JPEG files next to it."""


def drop_companions(paths: Iterable[Path]) -> list[Path]:
    """Return ``paths`` without the files that a slide among them names as its parts or keeps in its folder."""
    paths = list(paths)
    parts = {path.parent / name for path in paths if path.suffix.lower() == ".vms" for name in _named_by(path)}
    folders = {path.with_suffix("") for path in paths if path.suffix.lower() == ".mrxs"}
    return [path for path in paths if path not in parts and folders.isdisjoint(path.parents)]


def _named_by(vms: Path) -> list[str]:
    """List the JPEG files that a .vms names; none if it cannot be read, which is reported later."""
    try:
        return _PART_OF_VMS.findall(vms.read_text(encoding="latin-1"))
    except OSError:
        return []
