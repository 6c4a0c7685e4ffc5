"""The same call over its own complete result: it says that all is done, and changes nothing.

A call that was killed after its last step left a complete folder. Made again, it finds itself in the folder's marker,
as a digest of the command, its options, the files that it reads (name, size and time of change) and the versions.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_P = ParamSpec("_P")
_PLACE = "out"
"""The option that names the folder to make; a folder that was moved is still the same result."""
_JOURNAL, _INDEX = ".sqlite-wal", ".sqlite-shm"
_NOT_OF_THE_RESULT = frozenset({_PLACE, "as_json", "processes", "threads", "workers"})


def done_once(command: Callable[_P, None]) -> Callable[_P, None]:
    """Let ``command`` end at once where its ``out`` is the complete result of the same call.

    The exit code is then that of the first call. Everything else in ``out`` is refused or replaced by the command
    itself, and with ``overwrite`` the folder is made again; so is one that lacks what there was no right to read, once
    there is, or what was left out for want of memory.
    """

    @wraps(command)
    def once(*args: _P.args, **kwargs: _P.kwargs) -> None:
        out = kwargs.get(_PLACE)
        if not isinstance(out, Path) or "://" in str(kwargs.get("db")):  # what is in PostgreSQL has no time of change
            command(*args, **kwargs)
            return
        from marrowscope.disk import call_known_as, result_of

        digest = digest_of_call(f"{command.__module__}.{command.__name__}", kwargs)
        unread = files_without_rights(kwargs)
        earlier = None if kwargs.get("overwrite") else result_of(out, digest)
        lacks = earlier is not None and bool(earlier.exit_code) and "overwrite" in kwargs
        if earlier is not None and lacks and (earlier.again or set(earlier.unread) - set(unread)):
            earlier, kwargs["overwrite"] = None, True  # what was left out may be read now
        if earlier is None:
            with call_known_as(digest, unread):
                command(*args, **kwargs)
            return
        _say_done(out, is_incomplete=bool(earlier.exit_code), as_json=bool(kwargs.get("as_json")))
        if earlier.exit_code:
            raise typer.Exit(earlier.exit_code)

    return once


def digest_of_call(name: str, options: Mapping[str, object]) -> str:
    """Return the SHA-256 of a command's name, the options that shape its result, what they name, and the versions.

    Of a file or a folder count the names, sizes and times of change, not the bytes: a cohort may have a terabyte.
    """
    from marrowscope import __version__
    from marrowscope.runs.manifest import installed_versions

    stated = {
        "command": name,
        "versions": installed_versions() | {"marrowscope": __version__},
        "options": {key: _stated(value) for key, value in options.items() if key not in _NOT_OF_THE_RESULT},
    }
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


def files_without_rights(options: Mapping[str, object]) -> tuple[str, ...]:
    """Name the files among what the options name, and below it, that this process may not read, sorted."""
    from marrowscope.cli.addresses import shown

    values = [value for key, value in options.items() if key not in _NOT_OF_THE_RESULT]
    named = [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]
    places = [Path(item) for item in named if isinstance(item, (str, Path)) and _exists(Path(item))]
    found = {shown(path) for place in places for path in _paths(place) if not os.access(path, os.R_OK)}
    return tuple(sorted(found))


def _stated(value: object) -> object:
    """Return an option's value as JSON; text that names a file or folder counts as its path."""
    from marrowscope.cli.addresses import shown

    if isinstance(value, (list, tuple)):
        return [_stated(item) for item in value]
    if isinstance(value, (str, Path)):
        path = Path(value)
        return [shown(path) if isinstance(value, Path) else value, *(_files(path) if _exists(path) else ())]
    return value if value is None or isinstance(value, (bool, int, float)) else repr(value)


def _exists(path: Path) -> bool:
    try:
        return path.name != "" and path.exists()
    except (OSError, ValueError):  # text that is no path
        return False


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size in bytes and time of change in ns of a file, or of every file below a folder, sorted."""
    from marrowscope.cli.addresses import shown

    yield shown(path.absolute()), 0, 0
    for file in _paths(path):
        yield _facts(file)


def _paths(path: Path) -> Iterator[Path]:
    """Yield the file ``path``, with the journal of a database, or every file below a folder, sorted."""
    from marrowscope.disk.locks import LOCK_SUFFIX

    if path.is_file():
        yield path
        journal = path.with_name(f"{path.stem}{_JOURNAL}")
        if journal.exists() and not _is_left_by_sqlite(journal):
            yield journal
    for folder, inner, names in os.walk(path):
        inner.sort()
        for name in sorted(names):
            if not name.endswith(LOCK_SUFFIX) and not _is_left_by_sqlite(Path(folder, name)):
                yield Path(folder, name)


def _is_left_by_sqlite(path: Path) -> bool:
    """Say whether a file is one that SQLite makes beside a database to read it, and that holds nothing of it."""
    try:
        return path.name.endswith(_INDEX) or (path.name.endswith(_JOURNAL) and path.stat().st_size == 0)
    except OSError:
        return True  # removed meanwhile


def _facts(path: Path) -> tuple[str, int, int]:
    from marrowscope.cli.addresses import shown

    try:
        facts = path.stat()
    except OSError:  # a link to nothing, or a file that another program removed meanwhile
        return shown(path), -1, -1
    return shown(path), facts.st_size, facts.st_mtime_ns


def _say_done(out: Path, *, is_incomplete: bool, as_json: bool) -> None:
    from marrowscope.cli.addresses import shown
    from marrowscope.imaging import printable

    left_out = " It lacks what the first call named." if is_incomplete else ""
    typer.echo(
        f"{printable(shown(out))}: already complete, made by this same call from the same files with the same "
        f"versions; nothing is changed.{left_out}",
        err=as_json,
    )
    if as_json:
        typer.echo(json.dumps({"already_complete": shown(out)}))
