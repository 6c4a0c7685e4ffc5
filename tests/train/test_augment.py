from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from marrowscope.train.augment import _placement, _recompress, augment_crop, center_crop
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


def test_without_augmentation_the_crop_is_the_stored_center(crop: np.ndarray) -> None:
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
    """Rotation by 180 degrees about the crop's center, against numpy: the frame does not drift by a pixel."""
    from marrowscope.train.augment import _warp

    config = NO_AUGMENTATION.model_copy(update={"rotation_deg": 180.0})
    matrix = _placement(136, 96, config, np.array([False, False]), np.array([1.0, 0.0, 0.0, 0.0]))
    turned = _warp(crop, matrix, 96, "linear")
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


def test_a_jpeg_is_the_one_that_another_program_writes_of_the_same_colors() -> None:
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


def _corners(stored_px: int, size_px: int, config: AugmentConfig, row: int) -> np.ndarray:
    """Places (4, 2) of the network crop's corners in the stored crop, as ``augment_crop`` draws them for ``row``."""
    random = np.random.default_rng((0, 1, 0, row))
    flips, unit = random.random(2) < 0.5, random.uniform(-1, 1, 17)
    matrix = _placement(stored_px, size_px, config, flips, unit[:4])
    ends = (0.0, size_px - 1.0)
    return np.array([matrix @ [x, y, 1.0] for x in ends for y in ends])


def test_no_corner_lies_outside_the_stored_crop() -> None:
    places = np.array([_corners(136, 96, AugmentConfig(), row) for row in range(10_000)])
    assert places.min() >= -1e-9
    assert places.max() <= 135 + 1e-9


def test_what_fits_is_taken_as_drawn_and_what_does_not_is_shortened_alike() -> None:
    config = AugmentConfig(rotation_deg=45)
    still = np.array([False, False])
    straight = _placement(136, 96, config, still, np.array([0.0, 1.0, 1.0, -1.0]))
    np.testing.assert_allclose(straight[:, :2], 1.08 * np.eye(2))
    np.testing.assert_allclose(straight @ [47.5, 47.5, 1], [67.5 + 4, 67.5 - 4])
    oblique = _placement(136, 96, config, still, np.array([1.0, 1.0, 1.0, -0.5]))
    # By hand: a corner reaches 67.175 of 67.5 px; the rest, 0.325, is shared by 0.08 * 67.175 + 4 = 9.374 px.
    kept = (67.5 - 47.5 * np.sqrt(2)) / (0.08 * 47.5 * np.sqrt(2) + 4)
    assert np.linalg.norm(oblique[:, 0]) == pytest.approx(1 + 0.08 * kept)
    np.testing.assert_allclose(oblique @ [47.5, 47.5, 1], [67.5 + 4 * kept, 67.5 - 2 * kept])
    smaller = _placement(136, 96, config, still, np.array([1.0, -1.0, 0.5, 0.5]))
    assert np.linalg.norm(smaller[:, 0]) == pytest.approx(0.92)  # makes room itself: the shift of 2 px is kept
    np.testing.assert_allclose(smaller @ [47.5, 47.5, 1], [69.5, 69.5])


def test_a_stored_crop_too_small_for_a_rotation_is_mirrored_and_not_refused() -> None:
    places = np.array([_corners(100, 96, AugmentConfig(), row) for row in range(200)])
    assert places.min() < 0
    small = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    assert augment_crop(small, 96, AugmentConfig(), (0, 1, 0, 3))[0].shape == (96, 96, 3)


def test_a_tint_is_one_added_density_in_each_channel() -> None:
    """White and gray are darkened by the same factor, another for every channel; a tint that lightens white is cut."""
    config = NO_AUGMENTATION.model_copy(update={"cast": 0.2})
    factors = []
    for row in range(30):
        factor = [
            augment_crop(np.full((136, 136, 3), level, np.uint8), 96, config, (0, 1, 0, row))[0][0, 0] / level
            for level in (180, 90)
        ]
        np.testing.assert_allclose(factor[0], factor[1], atol=0.01)
        factors.append(factor[0])
    spread = -np.log(np.array(factors))
    assert spread.max() <= 0.2 + 0.01
    assert spread.min() >= -0.2 - 0.01
    assert np.ptp(spread, axis=1).max() > 0.2  # channels apart
    white = augment_crop(np.full((136, 136, 3), 255, np.uint8), 96, config, (0, 1, 0, 0))[0]
    assert white.dtype == np.uint8


def test_density_is_one_factor_shared_by_the_channels() -> None:
    config = NO_AUGMENTATION.model_copy(update={"density": 0.25})
    image = np.empty((136, 136, 3), np.uint8)
    image[:] = (60, 120, 180)
    factors = []
    for row in range(40):
        found = augment_crop(image, 96, config, (0, 1, 0, row))[0][0, 0]
        ratio = np.log(found / 255) / np.log(np.array([60, 120, 180]) / 255)
        np.testing.assert_allclose(ratio, ratio[0], atol=0.02)
        factors.append(ratio[0])
    assert min(factors) == pytest.approx(0.75, abs=0.03)
    assert max(factors) == pytest.approx(1.25, abs=0.03)


def test_noise_has_the_spread_it_is_told_and_no_offset() -> None:
    config = NO_AUGMENTATION.model_copy(update={"noise_chance": 1.0, "noise_levels": 6.0})
    flat = np.full((136, 136, 3), 128, np.uint8)
    spreads = [augment_crop(flat, 96, config, (0, 1, 0, row))[0].astype(float) for row in range(40)]
    assert max(found.std() for found in spreads) == pytest.approx(6, abs=0.4)
    assert min(found.std() for found in spreads) < 1
    assert np.mean(spreads) == pytest.approx(128, abs=0.1)
    assert abs(np.corrcoef(spreads[0][..., 0].ravel(), spreads[0][..., 1].ravel())[0, 1]) < 0.05


def _laplacian_energy(image: np.ndarray) -> float:
    gray = image.astype(np.float64).mean(axis=2)
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * gray[1:-1, 1:-1]
    return float((laplacian**2).mean())


def test_finer_kernels_keep_a_turned_crop_as_sharp_as_an_unchanged_one() -> None:
    """A texture as fine as a resampled photograph's: linear loses much of its Laplacian energy, Lanczos little."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(3).normal(size=(136, 136, 3))
    smooth = gaussian_filter(noise, (0.8, 0.8, 0))
    crop = (128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    turning = NO_AUGMENTATION.model_copy(update={"rotation_deg": 180.0})
    kept = {}
    for kernel in ("linear", "cubic", "lanczos"):
        config = turning.model_copy(update={"interpolation": kernel})
        energies = [_laplacian_energy(augment_crop(crop, 96, config, (0, 1, 0, row))[0]) for row in range(30)]
        kept[kernel] = np.mean(energies) / _laplacian_energy(center_crop(crop, 96))
    assert kept["linear"] < 0.75 < kept["cubic"] < kept["lanczos"] < 1.05
    assert kept["lanczos"] > 0.9


def test_new_changes_that_are_off_leave_the_earlier_ones_as_they_were() -> None:
    """Mean colors of the upper half and mask areas, recorded before tints, noise, swaps and kernels existed."""
    rows, columns = np.mgrid[:136, :136]
    crop = np.stack([60 + rows // 2, 40 + columns, 190 - columns // 2], axis=2).astype(np.uint8)
    mask = np.zeros((136, 136), dtype=np.bool_)
    mask[30:80, 50:90] = True
    recorded = [
        (113.6, 135.8, 161.1, 2103),
        (115.0, 101.5, 171.2, 1769),
        (104.9, 84.8, 153.8, 2424),
        (75.6, 92.0, 166.9, 1985),
        (86.8, 121.4, 147.1, 2114),
    ]
    for row, (*colors, area) in enumerate(recorded):
        found, grown = augment_crop(crop, 96, AugmentConfig(), (0, 1, 0, row), mask)
        assert grown is not None
        np.testing.assert_allclose(found[:48].astype(float).mean(axis=(0, 1)), colors, atol=0.5)
        assert int(grown.sum()) == pytest.approx(area, abs=5)
