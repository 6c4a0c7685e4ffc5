"""Images at the edge: read, hash, write. Inside the package an image is RGB uint8 (height, width, 3)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
_JPEG_START, _JPEG_START_OF_SCAN, _JPEG_END_OF_IMAGE = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def is_image_path(path: Path) -> bool:
    """Say whether the file's name ends like an image this package reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of ``data`` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def decode_image(data: bytes, where: str) -> ImageArray:
    """Decode the bytes of an image file to RGB uint8 (height, width, 3), EXIF rotation applied.

    Raises ImageError naming ``where`` when the bytes are no complete image.
    """
    if not data:
        message = f"{where}: found an empty file, expected an image; export the image again or remove it"
        raise ImageError(message)
    if _is_truncated(data):
        message = f"{where}: found an image that ends too early; copy or export it again"
        raise ImageError(message)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        message = f"{where}: the image cannot be decoded ({error.err}); export the image again or remove it"
        raise ImageError(message) from error
    if decoded is None:
        message = (
            f"{where}: found no readable image, expected one of {', '.join(sorted(IMAGE_SUFFIXES))}; "
            "export the image again or remove it"
        )
        raise ImageError(message)
    return np.ascontiguousarray(decoded, dtype=np.uint8)


def _is_truncated(data: bytes) -> bool:
    """Say whether a JPEG or PNG lacks its end: decoders fill the missing part with grey and say nothing.

    A marker cannot occur inside a JPEG's coded pixels, so a complete file has its last end-of-image marker behind its
    last start-of-scan marker, whatever thumbnails it carries.
    """
    if data.startswith(_JPEG_START):
        return data.rfind(_JPEG_END_OF_IMAGE) < data.rfind(_JPEG_START_OF_SCAN)
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    return False


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
