"""One call at a time per --out: the lock that every command with such an option holds while it works."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_P = ParamSpec("_P")


def one_call_at_a_time(command: Callable[_P, None]) -> Callable[_P, None]:
    """Let ``command`` hold the lock of its ``out``, else of its ``run`` or ``images`` where it writes into these.

    A second call raises RunError, which names who holds the lock; a stale lock is taken over, and that is said.
    """

    @wraps(command)
    def held(*args: _P.args, **kwargs: _P.kwargs) -> None:
        out = _place(kwargs)
        if out is None:
            command(*args, **kwargs)
            return
        from marrowscope.disk import locked

        with locked(out, lambda sentence: typer.echo(sentence, err=True)):
            command(*args, **kwargs)

    return held


def _place(options: Mapping[str, object]) -> Path | None:
    """Return the file or folder that a command writes to; None where it writes to none."""
    out, image = options.get("out"), options.get("image")
    if isinstance(out, Path):
        return out
    within = [options.get("run"), options.get("images"), image.parent if isinstance(image, Path) else None]
    return next((folder for folder in within if isinstance(folder, Path) and folder.is_dir()), None)
