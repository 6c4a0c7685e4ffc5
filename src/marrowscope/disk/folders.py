"""Folders on disk: marked with what we wrote in them, and replaced only where a marker of ours names every file.

A folder that may be replaced later carries a marker with the list of what we wrote in it; the marker of an unfinished
folder, in which a new one is made, stands for everything there. Invariant: nothing is removed that no marker names.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from marrowscope.config import FrozenModel
from marrowscope.disk.locks import LOCK_SUFFIX
from marrowscope.disk.made_by import this_call, unread_by_this_call
from marrowscope.disk.whole_files import PART, flush_folder, move_whole, write_text
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from marrowscope.errors import MarrowscopeError

MARKER_NAME = ".marrowscope.json"
_MAX_NAMED = 10
_OF_THE_SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that file managers leave in folders; they belong to nobody."""


class Marker(FrozenModel):
    """Content of a folder's marker: the kind of folder, and the relative paths of the files we wrote in it.

    In a folder that is not ``complete``, a new one is being made, and everything in it is ours; but where it names
    files, these alone are ours, and are on their way into it. ``call`` is the digest of the call that made the folder,
    with that call's exit code, the sum of the files' sizes, and the inputs that it had no right to read; empty from
    Python. ``again`` says that something was left out for a cause that may be gone when the same call is made again.
    """

    kind: str
    files: tuple[str, ...]
    complete: bool = True
    call: str = ""
    exit_code: int = 0
    n_bytes: int | None = None
    unread: tuple[str, ...] = ()
    again: bool = False


def mark_folder(folder: Path, kind: str, *, exit_code: int = 0, again: bool = False) -> None:
    """Write the marker of ``folder``, which lists all files now in it; call it when the folder is complete.

    ``exit_code`` is that of the call whose result it is, where something was left out of it; ``again``: see ``Marker``.
    """
    files = tuple(name for name in _files_in(folder) if name != MARKER_NAME)
    n_bytes = _size(folder, files) if this_call() else None
    unread, call = unread_by_this_call(), this_call()
    marker = Marker(kind=kind, files=files, call=call, exit_code=exit_code, n_bytes=n_bytes, unread=unread, again=again)
    _write_marker(folder, marker)


def name_files(folder: Path, kind: str, names: Iterable[str], *, whole: bool = False) -> None:
    """Add files that we write into ``folder`` to its marker, which is created with ``kind`` if there is none.

    ``names`` are relative paths; the files need not exist yet. With ``whole`` they are all that this call makes, so
    that the folder is complete when they are there; one of them must be absent now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker = read_marker(folder) or Marker(kind=kind, files=())
    if marker.complete:
        made_by = {"call": this_call(), "exit_code": 0, "n_bytes": None} if whole else {}
        files = tuple(sorted({*marker.files, *names}))
        _write_marker(folder, marker.model_copy(update={"files": files} | made_by))


def begin_filling(folder: Path, complete: Path, kind: str) -> None:
    """Mark ``folder`` as one into which the files of ``complete``, a marked folder, are moved one after the other.

    What an earlier marker of the kind names there stays named. The marker of ``complete`` has to be moved last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markers = [marker for place in (folder, complete) if (marker := read_marker(place)) and marker.kind == kind]
    files = sorted({name for marker in markers for name in marker.files})
    _write_marker(folder, Marker(kind=kind, files=tuple(files), complete=False))


def note_exit_code(folder: Path, exit_code: int, *, again: bool | None = None) -> None:
    """Write into the marker of ``folder`` that the call that made it, or makes it now, ends with ``exit_code``.

    ``again``: see ``Marker``; None leaves it as it is.
    """
    if (marker := read_marker(folder)) is not None:
        noted = {"exit_code": exit_code, "again": marker.again if again is None else again}
        _write_marker(folder, marker.model_copy(update=noted))


def result_of(folder: Path, call: str) -> Marker | None:
    """Return the marker of ``folder`` where it is the complete result of the call with the digest ``call``, else None.

    Files that were removed, or that have another size now, make it incomplete; foreign files do not.
    """
    marker = read_marker(folder)
    if marker is None or not marker.complete or not call or marker.call != call:
        return None
    is_there = all((folder / name).exists() for name in marker.files)
    return marker if is_there and marker.n_bytes in {None, _size(folder, marker.files)} else None


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of ``folder``, None if there is none or it cannot be read."""
    try:
        return Marker.model_validate_json((folder / MARKER_NAME).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None


def refuse_foreign_folder(
    folder: Path,
    kind: str,
    *,
    overwrite: bool | None,
    error: type[MarrowscopeError] = RunError,
    within: Collection[str] = (),
) -> None:
    """Raise ``error`` if ``folder``, a future ``kind``, must not be made or replaced.

    It may be made if it does not exist or is empty, and with ``overwrite`` (None where a command has no such option) if
    our marker of this kind lists every file in it; no option is needed for one that was being filled when a call was
    killed. A marker in a subfolder counts if its kind is in ``within``. Without a marker, or with files that no marker
    lists, the message lists what would be removed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        message = f"{folder}: found a file, expected a folder for the {kind}; choose another"
        raise error(message)
    present = _files_in(folder)
    if not present:
        return
    marker = read_marker(folder)
    is_filled = marker is not None and marker.kind == kind and not marker.complete and bool(marker.files)
    is_ours = is_filled or _is_of_kind(folder, kind)
    if is_ours and not is_filled and not overwrite:
        action = "choose another" if overwrite is None else "add --overwrite or choose another"
        message = f"{folder}: found an earlier {kind}, expected a new or empty folder; {action}"
        raise error(message)
    foreign = sorted(set(present) - _ours(folder, marker, present, within)) if marker and is_ours else present
    if foreign:
        # Earlier versions wrote no marker: only a person can tell whose such a folder is.
        found, action = f"files that are not a marrowscope {kind}", "remove the folder by hand if you no longer need it"
        if is_ours:
            found, action = f"an earlier {kind} with foreign files", "move them away"
        message = (
            f"{folder}: found {found}, expected a new or empty folder; nothing is removed. It contains "
            f"{_named(foreign)}; {action}, or choose another folder"
        )
        raise error(message)


def refuse_working_folder(folder: Path, kind: str, *, error: type[MarrowscopeError] = RunError) -> None:
    """Raise ``error`` if ``folder`` is the working folder or one above it, which another folder cannot replace."""
    if folder.name in {"", ".."}:
        message = (
            f"{folder}: found the working folder or one above it, expected a separate folder for the {kind}; "
            "choose a new one"
        )
        raise error(message)


def refuse_foreign_files(
    folder: Path, kinds: Collection[str], names: Iterable[str], *, error: type[MarrowscopeError] = RunError
) -> None:
    """Raise ``error`` if ``folder`` has a file of one of ``names`` that no marker of one of ``kinds`` lists."""
    marker = read_marker(folder)
    named = set(marker.files) if marker and marker.kind in kinds else set()
    foreign = sorted(name for name in names if (folder / name).exists() and name not in named)
    if foreign:
        message = (
            f"{folder}: found {_named(foreign)}, which this command did not write, expected no file of that name; "
            "nothing is replaced. Move it away, or choose another folder"
        )
        raise error(message)


def refuse_foreign_unfinished(
    folder: Path, kind: str, *, error: type[MarrowscopeError] = RunError, within: Collection[str] = ()
) -> None:
    """Raise ``error`` where ``folder``, in which a ``kind`` is to be made, holds anything but an unfinished one.

    One that is complete and was not yet moved to its place counts where its marker names every file, as in
    ``refuse_foreign_folder``.
    """
    if not folder.exists():
        return
    present = _files_in(folder) if folder.is_dir() else [folder.name]
    marker = read_marker(folder)
    ours = {MARKER_NAME + PART}  # of a call that was killed before its first step was done
    if marker is not None and marker.kind == kind:  # complete: of one that was killed before its last step
        ours |= _ours(folder, marker, present, within) if marker.complete else set(present)
    if set(present) - ours:
        message = (
            f"{folder}: found files other than an unfinished marrowscope {kind}, expected none; nothing is removed. "
            f"It contains {_named(present)}; move it away or choose another folder for the {kind}"
        )
        raise error(message)


def begin_folder(
    folder: Path, kind: str, *, error: type[MarrowscopeError] = RunError, within: Collection[str] = ()
) -> None:
    """Make ``folder`` empty and mark it as an unfinished ``kind``; an earlier unfinished one is removed.

    Raises ``error`` if anything else is there.
    """
    refuse_foreign_unfinished(folder, kind, error=error, within=within)
    folder.mkdir(parents=True, exist_ok=True)
    _write_marker(folder, Marker(kind=kind, files=(), complete=False))
    _clear(folder)


def remove_unfinished(folder: Path) -> None:
    """Remove a folder from ``begin_folder``, its marker last, so that an interrupted call leaves no foreign files."""
    _clear(folder)
    shutil.rmtree(folder)


@contextmanager
def new_folder(
    out: Path,
    kind: str,
    *,
    overwrite: bool | None,
    error: type[MarrowscopeError] = RunError,
    within: Collection[str] = (),
) -> Iterator[Path]:
    """Yield an empty folder next to ``out``; on success it is marked and becomes ``out``, otherwise it is removed.

    Raises ``error`` like ``refuse_foreign_folder``, at once and again before an earlier folder is removed.
    """
    refuse_working_folder(out, kind, error=error)
    refuse_foreign_folder(out, kind, overwrite=overwrite, error=error, within=within)
    staging = out.with_name(out.name + PART)
    begin_folder(staging, kind, error=error, within=within)
    try:
        yield staging
        marker = read_marker(staging)
        mark_folder(
            staging, kind, exit_code=marker.exit_code if marker else 0, again=marker is not None and marker.again
        )
        refuse_foreign_folder(out, kind, overwrite=overwrite, error=error, within=within)
        replace_folder(staging, out)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_unfinished(staging)
        raise


@contextmanager
def new_files(
    out: Path, kind: str, names: Collection[str], *, error: type[MarrowscopeError] = RunError
) -> Iterator[Path]:
    """Yield an empty folder next to ``out`` for the files ``names``; on success they move into ``out``.

    Foreign files in ``out`` stay. Raises ``error`` if one of them has such a name.
    """
    refuse_working_folder(out, kind, error=error)
    refuse_foreign_files(out, (kind,), names, error=error)
    staging = out.with_name(out.name + PART)
    begin_folder(staging, kind, error=error)
    try:
        yield staging
        name_files(out, kind, names)
        for name in names:
            move_whole(staging / name, out / name)
    finally:
        with contextlib.suppress(OSError):
            remove_unfinished(staging)


def replace_folder(complete: Path, out: Path) -> None:
    """Move the folder ``complete`` to ``out``; the folder that it may replace is removed afterwards.

    If moving fails, the earlier folder is put back.
    """
    if not out.exists():
        complete.replace(out)
        flush_folder(out.parent)
        return
    _remove_replaced(out)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-replaced-", dir=out.parent))
    out.replace(aside / out.name)
    try:
        complete.replace(out)
    except OSError:
        (aside / out.name).replace(out)
        aside.rmdir()
        raise
    flush_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _remove_replaced(out: Path) -> None:
    """Remove earlier folders ``out`` that a killed call had put aside, where their marker names every file."""
    for aside in out.parent.glob(f".{glob.escape(out.name)}-replaced-*"):
        marker = read_marker(aside / out.name)
        if marker is not None and set(_files_in(aside)) <= {f"{out.name}/{name}" for name in _with_leftovers(marker)}:
            shutil.rmtree(aside, ignore_errors=True)


def _is_of_kind(folder: Path, kind: str) -> bool:
    """Say whether ``folder`` is a complete one of this kind, as its marker states."""
    marker = read_marker(folder)
    return marker is not None and marker.kind == kind and marker.complete


def _clear(folder: Path) -> None:
    """Remove everything in ``folder`` except its marker."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER_NAME:
            path.unlink()


def _write_marker(folder: Path, marker: Marker) -> None:
    write_text(folder / MARKER_NAME, marker.model_dump_json(indent=2) + "\n")


def _files_in(folder: Path) -> list[str]:
    """List the sorted relative paths of everything below ``folder`` except folders; links to folders are included."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found if not _is_nobodys(path.name))


def _size(folder: Path, files: Iterable[str]) -> int:
    """Return the sum of the files' sizes in bytes; a link counts as itself."""
    return sum((folder / name).lstat().st_size for name in files)


def _is_nobodys(name: str) -> bool:
    """Say whether a file is the system's, or a lock of ours that a killed call left."""
    return name in _OF_THE_SYSTEM or name.endswith(LOCK_SUFFIX)


def _ours(folder: Path, marker: Marker, present: Iterable[str], within: Collection[str]) -> set[str]:
    """Return the relative paths listed by ``marker``, and by markers of subfolders of these kinds.

    Temporary files that an interrupted call left of a listed file are ours too.
    """
    ours = _with_leftovers(marker)
    for place in (PurePosixPath(name).parent for name in present if name.endswith(f"/{MARKER_NAME}")):
        inner = read_marker(folder / place)
        if inner is None or inner.kind not in within:
            continue
        if inner.complete:
            ours |= {f"{place}/{name}" for name in _with_leftovers(inner)}
        else:
            ours |= {name for name in present if name.startswith(f"{place}/")}
    return ours


def _with_leftovers(marker: Marker) -> set[str]:
    names = {*marker.files, MARKER_NAME}
    return names | {f"{name}{PART}" for name in names}


def _named(files: list[str]) -> str:
    """List the first few of ``files``, and how many more there are."""
    rest = len(files) - _MAX_NAMED
    return ", ".join(files[:_MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
