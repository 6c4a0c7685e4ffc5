"""What is read from a slide is what was written, and what is no slide is said in one sentence."""

from __future__ import annotations

import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.errors import DependencyError, ImageError, ScaleError
from marrowscope.records import Region
from marrowscope.slides import SlideConfig, choose_regions, is_slide, open_slide, plan_regions
from marrowscope.slides.large_image import LargeImage, shrink
from marrowscope.slides.regions import window

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray

UM_PER_PX = 0.25
NEEDS_OPENSLIDE = "needs the extra wsi and tifffile"


def picture(height: int = 900, width: int = 1300) -> ImageArray:
    """Smooth colors, so that every pixel says where it lies and a mean is near its pixels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1).astype(np.uint8)


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    pytest.importorskip("openslide", reason=NEEDS_OPENSLIDE, exc_type=ImportError)
    pytest.importorskip("tifffile", reason=NEEDS_OPENSLIDE)
    from tests.slides.pyramids import write_pyramid

    path = tmp_path / "slide.tif"
    write_pyramid(path, picture(), UM_PER_PX)
    return path


def test_a_pyramid_is_read_as_it_was_written(pyramid: Path) -> None:
    slide = open_slide(pyramid)
    whole = picture()
    assert (slide.width_px, slide.height_px) == (1300, 900)
    assert slide.um_per_px == pytest.approx(UM_PER_PX)
    for region in plan_regions(1300, 900, UM_PER_PX, SlideConfig(side_um=100)):
        part = whole[region.y_px : region.y_px + region.height_px, region.x_px : region.x_px + region.width_px]
        read = slide.read(region)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, part)
    slide.close()


@pytest.mark.parametrize("downsample", [1.0, 2.0, 3.0, 7.0, 16.0])
def test_the_overview_is_the_slide_shrunk_by_the_factor_it_states(pyramid: Path, downsample: float) -> None:
    whole = picture().astype(np.float64)
    for slide in (open_slide(pyramid), _large(pyramid)):
        overview, factor = slide.overview(downsample)
        assert downsample / 2 < factor <= downsample * 1.01
        centers_y = (np.arange(overview.shape[0] - 1) + 0.5) * factor - 0.5
        centers_x = (np.arange(overview.shape[1] - 1) + 0.5) * factor - 0.5
        expected = whole[np.round(centers_y).astype(int)][:, np.round(centers_x).astype(int)]
        assert np.abs(overview[:-1, :-1] - expected).max() <= 2
        assert -(-900 // factor) == overview.shape[0]
        assert -(-1300 // factor) == overview.shape[1]


@pytest.mark.parametrize("factor", [1, 2, 4, 32])
def test_a_part_is_read_shrunk_from_the_level_that_fits(pyramid: Path, factor: int) -> None:
    whole = picture().astype(np.float64)
    for slide in (open_slide(pyramid), _large(pyramid)):
        for x, y, width, height in ((0, 0, 1300, 900), (256, 128, 512, 384), (1024, 640, 276, 260)):
            part = slide.reduced(window(x, y, x + width, y + height), factor)
            assert part.shape == (-(-height // factor), -(-width // factor), 3)
            assert part.dtype == np.uint8
            centers_y = y + np.minimum((np.arange(part.shape[0]) + 0.5) * factor - 0.5, height - 1)
            centers_x = x + np.minimum((np.arange(part.shape[1]) + 0.5) * factor - 0.5, width - 1)
            expected = whole[np.round(centers_y).astype(int)][:, np.round(centers_x).astype(int)]
            assert np.abs(part - expected).max() <= max(2, factor / 4)  # a gradient of 0.28 a pixel at most
        slide.close()


def _large(pyramid: Path) -> LargeImage:
    path = pyramid.with_suffix(".png")
    cv2.imwrite(str(path), picture()[..., ::-1])
    return LargeImage(path)


def test_an_overview_made_in_strips_is_the_same(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_slide(pyramid).overview(6.0)[0]
    monkeypatch.setattr("marrowscope.slides.whole_slide._STRIP_PX", 10_000)
    np.testing.assert_array_equal(open_slide(pyramid).overview(6.0)[0], whole)


def test_threads_read_the_same_as_one(pyramid: Path) -> None:
    slide = open_slide(pyramid)
    regions = plan_regions(1300, 900, UM_PER_PX, SlideConfig(side_um=40))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(slide.read, regions))
    for region, pixels in zip(regions, together, strict=True):
        np.testing.assert_array_equal(pixels, slide.read(region))


def test_transparent_pixels_show_the_background() -> None:
    from PIL import Image

    from marrowscope.slides.whole_slide import _color, flatten

    pixels = np.array([[[10, 20, 30, 255], [200, 100, 0, 0], [100, 100, 100, 51]]], dtype=np.uint8)
    flat = flatten(Image.fromarray(pixels), (250, 240, 230))
    assert flat.tolist() == [[[10, 20, 30], [250, 240, 230], [220, 212, 204]]]
    assert _color("FF8000") == (255, 128, 0)
    assert _color(None) == _color("paper") == (255, 255, 255)


def test_one_damaged_tile_loses_only_its_own_part(pyramid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle of OpenSlide refuses everything after one error; the slide goes on with another."""
    import tifffile

    with tifffile.TiffFile(pyramid) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        offset = page.dataoffsets[0]
    data = bytearray(pyramid.read_bytes())
    data[offset : offset + 64] = b"\xff" * 64
    pyramid.write_bytes(data)
    slide = open_slide(pyramid)
    far = window(800, 500, 1200, 800)
    with pytest.raises(ImageError, match=r"slide\.tif: the part of 100 x 100 px at \(0, 0\), level 0, cannot be read"):
        slide.read(window(0, 0, 100, 100))
    monkeypatch.setattr("marrowscope.slides.whole_slide._open", None)  # it has been opened again already
    np.testing.assert_array_equal(slide.read(far), picture()[500:800, 800:1200])


def test_a_large_plain_image_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    assert cv2.imwrite(str(path), picture()[..., ::-1])
    slide = LargeImage(path)
    assert (slide.width_px, slide.height_px, slide.um_per_px) == (1300, 900, None)
    np.testing.assert_array_equal(slide.read(Region(100, 50, 300, 200, 0, 0, 1, 1)), picture()[50:250, 100:400])
    slide.close()


def test_only_what_is_large_or_a_pyramid_is_a_slide(pyramid: Path, tmp_path: Path) -> None:
    import tifffile

    photograph, scan = tmp_path / "photograph.tif", tmp_path / "scan.png"
    tifffile.imwrite(photograph, picture(), photometric="rgb", tile=(256, 256))
    cv2.imwrite(str(scan), picture())
    assert is_slide(pyramid)
    assert not is_slide(photograph)
    assert not is_slide(scan)
    assert is_slide(tmp_path / "anything.SVS")
    assert not is_slide(tmp_path / "missing.tif")
    assert not is_slide(tmp_path / "notes.txt")


@pytest.fixture(scope="module")
def hundred_megapixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray of 12 bits, which a decoder that knows of 8 and 16 shows all but black."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    image = np.full((10_001, 10_000), round(200 / 255 * 4095), dtype=np.uint16)
    image[9_999:, :] = round(90 / 255 * 4095)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return path


def test_a_plain_image_beyond_100_megapixels_is_a_slide_and_decoded_like_a_photograph(hundred_megapixels: Path) -> None:
    assert is_slide(hundred_megapixels)
    slide = open_slide(hundred_megapixels)
    assert slide.read(window(9_998, 9_997, 10_000, 10_001))[..., 1].tolist() == [
        [200] * 2,
        [200] * 2,
        [90] * 2,
        [90] * 2,
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_image_that_is_cut_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"large{suffix}"
    data = cv2.imencode(suffix, picture())[1].tobytes()
    path.write_bytes(data)
    assert LargeImage(path).width_px == 1300
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=rf"large\{suffix}: .*ends too early"):
        LargeImage(path).read(window(0, 0, 10, 10))


def test_an_image_beyond_the_decoder_is_refused_before_it_is_read(tmp_path: Path) -> None:
    data = bytearray(cv2.imencode(".png", picture(4, 4))[1].tobytes())
    data[16:24] = (40_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big")
    path = tmp_path / "giant.png"
    path.write_bytes(data)
    assert is_slide(path)
    with pytest.raises(ImageError, match=r"found 40000 x 30000 px, expected at most 1073 megapixels .* pyramidal TIFF"):
        open_slide(path)


def test_an_image_beyond_the_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(cv2.imencode(".png", picture(4, 4))[1].tobytes())
    data[16:24] = (20_000).to_bytes(4, "big") + (30_000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    monkeypatch.setattr("marrowscope.slides.large_image.available_memory", lambda: 3_500_000_000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("a bomb was decoded"))
    with pytest.raises(
        ImageError, match=r"bomb\.png: found 20000 x 30000 px, which need 3\.6 GB .* 3\.5 GB available; "
    ):
        open_slide(path).overview(64)


@pytest.mark.parametrize(("channels", "kind", "of_pixel"), [(3, np.uint8, 6), (3, np.uint16, 12), (4, np.uint8, 32)])
def test_the_memory_an_image_takes_depends_on_how_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, kind: type[np.generic], of_pixel: int
) -> None:
    path = tmp_path / "large.png"
    assert cv2.imwrite(str(path), np.full((40, 50, channels), 2 ** (8 * np.dtype(kind).itemsize) - 1, dtype=kind))
    monkeypatch.setattr("marrowscope.slides.large_image.available_memory", lambda: of_pixel * 2000)
    assert LargeImage(path).width_px == 50
    monkeypatch.setattr("marrowscope.slides.large_image.available_memory", lambda: of_pixel * 2000 - 1)
    with pytest.raises(ImageError, match="found 50 x 40 px, which need"):
        LargeImage(path).overview(1)
    monkeypatch.setattr("marrowscope.slides.large_image.available_memory", lambda: None)
    assert LargeImage(path).width_px == 50


def test_what_is_no_slide_is_said_in_one_sentence(tmp_path: Path, pyramid: Path) -> None:
    cases = {
        "missing.svs": (None, "not found, expected a whole-slide image or a large image"),
        "empty.svs": (b"", "found an empty file, expected a slide"),
        "text.ndpi": (b"no slide at all", "found a file that OpenSlide cannot read"),
        "text.jpg": (b"no slide at all", r"found a file that is not a slide, expected \.bif, "),
        "header.tif": (pyramid.read_bytes()[:8], "found a file that is not a slide"),
    }
    for name, (content, sentence) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}: .*{sentence}"):
            open_slide(path)


def test_a_truncated_pyramid_is_refused(pyramid: Path) -> None:
    """The first directory stands in front of the pixels: the size is known, the other levels are gone."""
    pyramid.write_bytes(pyramid.read_bytes()[:100_000])
    assert is_slide(pyramid)
    with pytest.raises(ImageError, match=r"slide\.tif: found a TIFF that ends too early"):
        open_slide(pyramid)


def test_a_pyramid_with_lost_pixels_fails_where_they_are_read(pyramid: Path) -> None:
    """Zeros, as an interrupted copy leaves them."""
    import tifffile

    with tifffile.TiffFile(pyramid) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        start, counts = page.dataoffsets[-1], page.databytecounts[-1]
    data = bytearray(pyramid.read_bytes())
    data[start : start + counts] = bytes(counts)
    pyramid.write_bytes(data)
    slide = open_slide(pyramid)
    with pytest.raises(
        ImageError, match=r"slide\.tif: the part of 50 x 50 px at \(1250, 850\), level 0, cannot be read"
    ):
        slide.read(window(1250, 850, 1300, 900))


def test_a_slide_without_scale_asks_for_one(pyramid: Path) -> None:
    from tests.slides.pyramids import write_pyramid

    write_pyramid(pyramid, picture(), None)
    slide = open_slide(pyramid)
    assert slide.um_per_px is None
    with pytest.raises(ScaleError, match=r"slide\.tif: found no scale, .* set --um-per-px"):
        choose_regions(slide, SlideConfig())
    assert choose_regions(slide, SlideConfig(), um_per_px=0.25) == []


def test_only_the_files_of_a_dicom_series_share_a_slide() -> None:
    from marrowscope.slides.whole_slide import _series

    assert _series({"openslide.vendor": "dicom", "openslide.quickhash-1": "a1"}) == "a1"
    assert _series({"openslide.vendor": "aperio", "openslide.quickhash-1": "a1"}) is None


def test_without_openslide_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    path = tmp_path / "slide.svs"
    path.write_bytes(b"whatever")
    assert is_slide(path)
    with pytest.raises(DependencyError, match=r'need the extra wsi.* pip install "\.\[wsi\]"'):
        open_slide(path)


def test_shrinking_is_the_mean_of_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 13, 3), dtype=np.uint8)
    blocks = image[:, :12].reshape(2, 4, 3, 4, 3).mean(axis=(1, 3))
    small = shrink(image, 4)
    assert small.shape == (2, 4, 3)
    assert np.abs(small[:, :3] - blocks).max() <= 0.5
    np.testing.assert_allclose(small[:, 3], image[:, 12].reshape(2, 4, 3).mean(axis=1), atol=0.5)
