"""Which contours are cells that can be judged: the one place where a contour is refused, each with its reason.

A contour has at most one reason, the first of: edge, too_small, too_large, not_round. The edge stands first: a cut cell
has no size and no shape of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from marrowscope import geometry
from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ContourArray, Detection


REJECT_REASONS = ("too_small", "too_large", "not_round", "edge")


class QualityRules(StageConfig):
    """Limits of a contour that is kept."""

    min_area_um2: float = Field(default=20.0, ge=0, description="a lymphocyte of 6 um has 28; debris is smaller")
    max_area_um2: float = Field(default=2000.0, gt=0, description="a cell of 50 um, the largest promegakaryocyte")
    min_circularity: float = Field(default=0.65, ge=0, le=1, description="4 pi area / perimeter^2; 0.65 as published")
    edge_margin_um: float = Field(default=0.3, ge=0, description="nearer to the edge it is cut: a network pixel")


@dataclass(frozen=True, slots=True)
class Judgment:
    """What a contour measures, and the reason to refuse it (edge, too_small, too_large, not_round), or None."""

    area_px: float
    circularity: float
    reason: str | None


def apply_quality_rules(
    detections: Sequence[Detection], rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> list[str | None]:
    """Give for each detection the reason to refuse it (edge, too_small, too_large, not_round), or None to keep it."""
    contours = [item.contour_xy for item in detections]
    return [item.reason for item in judge_contours(contours, rules, width_px, height_px, um_per_px)]


def judge_contour(
    contour_xy: ContourArray, rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> str | None:
    """Judge one contour, predicted or an expert's; an empty contour is too small."""
    return judge_contours([contour_xy], rules, width_px, height_px, um_per_px)[0].reason


def judge_contours(
    contours: Sequence[ContourArray], rules: QualityRules, width_px: int, height_px: int, um_per_px: float
) -> list[Judgment]:
    """Measure and judge the contours (n, 2) of one image together; there may be none."""
    rings = geometry.Rings.of(contours)
    areas_px, circularities = geometry.areas(rings), geometry.circularities(rings)
    areas_um2, margin_px = areas_px * um_per_px**2, rules.edge_margin_um / um_per_px
    # The image spans -0.5 to size - 0.5. An empty contour has no bounds and touches nothing.
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
