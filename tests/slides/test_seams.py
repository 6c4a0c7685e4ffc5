"""A cell on a seam is found exactly once, however differently two regions see it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope import geometry
from marrowscope.records import ContourArray, Detection
from marrowscope.slides import Region, SlideConfig, drop_duplicates, near_seam, own_cells, plan_regions, to_slide
from marrowscope.slides.seams import SEAM_UM

UM_PER_PX = 0.5
ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)


def ellipse(x: float, y: float, across: float, down: float) -> ContourArray:
    return np.column_stack([x + across * np.cos(ANGLES), y + down * np.sin(ANGLES)])


def detection(contour: ContourArray) -> Detection:
    return Detection(contour, geometry.bounding_box(contour), 0.9)


def see(cells: list[ContourArray], region: Region, jitter_px: float, rng: np.random.Generator) -> list[Detection]:
    """Give what a segmenter finds in a region: the cells it sees whole, each a little off, in the region's pixels."""
    seen = []
    for cell in cells:
        local = cell - [region.x_px, region.y_px]
        x0, y0, x1, y1 = geometry.bounding_box(local)
        if x0 >= 0 and y0 >= 0 and x1 <= region.width_px - 1 and y1 <= region.height_px - 1:
            middle = local.mean(axis=0)
            moved = (local - middle) * rng.uniform(0.95, 1.05) + middle + rng.uniform(-jitter_px, jitter_px, 2)
            seen.append(detection(moved))
    return [seen[index] for index in rng.permutation(len(seen))]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(300, 900), st.integers(300, 900), st.floats(60.0, 200.0))
def test_random_cells_are_found_exactly_once(seed: int, width: int, height: int, side_um: float) -> None:
    """Cells of 7 to 25 um that do not overlap; each region sees each of them up to 0.5 um off; regions in any order."""
    rng = np.random.default_rng(seed)
    config = SlideConfig(side_um=side_um, grid_um=1.0)
    tolerance_px = SEAM_UM / UM_PER_PX
    cells = [
        ellipse(x + rng.uniform(-5, 5), y + rng.uniform(-5, 5), rng.uniform(7, 25), rng.uniform(7, 25))
        for x in range(35, width - 35, 62)
        for y in range(35, height - 35, 62)
    ]
    plan = plan_regions(width, height, UM_PER_PX, config)
    found: list[ContourArray] = []
    earlier: list[ContourArray] = []
    for index in rng.permutation(len(plan)):
        region = plan[index]
        seen = see(cells, region, 1.0, rng)
        owned = [to_slide(seen[place].contour_xy, region) for place in own_cells(seen, region, tolerance_px)]
        new = [owned[place] for place in drop_duplicates(owned, earlier)]
        found += new
        earlier += [new[place] for place in near_seam(new, region, tolerance_px)]
    matches = geometry.iou_matrix(cells, found) > 0.3
    assert len(found) == len(cells)
    assert (matches.sum(axis=1) == 1).all()
    assert (matches.sum(axis=0) == 1).all()


LEFT = Region(0, 0, 130, 100, 0, 0, 100, 100)
RIGHT = Region(70, 0, 130, 100, 100, 0, 200, 100)


def test_a_cell_whose_center_lies_outside_for_both_regions_is_found_once() -> None:
    """The left region sees the center one pixel right of the seam, the right one sees it one pixel left of it."""
    from_left, from_right = ellipse(100.5, 50, 15, 15), ellipse(98.5, 50, 15, 15)
    left = own_cells([detection(from_left)], LEFT, 2.0)
    right = own_cells([detection(from_right - [RIGHT.x_px, 0])], RIGHT, 2.0)
    assert left == right == [0]
    assert own_cells([detection(from_left)], LEFT, 0.0) == []
    assert near_seam([from_left], LEFT, 2.0) == [0]
    assert drop_duplicates([from_right], [from_left]) == []


def test_a_cell_belongs_to_the_core_that_holds_its_center() -> None:
    inside, outside = ellipse(80, 50, 10, 10), ellipse(120, 50, 10, 10)
    assert own_cells([detection(outside), detection(inside)], LEFT, 2.0) == [1]
    assert near_seam([inside, ellipse(50, 50, 10, 10)], LEFT, 12.0) == [0]


def test_two_new_cells_are_never_the_same_earlier_one() -> None:
    """Of two cells that lie on each other, each found by both regions, none is lost and none is found twice."""
    pair = [ellipse(100, 50, 15, 15), ellipse(105, 50, 15, 15)]
    assert geometry.iou(*pair) > 0.5
    assert drop_duplicates(pair, pair) == []
    assert drop_duplicates(pair, pair[:1]) == [1]
    assert drop_duplicates(pair[::-1], pair[:1]) == [0]


def test_neighbors_that_hardly_overlap_are_two_cells() -> None:
    assert drop_duplicates([ellipse(115, 50, 15, 15)], [ellipse(100, 50, 15, 15)]) == [0]


def test_no_cells_are_no_trouble() -> None:
    assert own_cells([], LEFT, 2.0) == []
    assert near_seam([], LEFT, 2.0) == []
    assert drop_duplicates([], [ellipse(0, 0, 5, 5)]) == []
    assert drop_duplicates([ellipse(0, 0, 5, 5)], []) == [0]
