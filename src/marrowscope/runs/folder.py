"""A run folder: manifest.json, the tables, report/. Everything is written next to it, then moved into place.

The folder has a marker that lists its files. A run is replaced only if every file in it is listed there.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.disk import (
    mark_folder,
    refuse_foreign_folder,
    refuse_foreign_unfinished,
    refuse_working_folder,
    remove_unfinished,
)
from marrowscope.errors import RunError
from marrowscope.imaging.one_image import TOO_LITTLE_MEMORY
from marrowscope.runs.manifest import MANIFEST_NAME, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


RUN_KIND = "run"
MADE_FROM_A_RUN = ("report", "pdf", "fhir")
"""Kinds of folders inside a run that later commands make from it and could make again."""


_EXIT_INCOMPLETE = 1
"""Exit code of a command whose run lacks an image; the run's marker keeps it."""


def refuse_file(out: Path) -> None:
    """Raise RunError if ``out``, where a folder is to be made, or a path above it is a file."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                message = f"{path}: found a file, expected a folder to write to; choose another"
                raise RunError(message)
            return


def refuse_run_folder(out: Path, *, overwrite: bool) -> None:
    """Raise RunError if ``out``, or the folder where the run is made, has anything that must not be replaced."""
    refuse_working_folder(out, RUN_KIND)
    refuse_foreign_folder(out, RUN_KIND, overwrite=overwrite, within=MADE_FROM_A_RUN)
    refuse_foreign_unfinished(staging_folder(out), RUN_KIND)


def staging_folder(out: Path) -> Path:
    """Return the sibling of ``out`` where a run is made, and kept while it is unfinished."""
    return out.with_name(out.name + ".part")


@contextmanager
def new_run_folder(staging: Path, out: Path, finish: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Yield an empty folder inside ``staging``; on success it becomes ``out``, and ``staging`` is removed.

    ``finish`` gets the complete, marked run before it is moved; what it adds, such as a report, has its own markers.

    An earlier run, if ``refuse_run_folder`` allowed its replacement, is removed only when the new one is complete. If
    the process is killed at any time, one of the two is complete, or ``staging`` still has the parts of the new one.
    Raises RunError if foreign files appeared in ``out`` meanwhile; ``staging`` stays, and the same call can resume.
    """
    complete, replaced = staging / "run", staging / "replaced"
    for leftover in (complete, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    complete.mkdir(parents=True)
    yield complete
    mark_folder(complete, RUN_KIND, exit_code=_exit_code(complete), again=_wanted_memory(complete))
    if finish:
        finish(complete)
    refuse_foreign_folder(out, RUN_KIND, overwrite=True, within=MADE_FROM_A_RUN)
    if out.exists():
        out.replace(replaced)
    complete.replace(out)
    remove_unfinished(staging)


def _wanted_memory(run: Path) -> bool:
    """Tell whether an image was left out for want of memory, so that the same call may read it another time."""
    path = run / "fields.parquet"
    if not path.exists():
        return False
    errors = pl.scan_parquet(path).select(pl.col("error").str.contains(TOO_LITTLE_MEMORY, literal=True).any())
    return bool(errors.collect().item())


def _exit_code(run: Path) -> int:
    """Return the exit code of the command that made ``run``: an image that was left out makes it incomplete."""
    counts = read_manifest(run).counts if (run / MANIFEST_NAME).exists() else None
    return _EXIT_INCOMPLETE if counts and (counts.images_failed or counts.left_out) else 0
