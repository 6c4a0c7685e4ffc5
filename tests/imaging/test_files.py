"""Reading and writing images: color order, faults with their sentence, truncated files."""

from pathlib import Path

import numpy as np
import pytest

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, encode_image, is_image_path, read_image, sha256_file, write_image
from marrowscope.records import ImageArray


@pytest.fixture
def picture() -> ImageArray:
    return np.random.default_rng(3).integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_png_keeps_every_pixel_and_the_order_red_green_blue(picture: ImageArray, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_keep_the_red_of_a_red_image(suffix: str) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 200
    decoded = decode_image(encode_image(red, suffix), "red")
    assert decoded[..., 0].mean() > 150
    assert decoded[..., 2].mean() < 60


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_image_is_refused_wherever_it_ends(picture: ImageArray, suffix: str, share: float) -> None:
    data = encode_image(picture, suffix)
    assert decode_image(data, "whole").shape == picture.shape
    with pytest.raises(ImageError, match=r"field\.x: found an image that ends too early; copy or export it again"):
        decode_image(data[: int(len(data) * share)], "field.x")


def test_jpeg_with_bytes_behind_its_end_is_read(picture: ImageArray) -> None:
    assert decode_image(encode_image(picture, ".jpg") + b"\0" * 100, "padded").shape == picture.shape


def test_empty_foreign_and_absent_files_are_refused_with_their_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png: found an empty file, expected an image"):
        decode_image(b"", "a.png")
    with pytest.raises(ImageError, match=r"b\.png: found no readable image"):
        decode_image(b"GIF-like nonsense", "b.png")
    with pytest.raises(ImageError, match=r"absent\.png: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "absent.png")


def test_suffixes_and_hash(tmp_path: Path) -> None:
    assert is_image_path(Path("X.TIFF"))
    assert not is_image_path(Path("x.json"))
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
