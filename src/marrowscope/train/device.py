"""The training device: the one place that asks torch for CUDA."""

from __future__ import annotations

from typing import Literal

from marrowscope.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
"""What a configuration may ask for; auto is CUDA where torch finds it."""


def choose_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Return the device type to train on; ConfigError for CUDA where torch finds none."""
    import torch  # noqa: PLC0415 - training extra

    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        message = "device: found cuda, but torch finds no CUDA device here; use cpu or auto"
        raise ConfigError(message)
    return "cuda" if found and wanted != "cpu" else "cpu"
