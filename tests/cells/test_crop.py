"""The standard crop: scale, centring, mask in the same frame, borders."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec, cut_crop, cut_crops
from marrowscope.errors import ScaleError
from marrowscope.records import ContourArray, ImageArray

NOISE = np.random.default_rng(0).integers(0, 256, (200, 210, 3), dtype=np.uint8)


def disc_contour(x: float, y: float, radius: float) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def disc_image(x: float, y: float, radius: float, size: int = 400) -> ImageArray:
    rows, columns = np.mgrid[:size, :size]
    inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return np.where(inside[..., None], 40, 220).astype(np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("um_per_px", [0.1, 0.15, 0.3, 0.45])
def test_cell_of_one_physical_size_fills_the_same_part_of_the_crop_at_every_scale(um_per_px: float) -> None:
    radius_px = 6.0 / um_per_px
    image = disc_image(200.3, 190.7, radius_px)
    crop = cut_crop(image, disc_contour(200.3, 190.7, radius_px), um_per_px, CropSpec())
    expected_px = np.pi * (6.0 / CropSpec().um_per_px) ** 2
    assert crop.mask.sum() == pytest.approx(expected_px, rel=0.04)
    assert (crop.image[..., 0] < 130).sum() == pytest.approx(expected_px, rel=0.05)


def test_mask_lies_on_the_cell_in_the_image() -> None:
    crop = cut_crop(disc_image(150.5, 120.25, 40), disc_contour(150.5, 120.25, 40), 0.15, CropSpec())
    dark = crop.image[..., 0] < 130
    overlap = (dark & crop.mask).sum() / (dark | crop.mask).sum()
    assert overlap > 0.97


def test_centroid_lands_in_the_middle_of_the_crop() -> None:
    for um_per_px in (0.1, 0.2, 0.45):
        crop = cut_crop(disc_image(101, 99, 30), disc_contour(101, 99, 30), um_per_px, CropSpec())
        rows, columns = np.nonzero(crop.mask)
        assert rows.mean() == pytest.approx(47.5, abs=0.1)
        assert columns.mean() == pytest.approx(47.5, abs=0.1)


def test_beyond_the_images_edge_a_crop_is_mirrored() -> None:
    """A quarter of a disc at the corner becomes the whole disc; a picture of two pixels is mirrored many times."""
    crop = cut_crop(disc_image(0, 0, 30), disc_contour(0, 0, 30), 0.2, CropSpec())
    assert crop.image.shape == (96, 96, 3)
    assert crop.image[0, 0, 0] == crop.image[-1, -1, 0] == 220
    dark = crop.image[..., 0] < 130
    assert (dark & crop.mask).sum() / (dark | crop.mask).sum() > 0.95
    two = np.array([[[0] * 3, [200] * 3]], dtype=np.uint8)
    stripes = cut_crop(two, disc_contour(0, 0, 2), 0.3, CropSpec(side_um=9.3, size_px=31)).image[..., 0]
    assert np.array_equal(np.abs(np.diff(stripes.astype(int), axis=1)), np.full((31, 30), 200))


def test_a_small_picture_and_a_large_one_give_the_same_crop_where_only_the_same_square_is_seen() -> None:
    """What ``seen_um`` is for: the padding of every source lies at the same distance from the cell."""
    contour = disc_contour(101.3, 95.6, 20)
    small = np.ascontiguousarray(NOISE[30:170, 35:175])
    spec = CropSpec(seen_um=18.0)
    large_crop, small_crop = (
        cut_crop(image, contour - shift, 0.15, spec, margin_px=10).image
        for image, shift in ((NOISE, [0, 0]), (small, [35, 30]))
    )
    assert np.array_equal(large_crop, small_crop)
    whole = cut_crop(NOISE, contour, 0.15, CropSpec(), margin_px=10).image
    seen = slice(10 + 20, 10 + 76)  # 18 um are the middle 60 of 96 px
    assert np.array_equal(large_crop[seen, seen], whole[seen, seen])
    assert not np.array_equal(large_crop, whole)


@given(
    um_per_px=st.floats(0.05, 1.2),
    x=st.floats(-5, 205),
    y=st.floats(-5, 205),
    size_px=st.sampled_from([64, 96, 128]),
    margin_px=st.integers(0, 30),
)
@settings(max_examples=150)
def test_the_middle_of_a_crop_with_a_margin_is_the_crop_to_the_bit(
    um_per_px: float, x: float, y: float, size_px: int, margin_px: int
) -> None:
    """What training stores and what prediction sees: at any scale, enlarged or not, at the image's edge too."""
    spec, contour = CropSpec(size_px=size_px), disc_contour(x, y, 3.0 / um_per_px)
    bare = cut_crop(NOISE, contour, um_per_px, spec)
    wide = cut_crop(NOISE, contour, um_per_px, spec, margin_px=margin_px)
    middle = slice(margin_px, margin_px + size_px)
    assert wide.image.shape == (size_px + 2 * margin_px, size_px + 2 * margin_px, 3)
    assert np.array_equal(wide.image[middle, middle], bare.image)
    assert np.array_equal(wide.mask[middle, middle], bare.mask)


def test_many_crops_are_the_single_crops_in_order() -> None:
    image = disc_image(100, 100, 30)
    contours = [disc_contour(100, 100, 30), disc_contour(140, 90, 20)]
    images, masks = cut_crops(image, contours, 0.2, CropSpec())
    for index, contour in enumerate(contours):
        single = cut_crop(image, contour, 0.2, CropSpec())
        assert np.array_equal(images[index], single.image)
        assert np.array_equal(masks[index], single.mask)
    empty_images, empty_masks = cut_crops(image, [], 0.2, CropSpec())
    assert empty_images.shape == (0, 96, 96, 3)
    assert empty_masks.shape == (0, 96, 96)


@pytest.mark.parametrize("um_per_px", [0.0, -0.1, float("nan")])
def test_scale_that_is_not_positive_is_refused(um_per_px: float) -> None:
    with pytest.raises(ScaleError, match="expected a positive number; set the scale with --um-per-px"):
        cut_crop(disc_image(50, 50, 10), disc_contour(50, 50, 10), um_per_px, CropSpec())


@pytest.mark.parametrize("um_per_px", [0.1, 0.1229, 0.15, 0.31, 0.5])
@pytest.mark.parametrize("center", [(100.3137, 90.6231), (3.2713, 197.7319), (199.0713, 0.0371)])
def test_crops_are_opencvs_patch_and_area_mean(um_per_px: float, center: tuple[float, float]) -> None:
    """Within a gray level, and equal nearly everywhere: ties are rounded otherwise.

    Enlarging is held against OpenCV in float32, whose weights in uint8 have 11 bits, and differs at the crop's edge:
    there is a pixel beyond to interpolate with, where OpenCV repeats the last.
    """
    contour = disc_contour(*center, 20)
    side_px = round(28.8 / um_per_px)
    beyond = cv2.copyMakeBorder(NOISE, 300, 300, 300, 300, cv2.BORDER_REFLECT_101)
    x, y = geometry.centroid(contour)
    patch = cv2.getRectSubPix(beyond, (side_px, side_px), (x + 300, y + 300))
    how = cv2.INTER_AREA if side_px >= 96 else cv2.INTER_LINEAR
    source = patch if side_px >= 96 else patch.astype(np.float32)
    expected = np.rint(cv2.resize(source, (96, 96), interpolation=how)).astype(int)
    found = cut_crops(NOISE, [contour], um_per_px, CropSpec(), masks=False)[0][0]
    inside = slice(None) if side_px >= 96 else slice(3, -3)
    found, expected = found[inside, inside], expected[inside, inside]
    assert np.abs(found - expected).max() <= (1 if side_px >= 96 else 2)
    assert (found != expected).mean() < 0.005


def test_masks_are_cut_only_where_wanted() -> None:
    image, contours = disc_image(100, 100, 30), [disc_contour(100, 100, 30)]
    images, masks = cut_crops(image, contours, 0.2, CropSpec(), masks=False)
    assert np.array_equal(images, cut_crops(image, contours, 0.2, CropSpec())[0])
    assert masks.shape == (0, 96, 96)
