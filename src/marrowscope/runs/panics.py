"""The panics of polars, kept off the terminal.

Polars prints a panic to standard error before Python gets it as an exception, and has no setting against it. Over a
damaged file the user would read its sources' file names and a hint on backtraces, and then our sentence.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = RLock()
_STANDARD_ERROR = 2


@contextmanager
def panics_unprinted() -> Iterator[None]:
    """Hold back what is written to standard error inside; it is written at the end unless polars panicked.

    Standard error belongs to the whole process, so one thread at a time is inside. Where it is closed, or no temporary
    file can be made, nothing is held back.
    """
    with _LOCK:
        sys.stderr.flush()
        try:
            held = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        except OSError:
            yield
            return
        with held:
            try:
                kept = os.dup(_STANDARD_ERROR)
            except OSError:
                yield
                return
            os.dup2(held.fileno(), _STANDARD_ERROR)
            panicked = False
            try:
                yield
            except pl.exceptions.PanicException:
                panicked = True
                raise
            finally:
                sys.stderr.flush()
                os.dup2(kept, _STANDARD_ERROR)
                os.close(kept)
                held.seek(0)
                if not panicked and (said := held.read()):
                    os.write(_STANDARD_ERROR, said)
