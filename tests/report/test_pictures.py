from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from marrowscope.report.marks import FieldPage
from marrowscope.report.pictures import COARSEST_UM_PER_PX, PATIENT_PIXELS, shrink, shrink_factors

FIELD = FieldPage(1, "f", "f.jpg", "00", 0.1229, 1280, 960, None, (), ())


def fields(n: int, um_per_px: float | None = 0.1229) -> list[FieldPage]:
    return [replace(FIELD, number=k, um_per_px=um_per_px) for k in range(n)]


def test_shrinking_keeps_the_sides_ratio_and_leaves_a_whole_image_alone() -> None:
    image = np.zeros((1200, 2560, 3), np.uint8)
    assert shrink(image, 0.5).shape == (600, 1280, 3)
    assert shrink(image, 1.0) is image


def test_few_fields_keep_their_pixels() -> None:
    assert set(shrink_factors(fields(7)).values()) == {1.0}


@pytest.mark.parametrize("n", [20, 60, 500])
def test_many_fields_share_their_pixels_and_are_never_too_coarse(n: int) -> None:
    factors = shrink_factors(fields(n))
    factor = factors[0]
    um_per_px = 0.1229 / factor
    assert um_per_px <= COARSEST_UM_PER_PX * 1.0001
    if um_per_px < COARSEST_UM_PER_PX:
        assert n * 1280 * 960 * factor**2 == pytest.approx(PATIENT_PIXELS, rel=0.01)
    size = shrink(np.zeros((960, 1280, 3), np.uint8), factor).shape
    assert 1280 * 0.1229 / size[1] <= COARSEST_UM_PER_PX  # rounded up, never coarser


def test_field_coarser_than_asked_for_stays_as_it_is() -> None:
    assert set(shrink_factors(fields(40, 0.4)).values()) == {1.0}


def test_without_a_scale_the_longer_side_decides() -> None:
    wide = replace(FIELD, um_per_px=None, width_px=2560)
    assert shrink_factors([wide]) == {1: 0.5}
    assert shrink_factors([]) == {}
