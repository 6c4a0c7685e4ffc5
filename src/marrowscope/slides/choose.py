"""Choose the regions of a slide worth reading: well spread, in focus, with nucleated cells.

Steps: map the overview; measure every region of the plan on the maps; skip regions that are empty, solid, crowded or
without nuclei; rank the rest by the share of nuclei times the share of empty slide; examine the best ones at full
resolution, at their nuclei, and skip those out of focus. Nothing is random. The result has every region of the plan
with its measures and, if it is skipped, the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from marrowscope.errors import ImageError, ScaleError
from marrowscope.slides.measures import map_overview, sharpness
from marrowscope.slides.regions import plan_regions, window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import Region
    from marrowscope.slides.config import SlideConfig
    from marrowscope.slides.measures import Mask, OverviewMaps
    from marrowscope.slides.slide import Slide

SkipReason = Literal["empty", "solid", "crowded", "few_nuclei", "blurred", "unreadable", "not_judged"]
"""``solid``: a particle or a thick part of the smear; ``crowded``: hardly any empty slide between cells;
``not_judged``: there are enough better regions; ``unreadable``: its pixels are damaged."""

_OVERVIEW_UM_PER_PX = 4.0
"""Scale of the low-resolution pass: half a nucleus."""
_MAX_EMPTY_SHARE = 0.95
"""A region with more empty slide than this is skipped as empty."""
_MIN_CLEAR_SHARE = 0.25
"""A region with less empty slide than this between its cells is skipped as crowded; fields that morphologists
photographed have at least 0.43."""
_MAX_SOLID_SHARE = 0.1
"""Largest share of solid parts in a region."""
_MIN_NUCLEI_SHARE = 0.005
"""Smallest share of nuclei in a region; 0.005 of 160 x 160 um is about two nuclei."""
_SAMPLE_UM = 80.0
"""Side of the windows read at full resolution for focus."""
_N_SAMPLES = 2
"""Windows per region; the least sharp window counts."""
_MIN_SHARPNESS = 0.4
"""Sharpness (1/um) that every region must reach (see the quality flags)."""
_MIN_SHARPNESS_SHARE = 0.7
"""Share of the sharpness of the slide's own sharp regions; optics differ between scanners."""
_SHARP_QUANTILE = 0.9


@dataclass(frozen=True, slots=True)
class RankedRegion:
    """A region with the measures of its core (shares 0-1 of its area) and the reason to skip it, if any.

    ``score`` is nuclei_share x clear_share; ``sharpness`` (1/um) is None if it was not measured, NaN without edges.
    """

    region: Region
    score: float
    reason_skipped: SkipReason | None
    clear_share: float
    nuclei_share: float
    solid_share: float
    sharpness: float | None = None


def choose_regions(slide: Slide, config: SlideConfig, um_per_px: float | None = None) -> list[Region]:
    """Return the regions to read, best first; see ``rank_regions``."""
    ranked = rank_regions(slide, config, um_per_px)
    return [item.region for item in ranked if item.reason_skipped is None]


def rank_regions(slide: Slide, config: SlideConfig, um_per_px: float | None = None) -> list[RankedRegion]:
    """Rank all regions of the slide's plan: first those to read, best first, then those skipped, in plan order.

    ``um_per_px`` overrides the scale that the slide states. Raises ScaleError without any scale, and ImageError if the
    overview cannot be read.
    """
    scale = slide_scale(slide, um_per_px)
    plan = plan_regions(slide.width_px, slide.height_px, scale, config)
    picture, factor = slide.overview(_OVERVIEW_UM_PER_PX / scale)
    maps = map_overview(picture, scale * factor)
    measured = [_measure(region, maps, factor) for region in plan]
    candidates = [index for index, item in enumerate(measured) if item.reason_skipped is None]
    candidates.sort(key=lambda index: -measured[index].score)
    for index in candidates[config.max_judged :]:
        measured[index] = replace(measured[index], reason_skipped="not_judged")
    candidates = candidates[: config.max_judged]
    for index in candidates:
        samples = sample_windows(plan[index], maps.nuclei, factor, side_px=_SAMPLE_UM / scale, n_samples=_N_SAMPLES)
        try:
            value = _least_sharpness(slide, samples, scale)
        except ImageError:
            measured[index] = replace(measured[index], reason_skipped="unreadable")
        else:
            measured[index] = replace(measured[index], sharpness=value)
    limit = _sharpness_limit([measured[index].sharpness for index in candidates])
    for index in candidates:
        item = measured[index]
        if item.sharpness is not None and not item.sharpness >= limit:
            measured[index] = replace(item, reason_skipped="blurred")
    to_read = [measured[index] for index in candidates if measured[index].reason_skipped is None]
    return to_read + [item for item in measured if item.reason_skipped is not None]


def slide_scale(slide: Slide, um_per_px: float | None = None) -> float:
    """Return ``um_per_px``, else the scale the slide states; raises ScaleError if there is neither."""
    scale = um_per_px or slide.um_per_px
    if scale is None:
        message = (
            f"{slide.path}: found no scale, expected micrometers per pixel; add a um_per_px column to patients.csv or "
            "set --um-per-px; `marrowscope scale` estimates it from photographs of the same microscope"
        )
        raise ScaleError(message)
    return scale


def _measure(region: Region, maps: OverviewMaps, factor: float) -> RankedRegion:
    """Measure one region's core on the maps."""
    rows, columns = _on_map(region, factor, maps.clear)
    clear, solid, nuclei = (float(np.mean(layer[rows, columns])) for layer in (maps.clear, maps.solid, maps.nuclei))
    reason: SkipReason | None = None
    if clear > _MAX_EMPTY_SHARE:
        reason = "empty"
    elif solid > _MAX_SOLID_SHARE:
        reason = "solid"
    elif clear < _MIN_CLEAR_SHARE:
        reason = "crowded"
    elif nuclei < _MIN_NUCLEI_SHARE:
        reason = "few_nuclei"
    return RankedRegion(region, nuclei * clear, reason, clear, nuclei, solid)


def _on_map(region: Region, factor: float, layer: Mask) -> tuple[slice, slice]:
    """Rows and columns of a map under the region's core, at least one of each."""
    spans = []
    for low, high, length in ((region.y0, region.y1, layer.shape[0]), (region.x0, region.x1, layer.shape[1])):
        first = min(int(low / factor), length - 1)
        spans.append(slice(first, min(max(first + 1, round(high / factor)), length)))
    return spans[0], spans[1]


def _least_sharpness(slide: Slide, samples: Sequence[Region], um_per_px: float) -> float:
    """Sharpness of the least sharp sample; samples without edges are ignored, and NaN if none has edges."""
    values = [sharpness(slide.read(sample), um_per_px) for sample in samples]
    known = [value for value in values if not np.isnan(value)]
    return min(known) if known else float("nan")


def sample_windows(region: Region, nuclei: Mask, factor: float, *, side_px: float, n_samples: int) -> list[Region]:
    """Place up to ``n_samples`` different windows of ``side_px`` in the region's core, where most nuclei are.

    ``nuclei`` is a map whose pixels are ``factor`` slide pixels wide. A core smaller than a window is one window.
    """
    rows, columns = _on_map(region, factor, nuclei)
    remaining = nuclei[rows, columns].astype(np.float32)
    cells = [max(1, min(round(side_px / factor), length)) for length in remaining.shape]
    windows: list[Region] = []
    for _ in range(n_samples):
        sums = cv2.boxFilter(
            remaining, cv2.CV_32F, (cells[1], cells[0]), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        sums = np.asarray(sums)[: remaining.shape[0] - cells[0] + 1, : remaining.shape[1] - cells[1] + 1]
        row, column = (int(value) for value in np.unravel_index(int(np.argmax(sums)), sums.shape))
        if windows and sums[row, column] <= 0:
            break
        remaining[row : row + cells[0], column : column + cells[1]] = 0
        side_x, side_y = (min(round(side_px), length) for length in (region.x1 - region.x0, region.y1 - region.y0))
        x0 = min(max(region.x0, round((columns.start + column) * factor)), region.x1 - side_x)
        y0 = min(max(region.y0, round((rows.start + row) * factor)), region.y1 - side_y)
        windows.append(window(x0, y0, x0 + side_x, y0 + side_y))
    return windows


def _sharpness_limit(values: Sequence[float | None]) -> float:
    """Return the sharpness limit: the absolute one, or a share of that of the slide's own sharp regions."""
    known = [value for value in values if value is not None and not np.isnan(value)]
    if not known:
        return _MIN_SHARPNESS
    return max(_MIN_SHARPNESS, _MIN_SHARPNESS_SHARE * float(np.quantile(known, _SHARP_QUANTILE)))
