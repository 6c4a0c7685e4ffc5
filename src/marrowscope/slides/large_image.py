"""A plain image of more than 100 megapixels: decoded once, on first use, and then cut into regions."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.errors import ImageError
from marrowscope.imaging import MAX_FILE_BYTES, decode_image, read_file
from marrowscope.imaging import read_header as read_whole_header
from marrowscope.machine import available_memory
from marrowscope.slides.pyramids import read_header

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.imaging import ImageHeader
    from marrowscope.records import ImageArray, Region

MAX_LARGE_PX, _MAX_SIDE_PX = 1 << 30, 1 << 20
"""Limits of OpenCV's decoder: 1,073 megapixels, no side longer than 1,048,576 px."""

_PLAIN_BYTES, _DEEP_BYTES, _CONVERTED_BYTES = 6, 12, 32
"""Measured memory per pixel during decoding: 8 bits; 16 bits; with opacity or as a compressed TIFF."""


_FILE_BYTES = 16
"""Bytes per pixel of the largest file: two pages of 16 bits with opacity, not compressed."""


class LargeImage:
    """A slide from a plain image file; it stays in memory, at three bytes per pixel, until it is closed."""

    um_per_px: float | None = None
    """Always None here: the resolution of a photograph is read with its other metadata."""
    identity: str | None = None

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        if header is not None:
            _refuse_beyond_decoder(path, header.width_px, header.height_px)
        self.path = path
        self._lock = Lock()
        self._pixels: ImageArray | None = None

    @property
    def width_px(self) -> int:
        """See ``Slide.width_px``; the image is decoded for it, because EXIF rotation is applied."""
        return int(self._image().shape[1])

    @property
    def height_px(self) -> int:
        """See ``Slide.height_px``."""
        return int(self._image().shape[0])

    def read(self, region: Region) -> ImageArray:
        """See ``Slide.read``; the pixels are a copy."""
        rows = slice(region.y_px, region.y_px + region.height_px)
        columns = slice(region.x_px, region.x_px + region.width_px)
        return self._image()[rows, columns].copy()

    def overview(self, downsample: float) -> tuple[ImageArray, float]:
        """See ``Slide.overview``; the factor is a whole number."""
        factor = max(1, int(downsample))
        return shrink(self._image(), factor), float(factor)

    def reduced(self, region: Region, factor: int) -> ImageArray:
        """See ``Slide.reduced``."""
        return shrink(self.read(region), factor)

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            self._pixels = None

    def _image(self) -> ImageArray:
        with self._lock:
            if self._pixels is None:
                self._pixels = _decode(self.path)
            return self._pixels


def shrink(image: ImageArray, factor: int) -> ImageArray:
    """Return the mean of every ``factor`` x ``factor`` block of pixels; blocks at the far edges may be partial."""
    height, width = image.shape[:2]
    if factor == 1:
        return image
    below, right = -height % factor, -width % factor
    whole = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else image
    size = whole.shape[1] // factor, whole.shape[0] // factor
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _decode(path: Path) -> ImageArray:
    """Decode the whole file to RGB uint8 (h, w, 3), upright, if there is enough memory."""
    data, where = read_large_file(path), str(path)
    _refuse_beyond_memory(where, read_whole_header(data, where, max_pixels=MAX_LARGE_PX))
    return decode_image(data, where, max_pixels=MAX_LARGE_PX)


def read_large_file(path: Path) -> bytes:
    """Read a file that holds one large picture. Raises ImageError where it is larger than its pixels can make it."""
    header = read_header(path)
    n_pixels = header.width_px * header.height_px if header is not None else 0
    return read_file(path, max(MAX_FILE_BYTES, _FILE_BYTES * n_pixels))


def _refuse_beyond_memory(where: str, header: ImageHeader) -> None:
    """Refuse an image that needs more memory than is available: a small file may state any size."""
    bytes_per_px = _DEEP_BYTES if header.bits > 8 else _PLAIN_BYTES  # noqa: PLR2004 - bits
    if header.has_alpha or header.packed:
        bytes_per_px = _CONVERTED_BYTES
    needed, found = bytes_per_px * header.width_px * header.height_px, available_memory()
    if found is not None and needed > found:
        message = (
            f"{where}: found {header.width_px} x {header.height_px} px, which need {needed / 1e9:.1f} GB of memory "
            f"for decoding, but only {found / 1e9:.1f} GB available; save it as a pyramidal TIFF, which is read "
            "in parts, or give the process more memory"
        )
        raise ImageError(message)


def _refuse_beyond_decoder(path: Path, width_px: int, height_px: int) -> None:
    """Refuse early what OpenCV would refuse only after reading the whole file."""
    if width_px * height_px > MAX_LARGE_PX or max(width_px, height_px) > _MAX_SIDE_PX:
        message = (
            f"{path}: found {width_px} x {height_px} px, expected at most {MAX_LARGE_PX // 1_000_000} megapixels in "
            "one plain image; save it as a pyramidal TIFF, which is read in parts"
        )
        raise ImageError(message)
