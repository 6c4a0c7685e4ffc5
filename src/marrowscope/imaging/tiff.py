"""TIFF directories: the first page of a TIFF file (classic or BigTIFF), and the EXIF block of the other formats.

The first page is the picture, as every viewer shows it. Only what both decoders are known to read rightly passes:
OpenCV gives black pixels for some compressions, mixed-up ones for 16-bit planes, and an unfinished picture without a
word when compressed data are damaged; Pillow raises then, so that it decodes or proves whatever is compressed.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from marrowscope.imaging.refusals import SAVE_PLAIN, CutShortError, RefusedError, damaged
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

STARTS = {b"II*\x00": "<", b"MM\x00*": ">", b"II+\x00": "<", b"MM\x00+": ">"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SUBFILE, _FILL_ORDER, _DESCRIPTION, ROWS_PER_STRIP, _PREDICTOR, COLOR_MAP = 254, 266, 270, 278, 317, 320
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES = 273, 274, 277, 279
X_RESOLUTION, Y_RESOLUTION, PLANES, RESOLUTION_UNIT, TILE_WIDTH, TILE_LENGTH = 282, 283, 284, 296, 322, 323
TILE_OFFSETS, TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT, JPEG_TABLES = 324, 325, 338, 339, 347
_SINGLE = frozenset(
    {SUBFILE, WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, _FILL_ORDER, ORIENTATION, SAMPLES, ROWS_PER_STRIP, PLANES}
    | {_PREDICTOR, TILE_WIDTH, TILE_LENGTH}
)
_PAGE_TAGS = _SINGLE | {BITS, STRIP_OFFSETS, STRIP_BYTES, COLOR_MAP, TILE_OFFSETS, TILE_BYTES, _EXTRA_SAMPLES}
_PAGE_TAGS |= {_SAMPLE_FORMAT, JPEG_TABLES}
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 7: "B", 16: "Q"}
_SHORT = 3
_WHOLE_NUMBERS = frozenset({_SHORT, 4, 16})
_TEXT = 2
_KINDS = {COLOR_MAP: {_SHORT}, JPEG_TABLES: {1, 7}}
_MAX_ENTRIES = 4096
_RATIONAL = 5
_BIG = 43
UNCOMPRESSED, JPEG, DEFLATE = 1, 7, (8, 32946)
_COMPRESSIONS = {UNCOMPRESSED: "none", 5: "LZW", JPEG: "JPEG", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
_COMPRESSIONS |= {34925: "LZMA", 50000: "Zstandard"}
_PREDICTED = frozenset({5, 8, 32946, 34925, 50000})
_PHOTOMETRICS = {0: "gray, white is zero", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr"}
WHITE_IS_ZERO, _GRAY, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_SAMPLE_FORMATS = {2: "signed whole numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}
_UNSIGNED = (1, 4)
_ALPHA = (1, 2)


def read_tags(data: bytes, wanted: Collection[int], start: int | None = None) -> dict[int, tuple[float, ...]]:
    """Read the wanted tags of the first directory, or of that at ``start``; rationals as quotients (NaN over zero).

    Text and other types are left out. Raises struct.error, IndexError or KeyError when the directory is broken or lies
    outside ``data``.
    """
    order, tags = STARTS[data[:4]], {}
    for tag, kind, count, place in _entries(data, start)[0]:
        if tag not in wanted or kind not in _TYPES:
            continue
        letters = _TYPES[kind]
        values = struct.unpack_from(f"{order}{count * len(letters)}{letters[0]}", data, place)
        if kind == _RATIONAL:
            values = tuple(
                above / below if below else float("nan") for above, below in zip(*[iter(values)] * 2, strict=True)
            )
        tags[tag] = values
    return tags


def _entries(data: bytes, start: int | None = None) -> tuple[list[tuple[int, int, int, int]], int]:
    """Return tag, type, count and place of the values of a directory's entries, and where the next directory begins."""
    order = STARTS[data[:4]]
    big = data[2 if order == "<" else 3] == _BIG
    if start is None:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (n_entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if n_entries > _MAX_ENTRIES and big:
        raise IndexError
    first, size, inline = (start + 8, 20, 8) if big else (start + 2, 12, 4)
    entries = []
    for index in range(n_entries):
        entry = first + index * size
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        place = entry + size - inline
        if struct.calcsize("=" + _TYPES.get(kind, "B")) * count > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        entries.append((tag, kind, count, place))
    following = first + n_entries * size
    if following + inline > len(data):
        return entries, 0
    return entries, struct.unpack_from(order + ("Q" if big else "I"), data, following)[0]


def read_description(data: bytes) -> str:
    """Read the first directory's description; "" where there is none. Raises what ``read_tags`` raises."""
    for tag, kind, count, place in _entries(data)[0]:
        if tag == _DESCRIPTION and kind == _TEXT:
            return data[place : place + count].split(b"\0", 1)[0].decode("utf-8", errors="replace")
    return ""


def has_page_alike(data: bytes, tags: Mapping[int, tuple[int, ...]]) -> bool:
    """Say whether the second page is as large as the first, of as many channels, and no thumbnail or mask."""
    compared = {WIDTH: (0,), HEIGHT: (0,), SAMPLES: (1,), SUBFILE: (0,)}
    try:
        following = _entries(data)[1]
        second = read_tags(data, compared, following) if following else {}
    except (struct.error, IndexError, OverflowError):
        return False
    return (
        bool(second)
        and all(
            second.get(tag, default) == tags.get(tag, default) for tag, default in compared.items() if tag != SUBFILE
        )
        and not int(second.get(SUBFILE, (0,))[0]) & 5
    )


def exif_orientation(block: bytes) -> int:
    """EXIF orientation 1-8 of a TIFF block; 1 (upright) where it states none. A broken block counts up to its break."""
    try:
        order = STARTS[block[:4]]
        (start,) = struct.unpack_from(order + "I", block, 4)
        (n_entries,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind, count, stated = struct.unpack_from(order + "HHIH", block, entry)
            if tag == ORIENTATION and kind == _SHORT and count == 1:
                return int(stated) if 1 <= stated <= 8 else 1  # noqa: PLR2004 - the eight ways to lay a picture
    except (struct.error, IndexError, KeyError, OverflowError):
        pass
    return 1


def read_page(data: bytes) -> dict[int, tuple[int, ...]]:
    """Read the tags that describe the first page. Raises RefusedError and CutShortError."""
    try:
        _refuse_broken_entries(data)
        tags = {tag: tuple(map(int, values)) for tag, values in read_tags(data, _PAGE_TAGS).items() if values}
    except (struct.error, IndexError, OverflowError) as error:
        raise CutShortError from error
    if WIDTH not in tags or HEIGHT not in tags or min(tags[WIDTH][0], tags[HEIGHT][0]) < 1:
        raise damaged(kind="TIFF")
    _refuse_unreadable(tags)
    offsets, sizes = tags.get(TILE_OFFSETS, tags.get(STRIP_OFFSETS)), tags.get(TILE_BYTES, tags.get(STRIP_BYTES))
    if offsets is None:
        raise damaged(kind="TIFF")
    if max(offsets) >= len(data) or any(at + n > len(data) for at, n in zip(offsets, sizes or (), strict=False)):
        raise CutShortError
    return tags


def _refuse_broken_entries(data: bytes) -> None:
    """Refuse a tag of the page that stands there twice, is no whole number, or has several values where one is meant.

    Decoders disagree about such tags: one takes the first, another the last, a third the default.
    """
    seen: set[int] = set()
    for tag, kind, count, _ in _entries(data)[0]:
        if tag not in _PAGE_TAGS:
            continue
        kinds = _KINDS.get(tag, _WHOLE_NUMBERS)
        if tag in seen or kind not in kinds or count < 1 or (tag in _SINGLE and count > 1):
            found = f"a TIFF whose tag {tag} is broken"
            raise RefusedError(found, "every tag once and of its own type", "copy or export it again")
        seen.add(tag)


def own_places(data: bytes) -> list[tuple[int, int]]:
    """Return start and end of every part that is not pixels: header, first directory, and tags stored outside it."""
    order = STARTS[data[:4]]
    big = data[2 if order == "<" else 3] == _BIG
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    entries, _ = _entries(data)
    size, before, inline = (20, 8, 8) if big else (12, 2, 4)
    end = start + before + size * len(entries)
    places = [(0, 16 if big else 8), (start, end)]
    for tag, kind, count, place in entries:
        n_bytes = struct.calcsize("=" + _TYPES.get(kind, "B")) * count
        if tag in _PAGE_TAGS and n_bytes > inline:
            places.append((place, place + n_bytes))
    return places


def has_alpha(tags: Mapping[int, tuple[int, ...]]) -> bool:
    """Say whether the page has a channel of opacity."""
    return tags.get(_EXTRA_SAMPLES, (0,))[0] in _ALPHA


def _refuse_unreadable(tags: Mapping[int, tuple[int, ...]]) -> None:
    """Refuse a page that neither decoder is known to read rightly."""
    bits, n_samples = tags.get(BITS, (1,)), tags.get(SAMPLES, (1,))[0]
    sample_format = max(tags.get(_SAMPLE_FORMAT, (1,)), key=lambda value: value not in _UNSIGNED)
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
    _refuse_rare(tags, compression, photometric)
    if n_samples != n_colors + has_alpha(tags):
        found = f"a TIFF of {count_of(n_samples, 'channel')}"
        expected = f"{n_colors} ({_PHOTOMETRICS[photometric]}), and one of opacity at most"
        raise RefusedError(found, expected, SAVE_PLAIN)
    if bits[0] == 16 and (photometric > RGB or tags.get(PLANES, (1,))[0] != 1 or n_samples == 2):  # noqa: PLR2004
        found = f"a 16-bit TIFF stored as {_PHOTOMETRICS[photometric]}, {count_of(n_samples, 'channel')}"
        raise RefusedError(found, "gray or RGB, channels side by side", SAVE_PLAIN)
    if bits[0] == 16 and tags.get(_EXTRA_SAMPLES, (0,))[0] == 1:  # noqa: PLR2004 - bits
        raise RefusedError(found="a 16-bit TIFF of colors times opacity", expected="RGB", action=SAVE_PLAIN)


def _refuse_rare(tags: Mapping[int, tuple[int, ...]], compression: int, photometric: int) -> None:
    """Refuse what is so rare that decoders differ about it."""
    planes, order, predictor = (tags.get(tag, (1,))[0] for tag in (PLANES, _FILL_ORDER, _PREDICTOR))
    found = expected = ""
    if planes not in {1, 2}:
        found, expected = f"a TIFF of planar configuration {planes}", "1 or 2"
    elif order != 1:
        found, expected = f"a TIFF of fill order {order}", "1"
    elif predictor not in ({1, 2} if compression in _PREDICTED else {1}):
        found, expected = f"a TIFF of compression {_COMPRESSIONS[compression]} with predictor {predictor}", "1 (none)"
    elif photometric == YCBCR and compression != JPEG:
        found, expected = f"a TIFF of YCbCr under compression {_COMPRESSIONS[compression]}", "RGB, or JPEG"
    elif compression == JPEG and planes != 1:
        found, expected = "a TIFF of JPEG planes", "channels side by side"
    if found:
        raise RefusedError(found, expected, SAVE_PLAIN)
