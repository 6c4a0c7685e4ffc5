"""A run folder: manifest.json, the tables, report/. Everything is written beside and moved into place.

The folder carries a marker that names its files; only a run whose every file is named there is ever replaced.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from marrowscope.disk import (
    mark_folder,
    refuse_foreign_folder,
    refuse_foreign_unfinished,
    refuse_working_folder,
    remove_unfinished,
)
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


RUN_KIND = "run"
MADE_FROM_A_RUN = ("report", "pdf", "fhir")
"""Kinds of folder inside a run that later commands make of it and would make again."""


def refuse_file(out: Path) -> None:
    """Raise RunError when ``out``, where a folder is to be made, or something above it is a file."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                message = f"{path}: found a file, expected a folder to write to; choose another"
                raise RunError(message)
            return


def refuse_run_folder(out: Path, *, overwrite: bool) -> None:
    """Raise RunError when ``out``, or the folder in which the run is made, holds anything that may not be replaced."""
    refuse_working_folder(out, RUN_KIND)
    refuse_foreign_folder(out, RUN_KIND, overwrite=overwrite, within=MADE_FROM_A_RUN)
    refuse_foreign_unfinished(staging_folder(out), RUN_KIND)


def staging_folder(out: Path) -> Path:
    """Name the sibling of ``out`` in which a run is made, and kept while it is unfinished."""
    return out.with_name(out.name + ".part")


@contextmanager
def new_run_folder(staging: Path, out: Path, finish: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Give an empty folder inside ``staging``; it becomes ``out`` when all went well, and ``staging`` is removed.

    ``finish`` gets the complete run, marked, before it is moved: what it adds to it, a report for one, has markers of
    its own.

    An earlier run, which ``refuse_run_folder`` allowed to replace, goes only when the new one is complete: whenever the
    process is killed, one of the two is whole, or ``staging`` still holds what the new one is made of. Raises RunError
    when files of others came into ``out`` meanwhile; ``staging`` stays, and the same call goes on from it.
    """
    complete, replaced = staging / "run", staging / "replaced"
    for leftover in (complete, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    complete.mkdir(parents=True)
    yield complete
    mark_folder(complete, RUN_KIND)
    if finish:
        finish(complete)
    refuse_foreign_folder(out, RUN_KIND, overwrite=True, within=MADE_FROM_A_RUN)
    if out.exists():
        out.replace(replaced)
    complete.replace(out)
    remove_unfinished(staging)
