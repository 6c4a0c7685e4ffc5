from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from marrowscope.train.augment import _recompress, augment_crop, center_crop
from marrowscope.train.config import NO_AUGMENTATION, AugmentConfig


@pytest.fixture
def crop() -> np.ndarray:
    noise = np.random.default_rng(0).integers(30, 226, (136, 136, 3))
    return noise.astype(np.uint8)


def test_equal_keys_give_equal_crops_and_others_do_not(crop: np.ndarray) -> None:
    config = AugmentConfig()
    first = augment_crop(crop, 96, config, (1, 1, 0, 7))[0]
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, augment_crop(crop, 96, config, (1, 1, 0, 7))[0])
    for key in ((2, 1, 0, 7), (1, 2, 0, 7), (1, 1, 1, 7), (1, 1, 0, 8)):
        assert (augment_crop(crop, 96, config, key)[0] != first).any()


def test_without_augmentation_the_crop_is_the_stored_centre(crop: np.ndarray) -> None:
    np.testing.assert_array_equal(augment_crop(crop, 96, NO_AUGMENTATION, (0, 1, 0, 0))[0], crop[20:116, 20:116])
    np.testing.assert_array_equal(center_crop(crop, 96), crop[20:116, 20:116])


def test_flips_alone_give_the_four_mirrors(crop: np.ndarray) -> None:
    """Against numpy's own mirrors; all four come up."""
    config = NO_AUGMENTATION.model_copy(update={"flips": True})
    plain = center_crop(crop, 96)
    mirrors = [plain, plain[::-1], plain[:, ::-1], plain[::-1, ::-1]]
    seen = set()
    for row in range(30):
        found = augment_crop(crop, 96, config, (0, 1, 0, row))[0]
        seen.add(next(index for index, mirror in enumerate(mirrors) if (mirror == found).all()))
    assert seen == {0, 1, 2, 3}


def test_a_half_turn_is_a_double_mirror(crop: np.ndarray) -> None:
    """Rotation by 180 degrees about the crop's centre, against numpy: the frame does not drift by a pixel."""
    from marrowscope.train.augment import _placement, _warp

    config = NO_AUGMENTATION.model_copy(update={"rotation_deg": 180.0})
    matrix = _placement(136, 96, config, np.array([False, False]), np.array([1.0, 0.0, 0.0, 0.0]))
    turned = _warp(crop, matrix, 96)
    np.testing.assert_allclose(turned, center_crop(crop, 96)[::-1, ::-1], atol=1)


def test_stain_changes_density_in_proportion_and_keeps_white(crop: np.ndarray) -> None:
    config = NO_AUGMENTATION.model_copy(update={"stain": 0.3})
    flat = np.full_like(crop, 255)
    np.testing.assert_array_equal(augment_crop(flat, 96, config, (0, 1, 0, 3))[0], np.full((96, 96, 3), 255))
    levels = np.repeat(np.repeat(np.array([[[60, 60, 60]]], dtype=np.uint8), 136, axis=0), 136, axis=1)
    lighter = np.repeat(np.repeat(np.array([[[120, 120, 120]]], dtype=np.uint8), 136, axis=0), 136, axis=1)
    dark, light = (augment_crop(image, 96, config, (0, 1, 0, 3))[0][0, 0] for image in (levels, lighter))
    gain_dark = np.log(dark / 255) / np.log(60 / 255)
    gain_light = np.log(light / 255) / np.log(120 / 255)
    np.testing.assert_allclose(gain_dark, gain_light, atol=0.02)
    assert np.abs(gain_dark - 1).max() > 0.03


def test_a_jpeg_is_the_one_that_another_program_writes_of_the_same_colours() -> None:
    """Pillow takes RGB; a red disc on a blue ground tells the channels apart: JPEG keeps red better than blue."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 32) ** 2 + (columns - 32) ** 2 < 20**2
    image = np.where(disc[..., None], (200, 60, 40), (40, 60, 200)).astype(np.uint8)
    ours = _recompress(image, 60).astype(int)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=60)
    theirs = np.asarray(Image.open(stream)).astype(int)
    swapped = _recompress(np.ascontiguousarray(image[..., ::-1]), 60)[..., ::-1].astype(int)
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.abs(swapped - theirs).mean() > 2
