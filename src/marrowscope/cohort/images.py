"""One image file of a cohort: content hash, size, and the scale its own metadata states.

Reading in full proves that the image can be decoded. Where only the size is needed, the headers of JPEG and PNG give
it; a file with EXIF data is decoded all the same, because it may be stored rotated.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.patients import PLAUSIBLE_UM_PER_PX
from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, sha256_bytes
from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_STARTS = {b"II*\x00": "<", b"MM\x00*": ">"}
_TIFF_X_RESOLUTION, _TIFF_RESOLUTION_UNIT, _TIFF_RATIONAL = 282, 296, 5
_UM_PER_TIFF_UNIT = {2: 25_400.0, 3: 10_000.0}
_UM_PER_M = 1e6


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What is known of an image file; ``fault`` says why it cannot be used (then the size is 0 x 0)."""

    path: Path
    sha256: str
    width_px: int
    height_px: int
    um_per_px: float | None
    fault: Fault | None = None


def examine_image(path: Path, where: str, *, decode: bool) -> ImageFile:
    """Hash one image file and measure it; whatever is wrong is a fault of the result, nothing is raised."""
    try:
        data = path.read_bytes()
    except OSError as error:
        fault = Fault("unreadable_image", where, f"no access ({error.strerror})", "an image", "check its permissions")
        return ImageFile(path, "", 0, 0, None, fault)
    if not data:
        fault = Fault("empty_file", where, "a file of 0 bytes", "an image", "export the image again or remove it")
        return ImageFile(path, "", 0, 0, None, fault)
    size = None if decode else header_size(data)
    if size is None:
        try:
            height, width = decode_image(data, where).shape[:2]
        except ImageError:
            found = f"{len(data)} bytes that do not decode"
            fault = Fault("unreadable_image", where, found, "a complete image", "export it again or remove it")
            return ImageFile(path, sha256_bytes(data), 0, 0, None, fault)
        size = width, height
    return ImageFile(path, sha256_bytes(data), size[0], size[1], metadata_scale(data))


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a PNG or of a JPEG without EXIF; None where only decoding can tell."""
    try:
        if data.startswith(_PNG_START):
            width, height = struct.unpack(">II", data[16:24])
            return (width, height) if b"eXIf" not in data[:65536] else None
        if data.startswith(_JPEG_START):
            return _jpeg_size(data)
    except (struct.error, IndexError):
        return None
    return None


def metadata_scale(data: bytes) -> float | None:
    """Micrometres per pixel from the resolution tag of a TIFF or the pHYs chunk of a PNG.

    None where there is none or it is no microscope's (cameras write 72 or 300 dots per inch).
    """
    try:
        if data[:4] in _TIFF_STARTS:
            scale = _tiff_scale(data, _TIFF_STARTS[data[:4]])
        elif data.startswith(_PNG_START):
            scale = _png_scale(data)
        else:
            return None
    except (struct.error, IndexError, ZeroDivisionError):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    return scale if scale is not None and low <= scale <= high else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the segments up to the frame header."""
    position = 2
    while data[position] == 0xFF:  # noqa: PLR2004 - every JPEG segment begins with it
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return (width, height) if width and height else None
        if data[position + 4 : position + 8] == b"Exif":
            return None
        position += 2 + length
    return None


def _png_scale(data: bytes) -> float | None:
    start = data.find(b"pHYs", 0, 65536)
    if start < 0:
        return None
    per_metre, _, unit = struct.unpack_from(">IIB", data, start + 4)
    return _UM_PER_M / per_metre if unit == 1 else None


def _tiff_scale(data: bytes, order: str) -> float | None:
    """Read x resolution and its unit from the first directory."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (n_entries,) = struct.unpack_from(order + "H", data, directory)
    per_unit: float | None = None
    unit = 2
    for entry in range(directory + 2, directory + 2 + 12 * n_entries, 12):
        tag, kind, _, value = struct.unpack_from(order + "HHII", data, entry)
        if tag == _TIFF_X_RESOLUTION and kind == _TIFF_RATIONAL:
            numerator, denominator = struct.unpack_from(order + "II", data, value)
            per_unit = numerator / denominator
        elif tag == _TIFF_RESOLUTION_UNIT:
            (unit,) = struct.unpack_from(order + "H", data, entry + 8)
    return _UM_PER_TIFF_UNIT[unit] / per_unit if per_unit and unit in _UM_PER_TIFF_UNIT else None
