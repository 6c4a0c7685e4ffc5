"""Positions of the cells in a field: apart, touching, overlapping, in islands of one lineage, cut by the border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate.parameters import number
from marrowscope.simulate.shapes import N_ANGLES, press
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.simulate.frame import CellPlan
    from marrowscope.simulate.parameters import Parameters

_TRIES = 40
_TOUCHING_PX = 1.5
_OVERLAPPING_PX = -3.0


@dataclass
class PlacedCell:
    """A plan with its position; ``touching`` and ``overlapping`` describe contact with its neighbors."""

    plan: CellPlan
    touching: bool = False
    overlapping: bool = False


def _reach(plan: CellPlan, direction: float) -> float:
    """Radius of the outline in ``direction`` (nearest of its angles)."""
    return float(plan.outline[round(direction * N_ANGLES / (2 * np.pi)) % N_ANGLES])


def clearance(plan: CellPlan, center: tuple[float, float], others: Sequence[PlacedCell]) -> float:
    """Smallest gap (px, negative where outlines meet) between ``plan`` at ``center`` and the others."""
    if not others:
        return float("inf")
    delta = np.array([other.plan.center_xy for other in others]) - center
    distance = np.hypot(delta[:, 0], delta[:, 1])
    index = np.round(np.arctan2(delta[:, 1], delta[:, 0]) * N_ANGLES / (2 * np.pi)).astype(np.int64)
    opposite = (index + N_ANGLES // 2) % N_ANGLES
    theirs = np.array([other.plan.outline[i] for other, i in zip(others, opposite, strict=True)])
    return float(np.min(distance - plan.outline[index % N_ANGLES] - theirs))


@dataclass(frozen=True)
class _Rules:
    """Arrangement of the cells in one field."""

    touch_share: float
    overlap_share: float
    edge_share: float
    islands: float
    width_px: int
    height_px: int


def place_cells(
    rng: np.random.Generator,
    plans: Sequence[CellPlan],
    parameters: Parameters,
    size_px: tuple[int, int],
    *,
    blood_like: bool,
) -> list[PlacedCell]:
    """Place the cells one by one on ``size_px`` (width, height); touching pairs flatten or overlap.

    Huge cells come first, the erythroid line last and in a row, so that touching ones form islands. A cell that finds
    no position in 40 tries is left out (the field is full).
    """
    table = parameters.optics.field
    rules = _Rules(
        touch_share=number(table["touching_blood_like" if blood_like else "touching_marrow"]),
        overlap_share=number(table["overlap"]),
        edge_share=number(table["edge_share"]),
        islands=number(table["islands"]),
        width_px=size_px[0],
        height_px=size_px[1],
    )
    codes = load_vocabulary().codes
    erythroid = {code for code, facts in codes.items() if facts.lineage == "erythroid"}
    placed: list[PlacedCell] = []
    for plan in sorted(plans, key=lambda p: (float(p.outline.max()) < 0.25 * size_px[1], p.code in erythroid)):
        cell = _try_places(rng, plan, placed, rules, erythroid)
        if cell is not None:
            placed.append(cell)
    for cell in placed:
        gap = clearance(cell.plan, cell.plan.center_xy, [other for other in placed if other is not cell])
        cell.touching = gap < _TOUCHING_PX
        cell.overlapping = cell.overlapping or gap < _OVERLAPPING_PX
    return placed


def _try_places(
    rng: np.random.Generator, plan: CellPlan, placed: Sequence[PlacedCell], rules: _Rules, erythroid: set[str]
) -> PlacedCell | None:
    """Find a position for one cell beside the placed ones; None after 40 tries."""
    radius = float(np.sqrt(np.mean(plan.outline**2)))
    for _ in range(_TRIES):
        touching = bool(placed) and rng.random() < rules.touch_share
        overlapping = touching and rng.random() < rules.overlap_share
        if touching:
            same = [cell for cell in placed if (cell.plan.code in erythroid) == (plan.code in erythroid)]
            pool = same if same and rng.random() < rules.islands else placed
            host = pool[int(rng.integers(len(pool)))].plan
            direction = rng.uniform(0, 2 * np.pi)
            distance = _reach(host, direction) + _reach(plan, direction + np.pi)
            distance -= radius * (rng.uniform(0.15, 0.45) if overlapping else rng.uniform(-0.02, 0.14))
            x = host.center_xy[0] + distance * np.cos(direction)
            y = host.center_xy[1] + distance * np.sin(direction)
        else:
            margin = -0.6 * radius if rng.random() < rules.edge_share else min(1.02 * radius, 0.45 * rules.height_px)
            x, y = rng.uniform(margin, rules.width_px - margin), rng.uniform(margin, rules.height_px - margin)
        beyond = 0.7 * radius
        if not (-beyond < x < rules.width_px + beyond and -beyond < y < rules.height_px + beyond):
            continue
        allowed = -0.5 * radius if overlapping else (-0.2 * radius if touching else 0.12 * radius)
        if clearance(plan, (x, y), placed) < allowed:
            continue
        plan.center_xy = (float(x), float(y))
        cell = PlacedCell(plan, touching, overlapping)
        if touching and not overlapping:
            _flatten(cell, placed)
        return cell
    return None


def _flatten(cell: PlacedCell, others: Sequence[PlacedCell]) -> None:
    """Press the new cell and each neighbor it meets against their shared border."""
    limits: list[tuple[float, float]] = []
    for other in others:
        dx = other.plan.center_xy[0] - cell.plan.center_xy[0]
        dy = other.plan.center_xy[1] - cell.plan.center_xy[1]
        distance, direction = float(np.hypot(dx, dy)), float(np.arctan2(dy, dx))
        own, theirs = _reach(cell.plan, direction), _reach(other.plan, direction + np.pi)
        if distance >= own + theirs:
            continue
        share = 0.5 * (1.0 + (own**2 - theirs**2) / distance**2)
        share = float(np.clip(share, 0.25, 0.75))
        limits.append((direction, share * distance - 0.4))
        if not other.overlapping:
            other.plan.outline = press(other.plan.outline, [(direction + np.pi, (1.0 - share) * distance - 0.4)])
    if limits:
        cell.plan.outline = press(cell.plan.outline, limits)
