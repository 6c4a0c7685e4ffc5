"""Image files by path: which names and contents count as images, their hash, reading and writing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2

from marrowscope.errors import ImageError
from marrowscope.imaging.decode import decode_image
from marrowscope.imaging.foreign import foreign_fault
from marrowscope.imaging.jpeg import START as JPEG_START
from marrowscope.imaging.one_image import explain
from marrowscope.imaging.png import START as PNG_START
from marrowscope.imaging.refusals import image_error
from marrowscope.imaging.tiff import STARTS as TIFF_STARTS
from marrowscope.records import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
IMAGE_SUFFIXES |= {".jfif", ".jpe", ".jif", ".pjpeg", ".pjp", ".dib", ".btf", ".tf8"}
SLIDE_SUFFIXES = frozenset({".bif", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms"})
"""Formats of whole-slide images that have a name of their own; pyramids in .tif and .tiff are told by their content."""
MAX_FILE_BYTES = 2_000_000_000
"""Largest file read in one piece: the largest image that is decoded in one piece, 16 bits and opacity, has 0.8 GB."""
UNREAD = frozenset({"unread_format", "name_not_utf8"})
"""Kinds of the faults of ``unread_fault``."""
_START_BYTES = 512
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_SHOWN_BYTES = "backslashreplace"


def is_image_path(path: Path) -> bool:
    """Say whether a file is an image this package reads: by its name's end, or without one by its first bytes.

    Hidden files are none (``._f1.jpg`` is macOS's note on f1.jpg), nor is a name that is not UTF-8 (``unread_fault``).
    """
    if path.name.startswith(".") or not is_printable(path):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and _starts_as_image(_start(path)))


def is_printable(path: Path) -> bool:
    """Say whether a path is Unicode: tables, JSON and pages hold no other."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def printable(path: Path | str) -> str:
    """Return a path for a message, bytes that are no UTF-8 as their numbers."""
    return str(path).encode("utf-8", errors=_SHOWN_BYTES).decode()


_NO_PHOTOGRAPHS = frozenset({".thm", ".opt", ".map"})
"""Pictures in small that cameras and scanners write beside a photograph or a slide."""

_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar"})


def unread_fault(path: Path, where: str) -> Fault | None:
    """Say why a file that is a picture is left out: its format is not read, or its name is not UTF-8.

    None for images that are read, for hidden files, and for all that is no picture.
    """
    if path.name.startswith("."):
        return None
    suffix = path.suffix.lower()
    start = b"" if suffix in IMAGE_SUFFIXES | SLIDE_SUFFIXES | _NO_PHOTOGRAPHS else _start(path)
    fault = foreign_fault(path, printable(where), start)
    if suffix in _PACKED and path.with_suffix("").suffix.lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES:
        found, action = f"an image packed as {suffix}", "it is not read; unpack it if it is a photograph"
        fault = Fault("unread_format", printable(where), found, "an image as it is", action)
    if fault is None and suffix and is_printable(path) and _starts_as_image(start):
        found, expected = f"an image under a name that ends in {suffix}", "a suffix of its format, such as .jpg"
        action = "it is not read; rename it if it is a photograph, or move it away"
        return Fault("unread_format", printable(where), found, expected, action)
    if fault is not None or is_printable(path):
        return fault
    if path.suffix.lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES or _starts_as_image(start):
        found, expected = "a name that is not UTF-8", "a name of Unicode letters"
        return Fault(
            "name_not_utf8", printable(where), found, expected, "it is not read; rename the file or its folder"
        )
    return None


def _start(path: Path) -> bytes:
    """Return a file's first bytes; nothing where it cannot be read: that is said when it is its turn."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(_START_BYTES)
    except OSError:
        return b""


def _starts_as_image(start: bytes) -> bool:
    """Say whether a file's first bytes are those of an image that is read."""
    if start[:4] in TIFF_STARTS or start.startswith((JPEG_START, PNG_START)):
        return True
    is_bmp = start.startswith(b"BM") and int.from_bytes(start[14:18], "little") in _BMP_HEADERS
    return is_bmp or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read an image file's bytes. Raises ImageError where it cannot be opened or is larger than ``max_bytes``."""
    where = printable(path)
    try:
        n_bytes = path.stat().st_size
        if n_bytes <= max_bytes and path.is_file():
            return path.read_bytes()
    except MemoryError as error:
        raise image_error(explain(error, where)) from error
    except OSError as error:
        message = f"{where}: cannot be read ({error.strerror}); check the file's permissions"
        raise ImageError(message, explain(error, where)) from error
    if n_bytes <= max_bytes:
        action = "give the path of an image file"
        raise image_error(Fault("unreadable_image", where, "a folder or a device", "an image", action))
    found, expected = f"a file of {n_bytes / 1e9:.1f} GB", f"an image of at most {max_bytes / 1e9:.1f} GB"
    action = "cut it into fields or save it as a pyramidal TIFF"
    raise image_error(Fault("file_too_large", where, found, expected, action))


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
    return decode_image(read_file(path), printable(path))


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
