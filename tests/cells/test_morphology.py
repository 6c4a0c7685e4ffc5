"""Morphology on drawn cells whose true values are known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from marrowscope.cells.crop import CropSpec, cut_crop, cut_crops
from marrowscope.cells.morphology import (
    MORPHOLOGY_COLUMNS,
    _whole_parts,
    measure,
    measure_cells,
    optical_density,
    segment_nucleus,
)
from marrowscope.records import ContourArray, ImageArray

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
    assert values["nucleus_area_um2"] == pytest.approx(share * np.pi * 7.5 * 6.0, rel=0.1)
    assert values["nucleus_width_um"] == pytest.approx(2 * np.sqrt(share) * 6.0, abs=0.4)
    assert values["nucleus_elongation"] == pytest.approx(0.2, abs=0.02)
    assert values["nucleus_circularity"] > 0.95
    assert values["nucleus_od"] == pytest.approx(0.454, abs=0.02)
    assert values["chromatin_texture"] < 0.005
    if share < 0.8:  # a rim of 0.7 um is all border
        assert values["cytoplasm_od"] == pytest.approx(0.071, abs=0.01)
        assert values["cytoplasm_basophilia"] == pytest.approx(0.118, abs=0.01)
        assert values["cytoplasm_eosinophilia"] == pytest.approx(-0.027, abs=0.01)
        assert values["granularity"] < 0.005


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


def draw_nucleus(inside: NDArray[np.bool_], *, clumps: bool = False) -> ImageArray:
    """Draw a round cell of radius 50 px with the nucleus ``inside`` (300, 300), in coarse clumps if asked."""
    image = draw_cell(50, 50, 0.0)
    image[inside] = NUCLEUS
    if clumps:
        rows, columns = np.mgrid[:300, :300]
        image[inside & ((rows // 4 + columns // 4) % 2 == 0)] = (125, 100, 170)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), dtype=np.uint8)


def measure_round(image: ImageArray, radius: float = 50) -> dict[str, float]:
    contour = ellipse(150, 150, radius, radius)
    return measure(cut_crop(image, contour, UM_PER_PX, CropSpec()), contour, UM_PER_PX, CropSpec().um_per_px)


def test_clumped_chromatin_is_one_nucleus_with_texture() -> None:
    rows, columns = np.mgrid[:300, :300]
    inside = np.hypot(columns - 150, rows - 150) < 35
    smooth, clumped = measure_round(draw_nucleus(inside)), measure_round(draw_nucleus(inside, clumps=True))
    for values in (smooth, clumped):
        assert values["nucleus_area_ratio"] == pytest.approx(0.49, abs=0.03)
        assert values["nucleus_circularity"] > 0.9
    assert clumped["chromatin_texture"] > 3 * smooth["chromatin_texture"]
    assert clumped["granularity"] == pytest.approx(smooth["granularity"], abs=0.003)


def test_band_and_two_lobes_have_a_hollow_thin_nucleus() -> None:
    rows, columns = np.mgrid[:300, :300]
    distance = np.hypot(columns - 150, rows - 150)
    band = (distance > 20) & (distance < 38) & (rows < 160)
    lobes = np.hypot(np.abs(columns - 150) - 22, rows - 150) < 17
    for inside, solidity in ((band, 0.65), (lobes, 0.78)):
        values = measure_round(draw_nucleus(inside))
        assert values["nucleus_area_um2"] == pytest.approx(inside.sum() * UM_PER_PX**2, rel=0.1)
        assert values["nucleus_solidity"] == pytest.approx(solidity, abs=0.06)
    assert measure_round(draw_nucleus(band))["nucleus_width_um"] == pytest.approx(18 * UM_PER_PX, abs=0.5)
    assert measure_round(draw_nucleus(lobes))["nucleus_width_um"] == pytest.approx(34 * UM_PER_PX, abs=0.65)
    assert measure_round(draw_nucleus(lobes))["nucleus_circularity"] < 0.7


def test_background_in_a_generous_contour_is_no_cytoplasm() -> None:
    rows, columns = np.mgrid[:300, :300]
    image = draw_nucleus(np.hypot(columns - 150, rows - 150) < 30)
    tight, generous = measure_round(image), measure_round(image, radius=58)
    assert tight["cytoplasm_od"] == pytest.approx(0.07, abs=0.005)
    assert generous["cytoplasm_od"] == pytest.approx(0.07, abs=0.01)
    assert generous["nucleus_area_um2"] == pytest.approx(tight["nucleus_area_um2"], rel=0.02)


def test_thin_cytoplasm_has_a_color_and_no_texture() -> None:
    rows, columns = np.mgrid[:300, :300]
    values = measure_round(draw_nucleus(np.hypot(columns - 150, rows - 150) < 44.5))
    assert np.isnan(values["granularity"])
    assert values["cytoplasm_basophilia"] == pytest.approx(0.118, abs=0.02)


def test_a_cell_that_leaves_its_crop_has_no_size_of_its_nucleus() -> None:
    contour = ellipse(150, 150, 110, 110)
    crop = cut_crop(draw_cell(110, 110, 0.4), contour, UM_PER_PX, CropSpec())
    values = measure(crop, contour, UM_PER_PX, CropSpec().um_per_px)
    sizes = [name for name in MORPHOLOGY_COLUMNS if name.startswith("nucleus_") and name != "nucleus_od"]
    assert all(np.isnan(values[name]) for name in sizes)
    assert values["nucleus_od"] == pytest.approx(0.458, abs=0.02)
    assert values["perimeter_um"] == pytest.approx(2 * np.pi * 110 * UM_PER_PX, rel=0.001)


@pytest.mark.parametrize("um_per_px", [0.1, 0.15, 0.25])
def test_measures_are_physical_whatever_the_scale_of_the_image(um_per_px: float) -> None:
    rows, columns = np.mgrid[:400, :400]
    distance_um = np.hypot(columns - 200, rows - 200) * um_per_px
    image = np.full((400, 400, 3), WHITE, dtype=np.uint8)
    image[distance_um < 7.5] = CYTOPLASM
    image[distance_um < 4.5] = NUCLEUS
    contour = ellipse(200, 200, 7.5 / um_per_px, 7.5 / um_per_px)
    crop = cut_crop(image, contour, um_per_px, CropSpec())
    values = measure(crop, contour, um_per_px, CropSpec().um_per_px)
    assert values["perimeter_um"] == pytest.approx(2 * np.pi * 7.5, rel=0.002)
    assert values["nucleus_area_um2"] == pytest.approx(np.pi * 4.5**2, rel=0.06)
    assert values["nucleus_width_um"] == pytest.approx(9.0, abs=0.7)


def test_optical_density_of_white_is_zero_and_of_a_tenth_is_one() -> None:
    image = np.full((10, 10, 3), 249, dtype=np.uint8)
    image[0, 0] = 24
    density = optical_density(image)
    assert density[5, 5] == pytest.approx([0, 0, 0])
    assert density[0, 0] == pytest.approx([1, 1, 1])


def test_empty_mask_has_no_nucleus() -> None:
    assert not segment_nucleus(np.ones((8, 8, 3), dtype=np.float32), np.zeros((8, 8), dtype=np.bool_), 0.3).any()


def test_cells_measured_together_are_those_measured_alone() -> None:
    rows, columns = np.mgrid[:300, :300]
    image = draw_nucleus(np.hypot(columns - 150, rows - 150) < 35, clumps=True)
    contours = [ellipse(150, 150, 50, 50), ellipse(130, 160, 40, 50), ellipse(150, 150, 110, 110), np.zeros((1, 2))]
    scales = (UM_PER_PX, CropSpec().um_per_px)
    images, masks = cut_crops(image, contours, UM_PER_PX, CropSpec())
    together = measure_cells(images, masks, contours, *scales)
    for contour, values in zip(contours, together, strict=True):
        alone = measure(cut_crop(image, contour, UM_PER_PX, CropSpec()), contour, *scales)
        assert list(values) == list(MORPHOLOGY_COLUMNS)
        np.testing.assert_array_equal(list(values.values()), [alone[name] for name in values])
    assert np.isnan(list(together[-1].values())).sum() >= len(MORPHOLOGY_COLUMNS) - 1
    assert measure_cells(images[:0], masks[:0], [], *scales) == []


@pytest.mark.parametrize("shift", [0, 1, 9])
def test_holes_and_crumbs_of_a_nucleus_are_judged_as_in_the_whole_window(shift: int) -> None:
    generator = np.random.default_rng(7)
    for _ in range(50):
        drawn = cv2.GaussianBlur(generator.random((40, 36)), (0, 0), 2.5) > generator.uniform(0.46, 0.53)
        drawn[:shift] = drawn[:, :shift] = drawn[40 - shift :] = drawn[:, 36 - shift :] = False
        whole = _whole_parts(drawn.astype(np.uint8), 0.3)
        # By the definition, on all of the window.
        _, parts = cv2.connectedComponents(drawn.astype(np.uint8), connectivity=4)
        sizes = np.bincount(parts.ravel())
        largest = sizes[1:].max(initial=0)
        kept = [part for part in range(1, len(sizes)) if sizes[part] * 0.09 >= max(3.0, 0.12 * 0.09 * largest)]
        expected = np.isin(parts, kept)
        _, gaps = cv2.connectedComponents((~expected).astype(np.uint8), connectivity=4)
        sizes = np.bincount(gaps.ravel())
        expected |= np.isin(gaps, [gap for gap in range(1, len(sizes)) if sizes[gap] * 0.09 < 5.0])
        assert np.array_equal(whole, expected)
