"""One field of view: cells placed and drawn over the background, with the exact ground truth.

Steps: draw outlines, place cells (apart or touching, erythroid islands), flatten or overlap neighbors, draw the
background around them, draw the cells, develop. The contours are the drawn outlines, so the truth is exact by
construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.simulate import background
from marrowscope.simulate.canvas import Slide, lay_over
from marrowscope.simulate.cell import draw_cell, draw_truncated
from marrowscope.simulate.erythrocytes import add_erythrocytes
from marrowscope.simulate.frame import CellPlan
from marrowscope.simulate.neighbors import place_rows
from marrowscope.simulate.optics import develop
from marrowscope.simulate.parameters import load_parameters, number, span
from marrowscope.simulate.placement import place_cells
from marrowscope.simulate.shapes import draw_outline, outline_contour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ContourArray, ImageArray, MaskArray
    from marrowscope.simulate.exact import ExactMorphology
    from marrowscope.simulate.neighbors import Neighbors
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import Parameters

_SHIFT_BITS = 4


@dataclass(frozen=True)
class CellTruth:
    """The exact ground truth of one drawn cell.

    ``contour_xy`` is the whole outline, ``polygon_xy`` the part inside the image (None: too little to annotate);
    ``visible_fraction`` is the share of the outline's area inside the image and under no other cell; ``exact``
    describes the whole cell as drawn, before light and camera.
    """

    code: str
    contour_xy: ContourArray
    polygon_xy: ContourArray | None
    diameter_um: float
    area_um2: float
    circularity: float
    nc: float
    nucleus_area_um2: float
    inside_fraction: float
    visible_fraction: float
    cut_by_edge: bool
    touching: bool
    overlapping: bool
    exact: ExactMorphology


@dataclass(frozen=True)
class SimulatedField:
    """A rendered field: RGB uint8 image and its cells in drawing order."""

    image: ImageArray
    um_per_px: float
    cells: tuple[CellTruth, ...]


def _plan(rng: np.random.Generator, code: str, style: PatientStyle, parameters: Parameters) -> CellPlan:
    row = parameters.morphology.code[code]
    diameter_um = draw_truncated(rng, *row.diameter_um) * style.diameter_factor
    share, least, most = row.blebs
    n_blebs = int(rng.integers(least, most + 1)) if rng.random() < share else 0
    outline = draw_outline(
        rng,
        diameter_um / style.center.um_per_px,
        rng.uniform(*row.irregularity),
        rng.uniform(*row.elongation),
        n_blebs,
    )
    nc = float(np.clip(draw_truncated(rng, *row.nc), 0.005, 0.998))
    return CellPlan(code, (0.0, 0.0), outline, nc)


def _fill(contour: ContourArray, height: int, width: int) -> MaskArray:
    image = np.zeros((height, width), dtype=np.uint8)
    points = np.round(contour * (1 << _SHIFT_BITS)).astype(np.int32)
    cv2.fillPoly(image, [points], 1, lineType=cv2.LINE_8, shift=_SHIFT_BITS)
    return image > 0


def render_field(
    rng: np.random.Generator,
    codes: Sequence[str],
    style: PatientStyle,
    parameters: Parameters | None = None,
    *,
    width_px: int = 1280,
    height_px: int = 960,
    neighbors: Neighbors = "islands",
) -> SimulatedField:
    """Render one field with nucleated cells of ``codes``; ``rng`` and ``style`` decide everything.

    An empty ``codes`` gives a field of erythrocytes only. Cells that cannot be placed are left out. ``neighbors`` other
    than islands lays the cells in rows (see neighbors.py); each cell then has its own random stream, so that it looks
    the same wherever it is.
    """
    parameters = parameters or load_parameters()
    plans = [_plan(rng, code, style, parameters) for code in codes]
    if neighbors == "islands":
        placed = place_cells(rng, plans, parameters, (width_px, height_px), blood_like=style.center.blood_like)
        streams = [rng] * len(placed)
    else:
        um_per_px = style.center.um_per_px
        placed = place_rows(rng.spawn(1)[0], plans, um_per_px, (width_px, height_px), neighbors)
        streams = rng.spawn(len(placed))
    contours = [outline_contour(item.plan.outline, item.plan.center_xy) for item in placed]
    order = np.zeros((height_px, width_px), dtype=np.uint8)
    inside_px: list[int] = []
    for number_drawn, contour in enumerate(contours, start=1):
        single = _fill(contour, height_px, width_px)
        inside_px.append(int(single.sum()))
        order[single] = number_drawn
    counts = np.bincount(order.ravel(), minlength=len(contours) + 1)

    slide = Slide(height_px, width_px)
    add_erythrocytes(rng, slide, order > 0, style, parameters)
    background.add_fat_holes(rng, slide, style, parameters)
    background.add_plasma(rng, slide, style)
    background.add_platelets(rng, slide, style, parameters)
    density = slide.density(style)
    um_per_px = style.center.um_per_px
    cells: list[CellTruth] = []
    for index, (item, contour) in enumerate(zip(placed, contours, strict=True)):
        patch = draw_cell(streams[index], item.plan, um_per_px, style, parameters)
        keep = float(streams[index].uniform(0.15, 0.7))
        lay_over(density, patch.density, patch.cover, keep, (patch.x0, patch.y0))
        cells.append(
            _truth(
                item.plan,
                contour,
                (inside_px[index], int(counts[index + 1])),
                patch.nucleus_area_px,
                (um_per_px, width_px, height_px, number(parameters.optics.field["minimum_visible"])),
                touching=item.touching,
                overlapping=item.overlapping,
                exact=patch.exact,
            )
        )
    background.add_precipitate(rng, density, style, parameters)
    return SimulatedField(develop(rng, density, style), um_per_px, tuple(cells))


def _truth(
    plan: CellPlan,
    contour: ContourArray,
    pixels: tuple[int, int],
    nucleus_px: float,
    frame: tuple[float, int, int, float],
    *,
    touching: bool,
    overlapping: bool,
    exact: ExactMorphology,
) -> CellTruth:
    um_per_px, width, height, minimum = frame
    x, y = contour[:, 0], contour[:, 1]
    area = 0.5 * abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))
    perimeter = float(np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).sum())
    cut = bool(x.min() < 0 or y.min() < 0 or x.max() > width - 1 or y.max() > height - 1)
    polygon: ContourArray | None = contour
    inside = 1.0
    if cut:
        polygon = clip_polygon(contour, width - 1.0, height - 1.0)
        inside = 0.0
        if polygon is not None:
            px, py = polygon[:, 0], polygon[:, 1]
            inside = 0.5 * abs(float(np.sum(px * np.roll(py, -1) - py * np.roll(px, -1)))) / area
        if inside < minimum:
            polygon = None
    visible = inside * pixels[1] / pixels[0] if pixels[0] else 0.0
    return CellTruth(
        code=plan.code,
        contour_xy=contour,
        polygon_xy=polygon,
        diameter_um=2.0 * float(np.sqrt(area / np.pi)) * um_per_px,
        area_um2=area * um_per_px**2,
        circularity=min(1.0, 4.0 * np.pi * area / perimeter**2),
        nc=nucleus_px / area,
        nucleus_area_um2=nucleus_px * um_per_px**2,
        inside_fraction=inside,
        visible_fraction=min(1.0, visible),
        cut_by_edge=cut,
        touching=touching,
        overlapping=overlapping,
        exact=exact,
    )


def clip_polygon(contour: ContourArray, x_max: float, y_max: float) -> ContourArray | None:
    """Clip a contour to [0, x_max] x [0, y_max] (Sutherland-Hodgman); None where nothing is left.

    Exact for outlines that cross the image's border once; a severed bleb stays joined along the border.
    """
    points = [(float(x), float(y)) for x, y in contour]
    for axis, limit, sign in ((0, 0.0, 1.0), (0, x_max, -1.0), (1, 0.0, 1.0), (1, y_max, -1.0)):
        result: list[tuple[float, float]] = []
        for previous, point in zip([points[-1], *points[:-1]], points, strict=True):
            inside, before = sign * (point[axis] - limit) >= 0, sign * (previous[axis] - limit) >= 0
            if inside != before:
                t = (limit - previous[axis]) / (point[axis] - previous[axis])
                crossing = [previous[k] + t * (point[k] - previous[k]) for k in (0, 1)]
                crossing[axis] = limit
                result.append((crossing[0], crossing[1]))
            if inside:
                result.append(point)
        points = result
        if len(points) < 3:  # noqa: PLR2004 - no polygon
            return None
    return np.array(points)


def cells_per_field(rng: np.random.Generator, style: PatientStyle, parameters: Parameters) -> int:
    """Draw the number of nucleated cells in a field, in the style of its center."""
    key = "cells_blood_like" if style.center.blood_like else "cells_marrow"
    low, high = span(parameters.optics.field[key])
    return int(rng.integers(int(low), int(high) + 1))
