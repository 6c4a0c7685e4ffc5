"""Strips and tiles of a compressed TIFF, each checked as the stream it is: the decoders pass over damage in silence."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from marrowscope.imaging import tiff
from marrowscope.imaging.jpeg import read_jpeg
from marrowscope.imaging.refusals import CutShortError, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BYTES_BEYOND = 2**16
_STEP = 2**16
"""Coded bytes inflated at once: they give 68 MB at most, however large the strip is."""


def check_pieces(data: bytes) -> None:
    """Check the JPEG markers and the Deflate checksums of the first page. Raises RefusedError.

    LZW, PackBits, LZMA and Zstandard are left to Pillow, which raises where their codes are broken.
    """
    tags = tiff.read_page(data)
    compression = tags.get(tiff.COMPRESSION, (tiff.UNCOMPRESSED,))[0]
    if compression == tiff.JPEG:
        tables = bytes(tags.get(tiff.JPEG_TABLES, ()))
        for piece in _pieces(data, tags):
            try:
                read_jpeg(tables[:-2] + piece[2:] if tables else piece)
            except CutShortError as error:
                raise damaged(kind="TIFF") from error
    elif compression in tiff.DEFLATE:
        n_samples, bits = tags.get(tiff.SAMPLES, (1,))[0], tags.get(tiff.BITS, (1,))[0]
        most = tags[tiff.WIDTH][0] * tags[tiff.HEIGHT][0] * n_samples * bits // 8 + _BYTES_BEYOND
        for piece in _pieces(data, tags):
            try:
                is_whole = _ends_within(piece, most)
            except zlib.error as error:
                raise damaged(kind="TIFF") from error
            if not is_whole:
                raise damaged(kind="TIFF")


def _ends_within(piece: bytes, most: int) -> bool:
    """Inflate a Deflate stream, keep nothing of it, and say whether it ends after ``most`` bytes or fewer."""
    stream, n_bytes = zlib.decompressobj(), 0
    for at in range(0, len(piece), _STEP):
        n_bytes += len(stream.decompress(piece[at : at + _STEP]))
        if stream.eof or n_bytes > most:
            break
    return stream.eof and n_bytes <= most


def _pieces(data: bytes, tags: Mapping[int, tuple[int, ...]]) -> Iterator[bytes]:
    """Give the coded bytes of every strip or tile; one of no bytes stands for an empty tile."""
    offsets = tags.get(tiff.TILE_OFFSETS, tags.get(tiff.STRIP_OFFSETS, ()))
    sizes = tags.get(tiff.TILE_BYTES, tags.get(tiff.STRIP_BYTES, ()))
    for offset, size in zip(offsets, sizes, strict=False):
        if size:
            yield data[offset : offset + size]
