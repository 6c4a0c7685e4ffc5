"""Read from an image file's header its size, and whether a TIFF is a tiled pyramid. Nothing is decoded."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = 0xFF
_WIDTH, _HEIGHT, _TILE_WIDTH = 256, 257, 322
_SHORT = 3
_MAX_DIRECTORIES = 64
"""Most directories read; a pyramid has about ten, and a damaged file may chain its directories in a ring."""


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height of the file's first image as stored; for a TIFF its directories and whether it is tiled.

    ``cut_short`` is true if a TIFF points to a directory beyond the end of the file.
    """

    width_px: int
    height_px: int
    n_directories: int = 1
    tiled: bool = False
    cut_short: bool = False


def read_header(path: Path) -> Header | None:
    """Read the header of a JPEG, PNG, BMP, WebP or TIFF (or BigTIFF); None for any other or a damaged file."""
    try:
        with path.open("rb") as stream:
            start = stream.read(30)
            if start.startswith(_JPEG_START):
                return _jpeg(stream)
            if start[:2] in {b"II", b"MM"}:
                return _tiff(stream, start)
            return _fixed(start)
    except (OSError, OverflowError, ValueError, IndexError, MemoryError, struct.error):
        return None


def _fixed(start: bytes) -> Header | None:
    """Read the size of formats that have it at a fixed position: PNG, BMP, WebP."""
    if start.startswith(_PNG_START):
        return Header(*struct.unpack(">II", start[16:24]))
    if start.startswith(b"BM"):
        width, height = struct.unpack("<ii", start[18:26])
        return Header(abs(width), abs(height))
    return _webp(start) if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None


def _jpeg(stream: BinaryIO) -> Header | None:
    """Skip from segment to segment up to the frame header."""
    stream.seek(2)
    while True:
        first, marker, length = struct.unpack(">BBH", stream.read(4))
        if first != _JPEG_MARKER:
            return None
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">xHH", stream.read(5))
            return Header(width, height)
        stream.seek(length - 2, os.SEEK_CUR)


def _webp(start: bytes) -> Header | None:
    """Read the size of a lossy, lossless or extended WebP."""
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return Header(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", start[21:25])
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        return Header(int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1)
    return None


def _tiff(stream: BinaryIO, start: bytes) -> Header | None:
    """Read the size of the first directory, and walk the chain of directories."""
    order = "<" if start[:2] == b"II" else ">"
    (version,) = struct.unpack(order + "H", start[2:4])
    layouts = {42: ("I", "H", 12, 8, 4), 43: ("Q", "Q", 20, 12, 8)}
    if version not in layouts:
        return None
    offset_type, count_type, entry_size, value_at, first_at = layouts[version]
    offset_size, count_size = struct.calcsize(offset_type), struct.calcsize(count_type)
    (offset,) = struct.unpack(order + offset_type, start[first_at : first_at + offset_size])
    values: dict[int, int] = {}
    n_directories, cut_short = 0, False
    while offset and n_directories < _MAX_DIRECTORIES and not cut_short:
        n_directories += 1
        try:
            stream.seek(offset)
            (n_entries,) = struct.unpack(order + count_type, stream.read(count_size))
            if n_directories == 1:
                for _ in range(n_entries):
                    entry = stream.read(entry_size)
                    tag, kind = struct.unpack(order + "HH", entry[:4])
                    text = order + ("H" if kind == _SHORT else "I")
                    (values[tag],) = struct.unpack(text, entry[value_at : value_at + struct.calcsize(text)])
            stream.seek(offset + count_size + n_entries * entry_size)
            (offset,) = struct.unpack(order + offset_type, stream.read(offset_size))
        except struct.error:
            cut_short = True
    if _WIDTH not in values or _HEIGHT not in values:
        return None
    return Header(values[_WIDTH], values[_HEIGHT], n_directories, _TILE_WIDTH in values, cut_short)
