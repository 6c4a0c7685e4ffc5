"""One image file of a cohort: content hash, size, and the scale its own metadata states.

Reading in full proves that the image can be decoded. Where only the size is needed, the header gives it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.cohort.patients import PLAUSIBLE_UM_PER_PX
from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, read_header, sha256_bytes, tiff
from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path

_PNG_START = b"\x89PNG\r\n\x1a\n"
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
    try:
        if decode:
            height, width = decode_image(data, where).shape[:2]
        else:
            header = read_header(data, where)
            height, width = header.height_px, header.width_px
    except ImageError as error:
        return ImageFile(path, sha256_bytes(data), 0, 0, None, error.fault)
    return ImageFile(path, sha256_bytes(data), width, height, metadata_scale(data))


def metadata_scale(data: bytes) -> float | None:
    """Micrometres per pixel from the resolution tag of a TIFF or the pHYs chunk of a PNG.

    None where there is none or it is no microscope's (cameras write 72 or 300 dots per inch).
    """
    try:
        if data[:4] in tiff.STARTS:
            scale = _tiff_scale(data)
        elif data.startswith(_PNG_START):
            scale = _png_scale(data)
        else:
            return None
    except (struct.error, IndexError, KeyError, ZeroDivisionError, OverflowError, ValueError):
        return None
    low, high = PLAUSIBLE_UM_PER_PX
    return scale if scale is not None and low <= scale <= high else None


def _png_scale(data: bytes) -> float | None:
    start = data.find(b"pHYs", 0, 65536)
    if start < 0:
        return None
    per_metre, _, unit = struct.unpack_from(">IIB", data, start + 4)
    return _UM_PER_M / per_metre if unit == 1 else None


def _tiff_scale(data: bytes) -> float | None:
    """Read x resolution and its unit from the first directory."""
    tags = tiff.read_tags(data, {tiff.X_RESOLUTION, tiff.RESOLUTION_UNIT})
    (per_unit,), (unit,) = tags.get(tiff.X_RESOLUTION, (0.0,)), tags.get(tiff.RESOLUTION_UNIT, (2,))
    return _UM_PER_TIFF_UNIT[int(unit)] / per_unit if per_unit and unit in _UM_PER_TIFF_UNIT else None
