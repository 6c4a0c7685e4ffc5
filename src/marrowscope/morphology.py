"""Morphology of a cell, from its contour, its crop and its mask.

Steps: shape from the contour; optical density from the crop (OD = -log10(I / white), white from the crop's own
bright background); the nucleus by a threshold on the purple density that is both Otsu's and an edge; shape of the
nucleus, colour of the cytoplasm, texture as what a small Gaussian blur removes. What cannot be measured is NaN, never
a guess.
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

_RED, _GREEN, _BLUE = 0, 1, 2
_MIN_REGION_PX = 12
_TEXTURE_SIGMA_UM = 0.45
_WHITE_QUANTILE = 0.95
_MIN_WHITE = 32

_PURPLE = np.array([0.5, 0.75, -0.25], dtype=np.float32)
"""Weights of the OD of R, G, B in which a nucleus stands out: green from blue cytoplasm, red from eosin granules."""
_NUCLEUS_SIGMA_UM = 0.54
"""Blur before the threshold: chromatin clumps vanish, the nuclear membrane stays."""
_EDGE_POWER = 3
_LEVELS = 48
_MIN_OD_CONTRAST = 0.05
"""Below this difference in mean purple OD the two classes are one: no nucleus stands out."""
_MIN_PART_UM2, _MIN_PART_SHARE = 3.0, 0.12
_MAX_HOLE_UM2 = 5.0

BoolArray = NDArray[np.bool_]


def measure(crop: Crop, contour_xy: ContourArray, um_per_px: float, crop_um_per_px: float) -> dict[str, float]:
    """Measure one cell; gives every key of ``MORPHOLOGY_COLUMNS`` (units there), NaN where not measurable.

    ``contour_xy`` (n, 2) is in pixels of the image at ``um_per_px``; the crop is at ``crop_um_per_px``. A cell that
    leaves its crop has no measure of the nucleus' size or shape.
    """
    values = dict.fromkeys(MORPHOLOGY_COLUMNS, float("nan"))
    values.update(_cell_shape(contour_xy, um_per_px))
    if int(crop.mask.sum()) < _MIN_REGION_PX:
        return values
    density = optical_density(crop.image)
    nucleus = segment_nucleus(density, crop.mask, crop_um_per_px)
    fine = _fine_structure(density.mean(axis=2), _TEXTURE_SIGMA_UM / crop_um_per_px)
    cytoplasm = crop.mask & ~nucleus
    if int(nucleus.sum()) >= _MIN_REGION_PX:
        if not _touches_frame(crop.mask):
            values.update(_nucleus_shape(nucleus, crop_um_per_px))
            values["nucleus_area_ratio"] = float(nucleus.sum() / crop.mask.sum())
        values["nucleus_od"] = float(density[nucleus].mean())
        values["chromatin_texture"] = float(fine[nucleus].std())
    if int(cytoplasm.sum()) >= _MIN_REGION_PX:
        mean_od = density[cytoplasm].mean(axis=0)
        values["cytoplasm_od"] = float(mean_od.mean())
        values["cytoplasm_basophilia"] = float(mean_od[_RED] - mean_od[_BLUE])
        values["cytoplasm_eosinophilia"] = float(mean_od[_GREEN] - mean_od[_RED])
        values["granularity"] = float(fine[cytoplasm].std())
    return values


def optical_density(image: ImageArray) -> NDArray[np.float32]:
    """Optical density per channel (h, w, 3), float32, from RGB uint8; white is each channel's 95% quantile."""
    density = np.empty(image.shape, dtype=np.float32)
    levels = np.arange(256, dtype=np.float32) + np.float32(1.0)
    n_below = _WHITE_QUANTILE * image.shape[0] * image.shape[1]
    for channel in range(3):
        counts = np.bincount(image[..., channel].ravel(), minlength=256)
        white = max(int(np.searchsorted(counts.cumsum(), n_below)), _MIN_WHITE)
        table = np.maximum(-np.log10(levels / np.float32(white + 1)), np.float32(0.0))
        density[..., channel] = table[image[..., channel]]
    return density


def segment_nucleus(density: NDArray[np.float32], mask: MaskArray, um_per_px: float) -> BoolArray:
    """Nucleus (h, w) of the cell under ``mask``, from the OD (h, w, 3) at ``um_per_px``; empty where none stands out.

    The threshold on the blurred purple density maximises Otsu's variance between the two classes (Otsu 1979, IEEE
    Trans. Syst. Man Cybern. 9:62) times the cube of the mean gradient along it: an outline of clumps lies on a gentle
    slope, an outline of a nucleus on a steep one. Crumbs are dropped, small holes closed.
    """
    blank = np.zeros(mask.shape, dtype=np.bool_)
    purple = cv2.GaussianBlur(density @ _PURPLE, (0, 0), _NUCLEUS_SIGMA_UM / um_per_px)
    inside = np.asarray(purple[mask], dtype=np.float32)
    if inside.size < _MIN_REGION_PX or float(np.ptp(inside)) < _MIN_OD_CONTRAST:
        return blank
    slope = np.hypot(cv2.Sobel(purple, cv2.CV_32F, 1, 0), cv2.Sobel(purple, cv2.CV_32F, 0, 1))[mask]
    threshold = _edge_threshold(inside, np.asarray(slope, dtype=np.float32))
    dense = inside > threshold
    if inside[dense].mean() - inside[~dense].mean() < _MIN_OD_CONTRAST:
        return blank
    nucleus = ((purple > threshold) & mask).astype(np.uint8)
    nucleus = np.asarray(cv2.morphologyEx(nucleus, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))))
    return _whole_parts(nucleus, um_per_px) & mask


def _edge_threshold(values: NDArray[np.float32], slope: NDArray[np.float32]) -> float:
    """Threshold between two classes of ``values`` (n,) that lies where ``slope`` (n,) is steep, see segment_nucleus."""
    low, high = float(values.min()), float(values.max())
    width = (high - low) / _LEVELS
    level = np.minimum(((values - low) / width).astype(np.intp), _LEVELS - 1)
    count = np.bincount(level, minlength=_LEVELS).astype(np.float64)
    steepness = np.bincount(level, weights=slope, minlength=_LEVELS)
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
    edge = np.convolve(steepness, kernel, "same") / np.maximum(np.convolve(count, kernel, "same"), 1e-9)
    below = count.cumsum()[:-1]
    mass = (count * np.arange(_LEVELS)).cumsum()
    between = (mass[-1] * below / values.size - mass[:-1]) ** 2 / (below * (values.size - below))
    score = between * (0.5 * (edge[:-1] + edge[1:])) ** _EDGE_POWER
    return low + width * (int(score.argmax()) + 1)


def _whole_parts(nucleus: NDArray[np.uint8], um_per_px: float) -> BoolArray:
    """Drop crumbs (small, and small beside the largest part) and close small holes."""
    pixel_um2 = um_per_px**2
    n_parts, parts, table, _ = cv2.connectedComponentsWithStats(nucleus, connectivity=4)
    if n_parts > 1:
        sizes = table[:, cv2.CC_STAT_AREA]
        kept = sizes >= max(_MIN_PART_UM2 / pixel_um2, _MIN_PART_SHARE * float(sizes[1:].max()))
        kept[0] = False
        nucleus = kept[parts].astype(np.uint8)
    _, holes, table, _ = cv2.connectedComponentsWithStats(1 - nucleus, connectivity=4)
    closed = table[:, cv2.CC_STAT_AREA] < _MAX_HOLE_UM2 / pixel_um2
    closed[0] = True
    return np.asarray(closed[holes], dtype=np.bool_)


def _cell_shape(contour_xy: ContourArray, um_per_px: float) -> dict[str, float]:
    shape = {"perimeter_um": geometry.perimeter(contour_xy) * um_per_px}
    points = contour_xy.astype(np.float32)
    hull_area = float(cv2.contourArea(cv2.convexHull(points))) if len(points) else 0.0
    if hull_area > 0:
        shape["solidity"] = min(1.0, geometry.area(contour_xy) / hull_area)
        shape["elongation"] = _elongation(cv2.moments(points))
    return shape


def _nucleus_shape(nucleus: BoolArray, um_per_px: float) -> dict[str, float]:
    """Shape of the nucleus (h, w), its parts taken together as one figure."""
    drawn = nucleus.astype(np.uint8)
    area_px = float(drawn.sum())
    outlines, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # The outline runs through the centres of the border's pixels: half a pixel inside the true one all around.
    perimeter_px = sum(_smooth_perimeter(np.asarray(outline, dtype=np.float64)[:, 0]) + np.pi for outline in outlines)
    hull = cv2.convexHull(np.concatenate(outlines))
    hull_px = float(cv2.contourArea(hull)) + 0.5 * cv2.arcLength(hull, closed=True) + 1.0
    depth = cv2.distanceTransform(np.pad(drawn, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return {
        "nucleus_area_um2": area_px * um_per_px**2,
        "nucleus_circularity": min(1.0, 4 * np.pi * area_px / perimeter_px**2),
        "nucleus_elongation": _elongation(cv2.moments(drawn, binaryImage=True)),
        "nucleus_solidity": min(1.0, area_px / hull_px),
        # Squared distances are integers; OpenCV's square root differs in its last bits with the number of threads.
        "nucleus_width_um": (2.0 * float(np.sqrt(round(float(depth.max()) ** 2))) - 1.0) * um_per_px,
    }


def _elongation(moments: cv2.typing.Moments) -> float:
    """1 - minor / major axis of the ellipse with the same second moments; 0 for a figure without an area."""
    spread = np.hypot(moments["mu20"] - moments["mu02"], 2 * moments["mu11"])
    total = moments["mu20"] + moments["mu02"]
    return 1.0 - float(np.sqrt(max(0.0, total - spread) / (total + spread))) if total > 0 else 0.0


def _smooth_perimeter(chain_xy: ContourArray) -> float:
    """Length (px) of a closed chain (n, 2) of pixels, smoothed over five of them so that stairs do not lengthen it."""
    if len(chain_xy) < 8:  # noqa: PLR2004 - too short to smooth
        return geometry.perimeter(chain_xy)
    shifted = [np.roll(chain_xy, shift, axis=0) for shift in range(-2, 3)]
    return geometry.perimeter(np.mean(shifted, axis=0))


def _touches_frame(mask: MaskArray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _fine_structure(gray_density: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    return np.asarray(gray_density - cv2.GaussianBlur(gray_density, (0, 0), max(sigma_px, 0.5)), dtype=np.float32)
