"""A WebP or BMP that two libraries read differently, or one of them not at all, is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image
from tests.imaging.pictures import PICTURE, saved, with_orientation

CLEAR = np.dstack([PICTURE, PICTURE[..., 0]])


@pytest.mark.parametrize(
    ("data", "at", "value"),
    [
        pytest.param(saved(CLEAR, "WEBP"), 24, b"\x00", id="canvas of another size"),
        pytest.param(saved(CLEAR, "WEBP"), 12, b"VP8Y", id="unknown first chunk"),
        pytest.param(with_orientation(PICTURE, "WEBP", 6), 20, b"\x00", id="orientation that the header denies"),
        pytest.param(saved(PICTURE, "BMP"), 14, b"\x29", id="header of an unknown version"),
    ],
)
def test_what_one_of_two_libraries_refuses_is_refused(data: bytes, at: int, value: bytes) -> None:
    assert decode_image(data, "f") is not None
    with pytest.raises(ImageError, match=r"^f: found "):
        decode_image(data[:at] + value + data[at + len(value) :], "f")


def test_what_two_libraries_show_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(PICTURE, "BMP")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: Image.fromarray(255 - PICTURE))
    with pytest.raises(
        ImageError, match="f: found a BMP that two decoders read differently, expected one picture; copy"
    ):
        decode_image(data, "f")


@pytest.mark.parametrize("reduce", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["BMP", "WEBP"])
def test_both_kinds_are_read_reduced_too(kind: str, reduce: int) -> None:
    image = decode_image(saved(PICTURE, kind, **({"lossless": True} if kind == "WEBP" else {})), "f", reduce=reduce)
    assert image.shape[:2] == tuple(-(-side // reduce) for side in PICTURE.shape[:2])


def test_bmp_of_16_bits_is_read_within_the_rounding_of_5_bits() -> None:
    """The widest difference between the two libraries on sound files: 31 of 31 is 248 in one and 255 in the other."""
    samples = (PICTURE >> 3).astype(np.uint16)
    packed = samples[..., 0] << 10 | samples[..., 1] << 5 | samples[..., 2]
    rows = np.pad(packed[::-1], ((0, 0), (0, packed.shape[1] % 2))).astype("<u2").tobytes()
    head = struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, packed.shape[1], packed.shape[0], 1, 16, 0, len(rows), 0, 0, 0, 0)
    assert np.abs(decode_image(head + rows, "f").astype(int) - PICTURE).max() <= 8
