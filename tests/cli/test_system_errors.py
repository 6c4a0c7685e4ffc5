"""What the system refuses is one sentence by its number, wherever a library hides it."""

from __future__ import annotations

import errno
import signal
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.cli.system_errors import system_error
from marrowscope.errors import ImageError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (OSError(errno.ENOSPC, "No space", "a"), "a: nothing more can be written, the disk is full", 1),
        (OSError(errno.EDQUOT, "quota"), "quota is used up", 1),
        (OSError(errno.EROFS, "ro"), "read-only disk", 2),
        (OSError(errno.ENAMETOOLONG, "long", "b" * 300), "name that is too long", 2),
        (PermissionError(errno.EPERM, "no"), "no permission", 2),
        (OSError("4096 requested and 512 written"), "the disk is full", 1),
        (OSError("Not enough free space to write 28409856 bytes after offset 128"), "the disk is full", 1),
        (OSError(errno.ENOTCONN, "Transport endpoint"), "the system refused a step", 1),
        (MemoryError(), "too little memory", 1),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "too little memory", 1),
        (pl.exceptions.ComputeError("No space left on device (os error 28)"), "the disk is full", 1),
        (ValueError("I/O error: Read-only file system"), "read-only disk", 2),
        (caused(ValueError("cannot write"), OSError(errno.ENOSPC, "No space")), "the disk is full", 1),
        (caused(ImageError("a.png: damaged"), MemoryError()), "too little memory", 1),
    ],
)
def test_the_sentence_follows_the_number(error: Exception, words: str, code: int) -> None:
    found = system_error(error)
    assert found is not None
    assert words in found[0]
    assert found[1] == code
    assert len(found[0]) < 400


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("division by zero"),
        ValueError("found 3 columns"),
        caused(RunError("no manifest"), FileNotFoundError(errno.ENOENT, "x")),
        caused(ImageError("a.png: damaged"), ValueError("bad")),
    ],
)
def test_what_the_system_did_not_refuse_keeps_its_own_words(error: Exception) -> None:
    assert system_error(error) is None


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep files below 4096 bytes, and write no bytecode meanwhile: Python would keep the part that fits."""
    resource = pytest.importorskip("resource")  # not on Windows
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("library", ["polars", "numpy", "safetensors"])
@pytest.mark.usefixtures("limit")
def test_the_libraries_errors_are_known(library: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=10_000)

    def write() -> None:
        if library == "polars":
            pl.DataFrame({"a": values}).write_parquet(tmp_path / "a")
        elif library == "numpy":
            np.save(tmp_path / "a.npy", values)
        else:
            pytest.importorskip("safetensors.numpy").save_file({"a": values}, tmp_path / "a")

    with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has its own
        write()
    found = system_error(raised.value)
    assert found is not None, repr(raised.value)
    assert "nothing more can be written" in found[0]
