"""One image file of a cohort: content hash, size, and the scale that its own metadata state.

Reading in full proves that the image can be decoded. Where only the size is needed, the header gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, read_header, sha256_bytes
from marrowscope.imaging.scale import metadata_scale
from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path


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
