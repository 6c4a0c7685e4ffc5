"""Regions: cores tile the slide, read parts overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marrowscope.errors import ScaleError
from marrowscope.slides import SlideConfig, plan_regions

PLANS = st.builds(
    lambda width, height, scale, side, overlap: (
        width,
        height,
        scale,
        SlideConfig(side_um=side, overlap_um=overlap, grid_um=7.3),
    ),
    st.integers(1, 700),
    st.integers(1, 700),
    st.floats(0.1, 1.5),
    st.floats(30.0, 300.0),
    st.floats(0.0, 60.0),
)


@settings(max_examples=50)
@given(PLANS)
def test_cores_tile_the_slide_exactly(plan: tuple[int, int, float, SlideConfig]) -> None:
    width, height, scale, config = plan
    covered = np.zeros((height, width), dtype=np.int64)
    for region in plan_regions(width, height, scale, config):
        covered[region.y0 : region.y1, region.x0 : region.x1] += 1
        assert (region.x1 - region.x0) * scale <= max(config.side_um, scale) + scale
    assert (covered == 1).all()


@settings(max_examples=50)
@given(PLANS)
def test_a_region_reads_half_the_overlap_around_its_core_up_to_the_slides_edge(
    plan: tuple[int, int, float, SlideConfig],
) -> None:
    width, height, scale, config = plan
    for region in plan_regions(width, height, scale, config):
        right, bottom = region.x_px + region.width_px, region.y_px + region.height_px
        assert region.x_px == 0 or (region.x0 - region.x_px) * scale >= config.overlap_um / 2
        assert region.y_px == 0 or (region.y0 - region.y_px) * scale >= config.overlap_um / 2
        assert right == width or (right - region.x1) * scale >= config.overlap_um / 2
        assert bottom == height or (bottom - region.y1) * scale >= config.overlap_um / 2
        assert min(region.x_px, region.y_px) >= 0
        assert right <= width
        assert bottom <= height


def test_regions_are_read_from_multiples_of_the_grid_on() -> None:
    regions = plan_regions(9000, 7000, 0.25, SlideConfig())
    for region in regions:
        for start in (region.x_px, region.y_px):
            assert abs(start / 38.4 - round(start / 38.4)) * 38.4 <= 0.5
    assert len(regions) == 15 * 11


def test_a_small_slide_is_one_region_and_an_empty_one_none() -> None:
    (only,) = plan_regions(500, 300, 0.25, SlideConfig())
    assert (only.x_px, only.y_px, only.width_px, only.height_px) == (0, 0, 500, 300)
    assert (only.x0, only.y0, only.x1, only.y1) == (0, 0, 500, 300)
    assert plan_regions(0, 300, 0.25, SlideConfig()) == []


@pytest.mark.parametrize("scale", [0.0, -0.25, float("nan"), float("inf")])
def test_a_scale_without_sense_is_refused(scale: float) -> None:
    with pytest.raises(ScaleError, match=r"expected a positive number; set the scale with --um-per-px"):
        plan_regions(100, 100, scale, SlideConfig())
