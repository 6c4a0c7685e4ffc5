"""TIFF directories: the first page of a TIFF file (classic or BigTIFF), and the EXIF block of the other formats.

The first page is the picture, as every viewer shows it. Only what both decoders are known to read rightly passes:
OpenCV gives black pixels for some compressions, mixed-up ones for 16-bit planes, and an unfinished picture without a
word when compressed data are damaged; Pillow raises then, so that it decodes or proves whatever is compressed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from marrowscope.imaging.refusals import SAVE_PLAIN, CutShortError, RefusedError, damaged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

STARTS = {b"II*\x00": "<", b"MM\x00*": ">", b"II+\x00": "<", b"MM\x00+": ">"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES = 273, 274, 277, 279
X_RESOLUTION, _PLANES, RESOLUTION_UNIT = 282, 284, 296
TILE_OFFSETS, TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, JPEG_TABLES = 324, 325, 338, 339, 347
_PAGE_TAGS = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES, _PLANES}
    | {TILE_OFFSETS, TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, JPEG_TABLES}
)
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 7: "B", 16: "Q"}
_RATIONAL = 5
_BIG = 43
UNCOMPRESSED, JPEG, DEFLATE = 1, 7, (8, 32946)
_COMPRESSIONS = {UNCOMPRESSED: "none", 5: "LZW", JPEG: "JPEG", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
_COMPRESSIONS |= {34925: "LZMA", 50000: "Zstandard"}
_PHOTOMETRICS = {0: "gray, white is zero", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
WHITE_IS_ZERO, _GRAY, RGB = 0, 1, 2
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_SAMPLE_FORMATS = {2: "signed whole numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}
_UNSIGNED = (1, 4)
_ALPHA = (1, 2)


def read_tags(data: bytes, wanted: Collection[int]) -> dict[int, tuple[float, ...]]:
    """Read the wanted tags of the first directory; rationals as quotients (NaN over zero), other types left out.

    Raises struct.error, IndexError or KeyError when the directory is broken or lies outside ``data``.
    """
    order = STARTS[data[:4]]
    big = data[2 if order == "<" else 3] == _BIG
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (n_entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first, size, inline = (start + 8, 20, 8) if big else (start + 2, 12, 4)
    tags: dict[int, tuple[float, ...]] = {}
    for index in range(n_entries):
        entry = first + index * size
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        if tag not in wanted or kind not in _TYPES:
            continue
        letters = _TYPES[kind]
        place = entry + size - inline
        if struct.calcsize("=" + letters) * count > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        values = struct.unpack_from(f"{order}{count * len(letters)}{letters[0]}", data, place)
        if kind == _RATIONAL:
            values = tuple(
                above / below if below else float("nan") for above, below in zip(*[iter(values)] * 2, strict=True)
            )
        tags[tag] = values
    return tags


def exif_orientation(block: bytes) -> int:
    """EXIF orientation 1-8 of a TIFF block; 1 (upright) where it states none or is broken."""
    try:
        stated = read_tags(block, {ORIENTATION}).get(ORIENTATION, (1,))[0]
    except (struct.error, IndexError, KeyError, OverflowError):
        return 1
    return int(stated) if 1 <= stated <= 8 else 1  # noqa: PLR2004 - the eight ways to lay a picture


def read_page(data: bytes) -> dict[int, tuple[int, ...]]:
    """Read the tags that describe the first page. Raises RefusedError and CutShortError."""
    try:
        tags = {tag: tuple(map(int, values)) for tag, values in read_tags(data, _PAGE_TAGS).items() if values}
    except (struct.error, IndexError, OverflowError) as error:
        raise CutShortError from error
    if WIDTH not in tags or HEIGHT not in tags:
        raise damaged(kind="TIFF")
    _refuse_unreadable(tags)
    offsets, sizes = tags.get(TILE_OFFSETS, tags.get(STRIP_OFFSETS)), tags.get(TILE_BYTES, tags.get(STRIP_BYTES))
    if offsets is None:
        raise damaged(kind="TIFF")
    if max(offsets) >= len(data) or any(at + n > len(data) for at, n in zip(offsets, sizes or (), strict=False)):
        raise CutShortError
    return tags


def has_alpha(tags: Mapping[int, tuple[int, ...]]) -> bool:
    """Say whether the page has a channel of opacity."""
    return tags.get(_EXTRA_SAMPLES, (0,))[0] in _ALPHA


def _refuse_unreadable(tags: Mapping[int, tuple[int, ...]]) -> None:
    """Refuse a page that neither decoder is known to read rightly."""
    bits, n_samples = tags.get(BITS, (1,)), tags.get(SAMPLES, (1,))[0]
    sample_format = tags.get(_SAMPLE_FORMAT, (1,))[0]
    if sample_format not in _UNSIGNED:
        kind = _SAMPLE_FORMATS.get(sample_format, "samples of an unknown kind")
        found = f"a TIFF of {bits[0]}-bit {kind}"
        raise RefusedError(found, "whole numbers of 8 or 16 bits from 0", SAVE_PLAIN)
    if len(set(bits)) > 1 or bits[0] not in {1, 2, 4, 8, 16}:
        found = f"a TIFF of {', '.join(map(str, sorted(set(bits))))} bits a sample"
        raise RefusedError(found, "8 or 16", SAVE_PLAIN)
    compression, photometric = tags.get(COMPRESSION, (1,))[0], tags.get(PHOTOMETRIC, (1,))[0]
    if compression not in _COMPRESSIONS:
        expected = f"one of {', '.join(sorted(set(_COMPRESSIONS.values())))}"
        raise RefusedError(found=f"a TIFF of compression {compression}", expected=expected, action=SAVE_PLAIN)
    n_colors = _COLORS.get(photometric)
    if n_colors is None:
        expected = f"one of {', '.join(_PHOTOMETRICS.values())}"
        found = f"a TIFF of photometric interpretation {photometric}"
        raise RefusedError(found, expected, SAVE_PLAIN)
    if n_samples != n_colors + has_alpha(tags):
        found = f"a TIFF of {n_samples} channels"
        expected = f"{n_colors} ({_PHOTOMETRICS[photometric]}), and one of opacity at most"
        raise RefusedError(found, expected, SAVE_PLAIN)
    if bits[0] == 16 and (photometric > RGB or tags.get(_PLANES, (1,))[0] != 1 or n_samples == 2):  # noqa: PLR2004
        found = f"a 16-bit TIFF stored as {_PHOTOMETRICS[photometric]}, {n_samples} channels"
        raise RefusedError(found, "gray or RGB, channels side by side", SAVE_PLAIN)
