"""A run folder: manifest.json, the three tables, report/. Everything is written beside and moved into place."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from marrowscope.errors import RunError
from marrowscope.runs.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def refuse_file(out: Path) -> None:
    """Raise RunError when ``out``, where a folder is to be made, or something above it is a file."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                message = f"{path}: found a file, expected a folder to write to; choose another"
                raise RunError(message)
            return


def refuse_run_folder(out: Path, *, overwrite: bool) -> None:
    """Raise RunError when ``out`` exists and may not be replaced.

    Only a folder that holds a manifest.json, or is empty, is ever replaced.
    """
    if out.name in {"", ".."}:
        message = f"{out}: found the working folder or one above it, expected a folder of the run's own; name a new one"
        raise RunError(message)
    if out.exists():
        is_empty = out.is_dir() and not any(out.iterdir())
        is_run = (out / MANIFEST_NAME).is_file()
        if not is_empty and not (overwrite and is_run):
            found = "an earlier run" if is_run else "something that is not a run"
            action = "add --overwrite or choose another folder" if is_run else "choose another folder"
            message = f"{out}: found {found}, expected a new or empty folder; {action}"
            raise RunError(message)


def staging_folder(out: Path) -> Path:
    """Name the sibling of ``out`` in which a run is made, and kept while it is unfinished."""
    return out.with_name(out.name + ".part")


@contextmanager
def new_run_folder(staging: Path, out: Path) -> Iterator[Path]:
    """Give an empty folder inside ``staging``; it becomes ``out`` when all went well, and ``staging`` is removed.

    An earlier run, which ``refuse_run_folder`` allowed to replace, goes only when the new one is complete: whenever the
    process is killed, one of the two is whole, or ``staging`` still holds what the new one is made of.
    """
    complete, replaced = staging / "run", staging / "replaced"
    for leftover in (complete, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    complete.mkdir(parents=True)
    yield complete
    if out.exists():
        out.replace(replaced)
    complete.replace(out)
    shutil.rmtree(staging)
