"""Small valid files of every way a picture is stored, and changes that a bad disk, copy or program makes to them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from tests.imaging.pictures import saved, smooth, tiff_file, with_orientation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

SMALL = smooth(3, 37, 50)


def valid_files() -> dict[str, bytes]:
    """Give a valid file of each kind, by name."""
    rgb, gray, deep = Image.fromarray(SMALL), SMALL[..., 0], SMALL.astype(np.uint16) * 257
    clear = np.dstack([SMALL, SMALL[..., 1]])
    files = {
        "jpeg": saved(SMALL, "JPEG", quality=90),
        "jpeg-progressive": saved(SMALL, "JPEG", progressive=True),
        "jpeg-gray": saved(gray, "JPEG"),
        "jpeg-cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg-turned": with_orientation(SMALL, "JPEG", 6),
        "jpeg-restarts": saved(SMALL, "JPEG", restart_marker_blocks=3),
        "png": saved(SMALL, "PNG"),
        "png-alpha": saved(clear, "PNG"),
        "png-palette": saved(rgb.quantize(40), "PNG", transparency=3),
        "png-gray-1-bit": saved(rgb.convert("1"), "PNG"),
        "png-16-bits": cv2.imencode(".png", deep)[1].tobytes(),
        "bmp": saved(SMALL, "BMP"),
        "bmp-palette": saved(rgb.quantize(40), "BMP"),
        "bmp-1-bit": saved(rgb.convert("1"), "BMP"),
        "bmp-32-bits": saved(rgb.convert("RGBX").convert("RGBA"), "BMP"),
        "webp": saved(SMALL, "WEBP"),
        "webp-alpha": saved(clear, "WEBP"),
        "webp-lossless": saved(SMALL, "WEBP", lossless=True),
        "webp-turned": with_orientation(SMALL, "WEBP", 8),
        "tiff-by-hand": tiff_file(SMALL),
        "tiff-gray-16-bits": tiff_file(deep[..., 0], 1),
        "tiff-16-bits": tiff_file(deep),
        "tiff-alpha-16-bits": tiff_file(np.dstack([deep, deep[..., 0]]), tags={338: (2,)}),
        "tiff-turned": with_orientation(SMALL, "TIFF", 5),
        "tiff-white-is-zero": tiff_file(gray, 0),
        "tiff-1-bit": saved(rgb.convert("1"), "TIFF"),
        "tiff-palette": saved(rgb.quantize(40), "TIFF"),
        "tiff-cmyk": saved(rgb.convert("CMYK"), "TIFF"),
        "tiff-big": saved(SMALL, "TIFF", big_tiff=True),
        "tiff-jpeg": saved(SMALL, "TIFF", compression="jpeg"),
        "tiff-packbits": saved(SMALL, "TIFF", compression="packbits"),
        "tiff-lzw-palette": saved(rgb.quantize(40), "TIFF", compression="tiff_lzw"),
        "tiff-lzw-alpha": saved(clear, "TIFF", compression="tiff_lzw"),
        "tiff-lzw-16-bits": cv2.imencode(".tif", deep)[1].tobytes(),
    }
    written: dict[str, dict[str, Any]] = {
        "strips": {"rowsperstrip": 8},
        "planes": {"planarconfig": "separate", "rowsperstrip": 10},
        "tiles": {"tile": (32, 32)},
        "tiles-planes": {"tile": (32, 32), "planarconfig": "separate"},
        "deflate": {"compression": "zlib", "rowsperstrip": 8, "predictor": True},
        "deflate-tiles": {"compression": "zlib", "tile": (16, 16)},
        "deflate-planes": {"compression": "zlib", "planarconfig": "separate"},
        "big-endian": {"byteorder": ">", "rowsperstrip": 8},
        "imagej": {"imagej": True, "resolution": (6.9, 6.9), "metadata": {"unit": "um"}},
        "ome": {"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.15, "PhysicalSizeXUnit": "um"}},
    }
    for name, options in written.items():
        samples = SMALL.transpose(2, 0, 1) if "planes" in name else SMALL
        stream = io.BytesIO()
        tifffile.imwrite(stream, samples, photometric="rgb", **options)
        files[f"tiff-{name}"] = stream.getvalue()
    return files


def _cut(data: bytearray, rng: Generator) -> None:
    del data[int(rng.integers(1, len(data))) :]


def _flip_early(data: bytearray, rng: Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        data[int(rng.integers(0, min(len(data), 400)))] = int(rng.integers(0, 256))


def _flip_anywhere(data: bytearray, rng: Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))


def _flip_late(data: bytearray, rng: Generator) -> None:
    data[-int(rng.integers(1, min(len(data), 400)))] = int(rng.integers(0, 256))


def _double(data: bytearray, rng: Generator) -> None:
    at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
    data[at:at] = data[at : at + size]


def _hole(data: bytearray, rng: Generator) -> None:
    at, size = int(rng.integers(8, len(data))), int(rng.integers(1, 200))
    data[at : at + size] = bytes(len(data[at : at + size]))


def _swap(data: bytearray, rng: Generator) -> None:
    one, other = (int(value) for value in rng.integers(0, min(len(data), 400) - 4, 2))
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]


def _change_field(data: bytearray, rng: Generator) -> None:
    """Change a header field as the format knows it: a TIFF entry, a PNG or WebP chunk, a JPEG segment, a BMP value."""
    value = int(rng.choice([0, 1, 2, 3, 4, 5, 7, 8, 16, 37, 50, 255, 256, 4096, 65535, 2**31 - 1, 2**32 - 1]))
    if bytes(data[:4]) in {b"II*\0", b"MM\0*"}:
        order = "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack_from(order + "I", data, 4)
        if start + 14 > len(data) or not (n_entries := struct.unpack_from(order + "H", data, start)[0]):
            return
        entry = start + 2 + 12 * int(rng.integers(0, n_entries))
        if entry + 12 > len(data):
            return
        place, letter = [(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H"), (8, "I")][int(rng.integers(0, 6))]
        struct.pack_into(order + letter, data, entry + place, value % 2 ** (8 * struct.calcsize(letter)))
    elif data[:4] == b"\x89PNG":
        _change_png(data, rng, value)
    elif data[:2] == b"BM":
        struct.pack_into("<I", data, int(rng.choice([2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50])), value)
    elif data[:4] == b"RIFF":
        place = int(rng.choice([4, 16, 20, 24, 26, 27, 28, 30]))
        struct.pack_into("<H", data, place, value % 65536)
    else:
        places = [at for at in range(2, len(data) - 20) if data[at] == 255 and data[at + 1] not in {0, 255}]
        at = int(rng.choice(places or [2]))
        data[at + 2 + int(rng.integers(0, 16))] = value % 256


def _change_png(data: bytearray, rng: Generator, value: int) -> None:
    """Change, double or drop a chunk and write its checksum anew, so that only its sense is wrong."""
    chunks: list[tuple[bytes, bytearray]] = []
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((bytes(data[position + 4 : position + 8]), data[position + 8 : position + 8 + length]))
        position += length + 12
    index, way = int(rng.integers(0, max(1, len(chunks)))), int(rng.integers(0, 4))
    if not chunks:
        return
    if way == 0:
        chunks.insert(int(rng.integers(0, len(chunks))), chunks[index])
    elif way == 1:
        del chunks[index]
    elif chunks[index][1]:
        chunks[index][1][int(rng.integers(0, min(20, len(chunks[index][1]))))] = value % 256
    data[8:] = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


MUTATIONS: tuple[Callable[[bytearray, Generator], None], ...] = (
    _cut, _flip_early, _flip_anywhere, _flip_late, _double, _hole, _swap, _change_field, _change_field, _change_field,
)  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """Give ``data`` with one to two changes that follow from ``seed`` alone."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        if len(changed) > 60:
            MUTATIONS[int(rng.integers(0, len(MUTATIONS)))](changed, rng)
    return bytes(changed)
