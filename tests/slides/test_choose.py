"""Of a slide whose parts are known, the well spread ones with nuclei and in focus are chosen, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from marrowscope.errors import ImageError
from marrowscope.slides import Region, SlideConfig, choose_regions, open_slide, plan_regions, rank_regions
from marrowscope.slides.choose import sample_windows
from marrowscope.slides.measures import sharpness
from tests.slides.pyramids import scanner, smear, stack, write_pyramid

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import ImageArray
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.slides import Slide

pytest.importorskip("openslide", reason="needs the extra wsi", exc_type=ImportError)
pytest.importorskip("tifffile", reason="needs tifffile to write a slide")

UM_PER_PX, SIDE_PX = 0.3, 400
CONFIG = SlideConfig(side_um=UM_PER_PX * SIDE_PX)
LAYOUT = (
    ("spread", "empty", "thick", "spread"),
    ("particle", "blurred", "spread", "erythrocytes"),
    ("empty", "spread", "empty", "empty"),
)
REASONS: dict[str, set[str | None]] = {
    "spread": {None},
    "empty": {"empty"},
    "thick": {"solid", "crowded"},
    "particle": {"solid"},
    "blurred": {"blurred"},
    "erythrocytes": {"few_nuclei", None},  # clumps of platelets can look like a nucleus from afar
}


def part(name: str, number: int, style: PatientStyle) -> ImageArray:
    """One part of the slide, 120 um wide."""
    n_cells = {"thick": 5, "particle": 60, "erythrocytes": 0}.get(name, 16)
    field = smear(number, style, n_cells, SIDE_PX, SIDE_PX)
    if name == "empty":
        return np.full_like(field, np.quantile(field, 0.95, axis=(0, 1)))
    if name == "blurred":
        return np.asarray(cv2.GaussianBlur(field, (0, 0), 1.2 / UM_PER_PX), dtype=np.uint8)
    if name in {"thick", "particle"}:
        return stack([np.rot90(field, turns) for turns in range(4)])
    return field


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    style = scanner(3, UM_PER_PX)
    rows = [
        np.hstack([part(name, 4 * row + column, style) for column, name in enumerate(names)])
        for row, names in enumerate(LAYOUT)
    ]
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_pyramid(path, np.vstack(rows), UM_PER_PX)
    return open_slide(path)


def name_of(region: Region) -> str:
    return LAYOUT[region.y0 // SIDE_PX][region.x0 // SIDE_PX]


def test_empty_solid_and_blurred_parts_and_those_without_nuclei_are_skipped(slide: Slide) -> None:
    ranked = rank_regions(slide, CONFIG)
    assert len(ranked) == 12
    for item in ranked:
        assert item.reason_skipped in REASONS[name_of(item.region)], item


def test_a_part_without_nuclei_is_never_preferred_to_one_with_nuclei(slide: Slide) -> None:
    names = [name_of(region) for region in choose_regions(slide, CONFIG)]
    assert names[:4] == ["spread"] * 4


def test_the_best_come_first_and_all_others_are_reported(slide: Slide) -> None:
    ranked = rank_regions(slide, CONFIG)
    chosen = [item for item in ranked if item.reason_skipped is None]
    assert [item.region for item in chosen] == choose_regions(slide, CONFIG)
    assert ranked[: len(chosen)] == chosen
    assert [item.score for item in chosen] == sorted((item.score for item in chosen), reverse=True)
    plan = plan_regions(slide.width_px, slide.height_px, UM_PER_PX, CONFIG)
    assert sorted(plan.index(item.region) for item in ranked) == list(range(12))


def test_the_choice_is_the_same_every_time(slide: Slide) -> None:
    assert rank_regions(slide, CONFIG) == rank_regions(slide, CONFIG)


def test_more_nuclei_in_the_same_space_rank_higher(tmp_path: Path) -> None:
    style = scanner(3, UM_PER_PX)
    fields = [smear(seed, style, n_cells, SIDE_PX, SIDE_PX) for seed, n_cells in ((1, 4), (2, 18), (3, 9))]
    path = tmp_path / "slide.tif"
    write_pyramid(path, np.hstack(fields), UM_PER_PX)
    assert [region.x0 // SIDE_PX for region in choose_regions(open_slide(path), CONFIG)] == [1, 2, 0]


def test_only_the_best_are_looked_at(slide: Slide) -> None:
    ranked = rank_regions(slide, CONFIG.model_copy(update={"max_judged": 2}))
    assert sum(item.sharpness is not None for item in ranked) == 2
    worst = min(item.score for item in ranked if item.sharpness is not None)
    assert max(item.score for item in ranked if item.reason_skipped == "not_judged") <= worst


def test_a_region_whose_pixels_are_damaged_is_skipped(slide: Slide) -> None:
    best = choose_regions(slide, CONFIG)[0]

    class Damaged:
        path, identity = slide.path, None
        width_px, height_px, um_per_px = slide.width_px, slide.height_px, slide.um_per_px

        def read(self, region: Region) -> ImageArray:
            if best.x0 <= region.x0 < best.x1 and best.y0 <= region.y0 < best.y1:
                message = "damaged"
                raise ImageError(message)
            return slide.read(region)

        def overview(self, downsample: float) -> tuple[ImageArray, float]:
            return slide.overview(downsample)

        def reduced(self, region: Region, factor: int) -> ImageArray:
            return slide.reduced(region, factor)

        def close(self) -> None:
            """Leave the slide open."""

    ranked = rank_regions(Damaged(), CONFIG)
    assert [item.region for item in ranked if item.reason_skipped == "unreadable"] == [best]
    assert best not in choose_regions(Damaged(), CONFIG)


def test_samples_lie_where_the_nuclei_are() -> None:
    nuclei = np.zeros((40, 60), dtype=np.uint8)
    nuclei[5:8, 50:53] = 1
    nuclei[30:35, 10:15] = 1
    region = Region(0, 0, 600, 400, 0, 0, 600, 400)
    first, second = sample_windows(region, nuclei, 10.0, side_px=100.0, n_samples=2)
    assert nuclei[_on_map(first)].sum() == 25
    assert nuclei[_on_map(second)].sum() == 9
    assert len(sample_windows(region, nuclei, 10.0, side_px=100.0, n_samples=5)) == 2


def _on_map(sample: Region) -> tuple[slice, slice]:
    return slice(sample.y0 // 10, sample.y1 // 10), slice(sample.x0 // 10, sample.x1 // 10)


def test_a_core_smaller_than_a_sample_is_one_sample() -> None:
    region = Region(0, 0, 90, 70, 20, 10, 80, 60)
    (only,) = sample_windows(region, np.ones((7, 9), dtype=np.uint8), 10.0, side_px=500.0, n_samples=3)
    assert (only.x_px, only.y_px, only.width_px, only.height_px) == (20, 10, 60, 50)


@pytest.mark.parametrize(("blur_um", "expected"), [(0.5, 0.80), (0.7, 0.59), (1.0, 0.46)])
def test_the_sharpness_of_a_blurred_edge_is_known(blur_um: float, expected: float) -> None:
    image = np.full((300, 300, 3), 230, dtype=np.uint8)
    image[:, 150:] = 150
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), blur_um / 0.1), dtype=np.uint8)
    assert sharpness(blurred, 0.1) == pytest.approx(expected, rel=0.1)
    assert np.isnan(sharpness(np.full((300, 300, 3), 230, dtype=np.uint8), 0.1))
