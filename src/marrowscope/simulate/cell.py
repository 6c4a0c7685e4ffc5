"""One nucleated cell as a patch of optical density.

Steps: nucleus, chromatin and nucleoli, cytoplasm with vacuoles, granules, Auer rods. The invariant: the code affects
the drawing only through its row of morphology.toml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.cytoplasm import place_auer_rods, place_vacuoles, stain_cytoplasm
from marrowscope.simulate.exact import ExactMorphology, exact_morphology
from marrowscope.simulate.frame import Brush, CellPlan, make_frame
from marrowscope.simulate.nucleus import place_nucleoli, shape_nucleus, stain_chromatin

if TYPE_CHECKING:
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import Parameters
    from marrowscope.simulate.texture import Floats


@dataclass(frozen=True)
class CellPatch:
    """A drawn cell: optical density (h, w, 3) and cover (h, w, 0-1) with the patch's top-left pixel in the field.

    ``exact`` is the part of its morphology that the pixels do not show.
    """

    density: Floats
    cover: Floats
    x0: int
    y0: int
    nucleus_area_px: float
    exact: ExactMorphology


def draw_truncated(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from a normal distribution with [low, high] as its central 95% (two sigma), cut off at three sigma."""
    middle, deviation = (low + high) / 2.0, (high - low) / 4.0
    while True:
        value = float(rng.normal(middle, deviation))
        if abs(value - middle) <= 3.0 * deviation:
            return value


def draw_cell(
    rng: np.random.Generator, plan: CellPlan, um_per_px: float, style: PatientStyle, parameters: Parameters
) -> CellPatch:
    """Draw ``plan`` as optical density; ``rng`` decides everything the code's row leaves open."""
    row = parameters.morphology.code[plan.code]
    frame = make_frame(plan, rng.uniform(*row.edge_um) / um_per_px)
    brush = Brush(rng, row, plan, frame, um_per_px, style, parameters)
    nucleus = shape_nucleus(brush)
    grain, nucleoli = stain_chromatin(brush, nucleus), place_nucleoli(brush, nucleus)
    blue, pink = stain_cytoplasm(brush, nucleus)
    holes = place_vacuoles(brush, nucleus)
    amount = (
        rng.uniform(*row.chromatin_amount) * style.chromatin_factor * math.exp(rng.normal(0, style.chromatin_spread))
    )
    clear = frame.cover * (1.0 - holes)
    chromatin = nucleus.mask * (1.0 - 0.5 * holes) * amount * grain
    under = clear * (1.0 - 0.72 * nucleus.mask)
    layers = {
        "chromatin": chromatin * (1.0 - 0.38 * nucleoli),
        "blue": blue * under + 0.18 * nucleoli * chromatin,
        "pink": pink * under + style.parachromatin * amount * nucleus.mask * clear,
    }
    granules = _granules(brush, nucleus.mask, clear)
    if rng.random() < row.auer_rods:
        rods = 0.8 * place_auer_rods(brush, nucleus)
        granules["azurophil"] = granules.get("azurophil", 0.0) + rods
    for dye, layer in granules.items():
        layers[dye] = layers[dye] + layer if dye in layers else layer
    names = list(layers)
    stacked = np.stack([layers[name] for name in names], axis=-1).astype(np.float32, copy=False)
    density = stacked @ np.stack([style.dyes[name] for name in names])
    nucleus_area = float(np.minimum(nucleus.mask, frame.distance < frame.border).sum())
    added = sum((layer[..., None] * style.dyes[name] for name, layer in granules.items()), np.zeros_like(density))
    exact = exact_morphology(brush, nucleus, density, added, grain)
    return CellPatch(density, frame.cover, frame.x0, frame.y0, nucleus_area, exact)


def _granules(brush: Brush, nucleus: Floats, clear: Floats) -> dict[str, Floats]:
    """Amount of dye (h, w) of the cell's granules, by dye."""
    rng, frame, um_per_px = brush.rng, brush.frame, brush.um_per_px
    layers: dict[str, Floats] = {}
    inner = frame.border - frame.distance > 0.3 / um_per_px
    for kind, low, high, share, over_nucleus in brush.row.granules:
        if rng.random() >= share:
            continue
        granule = brush.parameters.morphology.granule[kind]
        place = clear * (1.0 - (1.0 - over_nucleus) * nucleus) * inner
        per_um2 = math.exp(rng.uniform(math.log(low), math.log(high)))
        n = int(rng.poisson(per_um2 * float(place.sum()) * um_per_px**2))
        radii = (granule.diameter_um[0] / 2 / um_per_px, granule.diameter_um[1] / 2 / um_per_px)
        strength = float(np.exp(rng.normal(0, 0.2)))
        level = (granule.amount[0] * strength, granule.amount[1] * strength)
        layer: Floats = texture.scatter(rng, place, n, radii, level)
        if granule.ground > 0:
            layer = layer + granule.ground * level[1] * rng.uniform(0.5, 1.2) * place
        layers[granule.dye] = layers[granule.dye] + layer if granule.dye in layers else layer
    return layers
