"""Whether a TIFF's header and its pixels fit each other: strips and tiles, color map, pages.

Decoders fill what a header promises and the file does not hold: rows of white, black or of another picture. A page is
read only where every strip or tile that its sides and planes need is there, once, in its own place, as long as its
rows are; where its color map has a color for every sample; and where it is the whole picture, not one channel of it,
and the only one.
Source: TIFF 6.0, sections 3, 8, 15.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING

from marrowscope.imaging import tiff
from marrowscope.imaging.refusals import SAVE_PLAIN, CutShortError, RefusedError
from marrowscope.imaging.tiff_description import n_channels, n_planes
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Tags: TypeAlias = Mapping[int, tuple[int, ...]]

_REDUCED, _MASK = 1, 4
_PLANES_APART = 2
_PADDING = 15
"""Bytes that programs append to an only strip, so that what follows begins at a round number."""
_COPY = "copy or export it again"


def check_layout(data: bytes, tags: Tags) -> None:
    """Check the first page of ``data``, whose tags are read. Raises RefusedError and CutShortError."""
    _check_color_map(tags)
    _check_pieces(tags, len(data), tiff.own_places(data))
    _check_pages(data, tags)


def piece_sizes(tags: Tags) -> list[tuple[int, int]]:
    """Width and height in pixels of every strip or tile, in the order of the file; the last strip has fewer rows."""
    width, height = tags[tiff.WIDTH][0], tags[tiff.HEIGHT][0]
    n_planes = tags.get(tiff.SAMPLES, (1,))[0] if are_planes_apart(tags) else 1
    if tiff.TILE_OFFSETS in tags:
        across, down = tags.get(tiff.TILE_WIDTH, (0,))[0], tags.get(tiff.TILE_LENGTH, (0,))[0]
        if min(across, down) < 1:
            raise RefusedError(
                found="a TIFF of tiles without a size", expected="width and height of a tile", action=_COPY
            )
        n_pieces = -(-width // across) * -(-height // down) * n_planes
        _check_count(tags[tiff.TILE_OFFSETS], n_pieces, "tile")
        return [(across, down)] * n_pieces
    rows = min(tags.get(tiff.ROWS_PER_STRIP, (height,))[0], height)
    if rows < 1:
        raise RefusedError(found="a TIFF of strips without rows", expected="1 row or more in a strip", action=_COPY)
    _check_count(tags[tiff.STRIP_OFFSETS], -(-height // rows) * n_planes, "strip")
    return [(width, min(rows, height - at)) for at in range(0, height, rows)] * n_planes


def piece_bytes(tags: Tags, width: int, height: int) -> int:
    """Bytes that a strip or tile of this size has once it is decompressed; every row begins with a byte."""
    n_samples = 1 if are_planes_apart(tags) else tags.get(tiff.SAMPLES, (1,))[0]
    return -(-width * n_samples * tags.get(tiff.BITS, (1,))[0] // 8) * height


def are_planes_apart(tags: Tags) -> bool:
    """Say whether every channel is stored in strips or tiles of its own."""
    return tags.get(tiff.PLANES, (1,))[0] == _PLANES_APART and tags.get(tiff.SAMPLES, (1,))[0] > 1


def _check_count(offsets: tuple[int, ...], n_expected: int, kind: str) -> None:
    if len(offsets) != n_expected:
        raise RefusedError(
            found=f"a TIFF of {count_of(len(offsets), kind)}",
            expected=f"{n_expected}, as its rows and planes need",
            action=_COPY,
        )


def _check_color_map(tags: Tags) -> None:
    if tags.get(tiff.PHOTOMETRIC, (1,))[0] != tiff.PALETTE:
        return
    color_map, bits = tags.get(tiff.COLOR_MAP, ()), tags.get(tiff.BITS, (1,))[0]
    n_expected = 3 * 2**bits
    if len(color_map) != n_expected:
        raise RefusedError(
            found=f"a TIFF with a color map of {count_of(len(color_map), 'value')}",
            expected=str(n_expected),
            action=SAVE_PLAIN,
        )
    if max(color_map) <= 255 and tags.get(tiff.COMPRESSION, (1,))[0] != tiff.UNCOMPRESSED:  # noqa: PLR2004 - 8 bits
        raise RefusedError(
            found="a TIFF with a color map of values below 256", expected="values up to 65535", action=SAVE_PLAIN
        )


def _check_pieces(tags: Tags, n_bytes: int, own_places: list[tuple[int, int]]) -> None:
    """Check how many strips or tiles there are, how long each is, and that no two share bytes."""
    if tiff.TILE_OFFSETS in tags and tiff.STRIP_OFFSETS in tags:
        raise RefusedError(found="a TIFF of strips and tiles", expected="one of them", action=_COPY)
    kind = "tile" if tiff.TILE_OFFSETS in tags else "strip"
    offsets = tags[tiff.TILE_OFFSETS if kind == "tile" else tiff.STRIP_OFFSETS]
    sizes = tags.get(tiff.TILE_BYTES if kind == "tile" else tiff.STRIP_BYTES, ())
    pieces = piece_sizes(tags)
    is_plain = tags.get(tiff.COMPRESSION, (1,))[0] == tiff.UNCOMPRESSED
    expected = [piece_bytes(tags, width, height) for width, height in pieces]
    if not sizes and is_plain and len(pieces) == 1 and tags.get(tiff.BITS, (1,))[0] >= 8:  # noqa: PLR2004 - bits
        sizes = (expected[0],)  # old programs leave the size of an only strip out
    if len(sizes) != len(offsets):
        raise RefusedError(
            found=f"a TIFF of {count_of(len(offsets), kind)} with {count_of(len(sizes), 'size')}",
            expected="a size for each",
            action=_COPY,
        )
    most, pad = max(expected), _PADDING if len(sizes) == 1 else 0
    for index, (size, needed) in enumerate(zip(sizes, expected, strict=True)):
        fits = needed <= size <= max(most, needed + pad) if is_plain else size > 0
        if not fits:
            found = f"a TIFF whose {kind} {index + 1} of {len(sizes)} has {count_of(size, 'byte')}"
            raise RefusedError(found, str(needed) if is_plain else "1 or more", _COPY)
    places = sorted((at, at + size) for at, size in zip(offsets, sizes, strict=True))
    if places[-1][1] > n_bytes:
        raise CutShortError
    if any(end > after for (_, end), (after, _) in itertools.pairwise(places)):
        raise RefusedError(
            found=f"a TIFF whose {kind}s overlap", expected=f"each {kind} in its own place", action=_COPY
        )
    starts = [at for at, _ in places]
    head, directory, *values = own_places
    others = [(place, (head, directory)) for place in values] + [(place, ()) for place in (head, directory)]
    for (begin, end), apart in others:
        nearest = bisect.bisect_left(starts, end) - 1  # the last strip that begins before this ends
        meets_pixels = nearest >= 0 and places[nearest][1] > begin
        if meets_pixels or any(begin < other_end and end > other for other, other_end in apart):
            raise RefusedError(
                found=f"a TIFF whose {kind}s overlap with its tags", expected="each in its own place", action=_COPY
            )


def _check_pages(data: bytes, tags: Tags) -> None:
    """Refuse a page that is a thumbnail, a mask, a gray channel or plane of the picture, or one picture of several."""
    if tags.get(tiff.SUBFILE, (0,))[0] & (_REDUCED | _MASK):
        raise RefusedError(
            found="a TIFF whose first page is a thumbnail or a mask", expected="the picture first", action=SAVE_PLAIN
        )
    n_samples = tags.get(tiff.SAMPLES, (1,))[0]
    description = tiff.read_description(data)
    action = "merge the channels into one RGB picture (in ImageJ: Image > Type > RGB Color) and save that"
    if n_channels(description) > n_samples:
        found = f"a TIFF of {count_of(n_channels(description), 'channel')} in pages of their own"
        raise RefusedError(found, "one page of RGB", action)
    if n_planes(description) > 1 or tiff.has_page_alike(data, tags):
        if n_samples == 1:
            raise RefusedError(found="a TIFF of several gray pages", expected="one page of RGB", action=action)
        raise RefusedError(
            found="a TIFF of several pages of one size",
            expected="one photograph per file",
            action="save each page that shows other cells as a file of its own",
        )
