"""The pixels of a run's fields, read again: of a slide the region that was predicted, or why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.imaging import sha256_file, write_image
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.report.marks import region_of
from marrowscope.report.pdf import cut_tiles
from marrowscope.slides import window
from tests.slides.pyramids import write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray


@pytest.fixture(scope="module")
def picture() -> ImageArray:
    return np.random.default_rng(3).integers(0, 256, (600, 700, 3), dtype=np.uint8)


@pytest.fixture
def slide(picture: ImageArray, tmp_path: Path) -> Path:
    path = tmp_path / "P1" / "slide.tif"
    path.parent.mkdir()
    write_pyramid(path, picture, 0.25)
    return path


def test_a_region_is_read_to_the_pixel_and_the_file_hashed_once(
    slide: Path, picture: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr("marrowscope.report.field_pixels.sha256_file", count)
    pixels, digest = FieldPixels(), sha256_file(slide)
    for x, y in ((0, 0), (310, 250)):
        np.testing.assert_array_equal(
            pixels.read(slide, digest, window(x, y, x + 200, y + 100)), picture[y : y + 100, x : x + 200]
        )
    pixels.close()
    assert hashed == [slide]


def test_a_slide_that_moved_changed_or_broke_is_said(slide: Path, tmp_path: Path) -> None:
    region, digest = window(0, 0, 50, 50), sha256_file(slide)
    moved = tmp_path / "moved" / "P1" / "slide.tif"
    moved.parent.mkdir(parents=True)
    slide.rename(moved)
    assert FieldPixels().read(slide, digest, region) == "not_found"
    assert isinstance(FieldPixels(tmp_path / "moved").read(slide, digest, region), np.ndarray)
    moved.write_bytes(moved.read_bytes() + b"x")
    assert FieldPixels(tmp_path / "moved").read(slide, digest, region) == "changed"
    moved.write_bytes(b"II")
    assert FieldPixels(tmp_path / "moved").read(slide, sha256_file(moved), region) == "unreadable"


def test_a_photograph_is_read_whole(picture: ImageArray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, picture)
    np.testing.assert_array_equal(FieldPixels().read(path, sha256_file(path)), picture)
    assert FieldPixels().read(path, "0" * 64) == "changed"


def test_the_region_of_a_row_has_its_core_where_the_row_says_it() -> None:
    row = {"region_x_px": 10, "region_y_px": 20, "width_px": 100, "height_px": 80}
    assert region_of(row) == window(10, 20, 110, 100)
    core = {"core_x0_px": 30, "core_y0_px": 40, "core_x1_px": 90, "core_y1_px": 80}
    region = region_of(row | core)
    assert region is not None
    assert (region.x_px, region.width_px, region.x0, region.y1) == (10, 100, 30, 80)
    assert region_of(row | {"region_x_px": None}) is None
    assert region_of(row | {"width_px": None}) is None  # its pixels could not be read


def test_the_pdfs_pictures_are_cut_from_the_region(slide: Path) -> None:
    row = {"field_id": "P1/slide/x300_y200", "path": str(slide), "sha256": sha256_file(slide), "um_per_px": 0.25}
    place = {"region_x_px": 300, "region_y_px": 200, "width_px": 200, "height_px": 200}
    contour = [80.0, 80.0, 120.0, 80.0, 120.0, 120.0, 80.0, 120.0]
    cells = [{"cell_id": "c1", "field_id": row["field_id"], "contour_xy": contour}]
    assert set(cut_tiles(cells, pl.DataFrame([row | place]), FieldPixels())) == {"c1"}
    assert cut_tiles(cells, pl.DataFrame([row | place | {"sha256": "0"}]), FieldPixels()) == {}
