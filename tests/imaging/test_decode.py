"""Every way of storing a picture gives that picture; Pillow, the written samples and closed forms as the truth."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, read_header
from tests.imaging.pictures import PICTURE, mean_difference, saved, tiff_file, with_orientation

DEEP = PICTURE.astype(np.uint16) * 257
HALF_SEEN = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 128, np.uint8)])
HALF_SEEN[:60, :, 3] = 0
OVER_WHITE = PICTURE * (HALF_SEEN[..., 3:] / 255) + 255 * (1 - HALF_SEEN[..., 3:] / 255)
AS_CMYK = Image.fromarray(PICTURE).convert("CMYK")
AS_PALETTE = Image.fromarray(PICTURE).quantize(64)
AS_GRAY = np.asarray(Image.fromarray(PICTURE).convert("L"))


def ycck() -> bytes:
    """Give a JPEG of luma, chroma and black: the bytes of a CMYK file whose Adobe marker says YCCK."""
    inks = cv2.cvtColor(255 - PICTURE, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    stored = np.dstack([inks, np.full(PICTURE.shape[:2], 255, np.uint8)])
    data = bytearray(saved(Image.frombytes("CMYK", PICTURE.shape[1::-1], (255 - stored).tobytes()), "JPEG", quality=95))
    data[data.find(b"Adobe") + 11] = 2
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(PICTURE, "PNG"), id="png"),
        pytest.param(saved(PICTURE, "BMP"), id="bmp"),
        pytest.param(saved(PICTURE, "WEBP", lossless=True), id="lossless webp"),
        pytest.param(saved(PICTURE, "TIFF"), id="tiff"),
        pytest.param(saved(PICTURE, "TIFF", compression="tiff_lzw"), id="lzw tiff"),
        pytest.param(saved(PICTURE, "TIFF", compression="tiff_deflate"), id="deflate tiff"),
        pytest.param(saved(PICTURE, "TIFF", compression="packbits"), id="packbits tiff"),
        pytest.param(saved(PICTURE, "TIFF", compression="zstd"), id="zstandard tiff, which OpenCV cannot read"),
        pytest.param(saved(PICTURE, "TIFF", big_tiff=True), id="big tiff"),
        pytest.param(saved(AS_CMYK, "TIFF"), id="cmyk tiff"),
        pytest.param(
            saved(PICTURE, "TIFF", save_all=True, append_images=[Image.fromarray(255 - PICTURE[::2])]),
            id="a page of another size behind it",
        ),
        pytest.param(tiff_file(PICTURE), id="hand-written tiff"),
        pytest.param(tiff_file(DEEP), id="16-bit tiff"),
        pytest.param(
            tiff_file(np.dstack([DEEP, DEEP[..., :1] * 0 + 65535]), tags={338: (2,)}), id="16-bit opaque tiff"
        ),
        pytest.param(cv2.imencode(".png", DEEP[..., ::-1])[1].tobytes(), id="16-bit png"),
        pytest.param(cv2.imencode(".tif", DEEP[..., ::-1])[1].tobytes(), id="16-bit lzw tiff"),
    ],
)
def test_lossless_file_gives_every_pixel(data: bytes) -> None:
    assert np.array_equal(decode_image(data, "f"), PICTURE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(PICTURE, "JPEG", quality=95), id="jpeg"),
        pytest.param(saved(PICTURE, "JPEG", quality=95, progressive=True), id="progressive"),
        pytest.param(saved(PICTURE, "JPEG", quality=95, restart_marker_blocks=5), id="with restart markers"),
        pytest.param(saved(PICTURE, "JPEG", quality=95, keep_rgb=True), id="rgb without luma and chroma"),
        pytest.param(saved(AS_CMYK, "JPEG", quality=95), id="cmyk"),
        pytest.param(ycck(), id="ycck"),
        pytest.param(saved(PICTURE, "TIFF", compression="jpeg", quality=95), id="jpeg tiff"),
        pytest.param(saved(PICTURE, "WEBP", quality=95), id="webp"),
        pytest.param(tiff_file(PICTURE.astype(np.uint16) * 16), id="12 bits in 16"),
    ],
)
def test_lossy_file_gives_the_colors(data: bytes) -> None:
    assert mean_difference(decode_image(data, "f"), PICTURE) < 2.5


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(AS_GRAY, "PNG"), id="png"),
        pytest.param(saved(AS_GRAY, "TIFF", compression="tiff_lzw"), id="tiff"),
        pytest.param(saved(AS_GRAY, "JPEG", quality=100), id="jpeg"),
        pytest.param(tiff_file(AS_GRAY.astype(np.uint16) * 257, 1), id="16-bit tiff"),
        pytest.param(tiff_file(255 - AS_GRAY, 0), id="tiff, white is zero"),
        pytest.param(tiff_file(65535 - AS_GRAY.astype(np.uint16) * 257, 0), id="16-bit tiff, white is zero"),
        pytest.param(cv2.imencode(".png", AS_GRAY.astype(np.uint16) * 257)[1].tobytes(), id="16-bit png"),
    ],
)
def test_gray_stands_in_all_three_channels(data: bytes) -> None:
    assert mean_difference(decode_image(data, "f"), np.dstack([AS_GRAY] * 3)) < 0.5


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_palette_is_looked_up(kind: str) -> None:
    assert np.array_equal(decode_image(saved(AS_PALETTE, kind), "f"), np.asarray(AS_PALETTE.convert("RGB")))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(HALF_SEEN, "PNG"), id="png"),
        pytest.param(saved(HALF_SEEN, "WEBP", lossless=True, exact=True), id="webp"),
        pytest.param(saved(HALF_SEEN, "TIFF"), id="tiff"),
        pytest.param(saved(HALF_SEEN, "TIFF", compression="tiff_lzw"), id="lzw tiff"),
        pytest.param(tiff_file(HALF_SEEN.astype(np.uint16) * 257, tags={338: (2,)}), id="16-bit tiff"),
        pytest.param(
            cv2.imencode(".png", HALF_SEEN[..., [2, 1, 0, 3]].astype(np.uint16) * 257)[1].tobytes(), id="16-bit"
        ),
    ],
)
def test_transparent_pixels_show_white_glass(data: bytes) -> None:
    assert mean_difference(decode_image(data, "f"), OVER_WHITE) < 0.6


def test_transparent_gray_and_palette_color_show_white_glass() -> None:
    gray = decode_image(saved(np.dstack([AS_GRAY, HALF_SEEN[..., 3]]), "PNG"), "f")
    expected = AS_GRAY * (HALF_SEEN[..., 3] / 255) + 255 * (1 - HALF_SEEN[..., 3] / 255)
    assert mean_difference(gray, np.dstack([expected] * 3)) < 0.6
    keyed = decode_image(saved(AS_PALETTE, "PNG", transparency=5), "f")
    assert (keyed[np.asarray(AS_PALETTE) == 5] == 255).all()
    assert np.array_equal(
        keyed[np.asarray(AS_PALETTE) != 5], np.asarray(AS_PALETTE.convert("RGB"))[np.asarray(AS_PALETTE) != 5]
    )


@pytest.mark.parametrize(
    ("brightest", "expected"), [(0, 0), (1024, 64), (4095, 255), (16384, round(16384 / 257)), (65535, 255)]
)
def test_samples_of_12_bits_are_told_by_their_largest_value(brightest: int, expected: int) -> None:
    samples = np.zeros((8, 8, 3), dtype=np.uint16)
    samples[0, 0] = brightest
    for data in (tiff_file(samples), cv2.imencode(".png", samples)[1].tobytes()):
        assert decode_image(data, "f")[0, 0].tolist() == [expected] * 3


@pytest.mark.parametrize(("brightest", "bits"), [(1, 10), (1023, 10), (4096, 14), (16383, 14)])
def test_samples_of_10_or_14_bits_in_16_are_refused_since_their_scale_is_unknown(brightest: int, bits: int) -> None:
    samples = np.full((8, 8, 3), brightest, dtype=np.uint16)
    sentence = rf"^f: found 16-bit samples of {brightest} at most, as {bits} bits or too little light"
    for data in (tiff_file(samples), cv2.imencode(".png", samples)[1].tobytes()):
        with pytest.raises(ImageError, match=sentence):
            decode_image(data, "f")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_is_laid_upright_as_pillow_lays_it(kind: str, orientation: int) -> None:
    data = with_orientation(PICTURE, kind, orientation, **({"quality": 95} if kind == "JPEG" else {}))
    if kind == "WEBP":
        data = with_orientation(PICTURE, kind, orientation, lossless=True)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded, header = decode_image(data, "f"), read_header(data, "f")
    assert np.array_equal(decoded, upright)
    assert (header.height_px, header.width_px) == upright.shape[:2]


@pytest.mark.parametrize("orientation", [3, 6])
def test_translucent_deep_and_compressed_pictures_are_laid_upright_too(orientation: int) -> None:
    turned = {3: OVER_WHITE[::-1, ::-1], 6: np.rot90(OVER_WHITE, -1)}[orientation]
    deep = tiff_file(HALF_SEEN.astype(np.uint16) * 257, tags={338: (2,), 274: (orientation,)})
    packed = with_orientation(HALF_SEEN, "TIFF", orientation, compression="tiff_lzw")
    for data in (with_orientation(HALF_SEEN, "PNG", orientation), deep, packed):
        assert mean_difference(decode_image(data, "f"), turned) < 0.6


def test_name_does_not_matter_but_content_does() -> None:
    assert np.array_equal(decode_image(saved(PICTURE, "PNG"), "photograph.jpg"), PICTURE)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            tiff_file(PICTURE.astype(np.float32)),
            "found a TIFF of 32-bit floating-point numbers, expected whole numbers",
        ),
        (tiff_file(PICTURE.astype(np.int16)), "found a TIFF of 16-bit signed whole numbers, expected whole numbers"),
        (tiff_file(PICTURE.astype(np.uint32)), "found a TIFF of 32 bits a sample, expected 8 or 16"),
        (tiff_file(PICTURE, tags={259: (34712,)}), "found a TIFF of compression 34712, expected one of Deflate, JPEG"),
        (tiff_file(PICTURE, 8), "found a TIFF of photometric interpretation 8, expected one of gray"),
        (tiff_file(np.dstack([PICTURE] * 2)), "found a TIFF of 6 channels, expected 3"),
        (tiff_file(DEEP, tags={284: (2,)}), "found a 16-bit TIFF stored as RGB, 3 channels, expected gray or RGB"),
        (
            saved(PICTURE, "WEBP", save_all=True, append_images=[Image.fromarray(255 - PICTURE)]),
            "found an animated WebP, expected a still picture",
        ),
    ],
)
def test_what_cannot_be_shown_rightly_is_refused_in_words(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "p1/f1")
    assert str(caught.value).startswith(f"p1/f1: {sentence}")
    assert caught.value.fault is not None


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kind=st.sampled_from(["PNG", "BMP", "TIFF", "WEBP"]),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA"]),
    seed=st.integers(0, 99),
)
def test_any_small_picture_is_read_as_pillow_reads_it(height: int, width: int, kind: str, mode: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode) if mode != "P" else Image.fromarray(pixels[..., :3]).quantize(9)
    if kind == "BMP":
        image = image.convert("RGB" if image.mode in {"LA", "RGBA"} else image.mode)
    data = saved(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(np.float64)
    expected = rgba[..., :3] * (rgba[..., 3:] / 255) + 255 * (1 - rgba[..., 3:] / 255)
    assert np.abs(decode_image(data, "f") - expected).max() <= 0.51
