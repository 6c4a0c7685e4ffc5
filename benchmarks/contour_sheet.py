"""Draw a segmenter's contours on random tiles of a cohort's fields, as contact sheets to look at.

    python benchmarks/contour_sheet.py SEG.onnx COHORT OUT.png [--tiles 4x3] [--number 100] [--seed 0]

Every tile is one photograph of a mosaic field, enlarged to 250 px; contours of the segmenter are yellow, those of the
annotation cyan (--annotation). A red contour has more than 0.3 of its outline straight along its bounding box.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from marrowscope.cohort import read_cohort
from marrowscope.imaging import read_image, write_image
from marrowscope.segment.segmenter import Segmenter
from marrowscope.train.boxy_outlines import box_share
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, ImageArray

SIDE_PX, COLUMNS = 250, 10
YELLOW, CYAN, RED = (255, 230, 0), (0, 220, 220), (255, 0, 0)
MAX_BOX_SHARE = 0.3


def draw(image: ImageArray, contours: list[ContourArray], colors: list[tuple[int, int, int]], factor: float) -> None:
    """Draw contours of the unscaled image on its enlarged copy."""
    for contour, color in zip(contours, colors, strict=True):
        points = np.round((contour + 0.5) * factor - 0.5).astype(np.int32)
        cv2.polylines(image, [points], isClosed=True, color=color, thickness=1, lineType=cv2.LINE_AA)


def main() -> None:
    """Parse the command line and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("segmenter", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiles", default="4x3")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mask-level", type=float, default=0.0)
    parser.add_argument("--box-margin-px", type=float, default=0.0)
    parser.add_argument("--annotation", action="store_true")
    arguments = parser.parse_args()
    columns, rows = (int(part) for part in arguments.tiles.split("x"))
    stated = Segmenter.from_onnx(arguments.segmenter).config
    drawn = {"mask_level": arguments.mask_level, "box_margin_px": arguments.box_margin_px}
    segmenter = Segmenter.from_onnx(arguments.segmenter, stated.model_copy(update=drawn))
    fields = read_cohort(arguments.source, vocabulary=load_vocabulary()).fields
    rng = np.random.default_rng(arguments.seed)
    per_field = min(columns * rows, max(1, -(-arguments.number // len(fields))))
    tiles: list[ImageArray] = []
    n_contours = n_boxy = 0
    for place in rng.permutation(len(fields)):
        if len(tiles) >= arguments.number:
            break
        field = fields[int(place)]
        scale = field.um_per_px or 0.3
        image = read_image(field.path)
        factor = SIDE_PX / (image.shape[1] / columns)
        size = columns * SIDE_PX, rows * SIDE_PX
        large: ImageArray = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        found = [item.contour_xy for item in segmenter.detect(image, scale)]
        boxy = [box_share(contour, scale) > MAX_BOX_SHARE for contour in found]
        if arguments.annotation:
            expert = [item.contour_xy for item in field.annotations]
            draw(large, expert, [CYAN] * len(expert), factor)
        draw(large, found, [RED if bad else YELLOW for bad in boxy], factor)
        n_contours, n_boxy = n_contours + len(found), n_boxy + sum(boxy)
        for slot in rng.permutation(columns * rows)[:per_field]:
            top, left = int(slot) // columns * SIDE_PX, int(slot) % columns * SIDE_PX
            tiles.append(large[top : top + SIDE_PX, left : left + SIDE_PX])
    n_tiles = len(tiles)
    blank = np.full((SIDE_PX, SIDE_PX, 3), 255, dtype=np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    sheet = np.vstack([np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)])
    write_image(arguments.out, sheet)
    print(f"{arguments.out}: {n_tiles} tiles; {n_contours} contours in their fields, {n_boxy} of them boxy")


if __name__ == "__main__":
    main()
