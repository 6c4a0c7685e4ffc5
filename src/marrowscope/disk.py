"""Files and folders on disk: written whole or not at all, and replaced only where we made them.

A file is written beside its place, flushed, and moved there in one step; a reader never sees half of it, and after a
power cut the old or the new one is there. A folder that may be replaced later carries a marker with the list of what
we wrote in it. Invariant: nothing is removed that no marker names.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from marrowscope.config import FrozenModel
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from marrowscope.errors import MarrowscopeError

MARKER_NAME = ".marrowscope.json"
_MAX_NAMED = 10


class Marker(FrozenModel):
    """What stands in a folder's marker: the kind of folder, and the relative paths of the files we wrote in it."""

    kind: str
    files: tuple[str, ...]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it becomes ``path`` when all went well, else it is removed."""
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; line ends stay as they are, on every system."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Write ``value`` to ``path`` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def mark_folder(folder: Path, kind: str) -> None:
    """Write the marker of ``folder``, which names every file in it now; call it when the folder is complete."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    marker = Marker(kind=kind, files=tuple(name for name in files if name != MARKER_NAME))
    write_text(folder / MARKER_NAME, marker.model_dump_json(indent=2) + "\n")


def read_marker(folder: Path) -> Marker | None:
    """Give the marker of ``folder``, None where it has none or one that cannot be read."""
    try:
        return Marker.model_validate_json((folder / MARKER_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def refuse_foreign_folder(
    folder: Path, kind: str, *, overwrite: bool, error: type[MarrowscopeError] = RunError
) -> None:
    """Raise ``error`` where ``folder``, a ``kind`` to be, may not be made or replaced.

    It may where nothing is there, where it is empty, and with ``overwrite`` where our marker of this kind names every
    file in it. Without the marker, or with files that it does not name, the message lists what would be removed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        message = f"{folder}: found a file, expected a folder for the {kind}; choose another"
        raise error(message)
    present = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if not present:
        return
    marker = read_marker(folder)
    is_ours = marker is not None and marker.kind == kind
    if is_ours and not overwrite:
        message = (
            f"{folder}: found an earlier {kind}, expected a new or empty folder; add --overwrite or choose another"
        )
        raise error(message)
    foreign = present if marker is None or not is_ours else sorted(set(present) - {*marker.files, MARKER_NAME})
    if foreign:
        found = f"an earlier {kind} with files of others" if is_ours else f"something that is no {kind} of ours"
        message = (
            f"{folder}: found {found}, expected a new or empty folder; nothing is removed. It holds {_named(foreign)}; "
            "move them away or choose another folder"
        )
        raise error(message)


def replace_folder(complete: Path, out: Path) -> None:
    """Move the folder ``complete`` to ``out``; what ``refuse_foreign_folder`` allowed to replace goes after that."""
    replaced = complete.with_name(complete.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if out.exists():
        out.replace(replaced)
    complete.replace(out)
    _flush_folder(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _named(files: list[str]) -> str:
    """Name the first few of ``files``, and how many more there are."""
    rest = len(files) - _MAX_NAMED
    return ", ".join(files[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries where the system can; Windows does it by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
