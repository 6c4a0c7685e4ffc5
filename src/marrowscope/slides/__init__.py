"""Whole-slide and large images: regions instead of fields, and which of them to read."""

from marrowscope.slides.choose import RankedRegion, choose_regions, rank_regions, slide_scale
from marrowscope.slides.config import SlideConfig
from marrowscope.slides.regions import Region, plan_regions
from marrowscope.slides.seams import drop_duplicates, near_seam, own_cells, to_slide
from marrowscope.slides.slide import SLIDE_SUFFIXES, Slide, is_slide, open_slide

__all__ = [
    "SLIDE_SUFFIXES",
    "RankedRegion",
    "Region",
    "Slide",
    "SlideConfig",
    "choose_regions",
    "drop_duplicates",
    "is_slide",
    "near_seam",
    "open_slide",
    "own_cells",
    "plan_regions",
    "rank_regions",
    "slide_scale",
    "to_slide",
]
