"""One nucleated cell as a patch of optical density.

Steps: cytoplasm (two dyes, grain, Golgi zone, rim), vacuoles, nucleus (level set with exact area), chromatin and
nucleoli, granules, Auer rods. The invariant: nothing depends on the code except through its row of morphology.toml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.simulate import texture
from marrowscope.simulate.shapes import ANGLES, N_ANGLES, NUCLEI

if TYPE_CHECKING:
    from marrowscope.records import FloatArray
    from marrowscope.simulate.optics import PatientStyle
    from marrowscope.simulate.parameters import CodeMorphology, Parameters

MARGIN_PX = 4


@dataclass
class CellPlan:
    """A cell before it is drawn: what it is, where, and its outline (px, see shapes)."""

    code: str
    center_xy: tuple[float, float]
    outline: FloatArray
    nc: float


@dataclass
class CellPatch:
    """A drawn cell: optical density (h, w, 3) and cover (h, w, 0-1) with the patch's top-left pixel in the field."""

    density: FloatArray
    cover: FloatArray
    x0: int
    y0: int
    nucleus_area_px: float


@dataclass
class _Frame:
    """Pixel coordinates of a patch relative to the cell's centre, in px, and the distance to the outline."""

    dx: FloatArray
    dy: FloatArray
    distance: FloatArray
    border: FloatArray
    cover: FloatArray
    x0: int
    y0: int


def draw_truncated(rng: np.random.Generator, low: float, high: float) -> float:
    """Normal draw whose 2.5-97.5 % range is [low, high], cut at half a width beyond that range's half."""
    middle, deviation = (low + high) / 2.0, (high - low) / 4.0
    while True:
        value = float(rng.normal(middle, deviation))
        if abs(value - middle) <= 3.0 * deviation:
            return value


def _frame(plan: CellPlan, edge_px: float) -> _Frame:
    reach = float(plan.outline.max()) + MARGIN_PX + edge_px
    cx, cy = plan.center_xy
    x0, y0 = int(np.floor(cx - reach)), int(np.floor(cy - reach))
    size = int(np.ceil(2 * reach)) + 1
    axis = np.arange(size, dtype=np.float32)
    dx = np.broadcast_to((axis + np.float32(x0 - cx))[None, :], (size, size))
    dy = np.broadcast_to((axis + np.float32(y0 - cy))[:, None], (size, size))
    distance = np.hypot(dx, dy)
    closed = np.append(plan.outline, plan.outline[0])
    table = np.interp(np.arange(8 * N_ANGLES) / 8.0, np.arange(N_ANGLES + 1), closed).astype(np.float32)
    index = (np.arctan2(dy, dx) * np.float32(4 * N_ANGLES / np.pi)).astype(np.int32) % (8 * N_ANGLES)
    border = table[index]
    cover = np.clip((border - distance) / max(1.0, edge_px) + 0.5, 0.0, 1.0)
    return _Frame(dx, dy, distance, border, cover, x0, y0)


def _nucleus(
    rng: np.random.Generator, row: CodeMorphology, plan: CellPlan, frame: _Frame, um_per_px: float
) -> tuple[FloatArray, FloatArray, tuple[float, float]]:
    """Give the nucleus' soft mask, a depth function (0 at the border, 1 deep inside) and its centre (px)."""
    radius = float(np.sqrt(np.mean(plan.outline**2)))
    kinds = list(row.nucleus)
    weights = np.array([row.nucleus[kind] for kind in kinds])
    kind = str(rng.choice(kinds, p=weights / weights.sum()))
    size = float(np.sqrt(plan.nc))
    room = max(0.0, 1.0 - size)
    shift = room * rng.uniform(*row.eccentricity)
    direction = rng.uniform(0, 2 * np.pi)
    reach = float(np.interp(direction, ANGLES, plan.outline)) / radius
    center = (shift * reach * np.cos(direction), shift * reach * np.sin(direction))
    plane = (frame.dx / radius - center[0], frame.dy / radius - center[1])
    value = NUCLEI[kind](rng, plane, size)
    value = value + (0.05 if kind != "smudge" else 0.14) * size * texture.noise(rng, value.shape, 0.28 * radius)
    value = value + 0.018 * texture.noise(rng, value.shape, 0.5 / um_per_px)
    fraction = frame.distance / frame.border
    follow = plan.nc**4
    value = (1.0 - follow) * value + follow * fraction * size
    value = value + 4.0 * np.clip(fraction - 0.95, 0.0, None)
    inside = frame.cover > 0.5  # noqa: PLR2004 - the hard outline
    level = float(np.quantile(value[inside], min(plan.nc, 0.999)))
    depth = (level - value) * radius
    mask = np.clip(depth / 1.2 + 0.5, 0.0, 1.0) * frame.cover
    if plan.nc > 0.96:  # noqa: PLR2004 - a bare nucleus fills its outline
        mask = frame.cover
        depth = frame.border - frame.distance
    center_px = (center[0] * radius, center[1] * radius)
    return mask.astype(np.float32), depth.astype(np.float32), center_px


def _chromatin(
    rng: np.random.Generator, row: CodeMorphology, mask: FloatArray, depth: FloatArray, frame: _Frame,
    um_per_px: float, parameters: Parameters,
) -> tuple[FloatArray, FloatArray]:
    """Give chromatin density relative to the nucleus' mean (h, w) and the nucleoli's cover."""
    kind = parameters.morphology.chromatin[row.chromatin]
    scale = kind.scale_um * rng.uniform(0.8, 1.25) / um_per_px / 2.0
    contrast = kind.contrast * rng.uniform(0.7, 1.35)
    grain = texture.clumps(rng, mask.shape, scale, kind.gain, kind.ridge)
    density = 1.0 + contrast * grain
    depth_um = depth * um_per_px
    density += 0.3 * rng.uniform(0.2, 1.2) * np.exp(-np.clip(depth_um, 0, None) / 0.25)
    if row.chromatin == "clockface":
        density += 0.12 * grain * np.exp(-np.clip(depth_um, 0, None) / 1.0)
    density *= 0.9 + 0.1 * np.clip(depth_um / 1.5, 0, 1)
    nucleoli = np.zeros(mask.shape, dtype=np.float32)
    least, most = row.nucleoli
    deep = np.flatnonzero(depth_um > 0.9)  # noqa: PLR2004 - nucleoli keep off the membrane
    if most and deep.size:
        for _ in range(int(rng.integers(least, most + 1))):
            place = int(deep[rng.integers(deep.size)])
            y, x = divmod(place, mask.shape[1])
            radius = rng.uniform(0.55, 1.4) / um_per_px * (0.75 + 0.5 / most)
            spot = np.hypot(frame.dx - frame.dx[0, x], frame.dy - frame.dy[y, 0])
            nucleoli = np.maximum(nucleoli, rng.uniform(0.25, 1.0) * np.clip((radius - spot) / 2.0 + 0.5, 0, 1))
    return np.clip(density, 0.15, None).astype(np.float32), nucleoli


def _cytoplasm(
    rng: np.random.Generator, row: CodeMorphology, frame: _Frame, center: tuple[float, float], um_per_px: float,
    style: PatientStyle,
) -> tuple[FloatArray, FloatArray]:
    """Give the amounts of blue and pink dye (h, w)."""
    spread = style.cytoplasm_spread
    blue = rng.uniform(*row.blue) * style.blue_factor * np.exp(rng.normal(0, spread))
    pink = rng.uniform(*row.pink) * style.pink_factor * np.exp(rng.normal(0, spread))
    shape = frame.cover.shape
    grain = texture.noise(rng, shape, 0.3 / um_per_px)
    cloud = texture.noise(rng, shape, 1.6 / um_per_px)
    relief = 1.0 + rng.uniform(0.03, 0.14) * grain + rng.uniform(0.06, 0.2) * cloud
    inner_um = np.clip(frame.border - frame.distance, 0, None) * um_per_px
    rim = 1.0 + rng.uniform(*row.rim) * np.exp(-inner_um / rng.uniform(0.4, 1.2))
    thin = np.clip(0.55 + inner_um / rng.uniform(0.8, 2.5), 0, 1)
    hof = rng.uniform(*row.hof)
    if hof > 0:
        radius = float(frame.border.mean())
        away = np.hypot(*center)
        turn = np.arctan2(-center[1], -center[0]) if away > 1.0 else rng.uniform(0, 2 * np.pi)
        turn += rng.normal(0, 0.5)
        hx, hy = center[0] + 0.62 * radius * np.cos(turn), center[1] + 0.62 * radius * np.sin(turn)
        zone = np.exp(-((frame.dx - hx) ** 2 + (frame.dy - hy) ** 2) / (2 * (0.24 * radius) ** 2))
        relief = relief * (1.0 - hof * zone)
    amount = np.clip(relief * rim * thin, 0.05, None)
    return (blue * amount).astype(np.float32), (pink * amount).astype(np.float32)


def _vacuoles(
    rng: np.random.Generator, row: CodeMorphology, frame: _Frame, nucleus: FloatArray, um_per_px: float
) -> FloatArray:
    """Cover of clear vacuoles (h, w); mostly over the cytoplasm, some over the nucleus."""
    holes = np.zeros(frame.cover.shape, dtype=np.float32)
    share, least, most = row.vacuoles
    if rng.random() >= share:
        return holes
    place = frame.cover * (1.0 - 0.85 * nucleus) * (frame.border - frame.distance > 0.5 / um_per_px)
    candidates = np.flatnonzero(place > 0.5)  # noqa: PLR2004 - cytoplasm
    if not candidates.size:
        return holes
    for _ in range(int(rng.integers(least, most + 1))):
        y, x = divmod(int(candidates[rng.integers(candidates.size)]), holes.shape[1])
        radius = float(np.exp(rng.normal(np.log(0.45), 0.4))) / um_per_px
        spot = np.hypot(frame.dx - frame.dx[0, x], frame.dy - frame.dy[y, 0])
        holes = np.maximum(holes, np.clip(radius - spot + 0.5, 0, 1) * rng.uniform(0.5, 0.95))
    return holes


def _auer_rods(rng: np.random.Generator, frame: _Frame, nucleus: FloatArray, um_per_px: float) -> FloatArray:
    """Amount of one to three Auer rods: thin straight needles in the cytoplasm."""
    rods = np.zeros(frame.cover.shape, dtype=np.float32)
    candidates = np.flatnonzero((frame.cover > 0.9) & (nucleus < 0.2))  # noqa: PLR2004 - cytoplasm
    if not candidates.size:
        return rods
    for _ in range(int(rng.integers(1, 4))):
        y, x = divmod(int(candidates[rng.integers(candidates.size)]), rods.shape[1])
        angle = rng.uniform(0, np.pi)
        dx, dy = frame.dx - frame.dx[0, x], frame.dy - frame.dy[y, 0]
        along = np.abs(dx * np.cos(angle) + dy * np.sin(angle)) - rng.uniform(0.8, 2.2) / um_per_px
        across = np.abs(dy * np.cos(angle) - dx * np.sin(angle)) - rng.uniform(0.12, 0.25) / um_per_px
        rods = np.maximum(rods, np.clip(0.5 - np.maximum(along, across), 0, 1))
    return rods * frame.cover


def draw_cell(
    rng: np.random.Generator, plan: CellPlan, um_per_px: float, style: PatientStyle, parameters: Parameters
) -> CellPatch:
    """Draw ``plan`` as optical density. ``rng`` decides everything that its row leaves open."""
    row = parameters.morphology.code[plan.code]
    frame = _frame(plan, rng.uniform(*row.edge_um) / um_per_px)
    nucleus, depth, center = _nucleus(rng, row, plan, frame, um_per_px)
    grain, nucleoli = _chromatin(rng, row, nucleus, depth, frame, um_per_px, parameters)
    blue, pink = _cytoplasm(rng, row, frame, center, um_per_px, style)
    holes = _vacuoles(rng, row, frame, nucleus, um_per_px)
    amount = rng.uniform(*row.chromatin_amount) * style.chromatin_factor * np.exp(rng.normal(0, style.chromatin_spread))
    clear = frame.cover * (1.0 - holes)
    under = clear * (1.0 - 0.72 * nucleus)
    chromatin = nucleus * (1.0 - 0.8 * holes * (1.0 - 0.5 * nucleus)) * amount * grain
    dyes = style.dyes
    density = np.empty((*frame.cover.shape, 3), dtype=np.float32)
    chromatin_kept = chromatin * (1.0 - 0.38 * nucleoli)
    blue_total = blue * under + 0.18 * nucleoli * chromatin
    pink_total = pink * under + style.parachromatin * nucleus * clear * amount
    for channel in range(3):
        density[..., channel] = (
            chromatin_kept * dyes["chromatin"][channel]
            + blue_total * dyes["blue"][channel]
            + pink_total * dyes["pink"][channel]
        )
    for kind, low, high, share, over_nucleus in row.granules:
        if rng.random() >= share:
            continue
        granule = parameters.morphology.granule[kind]
        per_um2 = np.exp(rng.uniform(np.log(low), np.log(high)))
        place = clear * np.clip(1.0 - (1.0 - over_nucleus) * nucleus, 0, 1)
        place = place * (frame.border - frame.distance > 0.3 / um_per_px)
        n = int(rng.poisson(per_um2 * float(place.sum()) * um_per_px**2))
        radii = (granule.diameter_um[0] / 2 / um_per_px, granule.diameter_um[1] / 2 / um_per_px)
        strength = np.exp(rng.normal(0, 0.2))
        level = (granule.amount[0] * strength, granule.amount[1] * strength)
        amount_of = texture.scatter(rng, place, n, radii, level)
        if granule.ground > 0:
            amount_of += granule.ground * level[1] * place * rng.uniform(0.5, 1.2)
        density += amount_of[..., None] * dyes[granule.dye]
    if rng.random() < row.auer_rods:
        density += 0.8 * _auer_rods(rng, frame, nucleus, um_per_px)[..., None] * dyes["azurophil"]
    return CellPatch(density, frame.cover, frame.x0, frame.y0, float(np.minimum(nucleus, frame.distance < frame.border).sum()))
