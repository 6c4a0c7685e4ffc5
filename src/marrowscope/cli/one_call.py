"""One call at a time per --out: the lock that every command with such an option holds while it works."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")


def one_call_at_a_time(command: Callable[_P, None]) -> Callable[_P, None]:
    """Let ``command`` hold the lock of its ``out``, or of its ``run`` where it writes into that.

    A second call raises RunError, which names who holds the lock; a stale lock is taken over, and that is said.
    """

    @wraps(command)
    def held(*args: _P.args, **kwargs: _P.kwargs) -> None:
        out, run = kwargs.get("out"), kwargs.get("run")
        if not isinstance(out, Path) and isinstance(run, Path) and run.is_dir():
            out = run
        if not isinstance(out, Path):
            command(*args, **kwargs)
            return
        from marrowscope.disk import locked

        with locked(out, lambda sentence: typer.echo(sentence, err=True)):
            command(*args, **kwargs)

    return held
