"""Image files by path: which names count as images, their hash, reading and writing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2

from marrowscope.errors import ImageError
from marrowscope.imaging.decode import decode_image

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
SLIDE_SUFFIXES = frozenset({".bif", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms"})
"""Formats of whole-slide images that have a name of their own; pyramids in .tif and .tiff are told by their content."""


def is_image_path(path: Path) -> bool:
    """Say whether the file's name ends like an image this package reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_slide_path(path: Path) -> bool:
    """Say whether the file's name ends like a whole-slide image; one in .tif or .tiff has an image's name."""
    return path.suffix.lower() in SLIDE_SUFFIXES


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_image(path: Path) -> ImageArray:
    """Read an image file as RGB uint8 (height, width, 3). Raises ImageError naming the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        raise ImageError(message) from error
    return decode_image(data, str(path))


def encode_image(image: ImageArray, suffix: str, quality: int = 90) -> bytes:
    """Encode RGB uint8 as ``suffix`` (``.jpg``, ``.webp`` or ``.png``); ``quality`` 1-100 for the lossy ones."""
    flags = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        ".png": [],
    }[suffix]
    ok, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    if not ok:
        message = f"an image of shape {image.shape} cannot be written as {suffix}"
        raise ImageError(message)
    return data.tobytes()


def write_image(path: Path, image: ImageArray, quality: int = 90) -> None:
    """Write RGB uint8 to ``path``; the suffix chooses the format."""
    path.write_bytes(encode_image(image, path.suffix.lower(), quality))
