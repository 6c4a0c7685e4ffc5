"""Exact morphology of a drawn cell, before light, lens and camera: the target of a measurement on the image.

Names and definitions are those of the cell table, applied to the drawn outline, the drawn nucleus and the drawn optical
density. Nothing here draws: no random number is used, no pixel changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import shapely

from marrowscope import geometry
from marrowscope.simulate.shapes import outline_contour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.simulate.frame import Brush
    from marrowscope.simulate.nucleus import Nucleus
    from marrowscope.simulate.texture import Floats

_FINE_SIGMA_UM = 0.7
"""Texture is what a Gaussian blur of this width, within the part, removes."""
FULL = 0.9
"""Pixels with a smaller cover of a part belong to its soft border, and to no mean."""
_ZOOM = 3
"""The nucleus's outline is traced on a grid this many times finer than the drawn one."""


@dataclass(frozen=True)
class ExactMorphology:
    """Exact values of one cell, units in the names, NaN where the cell has no such part.

    Optical densities are decadic. ``granule_load`` is the mean decadic density (over R, G, B) that granules and Auer
    rods add to the cytoplasm, ``chromatin_contrast`` the standard deviation of the chromatin's relative density.
    """

    perimeter_um: float
    solidity: float
    elongation: float
    nucleus_circularity: float
    nucleus_elongation: float
    nucleus_solidity: float
    nucleus_width_um: float
    nucleus_od: float
    cytoplasm_od: float
    cytoplasm_basophilia: float
    cytoplasm_eosinophilia: float
    granularity: float
    chromatin_texture: float
    granule_load: float
    chromatin_contrast: float


def exact_morphology(
    brush: Brush, nucleus: Nucleus, density: Floats, granules: Floats, chromatin: Floats
) -> ExactMorphology:
    """Compute the exact morphology of a cell from what was drawn.

    ``density`` and ``granules`` (h, w, 3) are natural optical densities of the cell and of its granules alone,
    ``chromatin`` (h, w) is the relative density of the chromatin.
    """
    um_per_px, frame = brush.um_per_px, brush.frame
    outline = outline_contour(brush.plan.outline, (0.0, 0.0))
    inner, outer = nucleus.mask > FULL, (frame.cover > FULL) & (nucleus.mask < 1.0 - FULL)
    decadic = np.asarray(density, dtype=np.float32) / np.float32(math.log(10))
    gray = decadic.mean(axis=2)
    sigma_px = _FINE_SIGMA_UM / um_per_px
    red, green, blue = (_mean(decadic[..., channel], outer) for channel in range(3))
    hull = float(shapely.area(shapely.convex_hull(shapely.Polygon(outline))))
    circularity, elongation, solidity, width_px = _nucleus_shape(nucleus.depth_um)
    return ExactMorphology(
        perimeter_um=geometry.perimeter(outline) * um_per_px,
        solidity=geometry.area(outline) / hull,
        elongation=_elongation(cv2.moments(outline.astype(np.float32))),
        nucleus_circularity=circularity,
        nucleus_elongation=elongation,
        nucleus_solidity=solidity,
        nucleus_width_um=width_px * um_per_px,
        nucleus_od=_mean(gray, inner),
        cytoplasm_od=_mean(gray, outer),
        cytoplasm_basophilia=red - blue,
        cytoplasm_eosinophilia=green - red,
        granularity=_fine_deviation(gray, outer, sigma_px),
        chromatin_texture=_fine_deviation(gray, inner, sigma_px),
        granule_load=_mean(granules.mean(axis=2), outer) / math.log(10),
        chromatin_contrast=float(chromatin[inner].std()) if inner.any() else math.nan,
    )


def _nucleus_shape(depth_um: Floats) -> tuple[float, float, float, float]:
    """Compute circularity, elongation, solidity and width (px) of the region of positive depth, parts joined."""
    fine = cv2.resize(np.asarray(depth_um, dtype=np.float32), None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_LINEAR)
    region = (np.asarray(fine) > 0).astype(np.uint8)
    chains, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [np.asarray(chain[:, 0], dtype=np.float64) for chain in chains if len(chain) >= 4 * _ZOOM]
    if not outlines:
        return (math.nan,) * 4
    smooth = [geometry.resample_contour(outline, max(16, len(outline) // (2 * _ZOOM))) for outline in outlines]
    perimeter = sum(geometry.perimeter(outline) for outline in smooth)
    area = sum(geometry.area(outline) for outline in smooth)
    hull = float(shapely.area(shapely.convex_hull(shapely.MultiPoint(np.concatenate(smooth)))))
    depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (
        4 * math.pi * area / perimeter**2,
        _elongation(cv2.moments(region, binaryImage=True)),
        min(1.0, area / hull),
        # Squared distances are integers; the last bits of OpenCV's square root depend on the number of threads.
        (2.0 * math.sqrt(round(float(depth.max()) ** 2)) - 1.0) / _ZOOM,
    )


def _elongation(moments: cv2.typing.Moments) -> float:
    """1 - minor / major axis of the ellipse with the same second moments."""
    spread = math.hypot(moments["mu20"] - moments["mu02"], 2 * moments["mu11"])
    total = moments["mu20"] + moments["mu02"]
    return 1.0 - math.sqrt(max(0.0, total - spread) / (total + spread)) if total > 0 else math.nan


def _mean(values: Floats, region: NDArray[np.bool_]) -> float:
    return float(values[region].mean()) if region.any() else math.nan


def _fine_deviation(values: Floats, region: NDArray[np.bool_], sigma_px: float) -> float:
    """Compute the mean absolute deviation in ``region`` from a blur within it: its border adds nothing."""
    if not region.any():
        return math.nan
    weight = region.astype(np.float32)
    blurred = cv2.GaussianBlur(values * weight, (0, 0), sigma_px)[region]
    share = cv2.GaussianBlur(weight, (0, 0), sigma_px)[region]
    return float(np.abs(values[region] - blurred / share).mean())
