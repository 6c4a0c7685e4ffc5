"""The border around one image: whatever its file or a decoder raises becomes that image's error, and the run goes on.

Decoders raise on hostile bytes what they like: ``struct.error``, ``ValueError``, ``RecursionError``, ``cv2.error``, an
error of Pillow. None of it may end the work on other images, and none may be taken for something else: a machine
without memory is no damaged picture.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2

from marrowscope.errors import ImageError, MarrowscopeError
from marrowscope.records import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

TOO_LITTLE_MEMORY = "too little memory"
"""What was found, in the sentence of an image that the same call may read another time."""

_OPENCV_NO_MEMORY = -4
_MAX_REASON = 120


@contextmanager
def one_image(where: object) -> Iterator[None]:
    """Return whatever is raised inside as an ImageError that names ``where``; errors of this package pass unchanged."""
    try:
        yield
    except MarrowscopeError:
        raise
    except Exception as error:
        fault = explain(error, where)
        raise ImageError(fault.sentence(), fault) from error


def explain(error: Exception, where: object) -> Fault:
    """Say what an error of a file, a decoder or the machine means for the image ``where``."""
    if is_out_of_memory(error):
        found, action = TOO_LITTLE_MEMORY, "give the process more memory or run fewer threads, then run it again"
        return Fault("out_of_memory", str(where), found, "room for its pixels", action)
    if isinstance(error, OSError) and error.errno is not None:
        found, action = f"no access ({error.strerror})", "check the file, its disk and its permissions"
        return Fault("unreadable_image", str(where), found, "an image", action)
    lines = str(error).split("\n")
    reason = f"{type(error).__name__}: {lines[0][:_MAX_REASON]}".rstrip(": ")
    found, action = f"a file that stops its decoder ({reason})", "copy or export it again"
    return Fault("unreadable_image", str(where), found, "a complete image", action)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the machine has no memory left, whoever raised it."""
    return isinstance(error, MemoryError) or (
        isinstance(error, cv2.error) and getattr(error, "code", 0) == _OPENCV_NO_MEMORY
    )
