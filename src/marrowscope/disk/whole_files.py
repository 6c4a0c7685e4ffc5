"""Files written whole or not at all.

A file is written beside its place, flushed, and moved there in one step; a reader never sees half of it, and after a
power cut the old or the new one is there.
"""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = ".part"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Return a path beside ``path`` to write to; it becomes ``path`` when all went well, else it is removed."""
    temporary = path.with_name(path.name + PART)
    try:
        yield temporary
        move_whole(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def move_whole(complete: Path, path: Path) -> None:
    """Flush the file ``complete`` and move it to ``path``, on the same disk, in one step."""
    with complete.open("rb+") as file:
        os.fsync(file.fileno())
    complete.replace(path)
    flush_folder(path.parent)


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


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries where the system can; Windows does it by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
