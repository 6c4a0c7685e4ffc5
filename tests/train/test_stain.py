"""Stains against colors set by hand: backgrounds and nuclei of two sources whose optical densities are known."""

from __future__ import annotations

import numpy as np
import pytest

from marrowscope.train.augment import augment_crop, center_crop
from marrowscope.train.config import NO_AUGMENTATION
from marrowscope.train.stain import CropStains, StainChange, measure_stain, measure_stains, restain

GRAY, VIOLET = (230, 228, 235), (205, 190, 225)
DARK, PALE = (90, 60, 130), (130, 100, 160)


def _cell(background: tuple[int, int, int], nucleus: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a stored crop: an even nucleus of radius 20 on an even background, and the cell's mask of radius 24."""
    rows, columns = np.mgrid[:136, :136]
    distance = np.hypot(rows - 67.5, columns - 67.5)
    crop = np.where((distance < 20)[..., None], nucleus, background).astype(np.uint8)
    return crop, distance < 24


def _density(color: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(-np.log(np.array(color) / 255))


@pytest.fixture
def stains() -> CropStains:
    """Rows 3 and 5 are of source A, row 8 of source B with another background and twice the contrast, in part."""
    cells = [_cell(GRAY, DARK), _cell(GRAY, PALE), _cell(VIOLET, DARK)]
    crops = np.zeros((9, 136, 136, 3), dtype=np.uint8)
    masks = np.zeros((9, 136, 136), dtype=np.bool_)
    rows = np.array([3, 5, 8])
    for row, (crop, mask) in zip(rows, cells, strict=True):
        crops[row], masks[row] = crop, mask
    return measure_stains(crops, masks, rows, ["A", "A", "B"])


def test_background_and_nucleus_are_those_drawn() -> None:
    background, nucleus = measure_stain(*_cell(GRAY, DARK))
    np.testing.assert_allclose(background, _density(GRAY), atol=1e-6)
    np.testing.assert_allclose(nucleus, _density(DARK), atol=1e-6)


def test_an_empty_mask_and_a_black_crop_give_numbers() -> None:
    crop, mask = _cell(GRAY, DARK)
    for image in (crop, np.zeros_like(crop)):
        assert all(np.isfinite(values).all() for values in measure_stain(image, np.zeros_like(mask)))


def test_contrast_is_the_mean_over_a_source_and_not_of_one_cell(stains: CropStains) -> None:
    expected = (_density(DARK) + _density(PALE)) / 2 - _density(GRAY)
    np.testing.assert_allclose(stains.contrast[0], expected, atol=1e-6)
    np.testing.assert_allclose(stains.contrast[1], _density(DARK) - _density(VIOLET), atol=1e-6)


def test_a_swapped_crop_has_the_donors_background_and_keeps_its_place_among_its_own(stains: CropStains) -> None:
    """A pale nucleus stays paler than a dark one of its source, by the ratio of the sources' contrasts."""
    gain = stains.contrast[1] / stains.contrast[0]
    seen = {}
    for row, nucleus in ((3, DARK), (5, PALE)):
        swapped = restain(_cell(GRAY, nucleus)[0], stains.change(row, 8))
        np.testing.assert_allclose(swapped[0, 0], VIOLET, atol=1)
        expected = _density(VIOLET) + gain * (_density(nucleus) - _density(GRAY))
        np.testing.assert_allclose(swapped[68, 68], 255 * np.exp(-expected), atol=1)
        seen[nucleus] = swapped[68, 68].sum()
    assert seen[PALE] > seen[DARK] + 50


def test_no_strength_is_no_change_and_half_lies_between(stains: CropStains) -> None:
    crop = _cell(GRAY, DARK)[0]
    np.testing.assert_array_equal(restain(crop, stains.change(3, 8, 0.0)), crop)
    half = restain(crop, stains.change(3, 8, 0.5))[0, 0]
    np.testing.assert_allclose(half, 255 * np.exp(-(_density(GRAY) + _density(VIOLET)) / 2), atol=1)


def test_a_gain_is_twofold_at_most() -> None:
    rows, source = np.array([0, 1]), np.array([0, 1])
    stains = CropStains(rows, np.zeros((2, 3)), source, np.array([[0.1] * 3, [1.0] * 3]))
    np.testing.assert_allclose(stains.change(0, 1).gain, 2)
    np.testing.assert_allclose(stains.change(1, 0).gain, 0.5)


def test_donors_come_from_every_other_source_and_with_one_source_from_it(stains: CropStains) -> None:
    random = np.random.default_rng(0)
    units = [np.array([1.0, *random.random(2)]) for _ in range(40)]
    backgrounds = {tuple(np.round(stains.draw(8, unit).shift, 4)) for unit in units}
    assert len(backgrounds) == 1  # both crops of A have the same gray
    only = CropStains(np.array([2, 4]), np.array([[0.0] * 3, [0.2] * 3]), np.array([0, 0]), np.ones((1, 3)))
    shifts = {round(float(only.draw(2, unit).shift[0]), 3) for unit in units}
    assert shifts == {0.0, 0.2}


def test_augmentation_swaps_the_share_it_is_told_and_stays_a_function_of_its_key(stains: CropStains) -> None:
    crop, mask = _cell(GRAY, DARK)
    config = NO_AUGMENTATION.model_copy(update={"stain_swap": 0.5})
    plain = center_crop(crop, 96)
    found = [augment_crop(crop, 96, config, (0, 1, 0, row), mask, stains=(stains, 3))[0] for row in range(200)]
    changed = [(image != plain).any() for image in found]
    assert 75 < sum(changed) < 125
    again = [augment_crop(crop, 96, config, (0, 1, 0, row), mask, stains=(stains, 3))[0] for row in range(20)]
    for first, second in zip(found, again, strict=False):
        np.testing.assert_array_equal(first, second)
    unswapped = augment_crop(crop, 96, config.model_copy(update={"stain_swap": 0.0}), (0, 1, 0, 3), stains=(stains, 3))
    np.testing.assert_array_equal(unswapped[0], plain)


def test_a_change_of_one_is_the_identity_for_every_gray_level() -> None:
    ramp = np.repeat(np.arange(1, 256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(restain(ramp, StainChange(np.ones(3), np.zeros(3))), ramp)
