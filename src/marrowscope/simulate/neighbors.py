"""Rows of touching cells whose neighbors match, ignore or contradict their composite blast-like state.

Where cell and neighbors agree, a classifier that looks at the neighbors instead of the cell goes unnoticed. Here the
same cells are arranged three ways: beside their own kind (``correlated``), in any order (``independent``), or beside
the other kind (``reversed``). The arrangement changes neither the cells of a field nor their outlines and drawing, so
every ratio stays equal and only the neighbors change. Neighbors lie less than a micrometer apart, inside the
classifier's crop; rows lie so far apart that cells of other rows are outside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from marrowscope.simulate.placement import PlacedCell, clearance
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from marrowscope.simulate.frame import CellPlan

Neighbors = Literal["islands", "independent", "correlated", "reversed"]

_GAP_UM = (0.2, 0.8)
_LARGEST_UM = 24.0
_ROW_PITCH_UM = 26.0
_JITTER_UM = 0.8
_STEP_PX = 0.5


def place_rows(
    rng: np.random.Generator,
    plans: Sequence[CellPlan],
    um_per_px: float,
    size_px: tuple[int, int],
    neighbors: Neighbors,
) -> list[PlacedCell]:
    """Place the cells in rows on ``size_px`` (width, height); they come back in the order of ``plans``.

    Cells wider than 24 um, and those that do not fit in the rows in any order, are left out: the same ones for every
    arrangement.
    """
    width_px, height_px = size_px
    largest_px = _LARGEST_UM / um_per_px
    usable_px = width_px - 2.0 * _STEP_PX
    first_y = 0.55 * largest_px
    n_rows = 1 + max(0, int((height_px - 2 * first_y) * um_per_px / _ROW_PITCH_UM))
    kept, row_px = _that_fit(plans, um_per_px, n_rows, usable_px - largest_px)
    cblc = np.array([load_vocabulary().codes[plan.code].cblc for plan in kept], dtype=np.bool_)
    pitch_px = (height_px - 2 * first_y) / max(1, n_rows - 1) if n_rows > 1 else 0.0
    rows: list[list[CellPlan]] = [[]]
    length = 0.0
    for index in arrange(rng, cblc, neighbors):
        if length >= row_px:
            rows.append([])
            length = 0.0
        rows[-1].append(kept[index])
        length += _room(kept[index], um_per_px)
    for number, row in enumerate(rows):
        y = first_y + number * pitch_px if n_rows > 1 else height_px / 2.0
        _lay_row(rng, row, y, usable_px, um_per_px)
    return [PlacedCell(plan, touching=True) for plan in kept]


def arrange(rng: np.random.Generator, cblc: NDArray[np.bool_], way: Neighbors) -> list[int]:
    """Order cells (n,) so that neighbors agree in ``cblc``, disagree as far as counts allow, or neither.

    Within each kind the order is random; the result is a permutation of 0 .. n-1.
    """
    shuffled = [int(index) for index in rng.permutation(len(cblc))]
    if way == "independent":
        return shuffled
    many, few = ([index for index in shuffled if cblc[index] == state] for state in (True, False))
    if way == "correlated":
        return many + few if rng.random() < 0.5 else few + many  # noqa: PLR2004  a coin
    if len(few) > len(many):
        many, few = few, many
    ordered = list(many)
    # Spread the rarer kind evenly; from the end on, so that earlier positions stay the same.
    for number in range(len(few) - 1, -1, -1):
        ordered.insert(int((number + 0.5) * len(many) / len(few) + 0.5), few[number])
    return ordered


def _room(plan: CellPlan, um_per_px: float) -> float:
    """Return the most room a cell takes in its row (px), whatever is beside it."""
    return 2.0 * float(plan.outline.max()) + _GAP_UM[1] / um_per_px + _STEP_PX


def _that_fit(plans: Sequence[CellPlan], um_per_px: float, n_rows: int, row_px: float) -> tuple[list[CellPlan], float]:
    """Take cells in order while they fit in ``n_rows`` rows of ``row_px``; also return the length of a full row."""
    kept: list[CellPlan] = []
    total = 0.0
    for plan in plans:
        room = _room(plan, um_per_px)
        if 2.0 * float(plan.outline.max()) * um_per_px <= _LARGEST_UM and total + room <= n_rows * row_px:
            kept.append(plan)
            total += room
    return kept, total / n_rows


def _lay_row(rng: np.random.Generator, row: Sequence[CellPlan], y: float, usable_px: float, um_per_px: float) -> None:
    """Set the centers of one row, each cell a small gap to the right of the last."""
    slack = usable_px - sum(_room(plan, um_per_px) for plan in row)
    previous: PlacedCell | None = None
    right = rng.uniform(0.0, max(0.0, slack))
    for plan in row:
        gap = rng.uniform(*_GAP_UM) / um_per_px
        center_y = y + rng.uniform(-_JITTER_UM, _JITTER_UM) / um_per_px
        if previous is None:
            x = right + float(plan.outline.max())
        else:
            x = previous.plan.center_xy[0]
            while clearance(plan, (x, center_y), [previous]) < gap:
                x += _STEP_PX
        plan.center_xy = (float(x), float(center_y))
        previous = PlacedCell(plan)
