"""What the segmenter's network expects, and how its output becomes cells."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marrowscope.config import StageConfig

Interpolation = Literal["linear", "cubic"]


class SegmenterConfig(StageConfig):
    """Preprocessing the network was trained with, and the thresholds of its decoding."""

    um_per_px: float = Field(default=0.3, gt=0, description="scale of the network's input; training fixes it")
    stride: int = Field(default=32, ge=1, description="the input's sides are multiples of this")
    pad_value: int = Field(default=114, ge=0, le=255, description="gray of the padding, as in training")
    confidence: float = Field(default=0.3, ge=0, le=1, description="lowest score of a cell; raise it for precision")
    nms_iou: float = Field(default=0.6, gt=0, le=1, description="of two boxes that overlap more, the weaker one goes")
    max_detections: int = Field(default=1000, ge=1, description="cells of one image at most, the best by score")
    contour_step_px: float = Field(default=1.0, gt=0, description="distance of a contour's points, network pixels")
    interpolation: Interpolation = Field(
        default="cubic", description="of the mask's logits; linear is Ultralytics' and draws round cells 1-3% too small"
    )
    smoothing_px: float = Field(
        default=2.0, ge=0, description="Gaussian along the contour, network pixels; 0 shows the mask as it is"
    )
    mask_level: float = Field(
        default=0.0, description="logit above which a pixel is the cell; 0 is a probability of 1/2"
    )
    box_margin_px: float = Field(
        default=0.0, ge=0, le=4, description="a contour may leave its box by this, network pixels"
    )
    max_upscale: float = Field(default=4.0, gt=0, description="images that would be enlarged more are refused")
