"""A second reading of an image file by another library: Pillow, or for TIFF the strips as they are stored.

What it gives is compared with ours. It is written for clarity, knows nothing of our code, and is as strict as the
formats are: where it raises, no comparison is possible.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]
TOLERANCE = 8
"""Gray levels by which two libraries may differ: libjpeg's of another build, CMYK inks, samples of 5 bits."""
_TURN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


def read_again(data: bytes) -> Pixels | None:
    """RGB uint8 (h, w, 3), upright, opacity over white; None where the library refuses the file."""
    try:
        return _tiff(data) if data[:2] in {b"II", b"MM"} else _pillow(data)
    except Exception:  # noqa: BLE001 - a library on mutated bytes raises whatever it likes
        return None


def _pillow(data: bytes) -> Pixels:
    image: Image.Image = Image.open(io.BytesIO(data))
    image.load()
    if image.mode.startswith("I"):
        gray = np.asarray(image).astype(np.float64)
        return _stack(_eight_bits(gray, 16))
    with contextlib.suppress(Exception):  # a broken EXIF block turns nothing
        image = ImageOps.exif_transpose(image)
    rgba = np.asarray(image.convert("RGBA")).astype(np.float64)
    return _over_white(rgba[..., :3], rgba[..., 3])


def _tiff(data: bytes) -> Pixels:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        samples = _samples(page)  # (h, w, samples)
        photometric, bits = int(page.photometric), int(page.bitspersample)
        orientation = page.tags.valueof(274, default=1)
        color_map = page.colormap
        extra = page.extrasamples
    top = float(2**bits - 1)
    values = samples.astype(np.float64)
    if photometric == 3:
        assert color_map is not None
        rgb = _eight_bits(color_map.astype(np.float64)[:, samples[..., 0]].transpose(1, 2, 0), 16)
    elif photometric == 5:
        inks = values / top
        rgb = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:4])
    else:
        n_colors = 3 if photometric in {2, 6} else 1
        rgb = _eight_bits(values[..., :n_colors], bits)
        if photometric == 0:
            rgb = 255 - rgb
    rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    if extra and int(extra[0]) == 2:
        rgb = _over_white(rgb, values[..., -1] * (255 / top)).astype(np.float64)
    elif extra and int(extra[0]) == 1:  # colors times opacity, never more than it
        alpha = values[..., -1:] * (255 / top)
        rgb = np.minimum(rgb, alpha) + 255 - alpha
    return np.asarray(_TURN.get(orientation, _TURN[1])(np.rint(rgb)), dtype=np.uint8)


def _samples(page: tifffile.TiffPage) -> NDArray[Any]:
    """Give the samples (h, w, samples) of a page: tifffile's, LZW and JPEG pieces decompressed here."""
    compression = int(page.compression)
    if compression not in {5, 7}:
        return _channels_last(page.asarray(), page)
    n_planes = page.samplesperpixel if page.planarconfig == 2 else 1
    depth = 1 if n_planes > 1 else page.samplesperpixel
    planes = np.zeros((n_planes, page.imagelength, page.imagewidth, depth), dtype=page.dtype)
    tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    tall = min(tall, page.imagelength) if not page.is_tiled else tall
    places = [
        (plane, y, x)
        for plane in range(n_planes)
        for y in range(0, page.imagelength, tall)
        for x in range(0, page.imagewidth, wide)
    ]
    assert len(places) == len(page.dataoffsets)
    handle = page.parent.filehandle
    for (plane, y, x), at, size in zip(places, page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(at)
        rows = tall if page.is_tiled else min(tall, page.imagelength - y)
        piece = _piece(handle.read(size), page, (rows, wide, depth))
        place = planes[plane, y : y + rows, x : x + wide]
        place[:] = piece[: place.shape[0], : place.shape[1]]
    return planes[..., 0].transpose(1, 2, 0) if n_planes > 1 else planes[0]


def _piece(coded: bytes, page: tifffile.TiffPage, shape: tuple[int, int, int]) -> NDArray[Any]:
    if int(page.compression) == 7:
        tables = page.jpegtables
        stream = tables[:-2] + coded[2:] if tables else coded
        image = Image.open(io.BytesIO(stream))
        return np.asarray(image).reshape(*image.size[::-1], shape[2])
    assert page.bitspersample in {8, 16}
    assert page.dtype is not None
    unpacked = unpack_lzw(coded, int(np.prod(shape)) * page.dtype.itemsize)
    piece = np.frombuffer(unpacked, page.dtype.newbyteorder(page.parent.byteorder)).reshape(shape).astype(page.dtype)
    return np.cumsum(piece, axis=1, dtype=page.dtype) if page.predictor == 2 else piece


def unpack_lzw(coded: bytes, n_bytes: int) -> bytes:
    """Unpack LZW as TIFF 6.0 defines it: most significant bit first, codes of 9 to 12 bits, early change.

    Gives the first ``n_bytes``, whatever follows them.
    """
    bits, n_bits, width, at = 0, 0, 9, 0
    table: list[bytes] = []
    out, before = bytearray(), b""
    while len(out) < n_bytes:
        while n_bits < width:
            bits, n_bits, at = bits << 8 | coded[at], n_bits + 8, at + 1
        code = bits >> (n_bits - width) & ((1 << width) - 1)
        n_bits -= width
        bits &= (1 << n_bits) - 1
        if code == 257:
            return bytes(out)
        if code == 256:
            table, width, before = [bytes([value]) for value in range(256)] + [b"", b""], 9, b""
            continue
        entry = table[code] if code < len(table) else before + before[:1]
        assert code <= len(table)
        out += entry
        if before:
            table.append(before + entry[:1])
        before = entry
        width = max(width, min(12, (len(table) + 1).bit_length()))
    return bytes(out[:n_bytes])


def _channels_last(samples: NDArray[Any], page: tifffile.TiffPage) -> NDArray[Any]:
    if samples.ndim == 2:
        return samples[..., None]
    return samples.transpose(1, 2, 0) if page.planarconfig == 2 else samples


def _eight_bits(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Scale samples of ``bits`` to 0-255; 16 bits whose largest is at most 4095 are of 12."""
    if bits <= 8:
        return values * (255.0 / (2.0**bits - 1))
    return values * (255.0 / (4095 if values.max() <= 4095 else 65535))


def _over_white(rgb: NDArray[np.float64], alpha: NDArray[np.float64]) -> Pixels:
    share = alpha[..., None] / 255
    return np.asarray(np.rint(rgb * share + 255 * (1 - share)), dtype=np.uint8)


def _stack(gray: NDArray[np.float64]) -> Pixels:
    return np.asarray(np.rint(np.dstack([gray] * 3)), dtype=np.uint8)
