"""Addresses of an object store on the command line: a command that takes them works on folders that stand for them."""

from __future__ import annotations

from contextlib import ExitStack
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec

import typer

from marrowscope.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from marrowscope.cluster.mirror import Mirror
    from marrowscope.cluster.publish import StoredFolder

_P = ParamSpec("_P")
Reads = Literal["photographs", "whole"]
"""How much of an address is copied before a command starts: nothing but the list of photographs, or everything."""
_WRITTEN = "out"
_WRITTEN_INTO = "run"
"""Parameter of the run that a command without ``out`` writes into."""
_MIRROR: ContextVar[Mirror | None] = ContextVar("marrowscope_mirror", default=None)
_OUTPUT: ContextVar[StoredFolder | None] = ContextVar("marrowscope_stored_output", default=None)


def with_addresses(command: Callable[_P, None], reads: Mapping[str, Reads]) -> Callable[_P, None]:
    """Let ``command`` take addresses as the parameters in ``reads``, and as ``out``; all others are refused.

    What the command made at an address is written there when it is done, also where its exit code says that something
    is missing from it.
    """

    @wraps(command)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> None:
        given = dict(_addresses(kwargs))
        if not given:
            command(*args, **kwargs)
            return
        for name, address in given.items():
            if not reads or name not in {*reads, _WRITTEN}:
                message = (
                    f"{address}: found an address of an object store, expected a path; nothing is read from a store "
                    "here: copy the files to a folder"
                )
                raise InputError(message)
        from marrowscope.cluster.mirror import open_mirror

        with open_mirror() as mirror, ExitStack() as stack:
            stack.callback(_MIRROR.reset, _MIRROR.set(mirror))
            _call_mirrored(command, kwargs, mirror, reads, stack)

    return translated


def _call_mirrored(
    command: Callable[..., None],
    options: Mapping[str, object],
    mirror: Mirror,
    reads: Mapping[str, Reads],
    stack: ExitStack,
) -> None:
    """Call ``command`` with paths in place of addresses, and publish what it wrote."""
    from marrowscope.cluster.publish import StoredFolder
    from marrowscope.cluster.store_lock import locked_address
    from marrowscope.disk.addresses import address_of
    from marrowscope.disk.whole_files import PART

    target = options.get(_WRITTEN) or options.get(_WRITTEN_INTO)
    address = address_of(target) if isinstance(target, Path) else None
    if address is not None:
        lock = stack.enter_context(locked_address(mirror.store, address, lambda text: typer.echo(text, err=True)))

    def local(name: str, value: object) -> object:
        if isinstance(value, list):
            return [local(name, item) for item in value]
        found = address_of(value) if isinstance(value, Path) else None
        if found is None:
            return value
        if name == _WRITTEN:
            mirror.copy_if_there(f"{found}{PART}")
            return mirror.list_output(found)
        return mirror.list(found) if reads[name] == "photographs" else mirror.copy(found)

    translated = {name: local(name, value) for name, value in options.items()}
    if address is None:
        command(**translated)
        return
    folder = StoredFolder(mirror, address, mirror.path(address), lock.check)
    stack.callback(_OUTPUT.reset, _OUTPUT.set(folder))
    try:
        command(**translated)
    except typer.Exit:
        _finish(folder)
        raise
    _finish(folder)


def _finish(folder: StoredFolder) -> None:
    folder.publish()
    folder.save_parts()


def mirror() -> Mirror | None:
    """Return what stands for the addresses of this call, None where it has none."""
    return _MIRROR.get()


def saving(advance: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """Return a progress that also copies the parts of an unfinished run into the store, if it is written there."""
    folder = _OUTPUT.get()
    return advance if folder is None else folder.saving(advance)


def stored_output() -> StoredFolder | None:
    """Return the address that ``out`` stands for, None where it is a path."""
    return _OUTPUT.get()


def shown(path: Path) -> str:
    """Return a path as the user gave it: an address where it stands for one."""
    found = _MIRROR.get()
    return str(path) if found is None else found.stated(path)


def in_addresses(text: str) -> str:
    """Return a sentence with addresses in place of the paths that stand for them."""
    found = _MIRROR.get()
    return text if found is None else found.words(text)


def _addresses(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    from marrowscope.disk.addresses import address_of

    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Path) and (found := address_of(item)) is not None:
                yield name, found
