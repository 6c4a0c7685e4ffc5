"""Whole-slide and large images: cut into regions, and which regions to read."""

from marrowscope.imaging import SLIDE_SUFFIXES
from marrowscope.records import Region
from marrowscope.slides.cache import SlideCache
from marrowscope.slides.choose import RankedRegion, choose_regions, rank_regions, slide_scale
from marrowscope.slides.config import SlideConfig
from marrowscope.slides.large_image import LargeImage, read_large_file
from marrowscope.slides.regions import plan_regions, window
from marrowscope.slides.seams import SEAM_UM, SeamMemory, drop_duplicates, near_seam, own_cells, to_slide
from marrowscope.slides.slide import Slide, is_slide, measure_slide, open_slide

__all__ = [
    "SEAM_UM",
    "SLIDE_SUFFIXES",
    "LargeImage",
    "RankedRegion",
    "Region",
    "SeamMemory",
    "Slide",
    "SlideCache",
    "SlideConfig",
    "choose_regions",
    "drop_duplicates",
    "is_slide",
    "measure_slide",
    "near_seam",
    "open_slide",
    "own_cells",
    "plan_regions",
    "rank_regions",
    "read_large_file",
    "slide_scale",
    "to_slide",
    "window",
]
