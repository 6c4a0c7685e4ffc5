"""One image file of a cohort: content hash, size, and the scale that its own metadata state.

Reading in full proves that the image can be decoded. Where only the size is needed, the header gives it. A slide's
pixels are never read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from marrowscope.cohort.duplicates import image_fingerprint
from marrowscope.errors import DependencyError, ImageError
from marrowscope.imaging import (
    MAX_PIXELS,
    decode_image,
    is_slide_path,
    one_image,
    read_file,
    read_header,
    sha256_bytes,
    sha256_file,
    unread_fault,
)
from marrowscope.imaging.scale import metadata_scale
from marrowscope.records import Fault
from marrowscope.slides import measure_slide
from marrowscope.slides.pyramids import read_header as read_stored_size

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What is known of an image file; ``fault`` says why it cannot be used (then the size is 0 x 0).

    ``fingerprint`` tells near-copies; it is empty where only the header was read.
    """

    path: Path
    sha256: str
    width_px: int
    height_px: int
    um_per_px: float | None
    fault: Fault | None = None
    fingerprint: str = field(default="", compare=False)


def examine_image(path: Path, where: str, *, decode: bool) -> ImageFile:
    """Hash one image file and measure it; whatever is wrong is a fault of the result, nothing is raised."""
    fault = unread_fault(path, where)
    if fault is not None:
        return ImageFile(path, "", 0, 0, None, fault)
    sha256 = ""
    try:
        with one_image(where):
            data = read_file(path)
            if not data:
                action = "export the image again or remove it"
                return ImageFile(
                    path, "", 0, 0, None, Fault("empty_file", where, "a file of 0 bytes", "an image", action)
                )
            sha256 = sha256_bytes(data)
            fingerprint = ""
            if decode:
                image = decode_image(data, where)
                height, width = image.shape[:2]
                fingerprint = image_fingerprint(image)
            else:
                header = read_header(data, where)
                height, width = header.height_px, header.width_px
            return ImageFile(path, sha256, width, height, metadata_scale(data), fingerprint=fingerprint)
    except ImageError as error:
        found = error.fault or Fault("unreadable_image", where, str(error), "an image", "export it again or remove it")
        return ImageFile(path, sha256, 0, 0, None, replace(found, where=where))


def is_too_large(path: Path) -> bool:
    """Say whether an image is a slide for its size, by its header alone: whatever its format, it is read in regions."""
    stored = read_stored_size(path)
    return stored is not None and stored.width_px * stored.height_px > MAX_PIXELS


def examine_slide(path: Path, where: str) -> ImageFile:
    """Hash a slide and read its size and scale; whatever is wrong is a fault of the result, nothing is raised."""
    try:
        with one_image(where):
            width, height, um_per_px = measure_slide(path)
            return ImageFile(path, sha256_file(path), width, height, um_per_px)
    except (ImageError, DependencyError, OSError) as error:
        found = getattr(error, "fault", None) or Fault(
            "unreadable_image", where, str(error), "a slide", "export it again, or move its annotation away"
        )
        return ImageFile(path, "", 0, 0, None, replace(found, where=where))


def examine_image_or_slide(path: Path, where: str) -> ImageFile:
    """Hash an image or a slide and read its size from its header."""
    if is_slide_path(path) or is_too_large(path):
        return examine_slide(path, where)
    return examine_image(path, where, decode=False)
