"""Where the cells of a field lie: apart, touching, overlapping, in islands of one lineage, cut by the border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate.parameters import number
from marrowscope.simulate.shapes import N_ANGLES, press

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.simulate.cell import CellPlan
    from marrowscope.simulate.parameters import Parameters

ERYTHROID = frozenset({"R", "R1", "R2", "R3"})
TRIES = 40


@dataclass
class PlacedCell:
    """A plan with its place; ``touching`` and ``overlapping`` say how it meets its neighbours."""

    plan: CellPlan
    touching: bool = False
    overlapping: bool = False


def _reach(plan: CellPlan, direction: float) -> float:
    """Radius of the outline in ``direction`` (nearest of its angles)."""
    return float(plan.outline[round(direction * N_ANGLES / (2 * np.pi)) % N_ANGLES])


def _clearance(plan: CellPlan, center: tuple[float, float], others: Sequence[PlacedCell]) -> float:
    """Smallest gap (px, negative where outlines meet) between ``plan`` at ``center`` and the others."""
    if not others:
        return float("inf")
    delta = np.array([other.plan.center_xy for other in others]) - center
    distance = np.hypot(delta[:, 0], delta[:, 1])
    index = np.round(np.arctan2(delta[:, 1], delta[:, 0]) * N_ANGLES / (2 * np.pi)).astype(np.int64)
    theirs = np.array([other.plan.outline[(i + N_ANGLES // 2) % N_ANGLES] for other, i in zip(others, index, strict=True)])
    return float(np.min(distance - plan.outline[index % N_ANGLES] - theirs))


def place_cells(
    rng: np.random.Generator, plans: Sequence[CellPlan], blood_like: bool, parameters: Parameters,  # noqa: FBT001
    width_px: int, height_px: int,
) -> list[PlacedCell]:
    """Place the cells one after the other; touching pairs flatten against each other or overlap.

    Cells of the erythroid line are placed in a row, so that touching ones form islands. A cell that finds no place in
    40 tries is left out (the field is full).
    """
    table = parameters.optics.field
    touch_share = number(table["touching_blood_like" if blood_like else "touching_marrow"])
    overlap_share, edge_share = number(table["overlap"]), number(table["edge_share"])
    ordered = sorted(plans, key=lambda plan: (-float(plan.outline.max() > 0.25 * height_px), plan.code in ERYTHROID))
    placed: list[PlacedCell] = []
    for plan in ordered:
        radius = float(np.sqrt(np.mean(plan.outline**2)))
        for _ in range(TRIES):
            touching = bool(placed) and rng.random() < touch_share
            overlapping = touching and rng.random() < overlap_share
            if touching:
                same = [c for c in placed if (c.plan.code in ERYTHROID) == (plan.code in ERYTHROID)]
                pool = same if same and rng.random() < number(table["islands"]) else placed
                host = pool[int(rng.integers(len(pool)))]
                direction = rng.uniform(0, 2 * np.pi)
                distance = _reach(host.plan, direction) + _reach(plan, direction + np.pi)
                distance -= radius * (rng.uniform(0.15, 0.45) if overlapping else rng.uniform(-0.02, 0.14))
                x = host.plan.center_xy[0] + distance * np.cos(direction)
                y = host.plan.center_xy[1] + distance * np.sin(direction)
            else:
                margin = -0.6 * radius if rng.random() < edge_share else min(1.02 * radius, 0.45 * height_px)
                x = rng.uniform(margin, width_px - margin)
                y = rng.uniform(margin, height_px - margin)
            if not (-0.7 * radius < x < width_px + 0.7 * radius and -0.7 * radius < y < height_px + 0.7 * radius):
                continue
            allowed = -0.5 * radius if overlapping else (-0.2 * radius if touching else 0.12 * radius)
            if _clearance(plan, (x, y), placed) < allowed:
                continue
            plan.center_xy = (float(x), float(y))
            cell = PlacedCell(plan, touching, overlapping)
            if touching and not overlapping:
                _flatten(cell, placed)
            placed.append(cell)
            break
    for cell in placed:
        gap = _clearance(cell.plan, cell.plan.center_xy, [other for other in placed if other is not cell])
        cell.touching = gap < 1.5  # noqa: PLR2004 - px: no background between them
        cell.overlapping = cell.overlapping or gap < -3.0  # noqa: PLR2004
    return placed


def _flatten(cell: PlacedCell, others: Sequence[PlacedCell]) -> None:
    """Press the new cell and each neighbour it meets against their common border."""
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
