"""Erythrocytes of hand-made fields: disks of known size and color, nucleated cells, specks and clumps beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.cells import erythrocyte_size
from marrowscope.cells.erythrocyte_size import (
    MIN_ERYTHROCYTES,
    erythrocyte_diameters_px,
    measure_erythrocytes,
    most_common,
)

if TYPE_CHECKING:
    from marrowscope.records import ImageArray

SLIDE = (235, 225, 215)
ERYTHROCYTE = (190, 150, 150)
NUCLEUS = (80, 50, 140)


def disk(image: ImageArray, center: tuple[float, float], diameter: float, color: tuple[int, int, int]) -> None:
    """Draw a disk of exactly this diameter at a place between pixels; OpenCV's own are a pixel larger."""
    reach = int(diameter / 2) + 2
    left, top = (max(int(value) - reach, 0) for value in center)
    part = image[top : top + 2 * reach + 2, left : left + 2 * reach + 2]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    cover = np.clip(diameter / 2 - np.hypot(x + left - center[0], y + top - center[1]) + 0.5, 0, 1)[..., None]
    part[:] = np.round(part * (1 - cover) + np.asarray(color) * cover)


def field(
    diameter: float,
    *,
    pallor: float = 0.0,
    size: tuple[int, int] = (600, 800),
    n: int = 100,
    slide: tuple[int, int, int] = SLIDE,
) -> ImageArray:
    """Draw ``n`` erythrocytes of one diameter in px, none touching, on an empty slide (h, w, 3)."""
    image = np.full((*size, 3), slide, dtype=np.uint8)
    rng = np.random.default_rng(4)
    step = 1.5 * diameter
    places = [(x, y) for y in np.arange(step, size[0] - step, step) for x in np.arange(step, size[1] - step, step)]
    for x, y in places[:n]:
        center = (x + rng.uniform(-0.1, 0.1) * diameter, y + rng.uniform(-0.1, 0.1) * diameter)
        disk(image, center, diameter, ERYTHROCYTE)
        if pallor:
            disk(image, center, pallor * diameter, slide)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.03 * diameter), dtype=np.uint8)


@pytest.mark.parametrize("diameter", [18.0, 25.0, 50.0, 90.0])
@pytest.mark.parametrize("pallor", [0.0, 0.5])
def test_the_diameter_of_disks_is_found_over_a_wide_range(diameter: float, pallor: float) -> None:
    found = erythrocyte_diameters_px(field(diameter, pallor=pallor))
    assert len(found) > 10
    assert np.median(found) == pytest.approx(diameter, rel=0.06)


@pytest.mark.parametrize("slide", [SLIDE, (150, 150, 140), (255, 230, 206)])
def test_the_light_makes_no_difference(slide: tuple[int, int, int]) -> None:
    light = np.asarray(slide) / np.asarray(SLIDE)
    image = np.round(field(40.0) * light).clip(0, 255).astype(np.uint8)
    assert np.median(erythrocyte_diameters_px(image)) == pytest.approx(40.0, rel=0.04)


def test_the_stated_scale_changes_micrometers_and_nothing_else() -> None:
    image = field(50.0)
    right, wrong = measure_erythrocytes(image, 0.15), measure_erythrocytes(image, 0.45)
    assert right.n == wrong.n > MIN_ERYTHROCYTES
    assert right.diameter_um == pytest.approx(7.5, rel=0.04)
    assert wrong.diameter_um == pytest.approx(22.5, rel=0.04)


def test_a_large_photograph_is_measured_as_a_small_one() -> None:
    small = field(40.0)
    large = np.asarray(cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    assert np.median(erythrocyte_diameters_px(large)) == pytest.approx(120.0, rel=0.04)


def test_a_field_without_erythrocytes_has_no_diameter() -> None:
    empty = np.full((300, 400, 3), SLIDE, dtype=np.uint8)
    noise = np.random.default_rng(1).integers(180, 250, (300, 400, 3)).astype(np.uint8)
    nothing = np.empty((0, 0, 3), dtype=np.uint8)
    for image in (empty, noise, nothing, np.zeros((300, 400, 3), dtype=np.uint8)):
        found = measure_erythrocytes(image, 0.15)
        assert (found.n, found.diameter_um) == (0, None)


def test_too_few_erythrocytes_have_a_number_and_no_diameter() -> None:
    found = measure_erythrocytes(field(60.0, n=2), 0.15)
    assert (found.n, found.diameter_um) == (2, None)


def test_nucleated_cells_are_no_erythrocytes() -> None:
    image = np.full((600, 800, 3), SLIDE, dtype=np.uint8)
    for x in range(100, 750, 110):
        disk(image, (x, 300), 80, NUCLEUS)
    assert len(erythrocyte_diameters_px(image)) == 0
    for x in range(100, 750, 80):
        disk(image, (x, 100), 40, ERYTHROCYTE)
    found = erythrocyte_diameters_px(image)
    assert len(found) == 9
    assert np.median(found) == pytest.approx(40, rel=0.04)


def test_an_outlined_cell_with_a_nucleus_is_left_out_as_a_whole_and_one_without_is_not() -> None:
    """The segmenter outlines erythrocytes too where the stated scale is too coarse."""
    image = np.full((600, 800, 3), SLIDE, dtype=np.uint8)
    places = [(float(x), 300.0) for x in range(100, 750, 100)]
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outlines = [np.stack([x + 32 * np.cos(angles), y + 32 * np.sin(angles)], axis=1) for x, y in places]
    for place in places:
        disk(image, place, 60, ERYTHROCYTE)
    assert len(erythrocyte_diameters_px(image, outlines)) == len(places)
    for x, y in places:
        disk(image, (x + 26, y), 24, NUCLEUS)
    assert len(erythrocyte_diameters_px(image, outlines)) == 0


def test_what_the_edge_cuts_and_what_touches_is_left_out() -> None:
    image = field(40.0, n=20)
    n_alone = len(erythrocyte_diameters_px(image))
    for x in range(100, 700, 50):
        disk(image, (x, 598), 40, ERYTHROCYTE)  # cut by the edge
    for x in range(100, 400, 32):
        disk(image, (x, 480), 40, ERYTHROCYTE)  # a roll of coins
    found = erythrocyte_diameters_px(image)
    assert len(found) == n_alone
    assert np.median(found) == pytest.approx(40, rel=0.04)


def test_the_most_common_size_is_of_many_alike_and_not_of_noise_or_pairs() -> None:
    rng = np.random.default_rng(2)
    cells, noise, pairs = rng.normal(40, 2, 12), rng.uniform(10, 13, 30), rng.normal(57, 2, 6)
    kept = most_common(np.concatenate([cells, noise, pairs]))
    assert np.median(kept) == pytest.approx(40, rel=0.04)
    assert len(kept) == 12


@pytest.mark.parametrize(
    "white", [(240.0, 235.0, 230.0), (255.0, 40.0, 255.0), (200.0, 250.0, 32.0), (90.0, 32.0, 33.0)]
)
def test_a_nucleus_is_told_by_the_densities_of_green_and_blue_light_at_every_level(
    white: tuple[float, float, float],
) -> None:
    green, blue = (np.asarray(levels, dtype=np.uint8) for levels in np.meshgrid(np.arange(256), np.arange(256)))
    image = np.stack([np.zeros_like(green), green, blue], axis=2)
    of_green, of_blue = (
        np.float32(np.log10(white[channel] + 1) - np.log10(levels + 1.0)) for channel, levels in ((1, green), (2, blue))
    )
    expected = np.zeros(green.shape, dtype=bool)
    for density, share in erythrocyte_size._NUCLEAR:
        expected |= (of_green > density) & (of_blue < np.float32(share) * of_green)
    assert np.array_equal(erythrocyte_size._nuclear(image, np.array(white)), expected)
    assert expected.any()


def test_of_outlines_that_lie_on_each_other_the_steepest_stays() -> None:
    rng = np.random.default_rng(8)
    shapes = np.column_stack([rng.uniform(0, 60, (80, 2)), rng.uniform(10, 30, 80), rng.integers(0, 20, 80)])
    stays = []
    for index, (x, y, diameter, edge) in enumerate(shapes):
        beaten = False
        for other, (x2, y2, diameter2, edge2) in enumerate(shapes):
            larger = max(diameter, diameter2)
            lies_on = np.hypot(x - x2, y - y2) < 0.35 * larger and min(diameter, diameter2) > 0.6 * larger
            beaten |= bool(lies_on and (-edge2, other) < (-edge, index))
        if not beaten:
            stays.append(index)
    assert 10 < len(stays) < 70
    assert erythrocyte_size._steepest(shapes).tolist() == stays
