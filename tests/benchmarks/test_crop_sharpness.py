"""Laplacian energies by hand, and the ratio of a crop that nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.crop_sharpness import energy_ratio, laplacian_energy, variants
from marrowscope.train.config import NO_AUGMENTATION


def test_the_energy_of_one_bright_pixel_is_known() -> None:
    """Its Laplacian is -4 there and 1 at four neighbors: 20 squared levels over 400 pixels."""
    crop = np.zeros((20, 20, 3), dtype=np.uint8)
    crop[10, 10] = 10
    assert laplacian_energy(crop) == pytest.approx(100 * 20 / 400)


def test_what_is_not_changed_is_as_sharp_and_what_is_blurred_is_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 60, 60, 3)).astype(np.uint8)
    assert energy_ratio(list(noise), NO_AUGMENTATION, 32)[:2] == (1, 1)
    blurred = NO_AUGMENTATION.model_copy(update={"blur_chance": 1.0, "blur_sigma_px": 2.0})
    assert max(energy_ratio(list(noise), blurred, 32)[:2]) < 0.9


def test_every_kernel_is_measured() -> None:
    assert len(variants()) == 9
