"""Configuration of the segmenter's training: one frozen model, used to write the windows and to train."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.train.device import Device

OF_THE_MACHINE = frozenset({"threads", "device"})
"""Settings that may change when a training resumes on another machine."""


class SegmenterTrainingConfig(StageConfig):
    """How the segmenter is trained."""

    um_per_px: float = Field(default=0.3, gt=0)
    """Scale of the windows and later of prediction; a leukocyte of 12 um spans 40 px."""
    width: float = Field(default=0.25, gt=0, le=1)
    """Share of the channels of YOLO11's largest model; 0.25 is YOLO11n. Fewer channels are faster and coarser."""
    window_px: int = Field(default=320, ge=64, multiple_of=32)
    """Side of a training window; cost grows with its square (0.14 CPU-s per image at 320)."""
    crops_per_field: int = Field(default=4, ge=1)
    """Windows cut from each field; fields smaller than a window are tiled side by side and cut less often."""
    min_visible: float = Field(default=0.25, gt=0, le=1)
    """Smallest share of a polygon inside a window for it to be a label there."""
    label_inset_px: float = Field(default=0.5, ge=0)
    """Polygons shrink by this: Ultralytics' rasterizer draws a polygon half a pixel too large on every side."""
    max_box_share: float = Field(default=0.3, ge=0, le=1)
    """Cohort contours with more of their outline straight along their box are ignored, not learned; 1 keeps all."""
    pale_cells: float = Field(default=0.0, ge=0, le=1)
    """Share of the training windows' cells whose cytoplasm is faded: cells with pale cytoplasm are rare."""
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of patients held out for validation."""
    max_val_windows: int = Field(default=64, ge=1)
    """Maximum number of validation windows; they run after every epoch."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the windows (or over ``max_images_per_epoch`` of them)."""
    max_images_per_epoch: int | None = Field(default=None, ge=1)
    """Windows drawn without replacement for each epoch; None means all of them."""
    batch: int = Field(default=16, ge=1)
    """Windows per step; one optimizer step per batch (no accumulation: CPU training has too few steps as it is)."""
    learning_rate: float = Field(default=0.002, gt=0)
    """AdamW, cosine decay to a hundredth, one epoch of warm-up."""
    mosaic: float = Field(default=0.5, ge=0, le=1)
    """Share of training images composed of four windows; off in the last fifth of the epochs."""
    half_weights: bool = False
    """Store the exported graph's weights in half precision: half the size, still computed in float32."""
    threads: int = Field(default=2, ge=1)
    """Torch threads; Ultralytics sets cores minus one, which leaves one of two idle."""
    device: Device = "auto"
    """Training device; auto is CUDA where torch finds it."""
    seed: int = Field(default=0, ge=0)
    """Seed of windows, split, initial weights and order."""
