"""First morphology measurements of a cell, from its contour, its crop and its mask.

Steps: shape from the contour; optical density from the crop (OD = -log10(I / white), white from the crop's own
bright background); the nucleus is the denser class of an Otsu threshold on the red channel's OD inside the
cell, where azure dyes absorb and eosin hardly does; texture is what a small Gaussian blur removes. What cannot
be measured is NaN, never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from marrowscope import geometry
from marrowscope.tables import MORPHOLOGY_COLUMNS

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, Crop, ImageArray, MaskArray

_RED, _BLUE = 0, 2
_MIN_REGION_PX = 12
_RIM_PX = 2
_MIN_ELLIPSE_POINTS = 5
_MIN_OD_CONTRAST = 0.05
"""Below this difference in mean red OD the two Otsu classes are one: no nucleus stands out."""
_TEXTURE_SIGMA_UM = 0.45
_WHITE_QUANTILE = 0.95

BoolArray = NDArray[np.bool_]


def measure(crop: Crop, contour_xy: ContourArray, um_per_px: float, crop_um_per_px: float) -> dict[str, float]:
    """Measure one cell; gives every key of ``MORPHOLOGY_COLUMNS`` (units there), NaN where not measurable.

    ``contour_xy`` (n, 2) is in pixels of the image at ``um_per_px``; the crop is at ``crop_um_per_px``.
    """
    values = dict.fromkeys(MORPHOLOGY_COLUMNS, float("nan"))
    values.update(_shape(contour_xy, um_per_px))
    if int(crop.mask.sum()) < _MIN_REGION_PX:
        return values
    density = optical_density(crop.image)
    nucleus = segment_nucleus(density, crop.mask)
    fine = _fine_structure(density.mean(axis=2), _TEXTURE_SIGMA_UM / crop_um_per_px)
    cytoplasm = crop.mask & ~nucleus
    if int(nucleus.sum()) >= _MIN_REGION_PX:
        values["nucleus_area_ratio"] = float(nucleus.sum() / crop.mask.sum())
        values["nucleus_solidity"] = _mask_solidity(nucleus)
        values["nucleus_od"] = float(density[nucleus].mean())
        values["chromatin_texture"] = float(fine[nucleus].std())
    if int(cytoplasm.sum()) >= _MIN_REGION_PX:
        values["cytoplasm_od"] = float(density[cytoplasm].mean())
        mean_od = density[cytoplasm].mean(axis=0)
        values["cytoplasm_basophilia"] = float(mean_od[_RED] - mean_od[_BLUE])
        values["granularity"] = float(fine[cytoplasm].std())
    return values


def optical_density(image: ImageArray) -> NDArray[np.float32]:
    """Optical density per channel (h, w, 3), float32, from RGB uint8; white is each channel's 95% quantile."""
    white = np.quantile(image.reshape(-1, 3), _WHITE_QUANTILE, axis=0).clip(min=32.0)
    intensity = (image.astype(np.float32) + 1.0) / (white.astype(np.float32) + 1.0)
    return np.asarray(np.clip(-np.log10(intensity), 0.0, None), dtype=np.float32)


def segment_nucleus(density: NDArray[np.float32], mask: MaskArray) -> BoolArray:
    """Split the cell by Otsu's threshold on the red channel's OD; gives the denser part (h, w), empty if none.

    Source: Otsu 1979, IEEE Trans. Syst. Man Cybern. 9:62.
    """
    red = density[..., _RED]
    # The outermost pixels blend with the background and would pass for a cytoplasm of their own.
    core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_RIM_PX).astype(np.bool_)
    inside = red[core]
    if inside.size == 0 or float(inside.max()) <= 0:
        return np.zeros_like(mask)
    levels = np.clip(inside / float(inside.max()) * 255, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dense = levels > threshold
    if dense.all() or not dense.any() or inside[dense].mean() - inside[~dense].mean() < _MIN_OD_CONTRAST:
        return np.zeros_like(mask)
    nucleus = mask & (red > threshold / 255 * float(inside.max()))
    opened = cv2.morphologyEx(nucleus.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(opened, dtype=np.uint8).astype(np.bool_)


def _shape(contour_xy: ContourArray, um_per_px: float) -> dict[str, float]:
    hull = cv2.convexHull(contour_xy.astype(np.float32))
    hull_area = float(cv2.contourArea(hull))
    shape = {"perimeter_um": geometry.perimeter(contour_xy) * um_per_px}
    if hull_area > 0:
        shape["solidity"] = min(1.0, geometry.area(contour_xy) / hull_area)
    if len(contour_xy) >= _MIN_ELLIPSE_POINTS:
        _, axes, _ = cv2.fitEllipse(contour_xy.astype(np.float32))
        if max(axes) > 0:
            shape["elongation"] = 1.0 - min(axes) / max(axes)
    return shape


def _fine_structure(gray_density: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(gray_density - cv2.GaussianBlur(gray_density, (0, 0), max(sigma_px, 0.5)), dtype=np.float32)


def _mask_solidity(mask: BoolArray) -> float:
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    hull_mask = np.zeros(mask.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull_mask, cv2.convexHull(points), 1)
    return float(mask.sum() / max(1, int(hull_mask.sum())))
