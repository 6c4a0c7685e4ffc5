"""Quality rules for contours: the only place where a contour is rejected, with a reason.

A contour has at most one reason, the first of: edge, too_small, too_large, not_round, overlap. Edge comes first: the
size and shape of a cut cell are unknown. Overlap comes last: a contour that is refused for itself refuses no other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from marrowscope import geometry
from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, Detection


REJECT_REASONS = ("too_small", "too_large", "not_round", "edge", "overlap")

_COVERED_BY_OTHERS = 0.7
"""A contour of which other cells cover this share is drawn around those cells; lobes of one nucleus cover half."""


class QualityRules(StageConfig):
    """Limits that a contour must meet to be kept."""

    min_area_um2: float = Field(default=20.0, ge=0, description="a 6 um lymphocyte has 28; debris is smaller")
    max_area_um2: float = Field(default=2000.0, gt=0, description="a 50 um cell, the largest promegakaryocyte")
    min_circularity: float = Field(default=0.65, ge=0, le=1, description="4 pi area / perimeter^2; 0.65 as published")
    edge_margin_um: float = Field(default=0.3, ge=0, description="closer to the edge, a cell is cut; one network pixel")
    max_overlap: float = Field(
        default=0.5, ge=0, le=1, description="two contours that share more of the smaller one are one cell; 1 is off"
    )


RULES_OFF = {"max_overlap": 1.0}
"""Rules that were added, at the value that switches them off: what bundles and crop sets of before mean."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """Measures of a contour, and the reason to reject it (one of REJECT_REASONS), or None."""

    area_px: float
    circularity: float
    reason: str | None


def apply_quality_rules(
    detections: Sequence[Detection], rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> list[str | None]:
    """Return each detection's reason for rejection (edge, too_small, too_large, not_round), or None to keep it."""
    contours = [item.contour_xy for item in detections]
    return [item.reason for item in judge_contours(contours, rules, width_px, height_px, um_per_px)]


def judge_contour(
    contour_xy: ContourArray, rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> str | None:
    """Judge one contour, predicted or drawn by an expert; an empty contour is too small."""
    return judge_contours([contour_xy], rules, width_px, height_px, um_per_px)[0].reason


def judge_contours(
    contours: Sequence[ContourArray], rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> list[Judgment]:
    """Measure and judge the contours (n, 2) of one image together; there may be none."""
    rings = geometry.Rings.of(contours)
    areas_px, circularities = geometry.areas(rings), geometry.circularities(rings)
    areas_um2, margin_px = areas_px * um_per_px**2, rules.edge_margin_um / um_per_px
    # The image spans -0.5 to size - 0.5. An empty contour has no bounds and does not touch the edge.
    low, right, bottom = margin_px - 0.5, width_px - 0.5 - margin_px, height_px - 0.5 - margin_px
    bounds = rings.bounds()
    at_edge = (bounds[:, :2] < low).any(axis=1) | (bounds[:, 2:] > [right, bottom]).any(axis=1)
    broken = {
        "edge": at_edge,
        "too_small": (areas_um2 < rules.min_area_um2) | (areas_um2 == 0),
        "too_large": areas_um2 > rules.max_area_um2,
        "not_round": circularities < rules.min_circularity,
    }
    reasons = np.select(list(broken.values()), list(broken), default="")
    return [
        Judgment(area, circularity, reason or None)
        for area, circularity, reason in zip(areas_px.tolist(), circularities.tolist(), reasons.tolist(), strict=True)
    ]


def refuse_overlaps(
    judgments: Sequence[Judgment], contours: Sequence[ContourArray], rules: QualityRules
) -> list[Judgment]:
    """Refuse the contours that outline a cell a second time, with the reason overlap; best contour first.

    Only contours without a reason are compared, as contours and not as boxes: the network's suppression compares boxes,
    and lets a cell pass twice where one of its two boxes holds a neighbor. Two contours are one cell if they share more
    than ``rules.max_overlap`` of the smaller. First goes every contour that is drawn around several others, so that two
    touching cells are never replaced by one outline of both; then, of two that are one cell, the later one.
    """
    passed = [index for index, judgment in enumerate(judgments) if judgment.reason is None]
    rings = geometry.Rings.of([contours[index] for index in passed])
    first, second, shared_px = geometry.shared_areas(rings, rules.max_overlap)
    refused = _around_several(first, second, shared_px, geometry.areas(rings))
    for one, other in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if one not in refused and other not in refused:
            refused.add(other)
    names = {passed[index] for index in refused}
    return [replace(item, reason="overlap") if index in names else item for index, item in enumerate(judgments)]


def _around_several(
    first: NDArray[np.intp], second: NDArray[np.intp], shared_px: NDArray[np.float64], areas_px: NDArray[np.float64]
) -> set[int]:
    """Return the contours that are mostly covered by smaller ones, which are not one cell among themselves."""
    within: defaultdict[int, dict[int, float]] = defaultdict(dict)
    one_cell = set()
    for pair in zip(first.tolist(), second.tolist(), shared_px.tolist(), strict=True):
        one, other, shared = pair
        smaller, larger = sorted((one, other), key=lambda index: (areas_px[index], index))
        within[larger][smaller] = shared
        one_cell |= {(one, other), (other, one)}
    around = set()
    for larger, parts in within.items():
        apart = [part for part in parts if not any((part, other) in one_cell for other in parts)]
        if len(apart) > 1 and sum(parts[part] for part in apart) >= _COVERED_BY_OTHERS * areas_px[larger]:
            around.add(larger)
    return around
