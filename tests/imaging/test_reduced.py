"""Pictures decoded at a half, a quarter and an eighth: size, place of the pixels, and agreement with the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marrowscope.imaging import decode_image
from tests.imaging.pictures import mean_difference, saved, smooth, with_orientation

if TYPE_CHECKING:
    from marrowscope.records import ImageArray

REDUCED = [2, 4, 8]
KINDS = ["JPEG", "PNG", "TIFF", "BMP", "WEBP"]


def disc(height: int, width: int, center_xy: tuple[float, float], radius: float) -> ImageArray:
    """Give a dark disc with soft edges on light ground, drawn from its equation."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - center_xy[0], y - center_xy[1])
    gray = 230 - 180 / (1 + np.exp((distance - radius) / 4))
    return np.dstack([gray.round().astype(np.uint8)] * 3)


def darkness_center(image: ImageArray) -> tuple[float, float]:
    """Give the centroid of what is darker than the ground."""
    weight = 230.0 - image[..., 1]
    weight[weight < 8] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


@pytest.mark.parametrize("reduce", REDUCED)
@pytest.mark.parametrize("kind", KINDS)
def test_disc_stays_where_the_geometry_says(kind: str, reduce: int) -> None:
    center = 133.3, 87.6
    data = saved(disc(201, 263, center, 50), kind, **({"quality": 95} if kind == "JPEG" else {}))
    reduced = decode_image(data, "f", reduce=reduce)
    assert reduced.shape == (-(-201 // reduce), -(-263 // reduce), 3)
    x, y = darkness_center(reduced)
    assert x * reduce + (reduce - 1) / 2 == pytest.approx(center[0], abs=0.1)
    assert y * reduce + (reduce - 1) / 2 == pytest.approx(center[1], abs=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("height", "width"), [(160, 240), (161, 243)])
def test_turned_photograph_keeps_the_geometry(orientation: int, height: int, width: int) -> None:
    data = with_orientation(disc(height, width, (100.4, 60.2), 30), "JPEG", orientation, quality=95)
    whole, reduced = decode_image(data, "f"), decode_image(data, "f", reduce=2)
    assert reduced.shape == (-(-whole.shape[0] // 2), -(-whole.shape[1] // 2), 3)
    expected = np.asarray(darkness_center(whole))
    assert np.asarray(darkness_center(reduced)) * 2 + 0.5 == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("reduce", REDUCED)
def test_reduced_jpeg_is_close_to_the_mean_of_the_whole(reduce: int) -> None:
    data = saved(smooth(4, 160, 240), "JPEG", quality=92, subsampling=0)
    mean = cv2.resize(decode_image(data, "f"), (240 // reduce, 160 // reduce), interpolation=cv2.INTER_AREA)
    assert mean_difference(decode_image(data, "f", reduce=reduce), mean) < 1


@given(height=st.integers(1, 50), width=st.integers(1, 50), reduce=st.sampled_from(REDUCED))
def test_pixel_of_a_reduced_png_is_the_mean_of_its_square(height: int, width: int, reduce: int) -> None:
    picture = np.random.default_rng(height * 64 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    filled = np.pad(picture, ((0, -height % reduce), (0, -width % reduce), (0, 0)), mode="edge").astype(np.float64)
    rows, columns = filled.shape[0] // reduce, filled.shape[1] // reduce
    mean = filled.reshape(rows, reduce, columns, reduce, 3).mean(axis=(1, 3))
    assert np.abs(decode_image(saved(picture, "PNG"), "f", reduce=reduce) - mean).max() <= 0.51


def test_cmyk_photograph_is_reduced_too() -> None:
    from PIL import Image

    picture = smooth(4, 160, 240)
    data = saved(Image.fromarray(picture).convert("CMYK"), "JPEG", quality=95)
    mean = cv2.resize(picture, (120, 80), interpolation=cv2.INTER_AREA)
    assert mean_difference(decode_image(data, "f", reduce=2), mean) < 2.5


def test_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reduce is 3, expected one of \(1, 2, 4, 8\)"):
        decode_image(saved(smooth(), "PNG"), "f", reduce=3)
