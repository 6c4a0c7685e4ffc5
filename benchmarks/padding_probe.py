"""Does the padding of a crop tell that its photograph was small? A probe on the crop's outer ring alone.

    python benchmarks/padding_probe.py COHORT [--cells 450] [--tile-px 250] [--um-per-px 0.096]

COHORT is a cohort of mosaics of single-cell photographs (marrow-cells). Each cell is cut twice: from a small picture,
which needs padding, and from a larger one, which needs none. A classifier that sees only the ring around the cell
should not tell the two apart: area under the ROC curve 0.5.

- *same tile*: the small picture is the middle two thirds of the cell's tile, the larger one the whole tile; the crop is
  six fifths of the small picture, as 28.8 um are of 24 um. Both show the same smear, so only the padding differs.
- *tile in its mosaic*: the picture is the tile (24 um) or the whole mosaic, the crop the default one (28.8 um). Seams
  between tiles tell as well.

Paddings: the border pixels repeated, the picture mirrored, the background's color, and mirrored in every source at the
same distance from the cell (``CropSpec.seen_um``). The probes are a logistic regression and gradient-boosted trees on
measures of the four sides of the ring: color, contrast, gradient along and across, and the best correlation of a strip
with its mirror image. Cells are kept together in five folds. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from marrowscope.cells.crop import CropSpec, cut_crop
from marrowscope.cohort.annotations import AnnotationFile
from marrowscope.cohort.formats.labelme import read_labelme
from marrowscope.imaging import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from marrowscope.records import ContourArray, ImageArray

PADDINGS = ("repeated", "mirrored", "background", "mirrored in every source")
RING_PX = 20
"""Width of the ring in crop pixels of 96: the padding of a centered cell is 8 px wide, of one off center up to 24."""
_FOLDS = 5


def cells_of(root: Path, tile_px: int, n_cells: int) -> Iterator[tuple[ImageArray, ContourArray, tuple[int, int]]]:
    """Yield mosaic, contour and the tile's corner for cells spread over the cohort's fields, 12 cells a field."""
    paths = sorted(root.glob("*/*.json"))
    for path in paths[:: max(1, len(paths) * 12 // n_cells)]:
        (annotated,) = read_labelme(AnnotationFile(path))
        image = read_image(path.with_name(annotated.image_path))
        for item in annotated.shapes:
            x, y = (item.contour_xy.mean(axis=0) // tile_px).astype(int) * tile_px
            yield image, item.contour_xy, (int(x), int(y))


def _around(mosaic: ImageArray, contour: ContourArray, reach_px: int) -> tuple[ImageArray, ContourArray]:
    """Cut the part of a mosaic around a cell, and return it with its corner: whole mosaics are slow to pad."""
    center = contour.mean(axis=0).astype(int)
    x0, y0 = np.maximum(center - reach_px, 0)
    x1, y1 = center + reach_px
    return np.ascontiguousarray(mosaic[y0:y1, x0:x1]), np.array([x0, y0], dtype=np.float64)


def surround(picture: ImageArray, pad_px: int, padding: str) -> ImageArray:
    """Pad a picture on all sides."""
    if padding == "background":
        gray = picture.sum(axis=2, dtype=np.int64)
        color = np.median(picture[gray >= np.percentile(gray, 85)], axis=0)
        value = [float(channel) for channel in color]
        padded = cv2.copyMakeBorder(picture, *(pad_px,) * 4, cv2.BORDER_CONSTANT, value=value)
    else:
        how = cv2.BORDER_REPLICATE if padding == "repeated" else cv2.BORDER_REFLECT_101
        padded = cv2.copyMakeBorder(picture, *(pad_px,) * 4, how)
    return np.asarray(padded, dtype=np.uint8)


def crop_of(picture: ImageArray, contour: ContourArray, um_per_px: float, side_um: float, padding: str) -> ImageArray:
    """Cut one crop with the given padding beyond the picture."""
    spec, pad_px = CropSpec(side_um=side_um), round(side_um / um_per_px)
    if padding == PADDINGS[-1]:
        spec = CropSpec(side_um=side_um, seen_um=side_um * 2 / 3)
        return cut_crop(picture, contour, um_per_px, spec).image
    padded = surround(picture, pad_px, padding)
    return cut_crop(padded, contour + pad_px, um_per_px, spec).image


def ring_measures(crop: ImageArray) -> NDArray[np.float64]:
    """Measure the four sides of a crop's ring; the cell in the middle enters nothing."""
    values: list[float] = []
    for turns in range(4):
        # Rows run from the crop's edge inward.
        strip = np.rot90(crop, turns)[:RING_PX].astype(np.float64)
        gray = strip.mean(axis=2)
        values += [*strip.mean(axis=(0, 1)), *strip.std(axis=(0, 1))]
        across, along = np.abs(np.diff(gray, axis=0)), np.abs(np.diff(gray, axis=1))
        values += [*across.mean(axis=1), *along.mean(axis=1)]
        values += [across.min(axis=0).mean(), _best_mirror(gray)]
    return np.array(values)


def _best_mirror(gray: NDArray[np.float64]) -> float:
    """Return the largest correlation of the rows on both sides of an axis parallel to the crop's edge."""
    best = -1.0
    for axis in range(3, len(gray) - 3):
        width = min(axis, len(gray) - 1 - axis)
        outer = gray[axis - width : axis][::-1].ravel()
        inner = gray[axis + 1 : axis + 1 + width].ravel()
        outer, inner = outer - outer.mean(), inner - inner.mean()
        scale = np.sqrt((outer @ outer) * (inner @ inner))
        best = max(best, float(outer @ inner / scale)) if scale > 0 else best
    return best


def separable(small: NDArray[np.float64], large: NDArray[np.float64]) -> tuple[float, float]:
    """Return the AUC out of fold of the linear probe and of the trees: small pictures against large ones."""
    measures = np.concatenate([small, large])
    truth = np.repeat([1, 0], [len(small), len(large)])
    cell = np.concatenate([np.arange(len(small)), np.arange(len(large))])
    probes = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)),
        HistGradientBoostingClassifier(max_iter=30, random_state=0),
    )
    folds = GroupKFold(_FOLDS)
    found = []
    for probe in probes:
        chance = cross_val_predict(probe, measures, truth, groups=cell, cv=folds, method="predict_proba")[:, 1]
        found.append(float(roc_auc_score(truth, chance)))
    return found[0], found[1]


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--cells", type=int, default=450)
    parser.add_argument("--tile-px", type=int, default=250)
    parser.add_argument("--um-per-px", type=float, default=0.096)
    arguments = parser.parse_args()
    tile_px, um_per_px = arguments.tile_px, arguments.um_per_px
    measured: dict[tuple[str, str, str], list[NDArray[np.float64]]] = {}
    for mosaic, contour, (x, y) in cells_of(arguments.cohort, tile_px, arguments.cells):
        tile = np.ascontiguousarray(mosaic[y : y + tile_px, x : x + tile_px])
        in_tile = contour - [x, y]
        edge = round(tile_px / 6)
        small = np.ascontiguousarray(tile[edge:-edge, edge:-edge])
        side_um = 1.2 * small.shape[0] * um_per_px
        near, shift = _around(mosaic, contour, round(CropSpec().side_um / um_per_px))
        for padding in PADDINGS:
            cuts = {
                ("same tile", "small"): (small, in_tile - edge, side_um),
                ("same tile", "large"): (tile, in_tile, side_um),
                ("tile in its mosaic", "small"): (tile, in_tile, CropSpec().side_um),
                ("tile in its mosaic", "large"): (near, contour - shift, CropSpec().side_um),
            }
            for (comparison, source), (picture, outline, side) in cuts.items():
                crop = crop_of(picture, outline, um_per_px, side, padding)
                measured.setdefault((comparison, padding, source), []).append(ring_measures(crop))
    print("| comparison | padding | cells | linear probe, AUC | trees, AUC |\n|---|---|---|---|---|")
    results = {}
    for comparison in ("same tile", "tile in its mosaic"):
        for padding in PADDINGS:
            small_rings, large_rings = (
                np.array(measured[comparison, padding, source]) for source in ("small", "large")
            )
            linear, trees = separable(small_rings, large_rings)
            results[f"{comparison}, {padding}"] = [linear, trees]
            print(f"| {comparison} | {padding} | {len(small_rings)} | {linear:.3f} | {trees:.3f} |")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
