"""Contours against closed forms, brute-force rasters and each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from marrowscope import geometry

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, MaskArray

SQUARE = np.array([[2.0, 3.0], [12.0, 3.0], [12.0, 13.0], [2.0, 13.0]])
BOW_TIE = np.array([[0.0, 0.0], [10.0, 10.0], [10.0, 0.0], [0.0, 6.0]])
EMPTY = np.zeros((0, 2))
LINE = np.array([[1.0, 1.0], [5.0, 5.0], [9.0, 9.0]])


def circle(x: float = 50.0, y: float = 40.0, radius: float = 20.0, n: int = 200) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def star_shaped(radii: list[float], x: float, y: float) -> ContourArray:
    """Make a polygon that cannot cross itself: radii at equal angles around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    return np.column_stack([x + np.array(radii) * np.cos(angle), y + np.array(radii) * np.sin(angle)])


def raster_by_ray(contour_xy: ContourArray, height: int, width: int) -> MaskArray:
    """Even-odd rule pixel by pixel, written apart from the implementation."""
    mask = np.zeros((height, width), dtype=np.bool_)
    corners = contour_xy.tolist()
    for row in range(height):
        for column in range(width):
            inside = False
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= row) != (y1 <= row) and column >= x0 + (row - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            mask[row, column] = inside
    return mask


contours = st.builds(
    star_shaped,
    st.lists(st.floats(3.0, 11.0), min_size=4, max_size=14),
    st.floats(-2.0, 26.0),
    st.floats(-2.0, 22.0),
)


def test_square() -> None:
    assert geometry.area(SQUARE) == pytest.approx(100)
    assert geometry.area(SQUARE[::-1]) == pytest.approx(100)
    assert geometry.perimeter(SQUARE) == pytest.approx(40)
    assert geometry.centroid(SQUARE) == pytest.approx((7, 8))
    assert geometry.bounding_box(SQUARE) == (2, 3, 12, 13)
    assert geometry.circularity(SQUARE) == pytest.approx(np.pi / 4, rel=0.01)


def test_circle_has_its_closed_forms() -> None:
    ring = circle(n=2000)
    assert geometry.area(ring) == pytest.approx(np.pi * 400, rel=1e-4)
    assert geometry.perimeter(ring) == pytest.approx(2 * np.pi * 20, rel=1e-4)
    assert geometry.circularity(ring) == pytest.approx(1, abs=2e-3)


def test_circularity_does_not_count_pixel_stairs() -> None:
    ring = circle(radius=30, n=400)
    stairs = np.repeat(np.round(ring), 2, axis=0)[1:].copy()
    stairs[::2, 0] = np.roll(np.round(ring)[:, 0], -1)[: len(stairs[::2])]
    naive = 4 * np.pi * geometry.area(stairs) / geometry.perimeter(stairs) ** 2
    assert naive < 0.7
    assert geometry.circularity(stairs) > 0.95


def test_area_is_exact_far_from_the_origin() -> None:
    assert geometry.area(SQUARE + 1e7) == pytest.approx(100)
    assert geometry.centroid(SQUARE + 1e7) == pytest.approx((1e7 + 7, 1e7 + 8))


def test_empty_and_flat_contours() -> None:
    assert geometry.area(EMPTY) == geometry.perimeter(EMPTY) == geometry.circularity(EMPTY) == 0
    assert geometry.area(LINE) == 0
    assert geometry.centroid(LINE) == pytest.approx((5, 5))
    assert geometry.circularity(np.ones((5, 2))) == 0
    assert geometry.resample_contour(EMPTY, 5).shape == (0, 2)
    assert not geometry.rasterize(EMPTY, 4, 5).any()
    assert geometry.dilate(EMPTY, 3).shape == (0, 2)
    with pytest.raises(ValueError, match=r"contour without points, .* for a centroid"):
        geometry.centroid(EMPTY)
    with pytest.raises(ValueError, match=r"contour without points, .* for a bounding box"):
        geometry.bounding_box(EMPTY)


@pytest.mark.parametrize(
    ("contour", "valid"),
    [
        (SQUARE, True),
        (BOW_TIE, False),
        (LINE, False),
        (EMPTY, False),
        (SQUARE[:2], False),
        (np.array([[0.0, 0.0], [1.0, np.nan], [1.0, 1.0]]), False),
    ],
)
def test_validity(contour: ContourArray, valid: bool) -> None:  # noqa: FBT001
    assert geometry.is_valid(contour) is valid


def test_repair_keeps_the_larger_lobe() -> None:
    repaired = geometry.repair(BOW_TIE)
    assert repaired is not None
    assert geometry.is_valid(repaired)
    # The edges cross at x = y = 3.75; the right lobe is the triangle of that point, (10, 10) and (10, 0).
    assert geometry.area(repaired) == pytest.approx(10 * 6.25 / 2)


def test_repair_leaves_the_valid_and_refuses_the_hopeless() -> None:
    assert geometry.repair(SQUARE) is SQUARE
    assert geometry.repair(LINE) is None
    assert geometry.repair(SQUARE[:2]) is None
    assert geometry.repair(np.array([[0.0, 0.0], [1.0, np.inf], [1.0, 1.0]])) is None


def test_clip_to_image() -> None:
    assert geometry.clip_to_image(SQUARE, 20, 20) is SQUARE
    assert geometry.clip_to_image(SQUARE + 100, 20, 20) is None
    assert geometry.clip_to_image(EMPTY, 20, 20) is None
    clipped = geometry.clip_to_image(SQUARE, 8, 20)
    assert clipped is not None
    assert geometry.bounding_box(clipped) == (2, 3, 7.5, 13)
    assert geometry.area(clipped) == pytest.approx(5.5 * 10)


@given(contours, contours)
def test_iou_agrees_with_rasters(a: ContourArray, b: ContourArray) -> None:
    scale = 12  # fine pixels for a coarse oracle
    shifted_a, shifted_b = (a + 20) * scale, (b + 20) * scale
    mask_a = geometry.rasterize(shifted_a, 60 * scale, 60 * scale)
    mask_b = geometry.rasterize(shifted_b, 60 * scale, 60 * scale)
    oracle = (mask_a & mask_b).sum() / (mask_a | mask_b).sum()
    assert geometry.iou(a, b) == pytest.approx(oracle, abs=0.03)
    assert geometry.iou(a, b) == pytest.approx(geometry.iou(b, a))
    assert geometry.iou(a, a) == pytest.approx(1)


@given(st.lists(contours, max_size=4), st.lists(contours, max_size=4))
def test_iou_matrix_is_every_pair(list_a: list[ContourArray], list_b: list[ContourArray]) -> None:
    matrix = geometry.iou_matrix(list_a, list_b)
    assert matrix.shape == (len(list_a), len(list_b))
    for i, a in enumerate(list_a):
        for j, b in enumerate(list_b):
            assert matrix[i, j] == pytest.approx(geometry.iou(a, b))


def test_iou_of_nothing_is_zero() -> None:
    assert geometry.iou(EMPTY, SQUARE) == 0
    assert geometry.iou(LINE, LINE) == 0
    assert geometry.iou(SQUARE, SQUARE + np.array([5.0, 0.0])) == pytest.approx(50 / 150)


@given(contours)
def test_rasterize_agrees_with_a_pixel_by_pixel_ray(contour: ContourArray) -> None:
    differing = np.argwhere(geometry.rasterize(contour, 21, 27) != raster_by_ray(contour, 21, 27))
    outline = shapely.Polygon(contour).exterior
    assert all(outline.distance(shapely.Point(x, y)) < 1e-9 for y, x in differing)  # rounding on the very edge


def test_rasterized_area_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    rings = [circle(rng.uniform(25, 30), rng.uniform(25, 30)) for _ in range(50)]
    mean = np.mean([geometry.rasterize(ring, 60, 60).sum() for ring in rings])
    assert mean == pytest.approx(geometry.area(rings[0]), rel=0.002)


def test_rasterized_neighbors_share_no_pixel() -> None:
    left = geometry.rasterize(SQUARE, 20, 30).astype(int)
    right = geometry.rasterize(SQUARE + np.array([10.0, 0.0]), 20, 30).astype(int)
    assert (left + right).max() == 1
    assert (left + right).sum() == 200


def test_resample_keeps_shape_and_gives_equal_steps() -> None:
    ring = geometry.resample_contour(SQUARE, 80)
    steps = np.hypot(*(np.roll(ring, -1, axis=0) - ring).T)
    np.testing.assert_allclose(steps, 0.5)
    np.testing.assert_allclose(ring[0], SQUARE[0])
    assert geometry.area(ring) == pytest.approx(100)


def test_dilate_moves_the_outline() -> None:
    ring = circle(radius=20, n=400)
    assert geometry.area(geometry.dilate(ring, 5)) == pytest.approx(np.pi * 25**2, rel=0.005)
    assert geometry.area(geometry.dilate(ring, -5)) == pytest.approx(np.pi * 15**2, rel=0.005)
    assert geometry.dilate(ring, -25).shape == (0, 2)


MIXED = [circle(), EMPTY, SQUARE, BOW_TIE, LINE, circle(1e6, 3.0, 7.0, 31), SQUARE[:1], np.ones((5, 2))]


def test_a_ring_lies_within_a_contour_up_to_a_margin() -> None:
    bent = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 3.0], [3.0, 3.0], [3.0, 9.0], [0.0, 9.0]])
    inside, in_bay = np.array([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0]]), np.array([[5.0, 5.0], [8.0, 5.0], [5.0, 8.0]])
    assert geometry.lies_within(inside, bent)
    assert not geometry.lies_within(in_bay, bent, 1.0)
    assert geometry.lies_within(bent - 1.0, bent, 1.0)
    assert not geometry.lies_within(bent - 1.1, bent, 1.0)
    assert geometry.lies_within(bent[:1], bent)
    assert not geometry.lies_within(in_bay[:2], bent)
    assert geometry.lies_within(EMPTY, bent)
    assert not geometry.lies_within(inside, EMPTY)


def test_rings_measured_together_are_those_measured_alone() -> None:
    rings = geometry.Rings.of(MIXED)
    for together, alone in (
        (geometry.areas(rings), geometry.area),
        (geometry.perimeters(rings), geometry.perimeter),
        (geometry.circularities(rings), geometry.circularity),
        (geometry.are_valid(rings), geometry.is_valid),
        (geometry.rasterize_all(rings, 50, 60), lambda contour: geometry.rasterize(contour, 50, 60)),
    ):
        for value, contour in zip(together, MIXED, strict=True):
            assert np.array_equal(value, alone(contour))
    filled = rings.take(rings.counts > 0)
    for center, contour in zip(geometry.centroids(filled), filled.split(), strict=True):
        assert tuple(center) == geometry.centroid(contour)


def test_resampling_is_interpolation_over_the_traveled_length_to_the_bit() -> None:
    rng = np.random.default_rng(1)
    contours = [rng.normal(size=(n, 2)).round(n % 3) for n in (3, 4, 17, 40, 200)]
    contours.append(np.repeat(SQUARE, 3, axis=0))
    for n_points in (1, 12, 64, 300):
        found = geometry.resample(geometry.Rings.of(contours), np.full(len(contours), n_points)).split()
        for contour, points in zip(contours, found, strict=True):
            closed = np.vstack([contour, contour[:1]])
            traveled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
            wanted = np.linspace(0.0, traveled[-1], n_points, endpoint=False)
            expected = np.column_stack([np.interp(wanted, traveled, closed[:, axis]) for axis in (0, 1)])
            assert np.array_equal(points, expected)


def test_no_rings_and_their_bounds() -> None:
    nothing = geometry.Rings.of([])
    assert len(nothing) == 0
    assert nothing.split() == []
    assert geometry.areas(nothing).shape == (0,)
    assert geometry.resample(nothing, np.zeros(0, dtype=np.intp)).points_xy.shape == (0, 2)
    assert geometry.rasterize_all(nothing, 4, 5).shape == (0, 4, 5)
    bounds = geometry.Rings.of([EMPTY, SQUARE]).bounds()
    assert np.isnan(bounds[0]).all()
    assert bounds[1].tolist() == [2, 3, 12, 13]
    assert geometry.lie_inside(geometry.Rings.of([SQUARE, SQUARE + 4, EMPTY]), 13, 20).tolist() == [True, False, False]
