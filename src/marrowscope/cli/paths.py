"""The paths of a call, checked at the door: what is read exists, and nothing is written into what is read."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

from marrowscope.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_P = ParamSpec("_P")
_WRITTEN = "out"
"""The one parameter that names a place to write to; every other path is read."""
_BUNDLES = frozenset({"bundle", "segmenter", "run_or_bundle"})
"""The parameters whose path may be the name of a bundle that comes with the program."""


def with_checked_paths(command: Callable[_P, None], *, writes_into_input: bool) -> Callable[_P, None]:
    """Let ``command`` start only where every path to read exists and, by default, ``out`` is outside all of them."""

    @wraps(command)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        read = [(name, path) for name, value in kwargs.items() if name != _WRITTEN for path in _paths(value)]
        for name, path in read:
            require_path(path, is_bundle=name in _BUNDLES)
        out = kwargs.get(_WRITTEN)
        if isinstance(out, Path) and not writes_into_input:
            for _, folder in read:
                _refuse_inside(out, folder)
        command(*args, **kwargs)

    return checked


def require_path(path: Path, *, is_bundle: bool = False) -> None:
    """Raise InputError where there is no file or folder at ``path``; a bundle may be one of the shipped, by name."""
    from marrowscope.bundle.shipped import SHIPPED, is_shipped

    if not (path.exists() or (is_bundle and is_shipped(path))):
        names = f", or name {' or '.join(SHIPPED)}" if is_bundle else ""
        message = f"{_shown(path)}: not found, no such file or folder; check the path{names}"
        raise InputError(message)


def _paths(value: object) -> Iterator[Path]:
    values = value if isinstance(value, list) else [value]
    return (item for item in values if isinstance(item, Path))


def _refuse_inside(out: Path, folder: Path) -> None:
    if folder.is_dir() and folder.resolve() in out.resolve().parents:
        message = (
            f"{_shown(out)}: found an output inside {_shown(folder)}, a folder that this command reads, expected one "
            "outside it; choose another place for --out"
        )
        raise InputError(message)


def _shown(path: Path) -> str:
    from marrowscope.imaging import printable

    return printable(path)
