"""Files that are cut, damaged, renamed or too large end in one sentence, before anything large is made."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.errors import ImageError
from marrowscope.imaging import MAX_PIXELS, decode_image, read_header
from tests.imaging.pictures import PICTURE, saved, smooth, tiff_file, with_orientation

NOISY = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)
WHOLE = {
    "jpeg": saved(NOISY, "JPEG", quality=90),
    "progressive jpeg": saved(NOISY, "JPEG", quality=90, progressive=True),
    "png": saved(NOISY, "PNG"),
    "bmp": saved(NOISY, "BMP"),
    "webp": saved(NOISY, "WEBP"),
    "lossless webp": saved(NOISY, "WEBP", lossless=True),
    "tiff": saved(NOISY, "TIFF"),
    "lzw tiff": saved(NOISY, "TIFF", compression="tiff_lzw"),
    "deflate tiff": saved(NOISY, "TIFF", compression="tiff_deflate"),
    "jpeg tiff": saved(NOISY, "TIFF", compression="jpeg"),
    "16-bit lzw tiff": cv2.imencode(".tif", NOISY.astype(np.uint16) * 257)[1].tobytes(),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.95, 0.999])
def test_file_that_is_cut_is_refused_wherever_it_ends(name: str, share: float) -> None:
    whole = WHOLE[name]
    assert decode_image(whole, "f").shape == NOISY.shape
    with pytest.raises(ImageError, match="p1/f1: found ") as caught:
        decode_image(whole[: max(8, int(len(whole) * share))], "p1/f1")
    assert caught.value.fault is not None


@pytest.mark.parametrize("name", ["jpeg", "png", "lzw tiff", "16-bit lzw tiff", "jpeg tiff", "deflate tiff"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_hole_in_the_coded_pixels_is_refused(name: str, share: float, filling: str) -> None:
    data = bytearray(WHOLE[name])
    at, n_bytes = int(len(data) * share), 4096
    data[at : at + n_bytes] = bytes(n_bytes) if filling == "zeros" else np.random.default_rng(5).bytes(n_bytes)
    with pytest.raises(ImageError, match=r"^p1/f1: found .*; (copy or )?export"):
        decode_image(bytes(data), "p1/f1")


def test_restart_marker_out_of_turn_is_refused() -> None:
    data = saved(NOISY, "JPEG", restart_marker_blocks=4)
    assert decode_image(data, "f").shape == NOISY.shape
    at = data.rfind(b"\xff\xd3")
    with pytest.raises(ImageError, match="found a damaged JPEG, expected a complete image"):
        decode_image(data[:at] + b"\xff\xd5" + data[at + 2 :], "f")


def test_even_area_of_a_well_packed_jpeg_is_no_hole() -> None:
    even = np.full((2000, 2000, 3), 255, dtype=np.uint8)
    data = saved(even, "JPEG", optimize=True)
    assert bytes(1000) in data
    assert (decode_image(data, "f") == 255).all()


def test_second_picture_behind_the_first_is_left_alone() -> None:
    data = saved(PICTURE, "JPEG") + saved(NOISY, "JPEG")[:500]
    assert decode_image(data, "f").shape == PICTURE.shape


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7 and so on", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive or an Office document"),
        (b"\r\n<!DOCTYPE html><html>", "a web page (HTML)"),
        (b"<?xml version='1.0'?><svg/>", "XML or SVG text"),
        (b"patient,image\n1,2\n", "text"),
        ("Präparat".encode(), "text"),
        (("é" * 300).encode(), "text"),
        (bytes(5000), "zero bytes, as an interrupted copy leaves them"),
        (saved(PICTURE, "GIF"), "a GIF picture"),
        (saved(PICTURE, "JPEG2000"), "a JPEG 2000 picture"),
        (saved(PICTURE, "AVIF"), "an AVIF picture"),
        (b"\x00\x00\x00\x18ftypheic....", "a HEIC picture"),
        (b"\x00\x00\x00\x18ftypisom....", "a video or HEIF file"),
        (bytes(128) + b"DICM", "a DICOM file"),
    ],
)
def test_file_that_is_no_image_is_called_what_it_is(data: bytes, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "f.jpg")
    assert str(caught.value).startswith(f"f.jpg: found no readable image but {name}, expected one of JPEG, PNG")


def test_unknown_bytes_are_refused_without_a_name() -> None:
    with pytest.raises(ImageError, match=r"f\.jpg: found no readable image, expected one of JPEG"):
        decode_image(b"\x01\x02\xfe\xff" * 20, "f.jpg")


def bomb(kind: str) -> bytes:
    """Give a small file whose header promises 60,000 x 50,000 pixels (WebP: its own largest size)."""
    width, height = 60_000, 50_000
    if kind == "TIFF":
        return tiff_file(PICTURE, tags={256: (width,), 257: (height,)})
    data = bytearray(saved(PICTURE, kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        at = data.find(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        data[18:26], data[30:34] = struct.pack("<ii", width, -height), struct.pack("<I", 1)
    else:
        at = data.find(b"VP8 ") + 14
        data[at : at + 4] = struct.pack("<HH", 16383, 16383)
    return bytes(data)


def test_the_largest_picture_is_set_by_the_caller() -> None:
    data = saved(PICTURE, "PNG")
    n_pixels = PICTURE.shape[0] * PICTURE.shape[1]
    assert np.array_equal(decode_image(data, "f", max_pixels=n_pixels), PICTURE)
    with pytest.raises(ImageError, match=r"f: found an image of 158 x 117 pixels"):
        decode_image(data, "f", max_pixels=n_pixels - 1)
    assert read_header(bomb("PNG"), "f", max_pixels=3_000_000_000).width_px == 60_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_gigantic_picture_is_refused_from_its_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a gigantic picture was decoded"))
    size = "16383 x 16383 pixels (268 megapixels)" if kind == "WEBP" else "60000 x 50000 pixels (3000 megapixels)"
    with pytest.raises(ImageError) as caught:
        decode_image(bomb(kind), "f")
    assert str(caught.value) == (
        f"f: found an image of {size}, expected at most {MAX_PIXELS / 1e6:.0f} megapixels in one piece; "
        "cut it into fields or read it as a slide; if it is neither, remove it"
    )


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_any_overwritten_byte_gives_a_picture_or_a_sentence(name: str, data: st.DataObject) -> None:
    small = {
        "jpeg": saved(smooth(2, 24, 40), "JPEG"),
        "progressive jpeg": saved(smooth(2, 24, 40), "JPEG", progressive=True),
        "png": saved(smooth(2, 24, 40), "PNG"),
        "bmp": saved(smooth(2, 24, 40), "BMP"),
        "webp": saved(smooth(2, 24, 40), "WEBP"),
        "lossless webp": saved(smooth(2, 24, 40), "WEBP", lossless=True),
    }.get(name, saved(smooth(2, 24, 40), "TIFF", compression="tiff_lzw" if "lzw" in name else None))
    damaged = bytearray(small)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 400) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(damaged), "f")
        image = decode_image(bytes(damaged), "f")
    except ImageError as error:
        assert error.fault is not None  # noqa: PT017 - either outcome is right, a crash is not
    else:
        assert image.shape == (header.height_px, header.width_px, 3)


def test_two_orientations_of_one_jpeg_are_refused_and_twice_the_same_is_not() -> None:
    data = with_orientation(PICTURE, "JPEG", 6)
    at = data.find(b"\xff\xe1")
    block = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
    assert decode_image(data[:at] + block + data[at:], "f").shape[:2] == PICTURE.shape[1::-1]
    upright = block.replace(struct.pack(">HHIH", 274, 3, 1, 6), struct.pack(">HHIH", 274, 3, 1, 1))
    assert upright != block
    with pytest.raises(ImageError, match="f: found a damaged JPEG"):
        decode_image(data[:at] + upright + data[at:], "f")


@pytest.mark.parametrize("junk", [b"\1\2", b"\xff\x01", b"\xff\xd0", b"\xff\xd8"])
def test_junk_between_the_segments_of_a_jpeg_is_refused_and_padding_is_not(junk: bytes) -> None:
    data = saved(PICTURE, "JPEG")
    at = data.find(b"\xff\xdb")
    assert np.array_equal(decode_image(data[:at] + b"\0\0\xff\xff" + data[at:], "f"), decode_image(data, "f"))
    with pytest.raises(ImageError, match="f: found a damaged JPEG"):
        decode_image(data[:at] + junk + data[at:], "f")


def test_colors_of_a_jpeg_inside_a_tiff_are_those_that_the_tiff_states() -> None:
    data = saved(PICTURE, "TIFF", compression="jpeg", quality=95)
    at = data.find(struct.pack("<HHIH", 262, 3, 1, 2))
    assert at > 0
    with pytest.raises(ImageError, match="f: found a damaged TIFF"):
        decode_image(data[: at + 8] + b"\6" + data[at + 9 :], "f")
