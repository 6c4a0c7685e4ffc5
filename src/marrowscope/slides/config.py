"""How a slide is cut into regions, and which of them are worth reading."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import StageConfig


class SlideConfig(StageConfig):
    """Sizes in micrometres, so that they mean the same on every scanner; densities are optical (log10)."""

    side_um: float = Field(
        default=160.0,
        gt=0,
        description="largest side of what one region owns: some two photographed fields, so that 500 cells come from "
        "several places; larger regions read less twice",
    )
    overlap_um: float = Field(
        default=60.0,
        ge=0,
        description="strip that two neighbouring regions both read, half on each side of the seam; one largest cell",
    )
    grid_um: float = Field(
        default=9.6,
        gt=0,
        description="regions are read from multiples of this on: the segmenter's stride, 32 px of 0.3 um, so that its "
        "network meets a cell in every region at the same place of its grid",
    )
    overview_um_per_px: float = Field(default=4.0, gt=0, description="scale of the low-resolution pass: half a nucleus")
    clear_od: float = Field(default=0.08, gt=0, description="below this mean density a pixel shows the empty slide")
    nucleus_od: float = Field(default=0.2, gt=0, description="above this purple density a pixel shows a nucleus")
    max_empty_share: float = Field(
        default=0.95, ge=0, le=1, description="a region with more empty slide than this is skipped as empty"
    )
    min_clear_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="a region that shows less empty slide than this between its cells is skipped as crowded; "
        "fields that morphologists photographed show 0.43 and more",
    )
    solid_window_um: float = Field(
        default=60.0, gt=0, description="side of the window in which a solid part shows next to no empty slide"
    )
    solid_clear_share: float = Field(
        default=0.1, ge=0, le=1, description="a window with less empty slide than this is the inside of a solid part"
    )
    min_solid_um2: float = Field(
        default=10_000.0,
        ge=0,
        description="smallest solid part that is a particle or a thick place of the smear, not a few cells",
    )
    max_solid_share: float = Field(default=0.1, ge=0, le=1, description="a region may hold this much of solid parts")
    min_nuclei_share: float = Field(
        default=0.005, ge=0, le=1, description="area of nuclei in a region; 0.005 of 160 x 160 um is some two nuclei"
    )
    max_judged: int = Field(default=200, ge=1, description="regions whose focus is looked at, the best by score")
    sample_um: float = Field(default=80.0, gt=0, description="side of the windows read at full resolution for focus")
    n_samples: int = Field(default=2, ge=1, description="windows per region; the least sharp one counts")
    min_sharpness: float = Field(
        default=0.4, ge=0, description="per um, at most blurred; what no region may be below (see the quality flags)"
    )
    min_sharpness_share: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="of the slide's own sharp regions; a scanner's optics differ from another's",
    )
