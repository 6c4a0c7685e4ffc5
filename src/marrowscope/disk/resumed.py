"""A folder made in steps: what an interrupted call finished is kept, and the same call goes on from there.

    OUT.part/unfinished/journal.json   what is made and with what; another call starts anew
    OUT.part/unfinished/...            what the finished steps keep for the end

Invariant: steps are kept only for a call with an equal journal.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.disk.folders import (
    begin_folder,
    mark_folder,
    read_marker,
    refuse_foreign_folder,
    refuse_working_folder,
    remove_unfinished,
    replace_folder,
)
from marrowscope.disk.whole_files import PART, write_text
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from marrowscope.errors import MarrowscopeError

_NOTES_FOLDER, _JOURNAL_NAME = "unfinished", "journal.json"


@dataclass(frozen=True, slots=True)
class UnfinishedFolder:
    """Where a folder is made, and where its steps keep what the end needs; ``notes`` is removed at the end."""

    path: Path
    notes: Path


@contextmanager
def resumed_folder(
    out: Path,
    kind: str,
    made_from: Mapping[str, object],
    *,
    overwrite: bool,
    error: type[MarrowscopeError] = RunError,
) -> Iterator[UnfinishedFolder]:
    """Yield the folder in which ``out`` is made, with what an interrupted call with an equal ``made_from`` finished.

    On success it is marked and becomes ``out``. Otherwise it stays for the same call, unless no step left a note.
    ``made_from`` has everything that determines the result, as JSON values. Raises ``error`` as ``new_folder`` does.
    """
    refuse_working_folder(out, kind, error=error)
    refuse_foreign_folder(out, kind, overwrite=overwrite, error=error)
    staging = out.with_name(out.name + PART)
    notes = staging / _NOTES_FOLDER
    journal = json.dumps(made_from, sort_keys=True, indent=2)
    if not _is_begun(staging, kind, journal):
        begin_folder(staging, kind, error=error)
    try:
        if not notes.is_dir():
            notes.mkdir()
            write_text(notes / _JOURNAL_NAME, journal)
        yield UnfinishedFolder(staging, notes)
        shutil.rmtree(notes)
        mark_folder(staging, kind)
        refuse_foreign_folder(out, kind, overwrite=overwrite, error=error)
        replace_folder(staging, out)
    except BaseException:
        with contextlib.suppress(OSError):
            if not any(path.name != _JOURNAL_NAME for path in notes.iterdir()):
                remove_unfinished(staging)
        raise


def _is_begun(staging: Path, kind: str, journal: str) -> bool:
    """Tell whether ``staging`` is an unfinished ``kind`` with this journal."""
    marker = read_marker(staging)
    if marker is None or marker.kind != kind or marker.complete:
        return False
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (staging / _NOTES_FOLDER / _JOURNAL_NAME).read_text(encoding="utf-8") == journal
    return False
