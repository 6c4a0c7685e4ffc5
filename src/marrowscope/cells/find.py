"""Find the cells of one field of view; training and prediction share this code.

Steps: bring the field to the segmenter's scale; run the network; trace contours; apply the quality rules to the
contours; measure the field and its erythrocytes; cut a crop around each kept contour; measure its morphology. Contours
are returned in the pixels of the field's file.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.cells.crop import CropSpec, cut_crops, without_margin
from marrowscope.cells.erythrocyte_size import measure_erythrocytes
from marrowscope.cells.field_measures import SCALE_UM_PER_PX, measure_field
from marrowscope.cells.morphology import measure_cells
from marrowscope.cells.quality import QualityRules, judge_contours, refuse_overlaps
from marrowscope.records import FoundCell
from marrowscope.segment.letterbox import letterbox
from marrowscope.slides.seams import SEAM_UM, own_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from marrowscope.records import ContourArray, Erythrocytes, FieldImage, ImageArray, MaskArray
    from marrowscope.segment.letterbox import Letterbox
    from marrowscope.segment.segmenter import Segmenter

    Lap = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class CellFinder:
    """The parts that find cells and cut their crops: segmenter, quality rules, crop size.

    Training cuts ``margin_px`` extra crop pixels on each side.
    """

    segmenter: Segmenter
    rules: QualityRules
    crop: CropSpec
    margin_px: int = 0


@dataclass(frozen=True, slots=True)
class FoundCells:
    """The cells of one field.

    ``cells`` are in the segmenter's order. ``kept`` are the positions of the cells that passed every rule,
    ``contours_xy`` their contours in the field's decoded pixels, ``crops`` (n_kept, s, s, 3) and ``masks``
    (n_kept, s, s) their crops (no masks without morphology). ``measures`` describe the field, NaN where not measurable;
    ``erythrocytes`` are those that the segmenter did not outline.
    """

    cells: tuple[FoundCell, ...]
    measures: Mapping[str, float]
    erythrocytes: Erythrocytes
    kept: tuple[int, ...]
    contours_xy: tuple[ContourArray, ...]
    crops: ImageArray
    masks: MaskArray


def coarsest_um_per_px(segmenter_um_per_px: float, crop_um_per_px: float) -> float:
    """Return the coarsest scale to decode a photograph to: half a pixel of the finer network.

    At a full network pixel, a crop is shifted by interpolation instead of averaged, and 2% of the calls change.
    """
    return min(segmenter_um_per_px, crop_um_per_px) / 2


def find_cells(
    field: FieldImage, finder: CellFinder, *, morphology: bool = True, lap: Lap = lambda _step: nullcontext()
) -> FoundCells:
    """Find, judge, measure and cut the cells of one field.

    For a region of a slide, only the region's own cells are returned. ``lap`` times a step:
    ``with lap("segment"): ...``. Raises ScaleError for a scale too coarse for the network.
    """
    scale = field.pixels_um_per_px
    height, width = field.pixels.shape[:2]
    with lap("place"):
        canvas, transform = letterbox(field.pixels, scale, finder.segmenter.config)
    with lap("segment"):
        outputs = finder.segmenter.run(canvas)
    with lap("contours"):
        detections = finder.segmenter.cells_of(outputs, transform, width, height)
        if field.region is not None:
            detections = [detections[index] for index in own_cells(detections, field.region, SEAM_UM / scale)]
    with lap("judge"):
        outlines = [item.contour_xy for item in detections]
        judged = judge_contours(outlines, finder.rules, width, height, scale)
        judged = refuse_overlaps(judged, outlines, finder.rules)
        kept = tuple(index for index, judgment in enumerate(judged) if judgment.reason is None)
        contours = tuple(detections[index].contour_xy for index in kept)
    with lap("field"):
        shrunk = _seen_at(SCALE_UM_PER_PX, canvas, transform, finder.segmenter.config.um_per_px, scale)
        measures = measure_field(field.pixels, scale, shrunk)
    with lap("erythrocytes"):
        erythrocytes = measure_erythrocytes(field.pixels, scale, outlines, shrunk)
    with lap("crop"):
        crops, masks = cut_crops(
            field.pixels, contours, scale, finder.crop, margin_px=finder.margin_px, masks=morphology
        )
    measured: Sequence[Mapping[str, float]] = [{}] * len(kept)
    if morphology:
        with lap("morphology"):
            seen = without_margin(crops, masks, finder.margin_px)
            measured = measure_cells(*seen, contours, scale, finder.crop.um_per_px)
    of_kept = dict(zip(kept, measured, strict=True))
    cells = tuple(
        FoundCell(
            contour_xy=field.to_file(detection.contour_xy),
            score=detection.score,
            area_um2=judgment.area_px * scale**2,
            circularity=judgment.circularity,
            reject_reason=judgment.reason,
            n_parts=detection.n_parts,
            morphology=of_kept.get(index, {}),
        )
        for index, (detection, judgment) in enumerate(zip(detections, judged, strict=True))
    )
    return FoundCells(cells, measures, erythrocytes, kept, contours, crops, masks)


def _seen_at(
    um_per_px: float, canvas: ImageArray, transform: Letterbox, canvas_um_per_px: float, field_um_per_px: float
) -> ImageArray | None:
    """Return the field as the segmenter saw it if that is the field shrunk to ``um_per_px``; else None."""
    if canvas_um_per_px != um_per_px or field_um_per_px >= um_per_px:
        return None
    return np.ascontiguousarray(canvas[0, : transform.height_px, : transform.width_px])
