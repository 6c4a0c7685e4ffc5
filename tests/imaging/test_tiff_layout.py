"""A TIFF whose pixels do not fit its header is refused; whatever way its pixels lie rightly, they are read."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from marrowscope.errors import ImageError
from marrowscope.imaging import decode_image, read_header
from tests.imaging.pictures import PICTURE, saved, smooth, tiff_file

SMALL = smooth(3, 37, 50)
GRAY = SMALL[..., 0]
COLOR_MAP = tuple(range(0, 65536, 257)) * 3


def written(samples: np.ndarray, **options: Any) -> bytes:  # noqa: ANN401 - tifffile's own
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def strips(n_rows: int, **tags: tuple[int, ...]) -> bytes:
    """Give a TIFF of 37 x 50 RGB pixels in strips of ``n_rows``; ``tags`` (t273=...) replace what is written."""
    row = 150
    starts = range(0, 37, n_rows)
    entries = {
        273: tuple(8 + row * start for start in starts),
        278: (n_rows,),
        279: tuple(row * min(n_rows, 37 - start) for start in starts),
    } | {int(name[1:]): values for name, values in tags.items()}
    return tiff_file(SMALL, tags=entries)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(strips(8), id="strips"),
        pytest.param(strips(37, t278=(2**32 - 1,)), id="one strip of as many rows as there are"),
        pytest.param(written(SMALL, photometric="rgb", byteorder=">", rowsperstrip=5), id="big-endian"),
        pytest.param(written(SMALL, photometric="rgb", tile=(32, 32)), id="tiles"),
        pytest.param(written(SMALL, photometric="rgb", tile=(16, 16), compression="zlib"), id="deflate tiles"),
        pytest.param(written(SMALL, photometric="rgb", compression="zlib", predictor=True), id="predictor"),
        pytest.param(written(SMALL, photometric="rgb", bigtiff=True), id="big tiff"),
        pytest.param(
            written(SMALL.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", rowsperstrip=10), id="planes"
        ),
        pytest.param(
            written(SMALL.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"),
            id="deflate planes",
        ),
        pytest.param(written(SMALL, imagej=True, metadata={"unit": "um"}), id="ImageJ"),
        pytest.param(written(SMALL, ome=True, photometric="rgb", metadata={"axes": "YXS"}), id="OME"),
    ],
)
def test_pixels_that_fit_their_header_are_read_however_they_lie(data: bytes) -> None:
    assert np.array_equal(decode_image(data, "f"), SMALL)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (strips(37, t278=(8,)), "found a TIFF of 1 strip, expected 5, as its rows and planes need"),
        (strips(37, t257=(370,)), "found a TIFF of 1 strip, expected 10, as its rows and planes need"),
        (strips(37, t284=(2,)), "found a TIFF of 1 strip, expected 3, as its rows and planes need"),
        (strips(8, t278=(9,)), "found a TIFF whose strip 1 of 5 has 1200 bytes, expected 1350"),
        (strips(37, t278=(0,)), "found a TIFF of strips without rows, expected 1 row or more"),
        (strips(37, t279=(37 * 150 - 1,)), "found a TIFF whose strip 1 of 1 has 5549 bytes, expected 5550"),
        (strips(37, t279=(37 * 150 + 50,)), "found a TIFF whose strip 1 of 1 has 5600 bytes, expected 5550"),
        (strips(8, t279=(1200,) * 4), "found a TIFF of 5 strips with 4 sizes, expected a size for each"),
        (
            strips(8, t273=(8, 8, 2408, 3608, 4808)),
            "found a TIFF whose strips overlap, expected each strip in its own place",
        ),
        (strips(8, t273=(8, 1200, 2408, 3608, 4808)), "found a TIFF whose strips overlap, expected each strip"),
        (strips(37, t273=(2,)), "found a TIFF whose strips overlap with its tags, expected each in its own place"),
        (strips(37, t273=(100,)), "found a TIFF whose strips overlap with its tags, expected each in its own place"),
        (strips(37, t273=(10**6,)), "found an image that ends too early"),
        (strips(37, t324=(8,), t325=(5550,)), "found a TIFF of strips and tiles, expected one of them"),
        (strips(37, t254=(1,)), "found a TIFF whose first page is a thumbnail or a mask, expected the picture first"),
        (strips(37, t266=(2,)), "found a TIFF of fill order 2, expected 1"),
        (strips(37, t284=(3,)), "found a TIFF of planar configuration 3, expected 1 or 2"),
        (strips(37, t317=(2,)), "found a TIFF of compression none with predictor 2, expected 1"),
        (strips(37, t262=(6,)), "found a TIFF of YCbCr under compression none, expected RGB, or JPEG"),
        (strips(37, t256=(50, 50)), "found a TIFF whose tag 256 is broken, expected every tag once"),
        (tiff_file(GRAY, 3, {320: COLOR_MAP[:-1]}), "found a TIFF whose tag 320 is broken, expected every tag once"),
        (tiff_file(GRAY, 1, {258: (12,)}), "found a TIFF of 12 bits a sample, expected 8 or 16"),
        (tiff_file(GRAY, 1, {258: (10,)}), "found a TIFF of 10 bits a sample, expected 8 or 16"),
        (tiff_file(GRAY, 1, {258: (14,)}), "found a TIFF of 14 bits a sample, expected 8 or 16"),
        (
            tiff_file(np.dstack([SMALL, GRAY]).astype(np.uint16) * 257, tags={338: (1,)}),
            "found a 16-bit TIFF of colors times opacity, expected RGB",
        ),
    ],
)
def test_header_that_its_pixels_contradict_is_refused_in_words(data: bytes, sentence: str) -> None:
    for read in (decode_image, read_header):
        with pytest.raises(ImageError) as caught:
            read(data, "p1/f1")
        assert str(caught.value).startswith(f"p1/f1: {sentence}")
        assert caught.value.fault is not None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(written(np.stack([GRAY] * 3), photometric="minisblack"), "several gray pages", id="three pages"),
        pytest.param(written(SMALL, photometric="minisblack"), "several gray pages", id="a page a row"),
        pytest.param(
            written(np.stack([GRAY] * 3), imagej=True, metadata={"axes": "CYX"}),
            "3 channels in pages of their own",
            id="ImageJ composite",
        ),
        pytest.param(
            written(np.stack([GRAY] * 5), imagej=True, metadata={"axes": "ZYX"}),
            "several gray pages",
            id="ImageJ stack",
        ),
        pytest.param(
            written(np.stack([GRAY] * 3), ome=True, photometric="minisblack", metadata={"axes": "CYX"}),
            "3 channels in pages of their own",
            id="OME channels",
        ),
        pytest.param(tiff_file(GRAY, 1), "", id="one gray page"),
    ],
)
def test_one_channel_of_a_picture_is_never_taken_for_the_picture(data: bytes, sentence: str) -> None:
    if not sentence:
        assert np.array_equal(decode_image(data, "f")[..., 1], GRAY)
        return
    with pytest.raises(
        ImageError, match=f"^f: found a TIFF of {sentence}, expected one page of RGB; merge the channels"
    ):
        decode_image(data, "f")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(np.stack([SMALL, 255 - SMALL]), photometric="rgb"), id="two pages"),
        pytest.param(written(np.stack([SMALL] * 3), photometric="rgb", compression="zlib", bigtiff=True), id="packed"),
        pytest.param(written(np.stack([SMALL] * 3), imagej=True, metadata={"axes": "ZYXS"}), id="ImageJ stack"),
    ],
)
def test_photographs_behind_the_first_are_not_passed_over(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "f")
    assert str(caught.value) == (
        "f: found a TIFF of several pages of one size, expected one photograph per file; save each page that shows "
        "other cells as a file of its own"
    )


def test_a_smaller_page_behind_the_first_is_its_preview() -> None:
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as file:
        file.write(SMALL, photometric="rgb", metadata=None)
        file.write(np.ascontiguousarray(SMALL[::2, ::2]), photometric="rgb", metadata=None)
        file.write(SMALL, photometric="rgb", subfiletype=1, metadata=None)
    assert np.array_equal(decode_image(target.getvalue(), "f"), SMALL)


def test_an_only_strip_may_have_a_few_bytes_behind_its_rows() -> None:
    narrow = SMALL[:, :4]
    data = tiff_file(narrow, tags={257: (36,), 278: (36,)})
    assert np.array_equal(decode_image(data, "f"), narrow[:36])


def test_color_map_is_of_a_color_for_every_sample() -> None:
    palette = Image.fromarray(SMALL).quantize(40)
    data = bytearray(saved(palette, "TIFF"))
    assert np.array_equal(decode_image(bytes(data), "f"), np.asarray(palette.convert("RGB")))
    entry = data.find(struct.pack("<HHI", 320, 3, 768))
    struct.pack_into("<I", data, entry + 4, 120)
    with pytest.raises(
        ImageError, match="f: found a TIFF with a color map of 120 values, expected 768; save it as 8-bit"
    ):
        decode_image(bytes(data), "f")
    dark = saved(palette, "TIFF", compression="tiff_lzw")
    entry = dark.find(struct.pack("<HHI", 320, 3, 768))
    (place,) = struct.unpack_from("<I", dark, entry + 8)
    dark = dark[:place] + np.arange(768, dtype="<u2").__mod__(256).tobytes() + dark[place + 1536 :]
    with pytest.raises(
        ImageError, match="found a TIFF with a color map of values below 256, expected values up to 65535"
    ):
        decode_image(dark, "f")


@pytest.mark.parametrize("compression", ["zlib", "jpeg"])
def test_strips_shorter_than_their_rows_are_refused_whatever_packs_them(compression: str) -> None:
    kind = {"zlib": "tiff_deflate", "jpeg": "jpeg"}[compression]
    data = bytearray(saved(PICTURE, "TIFF", compression=kind, tiffinfo={278: 117}))
    assert decode_image(bytes(data), "f").shape == PICTURE.shape
    for tag in (257, 278):
        entry = next(
            at for at in range(len(data)) if data[at : at + 2] == struct.pack("<H", tag) and data[at + 2] in {3, 4}
        )
        struct.pack_into("<H", data, entry + 8, 234)
    with pytest.raises(ImageError, match="f: found a damaged TIFF, expected a complete image"):
        decode_image(bytes(data), "f")


def test_resolution_of_one_over_zero_is_no_scale_and_no_damage() -> None:
    for compression in ({}, {"compression": "zlib"}):
        data = bytearray(written(SMALL, photometric="rgb", resolution=(5, 7), **compression))
        for fraction in (struct.pack("<II", 5, 1), struct.pack("<II", 7, 1)):
            at = data.find(fraction)
            assert at > 0
            data[at : at + 8] = struct.pack("<II", 1, 0)
        assert np.array_equal(decode_image(bytes(data), "f"), SMALL)
