"""Outlines and nuclei: smooth closed curves as radius functions, nuclei as level sets.

An outline is the radius (px) at ``N_ANGLES`` equally spaced angles around the center: star-shaped, smooth, sub-pixel.
A nucleus is a function that is small inside; the level for exactly the target nucleus / cell area is a quantile over
the cell's pixels, so the drawn ratio is the true ratio for every shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from marrowscope.records import ContourArray
    from marrowscope.simulate.texture import Floats

N_ANGLES = 128
ANGLES = np.arange(N_ANGLES) * (2.0 * np.pi / N_ANGLES)
_COS, _SIN = np.cos(ANGLES), np.sin(ANGLES)
_AREA_FACTOR = 0.5 * np.sin(2.0 * np.pi / N_ANGLES)


def _outline_area(radius: Floats) -> float:
    """Area (px^2) of the polygon of an outline."""
    return float(_AREA_FACTOR * np.sum(radius * np.roll(radius, 1)))


def outline_contour(radius: Floats, center_xy: tuple[float, float]) -> ContourArray:
    """Contour (128, 2) of an outline around ``center_xy``, image pixels."""
    return np.stack([center_xy[0] + radius * _COS, center_xy[1] + radius * _SIN], axis=1).astype(np.float64)


def draw_outline(
    rng: np.random.Generator, diameter_px: float, irregularity: float, elongation: float, n_blebs: int = 0
) -> Floats:
    """Draw an outline whose area is that of a circle of ``diameter_px``.

    An ellipse with axis ratio ``elongation``; Fourier terms 2 to 9, falling with frequency, with a root mean square of
    ``irregularity`` of the radius; and ``n_blebs`` small bumps.
    """
    phase = rng.uniform(0, np.pi)
    ratio = np.sqrt(elongation)
    radius = 1.0 / np.hypot(np.cos(ANGLES - phase) / ratio, np.sin(ANGLES - phase) * ratio)
    orders = np.arange(2, 10)
    amplitudes = rng.standard_normal(orders.size) / orders**1.3
    phases = rng.uniform(0, 2 * np.pi, orders.size)
    wave = (amplitudes[:, None] * np.cos(orders[:, None] * ANGLES[None, :] + phases[:, None])).sum(axis=0)
    wave *= irregularity / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    radius = radius * np.exp(np.clip(wave, -0.45, 0.45))
    for _ in range(n_blebs):
        delta = np.angle(np.exp(1j * (ANGLES - rng.uniform(0, 2 * np.pi))))
        radius = radius * (1.0 + rng.uniform(0.05, 0.2) * np.exp(-((delta / rng.uniform(0.1, 0.22)) ** 2)))
    area = np.pi * diameter_px**2 / 4.0
    return np.asarray(radius * np.sqrt(area / _outline_area(radius)))


def press(radius: Floats, limits: list[tuple[float, float]]) -> Floats:
    """Flatten an outline against straight borders, each (direction in rad, distance in px), keeping the area.

    The displaced volume goes to the other sides (at most 10% of the radius), as in a cell pressed by neighbors.
    """
    target = _outline_area(radius)
    scale = 1.0
    pressed = radius
    for _ in range(3):
        pressed = radius * scale
        for direction, distance in limits:
            cosine = np.cos(ANGLES - direction)
            border = np.where(cosine > 0.15, distance / np.maximum(cosine, 0.15), np.inf)  # noqa: PLR2004
            with np.errstate(over="ignore"):
                pressed = (pressed**-14.0 + border**-14.0) ** (-1.0 / 14.0)
        scale = min(1.1, scale * float(np.sqrt(target / _outline_area(pressed))))
    return np.asarray(pressed)


Plane = tuple["Floats", "Floats"]


def _ellipse(plane: Plane, center: tuple[float, float], ratio: float, angle: float) -> Floats:
    """Distance-like function of an ellipse of equal area (1 on the unit ellipse)."""
    dx, dy = plane[0] - float(center[0]), plane[1] - float(center[1])
    cos, sin, root = math.cos(angle), math.sin(angle), math.sqrt(ratio)
    return np.asarray(np.hypot((dx * cos + dy * sin) / root, (dy * cos - dx * sin) * root))


def _round(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    del size
    return _ellipse(plane, (0.0, 0.0), rng.uniform(1.0, 1.22), rng.uniform(0, np.pi))


def _bitten(rng: np.random.Generator, plane: Plane, size: float, depth: tuple[float, float], bites: int) -> Floats:
    """Ellipse of radius ``size`` with smooth bites: indented, kidney, cup and folded nuclei."""
    value = _ellipse(plane, (0.0, 0.0), rng.uniform(1.05, 1.4), rng.uniform(0, np.pi))
    direction = rng.uniform(0, 2 * np.pi)
    for _ in range(bites):
        reach = size * rng.uniform(1.0, 1.25)
        width = size * rng.uniform(0.5, 0.9)
        bite = _ellipse(plane, (reach * np.cos(direction), reach * np.sin(direction)), rng.uniform(1.0, 1.8), direction)
        value = value + size * rng.uniform(*depth) * np.exp(-((bite / width) ** 2))
        direction += rng.uniform(1.2, 3.4)
    return value


def _indented(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _bitten(rng, plane, size, (0.25, 0.6), 1)


def _kidney(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _bitten(rng, plane, size, (0.6, 1.2), 1)


def _folded(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _bitten(rng, plane, size, (0.3, 0.9), int(rng.integers(2, 5)))


def _cleft(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    value = _round(rng, plane, size)
    angle = rng.uniform(0, np.pi)
    across = plane[0] * np.sin(angle) - plane[1] * np.cos(angle)
    along = plane[0] * np.cos(angle) + plane[1] * np.sin(angle)
    return np.asarray(value + 0.5 * size * np.exp(-((across / (0.07 * size)) ** 2)) * (along > 0.2 * size))


def _band(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    """Distance to an arc (C and U) or to two opposite arcs (S)."""
    spread = rng.uniform(2.4, 4.4)
    arc_radius = size * rng.uniform(0.68, 0.95)
    turn = rng.uniform(0, 2 * np.pi)
    t = np.linspace(-0.5, 0.5, 21)
    if rng.random() < 0.2:  # noqa: PLR2004 - one band nucleus in five is an S
        x, y = 2.3 * arc_radius * t, 0.42 * arc_radius * np.sin(2 * np.pi * t)
    else:
        x, y = arc_radius * np.cos(spread * t), arc_radius * np.sin(spread * t)
    x, y = x - x.mean(), y - y.mean()
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    thickness = 1.0 + 0.35 * np.abs(2 * t) ** 2 * rng.uniform(0.2, 1.0)
    value = np.full(plane[0].shape, np.inf, dtype=plane[0].dtype)
    for px, py, width in zip(x, y, thickness, strict=True):
        np.minimum(value, np.hypot(plane[0] - float(px), plane[1] - float(py)) / float(width), out=value)
    return value


def _lobes(rng: np.random.Generator, plane: Plane, size: float, n_lobes: int, thread: float) -> Floats:
    """Lobes on an arc, joined by threads of relative width ``thread``."""
    turn, step = rng.uniform(0, 2 * np.pi), rng.uniform(1.2, 2.0) if n_lobes > 2 else rng.uniform(2.2, 3.1)  # noqa: PLR2004
    angles = turn + step * (np.arange(n_lobes) - (n_lobes - 1) / 2) + rng.normal(0, 0.15, n_lobes)
    ring = size / np.sqrt(n_lobes) / np.sin(step / 2) * rng.uniform(0.85, 1.15, n_lobes)
    x, y = ring * np.cos(angles), ring * np.sin(angles)
    x, y = x - x.mean(), y - y.mean()
    value = np.full(plane[0].shape, np.inf, dtype=plane[0].dtype)
    for i in range(n_lobes):
        lobe = _ellipse(plane, (x[i], y[i]), rng.uniform(1.1, 1.8), rng.uniform(0, np.pi)) / rng.uniform(0.85, 1.15)
        np.minimum(value, lobe, out=value)
        if i and thread > 0:
            for s in np.linspace(0.1, 0.9, 7):
                px, py = x[i - 1] + s * (x[i] - x[i - 1]), y[i - 1] + s * (y[i] - y[i - 1])
                np.minimum(value, np.hypot(plane[0] - float(px), plane[1] - float(py)) / thread, out=value)
    return value


def _lobed(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    n_lobes = int(rng.choice([2, 3, 4, 5], p=[0.25, 0.42, 0.25, 0.08]))
    return _lobes(rng, plane, size * rng.uniform(0.85, 1.12), n_lobes, rng.uniform(0.12, 0.5))


def _bilobed(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _lobes(rng, plane, size * rng.uniform(0.7, 1.05), 2, rng.uniform(0.2, 0.8))


def _binucleate(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _lobes(rng, plane, size * rng.uniform(0.95, 1.15), 2, 0.0)


def _multilobed(rng: np.random.Generator, plane: Plane, size: float) -> Floats:
    return _lobes(rng, plane, size * 0.85, int(rng.integers(4, 8)), 0.7)


NUCLEI: dict[str, Callable[[np.random.Generator, Plane, float], Floats]] = {
    "round": _round,
    "smudge": _folded,
    "indented": _indented,
    "cup": _kidney,
    "kidney": _kidney,
    "folded": _folded,
    "cleft": _cleft,
    "band": _band,
    "lobed": _lobed,
    "bilobed": _bilobed,
    "binucleate": _binucleate,
    "multilobed": _multilobed,
}
