"""JPEG segments: size, samples and EXIF block from the header, and whether the coded pixels are whole.

libjpeg fills what is missing or unreadable with gray and returns the picture as if nothing had happened, so the file
is walked first. Inside coded pixels a byte FF is followed by 00, by a restart marker in its turn, or it ends the scan;
anything else means that bytes were lost or overwritten. A run of zero bytes, the trace of an interrupted copy, can be
coded pixels only where the shortest code means "nothing more in this block" in every table (an even area).
Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from marrowscope.imaging.refusals import CutShortError, damaged
from marrowscope.imaging.tiff import exif_orientation

START = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BASELINE = frozenset({0xC0, 0xC1})
_HUFFMAN_TABLES, _RESTART, _END, _SCAN, _N_LINES = 0xC4, 0xD0, 0xD9, 0xDA, 0xDC
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_BETWEEN_SCANS = frozenset({0xC4, _END, _SCAN, 0xDB, _N_LINES, 0xDD, *range(0xE0, 0xF0), 0xFE})
_LONGEST_ZERO_RUN = 256


@dataclass(slots=True)
class JpegFacts:
    """What the segments say; ``n_channels`` is 1 (gray), 3 or 4 (CMYK or YCCK).

    ``colors`` is "RGB" or "YCbCr" where a marker or the channels' names say which; ``orientations`` are all stated.
    """

    width_px: int = 0
    height_px: int = 0
    bits: int = 0
    n_channels: int = 0
    orientations: list[int] = field(default_factory=list)
    colors: str = ""
    frame: int = 0
    zeros_end_blocks: list[bool] = field(default_factory=list)

    @property
    def orientation(self) -> int:
        """EXIF orientation 1-8; 1 (upright) where none is stated."""
        return self.orientations[0] if self.orientations else 1


def read_jpeg(data: bytes) -> JpegFacts:
    """Read the segments and check the scans. Raises CutShortError, and RefusedError for damaged ones."""
    facts = JpegFacts()
    coded: _Coded | None = None
    position, n_scans = 2, 0
    while True:
        position = _next_marker(data, position)
        if position < 0 or position + 4 > len(data):
            if n_scans and data[position : position + 2] == b"\xff\xd9":
                return facts
            raise CutShortError
        marker = data[position + 1]
        if marker == _END:
            if not n_scans:
                raise CutShortError
            return facts
        position += 2
        if marker in _WITHOUT_LENGTH:
            raise damaged(kind="JPEG")
        (length,) = struct.unpack_from(">H", data, position)
        segment, position = data[position + 2 : position + length], position + length
        if position > len(data):
            raise CutShortError
        _read_segment(facts, marker, segment)
        if marker == _SCAN:
            n_scans += 1
            coded = coded or _Coded(data, position)
            position = _check_scan(coded, position, facts, n_channels=segment[0] if segment else 0)


def _next_marker(data: bytes, start: int) -> int:
    """Find the next marker behind zero and fill bytes, -1 at the end; decoders disagree about other bytes there."""
    position = data.find(b"\xff", start)
    if data[start : max(start, position)].strip(b"\0"):
        raise damaged(kind="JPEG")
    while 0 <= position < len(data) - 1 and data[position + 1] == 0xFF:  # noqa: PLR2004 - fill bytes
        position += 1
    return position


def _read_segment(facts: JpegFacts, marker: int, segment: bytes) -> None:
    try:
        if marker in _FRAMES:
            facts.frame = marker
            facts.bits, facts.height_px, facts.width_px, facts.n_channels = struct.unpack_from(">BHHB", segment)
            facts.colors = facts.colors or ("RGB" if segment[6::3] == b"RGB" else "")
        elif marker == _JFIF and segment.startswith(b"JFIF\0"):
            facts.colors = "YCbCr"
        elif marker == _ADOBE and segment.startswith(b"Adobe"):
            facts.colors = "YCbCr" if segment[11] else "RGB"
        elif marker == _EXIF and segment.startswith(b"Exif\0\0"):
            facts.orientations.append(exif_orientation(segment[6:]))
            if len(set(facts.orientations)) > 1:
                raise damaged(kind="JPEG")  # libraries disagree about which block counts
        elif marker == _HUFFMAN_TABLES:
            facts.zeros_end_blocks += _zeros_end_blocks(segment)
    except (struct.error, IndexError) as error:
        raise damaged(kind="JPEG") from error


def _zeros_end_blocks(segment: bytes) -> list[bool]:
    """Say for every table of AC coefficients whether its shortest code, which is all zeros, means "end of block"."""
    position, answers = 0, []
    while position < len(segment):
        if segment[position] >> 4:
            answers.append(segment[position + 17] == 0)
        position += 17 + sum(segment[position + 1 : position + 17])
    return answers


class _Coded:
    """Places of the markers behind the first scan's header; ``kinds`` are their second bytes."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        coded = np.frombuffer(data, dtype=np.uint8)[start:]
        places = np.flatnonzero(coded[:-1] == 0xFF)  # noqa: PLR2004 - every marker begins with it
        kinds = coded[places + 1]
        is_marker = (kinds != 0) & (kinds != 0xFF)  # noqa: PLR2004 - stuffed byte, fill byte
        self.places, self.kinds = places[is_marker] + start, kinds[is_marker]
        self.ends = np.flatnonzero((self.kinds < _RESTART) | (self.kinds > _RESTART + 7))


def _check_scan(coded: _Coded, start: int, facts: JpegFacts, n_channels: int) -> int:
    """Check the coded pixels from ``start``; gives the place of the marker that ends them."""
    first = int(np.searchsorted(coded.places, start))
    at = int(np.searchsorted(coded.ends, first))
    if at == len(coded.ends):
        raise CutShortError
    last = int(coded.ends[at])
    end, kind = int(coded.places[last]), int(coded.kinds[last])
    restarts = coded.kinds[first:last] - np.uint8(_RESTART)
    in_turn = np.array_equal(restarts, np.arange(len(restarts)) % 8)
    only_scan = facts.frame in _BASELINE and n_channels == facts.n_channels
    allowed = {_END, _N_LINES} if only_scan else _BETWEEN_SCANS
    zeros = bytes(_LONGEST_ZERO_RUN)
    is_hole = only_scan and not all(facts.zeros_end_blocks) and coded.data.find(zeros, start, end) >= 0
    if kind not in allowed or not in_turn or is_hole:
        raise damaged(kind="JPEG")
    return end
