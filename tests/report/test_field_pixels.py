"""The pixels of a run's fields, read again: of a slide the region that was predicted, or why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.imaging import sha256_file, write_image
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.report.pdf import cut_tiles
from marrowscope.report.shown_rows import ShownCell, ShownField
from marrowscope.slides import window
from tests.slides.pyramids import write_pyramid

if TYPE_CHECKING:
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


def test_the_pdfs_pictures_are_cut_from_the_region(slide: Path) -> None:
    contour = np.array([[80.0, 80.0], [120.0, 80.0], [120.0, 120.0], [80.0, 120.0]])
    cell = ShownCell(
        "c1", "P1/slide", contour, None, "N", (1.0,), 0.9, is_cblc=True, is_countable=True, contradiction=False
    )
    field = ShownField(
        "P1/slide", "P1", str(slide), sha256_file(slide), 0.25, 200, 200, None, (), window(300, 200, 500, 400)
    )
    assert set(cut_tiles([cell], [field], FieldPixels())) == {"c1"}
    assert cut_tiles([cell], [replace(field, sha256="0")], FieldPixels()) == {}


def test_a_table_cannot_name_a_file_beside_the_folder_of_images(picture: ImageArray, tmp_path: Path) -> None:
    (tmp_path / "images" / "P1").mkdir(parents=True)
    write_image(tmp_path / "secret.png", picture)
    digest = sha256_file(tmp_path / "secret.png")
    pixels = FieldPixels(tmp_path / "images")
    for named in ("gone/../secret.png", "gone/P1/..", "gone/a\0b/secret.png", "gone/nul/con"):
        assert pixels.read(Path(named), digest) == "not_found"
    (tmp_path / "images" / "P1" / "secret.png").symlink_to(tmp_path / "secret.png")
    assert isinstance(pixels.read(Path("gone/P1/secret.png"), digest), np.ndarray)  # the user's own link


@pytest.mark.parametrize("named", ["/dev/zero", "/dev/stdin", "/proc"])
def test_a_device_is_not_read(named: str) -> None:
    assert FieldPixels().read(Path(named), "0" * 64) == "not_found"
