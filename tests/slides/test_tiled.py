"""Tiled = whole: a large field segmented region by region has the cells that it has in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from marrowscope import geometry
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.segment.segmenter import Segmenter
from marrowscope.slides import SeamMemory, SlideConfig, own_cells, plan_regions, to_slide
from marrowscope.slides.seams import SEAM_UM
from tests.slides.pyramids import scanner, smear

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, ImageArray

UM_PER_PX = 0.25


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    bundle = load_bundle(demonstration_bundle())
    return Segmenter(bundle.open_segmenter(), bundle.spec.segmenter)


def detect_by_regions(segmenter: Segmenter, image: ImageArray, config: SlideConfig) -> list[ContourArray]:
    found: list[ContourArray] = []
    memory = SeamMemory(UM_PER_PX)
    for region in plan_regions(image.shape[1], image.shape[0], UM_PER_PX, config):
        rows = slice(region.y_px, region.y_px + region.height_px)
        columns = slice(region.x_px, region.x_px + region.width_px)
        seen = segmenter.detect(np.ascontiguousarray(image[rows, columns]), UM_PER_PX)
        owned = [to_slide(seen[place].contour_xy, region) for place in own_cells(seen, region, SEAM_UM / UM_PER_PX)]
        found += [owned[place] for place in memory.take(owned, region)]
    return found


def test_the_cells_of_the_regions_are_the_cells_of_the_whole(segmenter: Segmenter) -> None:
    image = smear(2, scanner(2, UM_PER_PX), 45, 1100, 900)
    config = SlideConfig(side_um=140.0, grid_um=segmenter.config.stride * segmenter.config.um_per_px)
    whole = [item.contour_xy for item in segmenter.detect(image, UM_PER_PX)]
    tiled = detect_by_regions(segmenter, image, config)
    assert len(plan_regions(1100, 900, UM_PER_PX, config)) == 4
    assert len(tiled) == len(whole) > 30
    overlap = geometry.iou_matrix(whole, tiled)
    pairs = linear_sum_assignment(-overlap)
    assert overlap[pairs].min() >= 0.75
    assert overlap[pairs].mean() >= 0.98
