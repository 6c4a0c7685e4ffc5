"""Names of a bundle's networks: the files that are opened and run, and no others.

A bundle may hold other files that end in ``.onnx``, such as the quantized graphs that earlier versions ran. Their
hashes are checked like those of every file; nothing opens them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SEGMENTER_FILE = "segmenter/segmenter.onnx"
_MEMBER = re.compile(r"classifier-\d+\.onnx")


def classifier_files(files: Iterable[str]) -> tuple[str, ...]:
    """Return the members' paths by number: classifier-2 stands before classifier-10."""
    return tuple(sorted((name for name in files if _MEMBER.fullmatch(name)), key=lambda name: (len(name), name)))


def is_graph(name: str) -> bool:
    """Say whether a file of a bundle is a network that may be opened."""
    return name == SEGMENTER_FILE or _MEMBER.fullmatch(name) is not None
