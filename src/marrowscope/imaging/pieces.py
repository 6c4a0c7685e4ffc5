"""Strips and tiles of a compressed TIFF, each checked as the stream it is: the decoders pass over damage in silence."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from marrowscope.imaging import tiff
from marrowscope.imaging.jpeg import read_jpeg
from marrowscope.imaging.refusals import CutShortError, damaged
from marrowscope.imaging.tiff_layout import piece_bytes, piece_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COLORS = {tiff.RGB: "RGB", tiff.YCBCR: "YCbCr"}
_STEP = 2**16
"""Coded bytes inflated at once: they give 68 MB at most, however large the strip is."""


def check_pieces(data: bytes) -> None:
    """Check the JPEG markers, the Deflate checksums and the sizes of the first page's pieces. Raises RefusedError.

    LZW, PackBits, LZMA and Zstandard are left to Pillow, which raises where their codes are broken or too short.
    """
    tags = tiff.read_page(data)
    compression = tags.get(tiff.COMPRESSION, (tiff.UNCOMPRESSED,))[0]
    if compression == tiff.JPEG:
        tables, n_samples = bytes(tags.get(tiff.JPEG_TABLES, ())), tags.get(tiff.SAMPLES, (1,))[0]
        for piece, width, height in _pieces(data, tags):
            try:
                facts = read_jpeg(tables[:-2] + piece[2:] if tables else piece)
            except CutShortError as error:
                raise damaged(kind="TIFF") from error
            stated = _COLORS.get(tags.get(tiff.PHOTOMETRIC, (1,))[0], "")
            contradicts = bool(stated and facts.colors) and stated != facts.colors
            if contradicts or facts.width_px != width or facts.height_px < height or facts.n_channels != n_samples:
                raise damaged(kind="TIFF")
    elif compression in tiff.DEFLATE:
        most = max(piece_bytes(tags, width, height) for width, height in piece_sizes(tags))
        for piece, width, height in _pieces(data, tags):
            try:
                is_whole = _inflates_to(piece, piece_bytes(tags, width, height), most)
            except zlib.error as error:
                raise damaged(kind="TIFF") from error
            if not is_whole:
                raise damaged(kind="TIFF")


def _inflates_to(piece: bytes, least: int, most: int) -> bool:
    """Inflate a Deflate stream, keep nothing of it, and say whether it ends after ``least`` to ``most`` bytes."""
    stream, n_bytes = zlib.decompressobj(), 0
    for at in range(0, len(piece), _STEP):
        n_bytes += len(stream.decompress(piece[at : at + _STEP]))
        if stream.eof or n_bytes > most:
            break
    return stream.eof and least <= n_bytes <= most


def _pieces(data: bytes, tags: Mapping[int, tuple[int, ...]]) -> Iterator[tuple[bytes, int, int]]:
    """Return the coded bytes, width and height of every strip or tile."""
    offsets = tags.get(tiff.TILE_OFFSETS, tags.get(tiff.STRIP_OFFSETS, ()))
    sizes = tags.get(tiff.TILE_BYTES, tags.get(tiff.STRIP_BYTES, ()))
    for offset, size, (width, height) in zip(offsets, sizes, piece_sizes(tags), strict=True):
        yield data[offset : offset + size], width, height
