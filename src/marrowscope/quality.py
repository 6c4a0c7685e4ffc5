"""Which contours are cells that can be judged: the one place where a contour is refused, each with its reason.

In micrometres where the scale is known, else in pixels of the image. A contour has at most one reason, the first of:
edge, too_small, too_large, not_round. The edge stands first: a cut cell has no size and no shape of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from marrowscope import geometry
from marrowscope.config import StageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ContourArray, Detection


class QualityRules(StageConfig):
    """Limits of a contour that is kept."""

    min_area_um2: float = Field(default=20.0, ge=0, description="a lymphocyte of 6 um has 28; debris is smaller")
    max_area_um2: float = Field(default=2000.0, gt=0, description="a cell of 50 um, the largest promegakaryocyte")
    min_circularity: float = Field(default=0.65, ge=0, le=1, description="4 pi area / perimeter^2; 0.65 as published")
    edge_margin_um: float = Field(default=0.3, ge=0, description="nearer to the edge it is cut: a network pixel")
    min_area_px: float = Field(default=300.0, ge=0, description="in place of um2 where there is no scale")
    max_area_px: float = Field(default=60000.0, gt=0, description="in place of um2 where there is no scale")
    edge_margin_px: float = Field(default=1.0, ge=0, description="in place of um where there is no scale")


def apply_quality_rules(
    detections: Sequence[Detection], rules: QualityRules, width_px: int, height_px: int, um_per_px: float | None
) -> list[str | None]:
    """Give for each detection the reason to refuse it (edge, too_small, too_large, not_round), or None to keep it."""
    return [judge_contour(item.contour_xy, rules, width_px, height_px, um_per_px) for item in detections]


def judge_contour(
    contour_xy: ContourArray, rules: QualityRules, width_px: int, height_px: int, um_per_px: float | None
) -> str | None:
    """Judge one contour, predicted or an expert's; an empty contour is too small."""
    if um_per_px is None:
        area, margin_px = geometry.area(contour_xy), rules.edge_margin_px
        smallest, largest = rules.min_area_px, rules.max_area_px
    else:
        area, margin_px = geometry.area(contour_xy) * um_per_px**2, rules.edge_margin_um / um_per_px
        smallest, largest = rules.min_area_um2, rules.max_area_um2
    if len(contour_xy) and _touches_edge(contour_xy, width_px, height_px, margin_px):
        return "edge"
    if area < smallest or area == 0:
        return "too_small"
    if area > largest:
        return "too_large"
    if geometry.circularity(contour_xy) < rules.min_circularity:
        return "not_round"
    return None


def _touches_edge(contour_xy: ContourArray, width_px: int, height_px: int, margin_px: float) -> bool:
    """Say whether the contour comes within ``margin_px`` of the image, which spans -0.5 to size - 0.5."""
    x0, y0, x1, y1 = geometry.bounding_box(contour_xy)
    low = margin_px - 0.5
    return x0 < low or y0 < low or x1 > width_px - 0.5 - margin_px or y1 > height_px - 0.5 - margin_px
