"""Noise and granules: the grain of chromatin and cytoplasm.

Each process makes one bank of tileable noise images per scale once, from a constant seed; cells cut random windows out
of it. That keeps rendering fast and makes no pixel depend on which process draws it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Amounts and coordinates inside the simulator: float32 for large arrays, float64 for outlines."""

_BANK_SIZE_PX = 768
_BANK_SEED = 20260101
_FINEST_PX = 0.8


@lru_cache(maxsize=1)
def _white_spectrum() -> np.ndarray[tuple[int, int], np.dtype[np.complex64]]:
    """Spectrum of the one white noise image from which all banks are smoothed."""
    white = np.random.default_rng(_BANK_SEED).standard_normal((_BANK_SIZE_PX, _BANK_SIZE_PX), dtype=np.float32)
    return np.fft.rfft2(white).astype(np.complex64)


@lru_cache(maxsize=48)
def _bank(scale_px: float) -> Floats:
    """Tileable noise (768, 768), zero mean, unit variance; ``scale_px`` is the standard deviation of its blur."""
    frequency = np.fft.fftfreq(_BANK_SIZE_PX)[:, None] ** 2 + np.fft.rfftfreq(_BANK_SIZE_PX)[None, :] ** 2
    kernel = np.exp(-2.0 * (np.pi * scale_px) ** 2 * frequency)
    smooth = np.fft.irfft2(_white_spectrum() * kernel, s=(_BANK_SIZE_PX, _BANK_SIZE_PX)).astype(np.float32)
    smooth -= smooth.mean()
    result: Floats = smooth / smooth.std()
    return result


def noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Floats:
    """Cut a random window (float32, unit variance) with clumps of about ``scale_px`` out of the bank.

    ``scale_px`` is rounded to steps of 10% so that few banks are made; larger windows wrap around.
    """
    step = round(np.log(max(scale_px, _FINEST_PX)) / np.log(1.1))
    bank = _bank(float(round(1.1**step, 3)))
    if rng.random() < 0.5:  # noqa: PLR2004 - half of the windows are transposed
        bank = bank.T
    height, width = shape
    if max(shape) < _BANK_SIZE_PX:
        y0, x0 = int(rng.integers(_BANK_SIZE_PX - height)), int(rng.integers(_BANK_SIZE_PX - width))
        return bank[y0 : y0 + height, x0 : x0 + width]
    y0, x0 = (int(v) for v in rng.integers(0, _BANK_SIZE_PX, 2))
    repeats = ((y0 + height - 1) // _BANK_SIZE_PX + 1, (x0 + width - 1) // _BANK_SIZE_PX + 1)
    return np.tile(bank, repeats)[y0 : y0 + height, x0 : x0 + width]


def clumps(rng: np.random.Generator, shape: tuple[int, int], scale_px: float, gain: float, ridge: float) -> Floats:
    """Chromatin-like texture in about [-1.5, 1.5]: clumps with border sharpness ``gain``, a share ``ridge`` of strands.

    Three octaves: the clumps, a finer grain, and a slow drift of density over the nucleus.
    """
    main = np.tanh(gain * noise(rng, shape, scale_px))
    if ridge > 0:
        strands = 0.8 - 1.6 * np.abs(noise(rng, shape, 1.4 * scale_px))
        main = (1.0 - ridge) * main + ridge * np.clip(strands, -1.2, 1.2)
    fine = noise(rng, shape, 0.45 * scale_px)
    drift = noise(rng, shape, 4.0 * scale_px)
    texture: Floats = main + np.float32(0.55) * fine + np.float32(0.3) * drift
    return texture


@lru_cache(maxsize=256)
def _disc(radius_px: float) -> Floats:
    """Small soft disc kernel with maximum one."""
    half = int(np.ceil(radius_px + 1.0))
    axis = np.arange(-half, half + 1, dtype=np.float32)
    distance = np.hypot(axis[:, None], axis[None, :])
    kernel: Floats = np.clip(radius_px + 0.5 - distance, 0.0, 1.0).astype(np.float32)
    return kernel / max(float(kernel.max()), 1e-6)


def scatter(
    rng: np.random.Generator,
    probability: Floats,
    n: int,
    radius_px: tuple[float, float],
    amount: tuple[float, float],
) -> Floats:
    """Scatter ``n`` granules over the pixels by ``probability`` (height, width); return their dye amount per pixel.

    Radii and amounts vary between granules; overlapping granules saturate like 1 - exp(-x).
    """
    result = np.zeros(probability.shape, dtype=np.float32)
    cumulative = np.cumsum(probability.ravel(), dtype=np.float64)
    if n == 0 or cumulative[-1] <= 0:
        return result
    places = np.searchsorted(cumulative, rng.random(n) * cumulative[-1]).clip(max=probability.size - 1)
    size_class = rng.integers(0, 3, n)
    weights = rng.uniform(*amount, n).astype(np.float32)
    for index, fraction in enumerate((0.1, 0.5, 0.9)):
        chosen = size_class == index
        radius = round(radius_px[0] + fraction * (radius_px[1] - radius_px[0]), 1)
        impulses = np.bincount(places[chosen], weights[chosen], probability.size)
        image = impulses.reshape(probability.shape).astype(np.float32)
        kernel = _disc(radius) * min(1.0, (radius / 0.55) ** 2)
        result += cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_CONSTANT)
    top = amount[1] * 1.6
    saturated: Floats = top * (1.0 - np.exp(-result / top))
    return saturated.astype(np.float32, copy=False)
