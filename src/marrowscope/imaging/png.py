"""PNG chunks: what the picture is, and whether every chunk is whole, in its place and there once.

Decoders pass over a broken checksum of a palette or of opacity, and take the first or the last of two. The chunks are
walked to the end, so that a file that was cut is known before libpng paints it gray. Source: PNG, third edition.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from marrowscope.imaging.refusals import SAVE_PLAIN, CutShortError, RefusedError, damaged
from marrowscope.imaging.tiff import exif_orientation

START = b"\x89PNG\r\n\x1a\n"
_BITS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_MAX_PALETTE = 256
_GRAY = 0
_PALETTE, _OPAQUE, _TRANSPARENCY_BYTES = 3, {0, 2, 3}, {0: 2, 2: 6}
_ONCE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IEND"})
_CRITICAL = _ONCE - {b"tRNS"} | {b"IDAT"}
_SMALL = 32
"""The fifth bit of a chunk's first letter: a chunk that decoders may pass over."""


@dataclass(slots=True)
class PngFacts:
    """What the chunks say; ``color`` is 0 gray, 2 RGB, 3 palette, 4 and 6 with opacity."""

    width_px: int
    height_px: int
    bits: int
    color: int
    has_alpha: bool
    orientation: int = 1


def read_png(data: bytes) -> PngFacts:
    """Walk the chunks. Raises CutShortError, struct.error, and RefusedError for a damaged file."""
    width, height, bits, color, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    facts = PngFacts(width, height, bits, color, has_alpha=color not in _OPAQUE)
    seen: list[bytes] = []
    n_palette, position, kind = 0, len(START), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, position)
        kind, body = data[position + 4 : position + 8], position + 8
        position = body + length + 4
        if position > len(data):
            raise CutShortError
        if zlib.crc32(memoryview(data)[body - 4 : body + length]) != int.from_bytes(data[position - 4 : position]):
            raise damaged(kind="PNG")
        if not _is_in_place(kind, seen):
            raise damaged(kind="PNG")
        seen.append(kind)
        if kind == b"PLTE":
            n_palette = length
        elif kind == b"acTL":
            raise RefusedError(found="an animated PNG", expected="a still picture")
        _read_chunk(facts, kind, data[body : body + length] if kind in {b"tRNS", b"eXIf"} else b"")
    _refuse_contradictions(facts, methods, n_palette, has_pixels=b"IDAT" in seen)
    return facts


def pixels_per_meter(data: bytes) -> tuple[int, int] | None:
    """Read the resolution across and down of a PNG's pHYs chunk; None where it states none in meters."""
    position = len(START)
    while (kind := data[position + 4 : position + 8]) not in {b"IDAT", b"IEND", b""}:
        (length,) = struct.unpack_from(">I", data, position)
        if kind == b"pHYs":
            across, down, unit = struct.unpack_from(">IIB", data, position + 8)
            return (int(across), int(down)) if unit == 1 else None
        position += length + 12
    return None


def _read_chunk(facts: PngFacts, kind: bytes, content: bytes) -> None:
    """Take opacity and orientation from a chunk that states them."""
    if kind == b"tRNS":
        n_bytes = _TRANSPARENCY_BYTES.get(facts.color, len(content))
        if len(content) != n_bytes or n_bytes > _MAX_PALETTE or facts.has_alpha:
            raise damaged(kind="PNG")
        if facts.color == _GRAY:
            found = "a gray PNG with a transparent gray level"
            raise RefusedError(found, "a picture without transparency", SAVE_PLAIN)
        facts.has_alpha = True
    elif kind == b"eXIf":
        facts.orientation = exif_orientation(content)


def _refuse_contradictions(facts: PngFacts, methods: list[int], n_palette: int, *, has_pixels: bool) -> None:
    """Refuse bits that the color type does not have, unknown methods, and a palette that is missing or too long."""
    compression, filtering, interlacing = methods
    if facts.bits not in _BITS.get(facts.color, ()) or compression or filtering or interlacing > 1 or not has_pixels:
        raise damaged(kind="PNG")
    is_looked_up = facts.color == _PALETTE
    if n_palette % 3 or n_palette > 3 * (2**facts.bits if is_looked_up else _MAX_PALETTE):
        raise damaged(kind="PNG")
    if is_looked_up and not n_palette:
        raise damaged(kind="PNG")


def _is_in_place(kind: bytes, seen: list[bytes]) -> bool:
    """Say whether a chunk may follow those ``seen``."""
    if not seen:
        return kind == b"IHDR"
    if kind in _ONCE and kind in seen:
        return False
    if kind in {b"PLTE", b"tRNS"} and b"IDAT" in seen:
        return False
    if kind == b"IDAT" and b"IDAT" in seen:
        return seen[-1] == b"IDAT"
    return kind in _CRITICAL or bool(kind[0] & _SMALL)
