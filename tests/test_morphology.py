"""Morphology on drawn cells whose true values are known."""

import numpy as np
import pytest

from marrowscope.crop import CropSpec, cut_crop
from marrowscope.morphology import measure, optical_density, segment_nucleus
from marrowscope.records import ContourArray, ImageArray
from marrowscope.tables import MORPHOLOGY_COLUMNS

UM_PER_PX = 0.15
WHITE, CYTOPLASM, NUCLEUS = (250, 235, 215), (190, 190, 215), (80, 50, 130)


def ellipse(x: float, y: float, a: float, b: float) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], axis=1)


def draw_cell(a: float, b: float, nucleus_share: float) -> ImageArray:
    """Draw an elliptic cell (half axes in px) with a concentric nucleus of that share of its area."""
    rows, columns = np.mgrid[:300, :300]
    level = ((columns - 150) / a) ** 2 + ((rows - 150) / b) ** 2
    image = np.empty((300, 300, 3), dtype=np.uint8)
    image[:] = WHITE
    image[level <= 1] = CYTOPLASM
    image[level <= nucleus_share] = NUCLEUS
    return image


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
def test_nucleus_share_elongation_and_perimeter_of_a_drawn_cell(share: float) -> None:
    contour = ellipse(150, 150, 50, 40)
    crop = cut_crop(draw_cell(50, 40, share), contour, UM_PER_PX, CropSpec())
    values = measure(crop, contour, UM_PER_PX, CropSpec().um_per_px)
    assert set(values) == set(MORPHOLOGY_COLUMNS)
    assert values["nucleus_area_ratio"] == pytest.approx(share, abs=0.05)
    assert values["elongation"] == pytest.approx(0.2, abs=0.01)
    assert values["solidity"] > 0.99
    assert values["nucleus_solidity"] > 0.95
    assert values["perimeter_um"] == pytest.approx(283.6 * UM_PER_PX, rel=0.01)
    assert values["nucleus_od"] > values["cytoplasm_od"]
    assert values["cytoplasm_basophilia"] > 0.05


def test_cell_without_a_nucleus_has_no_nucleus_values() -> None:
    contour = ellipse(150, 150, 45, 45)
    crop = cut_crop(draw_cell(45, 45, 0.0), contour, UM_PER_PX, CropSpec())
    values = measure(crop, contour, UM_PER_PX, CropSpec().um_per_px)
    assert np.isnan(values["nucleus_area_ratio"])
    assert np.isnan(values["nucleus_od"])
    assert not np.isnan(values["cytoplasm_od"])


def test_granules_raise_granularity() -> None:
    contour = ellipse(150, 150, 50, 50)
    plain = draw_cell(50, 50, 0.3)
    granular = plain.copy()
    rng = np.random.default_rng(1)
    angle, radius = rng.uniform(0, 2 * np.pi, 150), rng.uniform(32, 46, 150)
    for x, y in zip(150 + radius * np.cos(angle), 150 + radius * np.sin(angle), strict=True):
        granular[int(y) : int(y) + 3, int(x) : int(x) + 3] = (150, 40, 120)
    values = [
        measure(cut_crop(image, contour, UM_PER_PX, CropSpec()), contour, UM_PER_PX, CropSpec().um_per_px)[
            "granularity"
        ]
        for image in (plain, granular)
    ]
    assert values[1] > 2 * values[0]


def test_optical_density_of_white_is_zero_and_of_a_tenth_is_one() -> None:
    image = np.full((10, 10, 3), 249, dtype=np.uint8)
    image[0, 0] = 24
    density = optical_density(image)
    assert density[5, 5] == pytest.approx([0, 0, 0])
    assert density[0, 0] == pytest.approx([1, 1, 1])


def test_empty_mask_has_no_nucleus() -> None:
    assert not segment_nucleus(np.ones((8, 8, 3), dtype=np.float32), np.zeros((8, 8), dtype=np.bool_), 0.3).any()
