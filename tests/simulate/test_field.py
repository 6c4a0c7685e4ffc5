"""One field: the truth is what was drawn."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shapely.geometry import Polygon

from marrowscope.simulate import SimulatedField, draw_center, draw_patient_style, load_parameters, render_field
from marrowscope.simulate.cell import draw_truncated
from marrowscope.simulate.field import clip_polygon

if TYPE_CHECKING:
    from marrowscope.simulate.optics import PatientStyle

PARAMETERS = load_parameters()
CODES = sorted(PARAMETERS.morphology.code)
SMALL_CODES = [code for code in CODES if PARAMETERS.morphology.code[code].diameter_um[1] <= 35]


def style_of(seed: int) -> PatientStyle:
    rng = np.random.default_rng(seed)
    return draw_patient_style(rng, draw_center(rng, "S1", PARAMETERS), PARAMETERS)


@lru_cache
def field_of(codes: tuple[str, ...], seed: int, width_px: int = 700, height_px: int = 500) -> SimulatedField:
    rng = np.random.default_rng(seed)
    return render_field(rng, codes, style_of(seed), PARAMETERS, width_px=width_px, height_px=height_px)


def test_every_vocabulary_code_has_an_appearance() -> None:
    from marrowscope.vocabulary import load_vocabulary

    assert set(load_vocabulary().codes) == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_renders_within_its_ranges(code: str) -> None:
    row = PARAMETERS.morphology.code[code]
    style = style_of(3)
    cells = [
        cell
        for seed in range(2)
        for cell in render_field(
            np.random.default_rng(seed), [code] * 3, style, PARAMETERS, width_px=700, height_px=540
        ).cells
    ]
    assert cells
    for cell in cells:
        low, high = row.diameter_um
        slack = 0.25 * (high - low) + 0.03 * high
        assert (low - slack) * 0.93 <= cell.diameter_um / style.diameter_factor <= high + slack
        nc_slack = 0.25 * (row.nc[1] - row.nc[0]) + 0.03
        assert row.nc[0] - nc_slack <= cell.nc <= min(1.0, row.nc[1] + nc_slack)
        assert cell.nucleus_area_um2 == pytest.approx(cell.nc * cell.area_um2)


def test_truncated_normal_keeps_its_range() -> None:
    rng = np.random.default_rng(0)
    values = np.array([draw_truncated(rng, 10.0, 20.0) for _ in range(4000)])
    assert np.mean((values >= 10) & (values <= 20)) == pytest.approx(0.955, abs=0.015)
    assert values.min() >= 7.5
    assert values.max() <= 22.5


def test_cells_differ_from_the_slide_and_nuclei_from_cytoplasm() -> None:
    field = field_of(("N5", "N2", "R3", "P2"), 7)
    gray = field.image[..., 1].astype(float)
    bright = np.percentile(gray, 90)
    for cell in field.cells:
        x, y = cell.contour_xy.mean(axis=0)
        half = int(0.3 * cell.diameter_um / field.um_per_px)
        window = gray[max(0, int(y) - half) : int(y) + half, max(0, int(x) - half) : int(x) + half]
        assert window.min() < 0.6 * bright


def test_polygons_lie_inside_the_image_and_are_valid() -> None:
    n_cut = 0
    for seed in range(6):
        field = field_of(tuple(SMALL_CODES[:24]), seed)
        height, width = field.image.shape[:2]
        for cell in field.cells:
            assert Polygon(cell.contour_xy).is_valid
            n_cut += cell.cut_by_edge
            if cell.polygon_xy is None:
                assert cell.inside_fraction < 0.25
                continue
            assert cell.inside_fraction >= 0.25
            assert cell.polygon_xy.min() >= 0
            assert cell.polygon_xy[:, 0].max() <= width - 1
            assert cell.polygon_xy[:, 1].max() <= height - 1
            whole = Polygon(cell.contour_xy).area
            assert Polygon(cell.polygon_xy).area == pytest.approx(cell.inside_fraction * whole, rel=1e-6)
    assert n_cut > 0


def test_clipping_agrees_with_shapely() -> None:
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for _ in range(50):
        center, radius = rng.uniform(-10, 110, 2), rng.uniform(5, 40)
        contour = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        expected = Polygon(contour).intersection(Polygon([(0, 0), (100, 0), (100, 100), (0, 100)])).area
        clipped = clip_polygon(contour, 100.0, 100.0)
        assert (0.0 if clipped is None else Polygon(clipped).area) == pytest.approx(expected, abs=1e-6)


def test_cells_touch_and_overlap_as_the_truth_says() -> None:
    overlapping = apart = 0
    for seed in range(8):
        field = field_of(("N2",) * 12, seed)
        polygons = [Polygon(cell.contour_xy) for cell in field.cells]
        for index, cell in enumerate(field.cells):
            others = [p for k, p in enumerate(polygons) if k != index]
            shared = max((polygons[index].intersection(p).area / polygons[index].area for p in others), default=0.0)
            if not cell.touching:
                apart += 1
                assert shared < 0.01
            if shared > 0.1:
                overlapping += 1
                assert cell.overlapping
            assert shared < 0.75
    assert overlapping
    assert apart


def test_a_covered_cell_is_less_visible() -> None:
    cells = [cell for seed in range(8) for cell in field_of(("N2",) * 12, seed).cells if not cell.cut_by_edge]
    assert all(0.0 <= cell.visible_fraction <= 1.0 for cell in cells)
    assert min(cell.visible_fraction for cell in cells) < 0.95
    assert all(cell.visible_fraction > 0.99 for cell in cells if not cell.touching)


def test_a_field_without_cells_is_erythrocytes_only() -> None:
    field = field_of((), 5)
    assert field.cells == ()
    assert field.image.shape == (500, 700, 3)
    assert field.image.dtype == np.uint8
    assert field.image.std() > 1


@pytest.mark.parametrize(("normal", "leukemic"), [("N0", "N"), ("M0", "M")])
def test_a_blast_labeled_normal_looks_the_same(normal: str, leukemic: str) -> None:
    rows = PARAMETERS.morphology.code
    same = {"source", "balanced_weight"}
    assert rows[normal].model_dump(exclude=same) == rows[leukemic].model_dump(exclude=same)
    one, other = field_of((normal,) * 5, 11), field_of((leukemic,) * 5, 11)
    assert np.array_equal(one.image, other.image)
    assert [cell.nc for cell in one.cells] == [cell.nc for cell in other.cells]


def test_centers_differ() -> None:
    centers = [draw_center(np.random.default_rng(seed), "S", PARAMETERS) for seed in range(12)]
    assert len({center.um_per_px for center in centers}) == 12
    assert all(0.11 <= center.um_per_px <= 0.17 for center in centers)
    assert np.ptp([center.white[2] for center in centers]) > 15
    assert {center.blood_like for center in centers} == {True, False}


def test_huge_cells_are_drawn() -> None:
    field = field_of(("J2", "N"), 2, 1000, 800)
    assert max(cell.diameter_um for cell in field.cells) > 30
