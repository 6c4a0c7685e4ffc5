"""What the system refused, in one sentence by the error's number, whatever library raised it.

A library in Python raises OSError with the number; one in Rust (polars, safetensors) or C++ (pyarrow, torch, OpenCV)
hides it in a text, or raises an error whose cause has it.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from marrowscope.errors import MarrowscopeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT_FAILED, _EXIT_BAD_INPUT = 1, 2
_EDQUOT = getattr(errno, "EDQUOT", -1)  # not on Windows


class _Meaning(NamedTuple):
    """What is wrong, what to do, and the exit code."""

    found: str
    action: str
    code: int = _EXIT_FAILED


_GO_ON = "then call again as before"
_MEANINGS = {
    errno.ENOSPC: _Meaning("nothing more can be written, the disk is full", f"make room, {_GO_ON}"),
    errno.EFBIG: _Meaning("nothing more can be written, a file reached its size limit", f"raise the limit, {_GO_ON}"),
    _EDQUOT: _Meaning("nothing more can be written, the disk quota is used up", f"make room, {_GO_ON}"),
    errno.EROFS: _Meaning("found a read-only disk, expected one to write to", "choose another folder", _EXIT_BAD_INPUT),
    errno.EACCES: _Meaning(
        "found no permission for it, expected the right to read or write",
        f"change the rights, {_GO_ON}",
        _EXIT_BAD_INPUT,
    ),
    errno.ENAMETOOLONG: _Meaning(
        "found a name that is too long for the disk, expected at most 255 bytes",
        "choose a shorter one",
        _EXIT_BAD_INPUT,
    ),
    errno.ENOTDIR: _Meaning("found a file, expected a folder", "choose another", _EXIT_BAD_INPUT),
    errno.EISDIR: _Meaning("found a folder, expected a file", "choose another", _EXIT_BAD_INPUT),
    errno.EEXIST: _Meaning("found something in this place, expected nothing", "choose another", _EXIT_BAD_INPUT),
    errno.ENOENT: _Meaning("not found, expected a file or folder", "check the path", _EXIT_BAD_INPUT),
    errno.ENOMEM: _Meaning(
        "found too little memory for this step", f"close other programs, or use fewer processes, {_GO_ON}"
    ),
    errno.EMFILE: _Meaning("found too many open files", f"raise the limit (ulimit -n), {_GO_ON}"),
    errno.EIO: _Meaning("the disk cannot be read or written", f"check the disk, {_GO_ON}"),
}
_MEANINGS[errno.EPERM] = _MEANINGS[errno.EACCES]
_MEANINGS[errno.ENFILE] = _MEANINGS[errno.EMFILE]
if hasattr(errno, "ESTALE"):
    _MEANINGS[errno.ESTALE] = _MEANINGS[errno.EIO]

_OUTWEIGH = frozenset({errno.ENOSPC, errno.EFBIG, _EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.EIO})
"""Faults of the machine: an error of ours that one of them caused is not the input's."""
_NUMBER = re.compile(r"(?:os error|errno:?) (\d+)", re.IGNORECASE)
_TEXTS = {
    **{os.strerror(number).lower(): number for number in _MEANINGS if number not in {-1, errno.EEXIST, errno.ENOENT}},
    "requested and": errno.ENOSPC,  # numpy: "4096 requested and 512 written"
    "not enough free space": errno.ENOSPC,  # numpy, where it reserves the space first
    "unexpected pos": errno.ENOSPC,  # torch.save
    "inline_container": errno.ENOSPC,
}


def system_error(error: BaseException) -> tuple[str, int] | None:
    """Return the sentence and the exit code of what the system refused; None where ``error`` is of another kind.

    An error of this package keeps its own sentence, but where a fault of the machine caused it.
    """
    for raised in _chain(error):
        if isinstance(raised, MarrowscopeError):
            continue
        number = _number(raised)
        if number is None or (isinstance(error, MarrowscopeError) and number not in _OUTWEIGH):
            continue
        meaning = _MEANINGS.get(number)
        if meaning is None:
            reason = getattr(raised, "strerror", None) or os.strerror(number)
            meaning = _Meaning(f"the system refused a step ({reason})", "check the disk and the path, then call again")
        return f"{_place(raised)}{meaning.found}; {meaning.action}", meaning.code
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error, its cause, the cause's cause and so on; of an error of ours only what it names as its cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        ours = isinstance(error, MarrowscopeError)
        error = error.__cause__ or (None if ours or error.__suppress_context__ else error.__context__)


def _number(error: BaseException) -> int | None:
    """Return the system's number of an error; None where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    from marrowscope.machine import is_out_of_memory  # loads the pools of processes: not at the start of every call

    if is_out_of_memory(error):
        return errno.ENOMEM
    text = str(error).lower()
    if (found := _NUMBER.search(text)) is not None:
        return int(found[1])
    return next((number for words, number in _TEXTS.items() if words in text), None)


def _place(error: BaseException) -> str:
    """Name the file of an error, shortened where its name is the trouble."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if name is None or isinstance(name, int):
        return ""
    text = os.fsdecode(name)
    longest = 200
    return f"{text if len(text) <= longest else f'{text[:longest]}...'}: "
