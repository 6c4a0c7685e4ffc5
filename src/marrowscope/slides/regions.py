"""Cut a slide into regions: cores that tile it exactly, each read with a margin around it.

A region owns the cells whose center is in its core. It reads a margin beyond the core, so that it sees the whole of
each cell it owns, even on the seam.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.errors import ScaleError
from marrowscope.records import Region

if TYPE_CHECKING:
    from marrowscope.slides.config import SlideConfig


def window(x0: int, y0: int, x1: int, y1: int) -> Region:
    """Return the region that reads exactly its core."""
    return Region(x0, y0, x1 - x0, y1 - y0, x0, y0, x1, y1)


def plan_regions(width_px: int, height_px: int, um_per_px: float, config: SlideConfig) -> list[Region]:
    """Cut a slide of ``width_px`` x ``height_px`` into regions, row by row; an empty slide has none.

    Cores tile the slide and differ by at most one pixel. The areas that neighbors read overlap by at least
    ``config.overlap_um``, start and end on multiples of ``config.grid_um`` (to half a pixel), and end at the slide's
    edge. Raises ScaleError for a scale that is not positive.
    """
    if not np.isfinite(um_per_px) or um_per_px <= 0:
        message = f"found a scale of {um_per_px} um per px, expected a positive number; set the scale with --um-per-px"
        raise ScaleError(message)
    margin_px = config.overlap_um / um_per_px / 2 + 0.5
    side_px, grid_px = max(1.0, config.side_um / um_per_px), config.grid_um / um_per_px
    columns = [(*cut, *_reach(*cut, width_px, margin_px, grid_px)) for cut in _cuts(width_px, side_px)]
    rows = [(*cut, *_reach(*cut, height_px, margin_px, grid_px)) for cut in _cuts(height_px, side_px)]
    return [
        Region(left, top, right - left, bottom - top, x0, y0, x1, y1)
        for y0, y1, top, bottom in rows
        for x0, x1, left, right in columns
    ]


def _cuts(length_px: int, side_px: float) -> list[tuple[int, int]]:
    """Cut 0 ... ``length_px`` into equal parts of at most ``side_px`` (apart from rounding to whole pixels)."""
    n_parts = int(np.ceil(length_px / side_px))
    ends = [round(length_px * part / n_parts) for part in range(n_parts + 1)] if n_parts else []
    return list(pairwise(ends))


def _reach(low: int, high: int, length_px: int, margin_px: float, grid_px: float) -> tuple[int, int]:
    """Return the first and last pixel (exclusive) to read around a core that spans ``low`` to ``high``."""
    first = round(np.floor((low - margin_px) / grid_px) * grid_px)
    last = round(np.ceil((high + margin_px) / grid_px) * grid_px)
    return max(0, first), min(length_px, last)
