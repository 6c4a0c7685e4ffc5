"""What the segmenter's network expects, and how its output becomes cells."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marrowscope.config import StageConfig

Interpolation = Literal["linear", "cubic"]


class SegmenterConfig(StageConfig):
    """Preprocessing that the network was trained with, and the thresholds for decoding its output."""

    um_per_px: float = Field(default=0.3, gt=0, description="scale of the network's input; training fixes it")
    stride: int = Field(default=32, ge=1, description="width and height of the input are multiples of this")
    pad_value: int = Field(default=114, ge=0, le=255, description="gray level of the padding, as in training")
    confidence: float = Field(default=0.3, ge=0, le=1, description="lowest score of a cell; raise it for precision")
    nms_iou: float = Field(default=0.6, gt=0, le=1, description="of two boxes that overlap more, the weaker is dropped")
    max_detections: int = Field(default=1000, ge=1, description="most cells per image, best scores first")
    contour_step_px: float = Field(default=1.0, gt=0, description="distance between contour points, network pixels")
    interpolation: Interpolation = Field(
        default="cubic",
        description="of the mask's logits; linear, as in Ultralytics, draws round cells 1-3% too small",
    )
    smoothing_px: float = Field(
        default=2.0, ge=0, description="Gaussian along the contour, network pixels; 0 is no smoothing"
    )
    mask_level: float = Field(
        default=0.0, description="a pixel belongs to the cell above this logit; 0 is a probability of 1/2"
    )
    box_margin_px: float = Field(
        default=0.0, ge=0, le=4, description="how far a contour may extend beyond its box, network pixels"
    )
    max_upscale: float = Field(default=4.0, gt=0, description="images that would be enlarged more are rejected")
