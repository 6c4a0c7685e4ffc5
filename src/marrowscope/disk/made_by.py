"""Which call a folder was made by: the same call that finds its own complete result has nothing left to do.

A call is known by a digest of its command, inputs and settings, which the command line knows and the marker of the
folder keeps. Invariant: a folder counts as complete only if every file that its marker names is there, and together
they are as large as when they were marked.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALL: ContextVar[tuple[str, tuple[str, ...]]] = ContextVar("marrowscope_call", default=("", ()))


@contextmanager
def call_known_as(digest: str, unread: tuple[str, ...] = ()) -> Iterator[None]:
    """Let every folder that is marked in this block remember that the call ``digest`` made it, without ``unread``.

    These are the files that the call had no right to read.
    """
    token = _CALL.set((digest, unread))
    try:
        yield
    finally:
        _CALL.reset(token)


def this_call() -> str:
    """Return the digest of the call that is at work; empty from Python, where nobody stated one."""
    return _CALL.get()[0]


def unread_by_this_call() -> tuple[str, ...]:
    """Return the files that the call that is at work has no right to read."""
    return _CALL.get()[1]
