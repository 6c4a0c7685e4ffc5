"""The one walk of a folder: what is in it, folder by folder, without what systems and file servers put there.

Every command that looks for images, annotations or labels goes through here, so none sees a file that another does not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_HIDDEN = frozenset({
    "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot",
    "$recycle.bin", "lost+found", "system volume information", "network trash folder", "temporary items",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
})  # fmt: skip
"""What systems and file servers put beside the files of people, besides names that begin with a dot.

Whole names only: a patient may be called ``__01`` or ``@12``.
"""
_HIDDEN_STARTS = (".", "~$")
_HIDDEN_ENDS = ("@synoeastream", "@synoresource", ":zone.identifier")


@dataclass(frozen=True, slots=True)
class WalkedFolder:
    """One folder: its files (links to nothing and pipes too) and folders, sorted, and what is hidden in it.

    ``error`` says why it cannot be opened; then nothing is known of what is in it. ``repeats`` says that it is a link
    to a folder that it is in, which is not walked again.
    """

    path: Path
    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    error: str = ""
    repeats: bool = False


def is_hidden(path: Path) -> bool:
    """Tell whether a system or file server made the file or folder: nobody's photograph, nobody's annotation."""
    name = path.name.lower()
    return name in _HIDDEN or name.startswith(_HIDDEN_STARTS) or name.endswith(_HIDDEN_ENDS)


def walk(root: Path) -> Iterator[WalkedFolder]:
    """Yield ``root`` and every folder below it, each before those in it; nothing is raised.

    Links to folders are followed under the name of the link. A link to a folder that it is in ends there. Hidden
    folders are named by the folder they are in, and not opened.
    """
    return _walk(root, frozenset())


def files_below(root: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the files below ``root`` whose names end in one of ``suffixes``, in capitals or not, sorted."""
    ends = tuple(suffixes)
    return sorted(path for folder in walk(root) for path in folder.files if path.name.lower().endswith(ends))


def _walk(folder: Path, above: frozenset[object]) -> Iterator[WalkedFolder]:
    identity = _identity(folder)
    if identity in above:
        yield WalkedFolder(folder, repeats=True)
        return
    try:
        with os.scandir(folder) as found:
            is_folder = {folder / item.name: _is_folder(item) for item in found}
    except OSError as error:
        yield WalkedFolder(folder, error=error.strerror or str(error))
        return
    hidden = tuple(sorted(filter(is_hidden, is_folder)))
    seen = sorted(is_folder.keys() - set(hidden))
    folders = tuple(path for path in seen if is_folder[path])
    yield WalkedFolder(folder, tuple(path for path in seen if not is_folder[path]), folders, hidden)
    for path in folders:
        yield from _walk(path, above | {identity})


def _is_folder(item: os.DirEntry[str]) -> bool:
    """Whether a name leads to a folder, behind a link too; asks the disk only for links."""
    try:
        return item.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> object:
    """Return what two paths of one folder have in common."""
    try:
        found = folder.stat()
    except OSError:
        return folder
    return found.st_dev, found.st_ino
