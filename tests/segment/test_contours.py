"""Contours of masks whose outline is known exactly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from marrowscope import geometry
from marrowscope.geometry import Rings
from marrowscope.records import ContourArray
from marrowscope.segment.contours import smooth_rings, trace_cells
from tests.segment.raw_outputs import ellipse_contour, ellipse_logits

ONE = np.ones(1, dtype=np.float32)


def trace_cell(
    prototypes: NDArray[np.float32], coefficients: NDArray[np.float32], box: NDArray[np.float64], **settings: float
) -> tuple[ContourArray, int] | None:
    """Trace a field of one cell: its contour and number of parts."""
    traced = trace_cells(prototypes, coefficients[None], box[None], **settings)
    return (traced.rings.points_xy, int(traced.n_parts[0])) if len(traced.rings) else None


def _box(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return np.array([cx - rx, cy - ry, cx + rx, cy + ry]) + 0.5


@pytest.mark.parametrize("radii", [(20.0, 20.0), (12.0, 12.0), (26.0, 14.0), (8.5, 11.0)])
@pytest.mark.parametrize("center", [(50.0, 50.0), (51.3, 47.8), (62.6, 70.1)])
def test_ellipse_is_traced_to_a_fraction_of_a_pixel(radii: tuple[float, float], center: tuple[float, float]) -> None:
    """Area within 1%, centre within 0.1 px and IoU above 0.98, on a prototype grid of 4 px."""
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
