"""Size and scale from image headers, checked against full decoding."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.cohort.images import examine_image
from marrowscope.imaging.scale import metadata_scale

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, IMAGE)[1].tobytes()


def tiff(unit: int, numerator: int, denominator: int, order: str = "<") -> bytes:
    """Give a TIFF head whose first directory holds x resolution and its unit."""
    start = b"II*\x00" if order == "<" else b"MM\x00*"
    entries = struct.pack(order + "HHII", 282, 5, 1, 38) + struct.pack(order + "HHIHH", 296, 3, 1, unit, 0)
    directory = struct.pack(order + "H", 2) + entries + struct.pack(order + "I", 0)
    return start + struct.pack(order + "I", 8) + directory + struct.pack(order + "II", numerator, denominator)


def png_with(kind: bytes, body: bytes) -> bytes:
    """Give the test image as PNG with one more chunk after its header."""
    data = encoded(".png")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_size_from_the_header_agrees_with_decoding(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    path.write_bytes(encoded(suffix))
    read, decoded = (examine_image(path, "f", decode=decode) for decode in (False, True))
    assert read == decoded
    assert (read.width_px, read.height_px) == (53, 37)


def test_size_of_a_rotated_photograph_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    data = encoded(".jpg")
    orientation = b"Exif\x00\x00" + b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    path = tmp_path / "f.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(orientation) + 2) + orientation + data[2:])
    read, decoded = (examine_image(path, "f.jpg", decode=decode) for decode in (False, True))
    assert read == decoded
    assert (read.width_px, read.height_px) == (37, 53)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"%PDF-1.7", "f: found no readable image but a PDF document, expected one of JPEG"),
        (b"\xff\xd8\xff\xe0", "f: found 4 bytes that do not decode, expected a complete image"),
        (b"\x89PNG\r\n\x1a\n", "f: found 8 bytes that do not decode, expected a complete image"),
    ],
)
def test_file_that_gives_no_picture_is_a_fault(data: bytes, sentence: str, decode: bool, tmp_path: Path) -> None:  # noqa: FBT001
    (tmp_path / "f").write_bytes(data)
    file = examine_image(tmp_path / "f", "f", decode=decode)
    assert file.fault is not None
    assert file.fault.sentence().startswith(sentence)
    assert (file.width_px, file.height_px) == (0, 0)


@pytest.mark.parametrize("order", ["<", ">"])
def test_scale_of_a_tiff(order: str) -> None:
    assert metadata_scale(tiff(3, 50_000, 1, order)) == pytest.approx(0.2)
    assert metadata_scale(tiff(2, 254_000, 2, order)) == pytest.approx(0.2)


def test_scale_of_a_png() -> None:
    assert metadata_scale(png_with(b"pHYs", struct.pack(">IIB", 5_000_000, 5_000_000, 1))) == pytest.approx(0.2)
    assert metadata_scale(png_with(b"pHYs", struct.pack(">IIB", 5_000_000, 5_000_000, 0))) is None


@pytest.mark.parametrize(
    "data",
    [
        tiff(2, 72, 1),  # a camera's 72 dots per inch
        tiff(1, 50_000, 1),  # no absolute unit
        tiff(3, 50_000, 0),
        tiff(3, 50_000, 1)[:20],
        encoded(".png"),
        encoded(".jpg"),
        b"",
    ],
)
def test_no_scale_in_the_metadata(data: bytes) -> None:
    assert metadata_scale(data) is None


def test_scale_of_the_image_is_read_with_it(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(png_with(b"pHYs", struct.pack(">IIB", 5_000_000, 5_000_000, 1)))
    assert examine_image(path, "f.png", decode=True).um_per_px == pytest.approx(0.2)


def test_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    fault = examine_image(tmp_path / "f.png", "p1/f.png", decode=True).fault
    assert fault is not None
    assert "p1/f.png: found no access (No such file" in fault.sentence()


@pytest.mark.parametrize("error", [ValueError("v"), struct.error("s"), RecursionError(), MemoryError(), cv2.error("c")])
@pytest.mark.parametrize("step", ["decode_image", "metadata_scale", "sha256_bytes"])
def test_whatever_one_image_raises_is_its_fault(
    error: Exception, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    (tmp_path / "f.png").write_bytes(encoded(".png"))
    monkeypatch.setattr(f"marrowscope.cohort.images.{step}", fail)
    fault = examine_image(tmp_path / "f.png", "p1/f.png", decode=True).fault
    assert fault is not None
    is_memory = isinstance(error, MemoryError)
    assert fault.kind == ("out_of_memory" if is_memory else "unreadable_image")
    assert fault.sentence().startswith(
        "p1/f.png: found too little" if is_memory else "p1/f.png: found a file that stops"
    )


def test_picture_of_another_format_is_a_fault_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "f.czi").write_bytes(b"ZISRAWFILE")
    fault = examine_image(tmp_path / "f.czi", "p1/f.czi", decode=True).fault
    assert fault is not None
    assert (fault.kind, fault.found) == ("unread_format", "a CZI image")


def test_file_too_large_to_be_an_image_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.jpg"
    path.write_bytes(encoded(".jpg"))
    with path.open("r+b") as stream:
        stream.truncate(3_000_000_000)
    monkeypatch.setattr(type(path), "read_bytes", lambda _: pytest.fail("3 GB were read"))
    fault = examine_image(path, "p1/f.jpg", decode=True).fault
    assert fault is not None
    assert fault.sentence() == (
        "p1/f.jpg: found a file of 3.0 GB, expected an image of at most 2.0 GB; cut it into fields or save it as a "
        "pyramidal TIFF"
    )
