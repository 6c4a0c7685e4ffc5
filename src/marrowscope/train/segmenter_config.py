"""Configuration of the segmenter's training: one frozen model, read by what writes the windows and what trains."""

from __future__ import annotations

from pydantic import Field

from marrowscope.config import StageConfig
from marrowscope.train.device import Device

OF_THE_MACHINE = frozenset({"threads", "device"})
"""Settings that may change when a training goes on elsewhere."""


class SegmenterTrainingConfig(StageConfig):
    """How the segmenter is trained."""

    um_per_px: float = Field(default=0.3, gt=0)
    """Scale of the windows and later of prediction; a leukocyte of 12 um spans 40 px."""
    window_px: int = Field(default=320, ge=64, multiple_of=32)
    """Side of a training window; cost grows with its square (0.14 CPU-s an image at 320)."""
    crops_per_field: int = Field(default=4, ge=1)
    """Windows cut from each field; fields smaller than a window are laid side by side and cut less often."""
    min_visible: float = Field(default=0.25, gt=0, le=1)
    """Share of a polygon that must lie inside a window to be a label there."""
    label_inset_px: float = Field(default=0.5, ge=0)
    """Polygons are shrunk by this: Ultralytics' rasterizer draws a polygon half a pixel too large on every side."""
    val_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of patients kept for validation."""
    max_val_windows: int = Field(default=64, ge=1)
    """Validation windows at most; they are run after every epoch."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the windows (or over ``max_images_per_epoch`` of them)."""
    max_images_per_epoch: int | None = Field(default=None, ge=1)
    """Windows drawn without replacement for each epoch; None is all of them."""
    batch: int = Field(default=16, ge=1)
    """Windows a step; one optimizer step a batch (no accumulation: few steps are what CPU training lacks)."""
    learning_rate: float = Field(default=0.002, gt=0)
    """AdamW, cosine to a hundredth, one epoch of warm-up."""
    mosaic: float = Field(default=0.5, ge=0, le=1)
    """Share of training images composed of four windows; off in the last fifth of the epochs."""
    threads: int = Field(default=2, ge=1)
    """Threads of torch; Ultralytics sets cores minus one, which leaves one of two idle."""
    device: Device = "auto"
    """Where to train; auto is CUDA where torch finds it."""
    seed: int = Field(default=0, ge=0)
    """Seed of windows, split, initial weights and order."""
