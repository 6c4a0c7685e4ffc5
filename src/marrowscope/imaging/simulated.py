"""The mark that a photograph was simulated: a comment segment in its JPEG, which no decoder paints.

`marrowscope simulate` writes it. Whether figures of simulated cells may be printed is decided by it and never by a
user's word. Source: ITU-T T.81, B.2.4.5.
"""

from __future__ import annotations

import struct

from marrowscope.imaging import jpeg

_COMMENT = b"\xff\xfe"
_SCAN = 0xDA
_TEXT = b"marrowscope: simulated photograph, no patient"


def mark_simulated(data: bytes) -> bytes:
    """Return the JPEG ``data`` with the mark in front of its other segments; the picture is the same.

    Raises ValueError for what is no JPEG.
    """
    if not data.startswith(jpeg.START):
        message = "found no JPEG, expected one: only JPEGs are marked as simulated"
        raise ValueError(message)
    return data[:2] + _COMMENT + struct.pack(">H", len(_TEXT) + 2) + _TEXT + data[2:]


def is_simulated(data: bytes) -> bool:
    """Say whether an image file's bytes carry the mark; False for other formats and damaged files."""
    if not data.startswith(jpeg.START):
        return False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _SCAN:  # noqa: PLR2004
        (length,) = struct.unpack_from(">H", data, position + 2)
        if data[position : position + 2] == _COMMENT and data[position + 4 : position + 2 + length] == _TEXT:
            return True
        position += 2 + length
    return False
