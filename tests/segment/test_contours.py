"""Contours of masks whose outline is known exactly."""

from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from marrowscope import geometry
from marrowscope.geometry import Rings
from marrowscope.records import ContourArray
from marrowscope.segment.contours import clip_rings, smooth_rings, trace_cells
from tests.segment.raw_outputs import ellipse_contour, ellipse_logits

ONE = np.ones(1, dtype=np.float32)


def trace_cell(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    box: NDArray[np.float64],
    **settings: Any,  # noqa: ANN401 - those of trace_cells, which has their types
) -> tuple[ContourArray, int] | None:
    """Trace a field of one cell: its contour and number of parts."""
    traced = trace_cells(prototypes, coefficients[None], box[None], **settings)
    return (traced.rings.points_xy, int(traced.n_parts[0])) if len(traced.rings) else None


def _box(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return np.array([cx - rx, cy - ry, cx + rx, cy + ry]) + 0.5


@pytest.mark.parametrize("radii", [(20.0, 20.0), (12.0, 12.0), (26.0, 14.0), (8.5, 11.0)])
@pytest.mark.parametrize("center", [(50.0, 50.0), (51.3, 47.8), (62.6, 70.1)])
def test_ellipse_is_traced_to_a_fraction_of_a_pixel(radii: tuple[float, float], center: tuple[float, float]) -> None:
    """Area within 1%, center within 0.1 px and IoU above 0.98, on a prototype grid of 4 px."""
    cell = (center[0], center[1], radii[0], radii[1])
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, _box(*cell))
    assert traced is not None
    contour, n_parts = traced
    truth = ellipse_contour(cell)
    assert n_parts == 1
    assert geometry.area(contour) == pytest.approx(geometry.area(truth), rel=0.01)
    assert geometry.iou(contour, truth) > 0.98
    assert geometry.centroid(contour) == pytest.approx(center, abs=0.1)
    assert geometry.is_valid(contour)


def test_the_contour_has_no_stairs() -> None:
    """The perimeter of a circle is that of a circle: a stair-step outline would be 27% longer."""
    cell = (50.0, 50.0, 20.0, 20.0)
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, _box(*cell))
    assert traced is not None
    assert geometry.perimeter(traced[0]) == pytest.approx(2 * np.pi * 20, rel=0.01)
    assert geometry.circularity(traced[0]) > 0.99


def test_a_cell_at_the_edge_ends_on_the_edge() -> None:
    cell = (6.0, 50.0, 20.0, 20.0)
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, _box(*cell))
    assert traced is not None
    truth = geometry.clip_to_image(ellipse_contour(cell), 128, 128)
    assert truth is not None
    assert geometry.area(traced[0]) == pytest.approx(geometry.area(truth), rel=0.01)
    assert traced[0][:, 0].min() == pytest.approx(-0.5, abs=0.05)


def test_a_box_that_stops_at_the_edge_leaves_the_cut_sharp() -> None:
    """The network's boxes end a little inside the image; the cut through the cell keeps its corners all the same."""
    cell = (6.0, 50.0, 20.0, 20.0)
    box = _box(*cell)
    box[0] = 0.4
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, box, step_px=0.25)
    assert traced is not None
    half_chord = np.sqrt(20**2 - 6.5**2)
    for corner in ((-0.5, 50 - half_chord), (-0.5, 50 + half_chord)):
        assert np.hypot(*(traced[0] - corner).T).min() < 0.4


def test_a_higher_level_draws_the_contour_where_the_logits_pass_it() -> None:
    """These logits are 6 tanh(depth / 4), so a level of 1.5 lies 4 atanh(1.5 / 6) px inside the outline."""
    cell = (50.0, 50.0, 20.0, 20.0)
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, _box(*cell), level=1.5)
    assert traced is not None
    radius = 20 - 4 * np.arctanh(1.5 / 6)
    assert geometry.area(traced[0]) == pytest.approx(np.pi * radius**2, rel=0.01)


def test_a_margin_lets_the_contour_leave_its_box_by_that_much() -> None:
    everything = np.full((1, 32, 32), 3.0, dtype=np.float32)
    box = np.array([30.0, 40.0, 70.0, 64.0])
    traced = trace_cell(everything, ONE, box, step_px=0.5, smoothing_px=0, box_margin_px=1.5)
    assert traced is not None
    assert geometry.bounding_box(traced[0]) == pytest.approx((28.0, 38.0, 71.0, 65.0), abs=0.05)


def test_the_mask_ends_at_its_box() -> None:
    """A mask that goes on beyond its box (training never looked there) is cut exactly at the box."""
    everything = np.full((1, 32, 32), 3.0, dtype=np.float32)
    traced = trace_cell(everything, ONE, np.array([30.0, 40.0, 70.0, 64.0]), step_px=0.5, smoothing_px=0)
    assert traced is not None
    assert geometry.bounding_box(traced[0]) == pytest.approx((29.5, 39.5, 69.5, 63.5), abs=0.05)
    assert geometry.area(traced[0]) == pytest.approx(40 * 24, rel=0.005)


def test_the_largest_of_two_parts_is_kept_and_counted() -> None:
    big, small = (40.0, 50.0, 15.0, 15.0), (80.0, 50.0, 8.0, 8.0)
    both = np.maximum(ellipse_logits(big, 128, 128), ellipse_logits(small, 128, 128))
    traced = trace_cell(both[None], ONE, np.array([25.0, 34.0, 90.0, 67.0]))
    assert traced is not None
    assert traced[1] == 2
    assert geometry.centroid(traced[0]) == pytest.approx((40.0, 50.0), abs=0.2)


def test_a_hole_is_filled() -> None:
    outer, hole = (50.0, 50.0, 24.0, 24.0), (50.0, 50.0, 8.0, 8.0)
    ring = np.minimum(ellipse_logits(outer, 128, 128), -ellipse_logits(hole, 128, 128))
    traced = trace_cell(ring[None], ONE, _box(*outer))
    assert traced is not None
    assert traced[1] == 1
    assert geometry.area(traced[0]) == pytest.approx(np.pi * 24**2, rel=0.02)


def test_smoothing_takes_off_corners_and_hardly_shrinks() -> None:
    rough = ellipse_contour((50.0, 50.0, 20.0, 20.0), 120)
    rough[::2] += (rough[::2] - 50) * 0.05
    smooth = smooth_rings(Rings.of([rough]), 1.0).points_xy
    assert geometry.perimeter(smooth) < 0.9 * geometry.perimeter(rough)
    assert geometry.area(smooth) == pytest.approx(geometry.area(rough), rel=0.01)


def test_points_stand_a_step_apart() -> None:
    cell = (50.0, 50.0, 20.0, 20.0)
    traced = trace_cell(ellipse_logits(cell, 128, 128)[None], ONE, _box(*cell), step_px=3.0)
    assert traced is not None
    steps = np.linalg.norm(np.diff(traced[0], axis=0), axis=1)
    assert steps.mean() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    "box",
    [np.array([30.0, 30.0, 60.0, 60.0]), np.array([-90.0, -90.0, -50.0, -50.0]), np.array([30.0, 30.0, 30.0, 30.0])],
)
def test_an_empty_mask_gives_nothing(box: np.ndarray) -> None:
    assert trace_cell(np.full((1, 32, 32), -4.0, dtype=np.float32), ONE, box) is None


def _field_of_five() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Cells of every kind: whole, at the edge, wider than its box, with a hole, in two parts; one prototype each."""
    size = (128, 128)
    whole, cut, outer = (50.3, 50.0, 20.0, 18.0), (4.0, 90.0, 20.0, 20.0), (90.0, 96.0, 22.0, 20.0)
    wide, narrow = (90.0, 40.0, 16.0, 21.0), (90.0, 40.0, 14.0, 19.0)
    left, right = ellipse_logits((40.0, 12.0, 9.0, 8.0), *size), ellipse_logits((62.0, 12.0, 6.0, 8.0), *size)
    holed = np.minimum(ellipse_logits(outer, *size), -ellipse_logits((90.0, 96.0, 7.0, 6.0), *size))
    drawn = [*(ellipse_logits(cell, *size) for cell in (whole, cut, wide)), holed, np.maximum(left, right)]
    boxes = [*(_box(*cell) for cell in (whole, cut, narrow, outer)), np.array([30.0, 3.0, 70.0, 21.0])]
    boxes[1][0] = 0.0
    return np.stack(drawn), np.eye(5, dtype=np.float32), np.stack(boxes)


def test_a_contour_does_not_depend_on_the_cells_it_is_traced_with() -> None:
    prototypes, coefficients, boxes = _field_of_five()
    together = trace_cells(prototypes, coefficients, boxes)
    assert together.index.tolist() == [0, 1, 2, 3, 4]
    assert together.n_parts.tolist() == [1, 1, 1, 1, 2]
    for cell, contour in enumerate(together.rings.split()):
        alone = trace_cells(prototypes, coefficients[[cell]], boxes[[cell]])
        assert np.array_equal(alone.rings.points_xy, contour)
    backwards = trace_cells(prototypes, coefficients[::-1], boxes[::-1])
    for contour, other in zip(together.rings.split(), backwards.rings.split()[::-1], strict=True):
        assert np.array_equal(contour, other)
    assert geometry.are_valid(together.rings).all()


def test_an_empty_cell_leaves_the_others_their_places() -> None:
    prototypes, coefficients, boxes = _field_of_five()
    coefficients[1] *= -1
    boxes[1] = [30, 100, 50, 120]
    prototypes[1] = 4.0
    assert trace_cells(prototypes, coefficients, boxes).index.tolist() == [0, 2, 3, 4]
    assert len(trace_cells(prototypes, coefficients[:0], boxes[:0]).rings) == 0


def _wavy(rng: np.random.Generator, n_waves: int) -> ContourArray:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    waves = sum(rng.uniform(-1, 1) * np.cos(k * angle + rng.uniform(0, 6)) / k for k in range(2, n_waves))
    radius = 20 * np.exp(0.5 * waves)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def test_clipping_is_the_intersection_wherever_one_part_is_left() -> None:
    rng = np.random.default_rng(3)
    rings = [_wavy(rng, 7) for _ in range(300)]
    center, half = rng.uniform(-9, 9, (300, 2)), rng.uniform(4, 22, (300, 2))
    boxes = np.concatenate([center - half, center + half], axis=1)
    clipped, doubtful = clip_rings(Rings.of(rings), boxes)
    assert 0.02 < doubtful.mean() < 0.5
    n_exact = 0
    for ring, contour, box, is_doubtful in zip(rings, clipped.split(), boxes, doubtful, strict=True):
        exact = shapely.intersection(shapely.Polygon(ring), shapely.box(*box))
        if is_doubtful or exact.area < 2:
            continue
        n_exact += 1
        assert isinstance(exact, shapely.Polygon)
        assert shapely.Polygon(contour).symmetric_difference(exact).area == pytest.approx(0, abs=1e-6)
        assert geometry.perimeter(contour) == pytest.approx(exact.exterior.length)
    assert n_exact > 150
