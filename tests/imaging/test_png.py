"""PNG chunks out of their place, doubled, missing or of another checksum are refused; Pillow wrote the sound ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image
from tests.imaging.pictures import saved, smooth

SMALL = smooth(3, 37, 50)
PALETTE = saved(Image.fromarray(SMALL).quantize(40), "PNG", transparency=3)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    position, found = 8, []
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += length + 12
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def with_header(data: bytes, at: int, value: int) -> bytes:
    (kind, header), *others = chunks(data)
    return joined([(kind, header[:at] + bytes([value]) + header[at + 1 :]), *others])


def test_pixels_in_several_chunks_and_unknown_notes_are_read() -> None:
    head, (_, pixels), end = chunks(saved(SMALL, "PNG"))
    split = [
        head,
        (b"noTe", b"x"),
        (b"IDAT", pixels[:99]),
        (b"IDAT", b""),
        (b"IDAT", pixels[99:]),
        (b"noTe", b"y"),
        end,
    ]
    assert np.array_equal(decode_image(joined(split), "f"), SMALL)


HEAD, COLORS, CLEAR, *PIXELS_AND_END = chunks(PALETTE)
PIXELS, END = PIXELS_AND_END[0], PIXELS_AND_END[-1]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(joined([HEAD, COLORS, COLORS, PIXELS, END]), id="two palettes"),
        pytest.param(joined([HEAD, PIXELS, COLORS, END]), id="palette behind the pixels"),
        pytest.param(joined([HEAD, COLORS, PIXELS, CLEAR, END]), id="opacity behind the pixels"),
        pytest.param(joined([HEAD, PIXELS, END]), id="no palette"),
        pytest.param(joined([HEAD, COLORS, END]), id="no pixels"),
        pytest.param(joined([HEAD, HEAD, COLORS, PIXELS, END]), id="two headers"),
        pytest.param(joined([COLORS, HEAD, PIXELS, END]), id="header not first"),
        pytest.param(joined([HEAD, COLORS, PIXELS, (b"noTe", b""), PIXELS, END]), id="pixels interrupted"),
        pytest.param(joined([HEAD, COLORS, (b"NoTe", b""), PIXELS, END]), id="unknown chunk that matters"),
        pytest.param(joined([HEAD, (b"PLTE", bytes(3 * 257)), PIXELS, END]), id="palette too long"),
        pytest.param(joined([HEAD, (b"PLTE", bytes(4)), PIXELS, END]), id="palette of a color and a third"),
        pytest.param(joined([HEAD, COLORS, (b"tRNS", bytes(257)), PIXELS, END]), id="opacity too long"),
        pytest.param(with_header(PALETTE, 8, 16), id="palette of 16 bits"),
        pytest.param(with_header(PALETTE, 9, 5), id="unknown color type"),
        pytest.param(with_header(PALETTE, 10, 1), id="unknown compression"),
        pytest.param(with_header(PALETTE, 11, 1), id="unknown filter"),
        pytest.param(with_header(PALETTE, 12, 2), id="unknown interlacing"),
        pytest.param(PALETTE.replace(b"PLTE", b"PLTE", 1)[:45] + b"\0\1" + PALETTE[47:], id="checksum of the palette"),
    ],
)
def test_chunks_that_contradict_each_other_are_refused(data: bytes) -> None:
    with pytest.raises(
        ImageError, match=r"^f: found a damaged PNG, expected a complete image; copy or export it again$"
    ):
        decode_image(data, "f")


def test_a_transparent_gray_level_is_refused_which_opencv_would_show_as_gray() -> None:
    gray = np.full((8, 8), 100, np.uint8)
    data = saved(gray, "PNG", transparency=100)
    with pytest.raises(ImageError, match="f: found a gray PNG with a transparent gray level"):
        decode_image(data, "f")


def test_animated_png_is_refused_like_an_animated_webp() -> None:
    data = saved(SMALL, "PNG", save_all=True, append_images=[Image.fromarray(255 - SMALL)])
    with pytest.raises(ImageError, match="f: found an animated PNG, expected a still picture"):
        decode_image(data, "f")
