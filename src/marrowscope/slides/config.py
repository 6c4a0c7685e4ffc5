"""Settings for cutting a slide into regions, and how many of them to examine."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import StageConfig


class SlideConfig(StageConfig):
    """Sizes of regions in micrometers, which makes them independent of the scanner.

    A run takes ``grid_um`` from the bundle and ``max_judged`` from the wanted number of cells. The limits for a region
    worth reading are constants next to the code that uses them, each with its reason.
    """

    side_um: float = Field(
        default=160.0,
        gt=0,
        description="largest side of a region's core: about two photographed fields, so that 500 cells come from "
        "several places; larger regions overlap less",
    )
    overlap_um: float = Field(
        default=60.0,
        ge=0,
        description="strip that two neighboring regions share, half on each side of the seam; the largest cell fits",
    )
    grid_um: float = Field(
        default=9.6,
        gt=0,
        description="regions start at multiples of this: the segmenter's stride, 32 px of 0.3 um, so that a cell has "
        "the same position on the network's grid in every region",
    )
    max_judged: int = Field(default=200, ge=1, description="regions whose focus is measured, best scores first")
