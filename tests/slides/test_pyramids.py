"""Sizes and pyramids from the header alone."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.slides.pyramids import read_header

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_the_size_of_a_plain_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    assert cv2.imwrite(str(path), PICTURE)
    header = read_header(path)
    assert header is not None
    assert (header.width_px, header.height_px, header.n_directories, header.tiled) == (130, 70, 1, False)


def test_the_size_of_every_kind_of_webp(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "picture.webp"
    for options in (
        {"lossless": True},
        {"quality": 80},
        {"quality": 80, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"},
    ):
        Image.fromarray(PICTURE).save(path, **options)
        header = read_header(path)
        assert header is not None
        assert (header.width_px, header.height_px) == (130, 70)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_the_directories_and_tiles_of_a_tiff(tmp_path: Path, byteorder: str, *, bigtiff: bool, tiled: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=bigtiff) as writer:
        for level in (PICTURE, PICTURE[::2, ::2]):
            writer.write(level, photometric="rgb", metadata=None, tile=(32, 32) if tiled else None)
    header = read_header(path)
    assert header is not None
    assert (header.width_px, header.height_px, header.n_directories, header.tiled) == (130, 70, 2, tiled)


def test_what_is_no_image_or_is_cut_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    assert read_header(path) is None
    whole = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    for content in (
        b"",
        b"II",
        b"not an image at all",
        whole[:40],
        b"II*\0" + struct.pack("<I", 4_000_000),
        b"\xff\xd8\0\0\0\0",
    ):
        path.write_bytes(content)
        assert read_header(path) is None


def test_directories_in_a_ring_end(tmp_path: Path) -> None:
    """The first directory says that it follows itself."""
    entries = struct.pack("<HHII", 256, 3, 1, 130) + struct.pack("<HHII", 257, 3, 1, 70)
    path = tmp_path / "ring.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + entries + struct.pack("<I", 8))
    header = read_header(path)
    assert header is not None
    assert (header.width_px, header.height_px) == (130, 70)
