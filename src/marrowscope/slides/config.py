"""How a slide is cut into regions, and how many of them are looked at."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import StageConfig


class SlideConfig(StageConfig):
    """Sizes in micrometers, so that they mean the same on every scanner.

    A run takes ``grid_um`` from the bundle and ``max_judged`` from the wanted number of cells. What decides whether a
    region is worth reading are constants beside their use, each with its reason.
    """

    side_um: float = Field(
        default=160.0,
        gt=0,
        description="largest side of what one region owns: some two photographed fields, so that 500 cells come from "
        "several places; larger regions read less twice",
    )
    overlap_um: float = Field(
        default=60.0,
        ge=0,
        description="strip that two neighboring regions both read, half on each side of the seam; one largest cell",
    )
    grid_um: float = Field(
        default=9.6,
        gt=0,
        description="regions are read from multiples of this on: the segmenter's stride, 32 px of 0.3 um, so that its "
        "network meets a cell in every region at the same place of its grid",
    )
    max_judged: int = Field(default=200, ge=1, description="regions whose focus is looked at, the best by score")
