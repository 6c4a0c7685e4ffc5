"""One smooth picture, and files of it in every way a picture is stored; Pillow and hand-written TIFF as the writers."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from marrowscope.records import ImageArray

HEIGHT, WIDTH = 117, 158
LOSSLESS = ("PNG", "BMP", "TIFF")


def smooth(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> ImageArray:
    """Give a colorful picture without edges, so that a lossy file stays close to it, and without symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


PICTURE = smooth()


def saved(picture: NDArray[np.uint8] | Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    """Give the file Pillow writes."""
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_orientation(picture: NDArray[np.uint8], kind: str, orientation: int, **options: Any) -> bytes:  # noqa: ANN401
    """Give the file of ``picture`` whose metadata ask for a turn."""
    if kind == "TIFF":
        return saved(picture, kind, tiffinfo={274: orientation}, **options)
    exif = Image.Exif()
    exif[274] = orientation
    return saved(picture, kind, exif=exif, **options)


def tiff_file(samples: NDArray[Any], photometric: int = 2, tags: Mapping[int, tuple[int, ...]] | None = None) -> bytes:
    """Give an uncompressed TIFF of one strip; ``samples`` (h, w) or (h, w, c) as stored, ``tags`` replace or add."""
    height, width = samples.shape[:2]
    n_channels = samples.shape[2] if samples.ndim == 3 else 1
    formats = {"u": 1, "i": 2, "f": 3}
    entries = {
        256: (width,),
        257: (height,),
        258: (samples.itemsize * 8,) * n_channels,
        259: (1,),
        262: (photometric,),
        273: (8,),
        277: (n_channels,),
        278: (height,),
        279: (samples.nbytes,),
        284: (1,),
        339: (formats[samples.dtype.kind],) * n_channels,
    } | dict(tags or {})
    body = bytearray(b"II*\x00" + struct.pack("<I", 8 + samples.nbytes + samples.nbytes % 2) + samples.tobytes())
    body += bytes(samples.nbytes % 2)
    extra_at = len(body) + 2 + 12 * len(entries) + 4
    directory, extra = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", extra_at + len(extra)), extra + packed
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    return bytes(body) + directory + struct.pack("<I", 0) + extra


def mean_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Mean absolute difference in gray levels; the shapes must agree."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(np.float64) - other).mean())
