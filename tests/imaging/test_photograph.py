"""Reading one field: how far it is reduced, and contours that come back to the file's own pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from marrowscope.errors import ImageError, ScaleError
from marrowscope.imaging import write_image
from marrowscope.imaging.photograph import decode_photograph, read_file
from marrowscope.records import FieldImage


def disc(path: Path) -> None:
    y, x = np.mgrid[:151, :203]
    image = np.where(np.hypot(x - 120.0, y - 70.5) < 30, 40, 230).astype(np.uint8)
    write_image(path, np.repeat(image[..., None], 3, axis=2), quality=98)


def read(path: Path, coarsest_um_per_px: float, um_per_px: float | None = 0.05) -> FieldImage:
    return decode_photograph(read_file(path), path, stated_um_per_px=um_per_px, coarsest_um_per_px=coarsest_um_per_px)


@pytest.mark.parametrize(
    ("coarsest", "reduce"), [(0.0, 1), (0.099, 1), (0.1, 2), (0.15, 2), (0.2, 4), (0.1999999, 4), (5.0, 8)]
)
def test_pixels_stay_no_wider_than_asked(tmp_path: Path, coarsest: float, reduce: int) -> None:
    disc(tmp_path / "a.jpg")
    found = read(tmp_path / "a.jpg", coarsest)
    assert found.reduce == reduce
    assert (found.width_px, found.height_px) == (203, 151)
    assert found.pixels.shape == (-(-151 // reduce), -(-203 // reduce), 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("coarsest", [0.0, 0.1, 0.2])
def test_a_contour_of_the_reduced_picture_lies_where_the_file_has_it(
    tmp_path: Path, suffix: str, coarsest: float
) -> None:
    path = tmp_path / f"a{suffix}"
    disc(path)
    found = read(path, coarsest)
    (outline, *_), _ = cv2.findContours(255 - found.pixels[..., 0] & 128, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = found.to_file(outline[:, 0].astype(np.float64))
    np.testing.assert_allclose(found.from_file(contour), outline[:, 0], atol=1e-12)
    np.testing.assert_allclose((contour.min(axis=0) + contour.max(axis=0)) / 2, [120.0, 70.5], atol=0.51 * found.reduce)


def test_a_contour_never_leaves_the_file(tmp_path: Path) -> None:
    disc(tmp_path / "a.png")
    found = read(tmp_path / "a.png", 0.4)
    corners = np.array([[-0.5, -0.5], [25.5, 18.5]])  # of the reduced picture, whose last pixels reach beyond
    np.testing.assert_allclose(found.to_file(corners), [[-0.5, -0.5], [202.5, 150.5]])


def test_a_file_without_scale_is_refused_and_one_without_a_picture_is_an_error(tmp_path: Path) -> None:
    disc(tmp_path / "a.jpg")
    with pytest.raises(ScaleError, match="found no scale"):
        read(tmp_path / "a.jpg", 0.1, um_per_px=None)
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"b\.jpg: found an empty file"):
        read(tmp_path / "b.jpg", 0.1)
    with pytest.raises(ImageError, match=r"none\.jpg: cannot be read \(No such file or directory\)"):
        read(tmp_path / "none.jpg", 0.1)
