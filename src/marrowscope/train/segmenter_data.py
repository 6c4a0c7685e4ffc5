"""Cut labeled fields into training windows for the segmenter.

Steps: resample each field to the segmenter's um/px; where a field is a mosaic of photographs, paint over the cells
that a seam cuts and nobody annotated; cut square windows (small fields are tiled side by side first); vary the
stain; clip the polygons; write images and YOLO-seg labels, cells as class 0 and regions to ignore as class 1 (see
segmenter_ignored). The invariant: equal fields, configuration and seed give
equal files, and all windows of a patient are on one side of the split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import Polygon, box, make_valid
from shapely.affinity import translate
from shapely.errors import GEOSException

from marrowscope import geometry
from marrowscope.errors import ScaleError, TrainingError
from marrowscope.imaging import read_image, sha256_file, write_image
from marrowscope.train.boxy_outlines import box_share
from marrowscope.train.window_looks import FADED_TO, NUCLEUS_RED_OD, empty_glass, fade_cytoplasm, vary_stain
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from marrowscope.records import ContourArray, Field, ImageArray
    from marrowscope.train.segmenter_config import SegmenterTrainingConfig

FloatMatrix = NDArray[np.float64]

_MIN_PAINTED_UM2 = 2.0
_PAINT_MARGIN_UM = 2.4
# A contour that is not good enough may miss the rim of its cell, so the region to ignore is a little wider.
_IGNORED_MARGIN_UM = 0.6


@dataclass(frozen=True, slots=True)
class LabeledField:
    """One image with the contours of its nucleated cells, in image pixels.

    ``group`` is the patient (all fields of a group are on one side of the split); ``source`` is the cohort (every
    cohort is validated on); ``tile_grid`` is (columns, rows) where the field is a mosaic of photographs whose seams cut
    cells that are not annotated. ``ignored_xy`` outlines cells that are neither learned nor background, because their
    contours are not good enough. Where ``exhaustive`` is False, cells are left out, and everything outside the contours
    is ignored.
    """

    image_path: Path
    um_per_px: float
    contours_xy: tuple[ContourArray, ...]
    group: str
    source: str = ""
    tile_grid: tuple[int, int] | None = None
    ignored_xy: tuple[ContourArray, ...] = ()
    exhaustive: bool = True


@dataclass(frozen=True, slots=True)
class PreparedWindows:
    """The written data set: Ultralytics' data file, the counts, and a hash over every source."""

    data_yaml: Path
    n_train: int
    n_val: int
    n_cells: int
    n_ignored: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Patch:
    """A resampled image, its cells and its ignored regions in corner coordinates (pixel (0, 0) covers 0 to 1)."""

    image: ImageArray
    polygons: tuple[BaseGeometry, ...]
    ignored: tuple[BaseGeometry, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    """One training window: the rings of its cells and ignored regions, in corner coordinates of the window."""

    image: ImageArray
    cells: list[FloatMatrix]
    ignored: list[FloatMatrix]


def labeled_fields(
    fields: Iterable[Field], source: str, tile_grid: tuple[int, int] | None = None, *, max_box_share: float = 1.0
) -> list[LabeledField]:
    """Collect the cohort's annotated fields.

    A contour is ignored instead of learned if a network drafted it, or if more than ``max_box_share`` of its outline is
    straight along its bounding box. Raises ScaleError for an annotated field without um/px.
    """
    taken = []
    for item in fields:
        if not item.annotated:
            continue
        if item.um_per_px is None:
            message = f"{item.path}: found no um/px, expected a scale; add um_per_px to patients.csv"
            raise ScaleError(message)
        learned: list[ContourArray] = []
        ignored: list[ContourArray] = []
        for annotation in item.annotations:
            share = box_share(annotation.contour_xy, item.um_per_px, (item.width_px, item.height_px))
            boxy = share > max_box_share
            (ignored if boxy or annotation.network_contour else learned).append(annotation.contour_xy)
        taken.append(
            LabeledField(
                item.path,
                item.um_per_px,
                tuple(learned),
                item.patient_id,
                source,
                tile_grid,
                tuple(ignored),
                item.exhaustive,
            )
        )
    return taken


def prepare_windows(
    fields: Iterable[LabeledField],
    folder: Path,
    config: SegmenterTrainingConfig,
) -> PreparedWindows:
    """Write training and validation windows below ``folder`` (emptied first) and return their description.

    Raises TrainingError when no field, or no cell, is left to train on.
    """
    ordered = sorted(fields, key=lambda item: (item.source, item.group, str(item.image_path)))
    if not ordered:
        message = "found no labeled field, expected at least one; name a cohort with annotations"
        raise TrainingError(message)
    shutil.rmtree(folder, ignore_errors=True)
    sides = dict(zip(("train", "val"), _split(ordered, config), strict=True))
    counts = {"train": 0, "val": 0}
    n_cells = n_ignored = 0
    digest = hashlib.sha256()
    for side, side_fields in sides.items():
        for index, item in enumerate(side_fields):
            digest.update(_field_hash(item))
            rng = np.random.default_rng([config.seed, index, side == "val"])
            n_windows = config.crops_per_field if side == "train" else None
            for window in _field_windows(item, side_fields, n_windows, config, rng):
                shown = _varied(window, config, rng) if side == "train" else window
                _write_window(folder, side, f"{index:05d}_{counts[side]:06d}", shown)
                counts[side] += 1
                n_cells += len(window.cells)
                n_ignored += len(window.ignored)
    if n_cells == 0:
        message = (
            f"found no cell in {count_of(len(ordered), 'field')}, expected polygons; check the annotations and the "
            "scale"
        )
        raise TrainingError(message)
    data_yaml = folder / "data.yaml"
    val_part = "val" if counts["val"] else "train"
    data_yaml.write_text(
        f"path: {json.dumps(str(folder.resolve()))}\ntrain: images/train\nval: images/{val_part}\n"
        "names:\n  0: cell\n  1: ignored\n",
        encoding="utf-8",
    )
    return PreparedWindows(data_yaml, counts["train"], counts["val"], n_cells, n_ignored, digest.hexdigest())


def paint_unlabeled(
    image: ImageArray, polygons: Sequence[BaseGeometry], tile_grid: tuple[int, int], um_per_px: float
) -> ImageArray:
    """Paint nuclei that touch a tile's border and overlap no polygon in the tile's background color.

    The mosaic's seam cuts such cells and the annotators left them out; to a network they are cells.
    """
    painted = image.copy()
    labeled = np.zeros(image.shape[:2], dtype=np.uint8)
    for polygon in polygons:
        cv2.fillPoly(labeled, [np.round(ring - 0.5).astype(np.int32) for ring in _rings(polygon)], 1)
    columns = np.round(np.linspace(0, image.shape[1], tile_grid[0] + 1)).astype(int)
    rows = np.round(np.linspace(0, image.shape[0], tile_grid[1] + 1)).astype(int)
    margin = max(1, round(_PAINT_MARGIN_UM / um_per_px))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            tile, kept = painted[top:bottom, left:right], labeled[top:bottom, left:right]
            background = empty_glass(tile)
            red_od = np.log10(max(background[0], 1.0) / np.maximum(tile[..., 0].astype(np.float64), 1.0))
            dark = (red_od > NUCLEUS_RED_OD).astype(np.uint8)
            n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
            cover = np.zeros_like(dark)
            for part in range(1, n_parts):
                x0, y0, w, h, area_px = stats[part]
                at_border = x0 <= 1 or y0 <= 1 or x0 + w >= dark.shape[1] - 1 or y0 + h >= dark.shape[0] - 1
                blob = parts == part
                if at_border and area_px * um_per_px**2 >= _MIN_PAINTED_UM2 and not kept[blob].any():
                    cover[blob] = 1
            tile[(cv2.dilate(cover, kernel) > 0) & (kept == 0)] = background
    return painted


def _rings(geometry: BaseGeometry) -> list[FloatMatrix]:
    parts = getattr(geometry, "geoms", [geometry])
    return [np.asarray(part.exterior.coords) for part in parts if isinstance(part, Polygon) and not part.is_empty]


def _split(
    fields: Sequence[LabeledField], config: SegmenterTrainingConfig
) -> tuple[list[LabeledField], list[LabeledField]]:
    """Split fields into training and validation by patient, within each source.

    A source with one patient is used for training only. The validation patients' fields are sampled up to the number of
    validation windows for the source; the rest is left out, never trained on.
    """
    training: list[LabeledField] = []
    validation: list[LabeledField] = []
    sources = sorted({item.source for item in fields})
    for number, source in enumerate(sources):
        rng = np.random.default_rng([config.seed, number])
        groups = sorted({item.group for item in fields if item.source == source})
        n_held = min(len(groups) - 1, max(1, round(config.val_fraction * len(groups))))
        held = {groups[index] for index in rng.permutation(len(groups))[:n_held]}
        training += [item for item in fields if item.source == source and item.group not in held]
        candidates = [item for item in fields if item.source == source and item.group in held]
        n_drawn = min(len(candidates), max(1, config.max_val_windows // len(sources)))
        validation += [candidates[index] for index in sorted(rng.permutation(len(candidates))[:n_drawn])]
    return training, validation


def _field_hash(item: LabeledField) -> bytes:
    rings = [[np.round(c, 3).tolist() for c in contours] for contours in (item.contours_xy, item.ignored_xy)]
    text = json.dumps([sha256_file(item.image_path), item.um_per_px, *rings, item.exhaustive])
    return hashlib.sha256(text.encode()).digest()


def _load_patch(item: LabeledField, config: SegmenterTrainingConfig) -> _Patch:
    """Read and resample one field; polygons shrink by ``label_inset_px`` and move to corner coordinates."""
    image = read_image(item.image_path)
    height, width = image.shape[:2]
    factor = item.um_per_px / config.um_per_px
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    scale = np.array([size[0] / width, size[1] / height])
    polygons = _polygons(item.contours_xy, scale, -config.label_inset_px)
    ignored = _polygons(item.ignored_xy, scale, _IGNORED_MARGIN_UM / config.um_per_px)
    painted = np.ascontiguousarray(resized, dtype=np.uint8)
    if not item.exhaustive:
        ignored = [box(0, 0, *size)]
    elif item.tile_grid is not None:
        painted = paint_unlabeled(painted, [*polygons, *ignored], item.tile_grid, config.um_per_px)
    return _Patch(painted, tuple(polygons), tuple(ignored))


def _polygons(contours: Sequence[ContourArray], scale: FloatMatrix, growth_px: float) -> list[BaseGeometry]:
    """Scale contours and grow them; those of fewer than three points, or that vanish, are left out."""
    usable = [contour for contour in contours if len(contour) >= geometry.MIN_POINTS]
    grown = [make_valid(Polygon((contour + 0.5) * scale)).buffer(growth_px) for contour in usable]
    return [polygon for polygon in grown if not polygon.is_empty]


def _field_windows(
    item: LabeledField,
    side_mates: Sequence[LabeledField],
    n_windows: int | None,
    config: SegmenterTrainingConfig,
    rng: np.random.Generator,
) -> Iterator[_Window]:
    """Yield windows of one field.

    ``side_mates`` are the fields on its side of the split, in order; a field smaller than a window is tiled with the
    ones that follow it. Such a sheet shows many fields, so it is cut that much less often; None is one window whatever
    the field's size.
    """
    patch = _load_patch(item, config)
    side = config.window_px
    height, width = patch.image.shape[:2]
    columns, rows = -(-side // width), -(-side // height)
    if columns * rows > 1:
        if n_windows is not None:
            n_windows = int(n_windows / (columns * rows) + rng.random())
        if n_windows == 0:
            return
        kind = (item.source, item.um_per_px, item.exhaustive)
        mates = [mate for mate in side_mates if (mate.source, mate.um_per_px, mate.exhaustive) == kind]
        start = next(place for place, mate in enumerate(mates) if mate is item)
        others = (mates[(start + slot) % len(mates)] for slot in range(1, columns * rows))
        patch = _lay_side_by_side([patch, *(_load_patch(other, config) for other in others)], columns, side)
        height, width = patch.image.shape[:2]
    for _ in range(1 if n_windows is None else n_windows):
        x0, y0 = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        yield _Window(
            patch.image[y0 : y0 + side, x0 : x0 + side],
            _clip(patch.polygons, x0, y0, side, config.min_visible),
            _clip(patch.ignored, x0, y0, side, 0.0),
        )


def _lay_side_by_side(patches: Sequence[_Patch], columns: int, side: int) -> _Patch:
    """Tile patches in rows of ``columns``, each cut to the first one's size, on a sheet of at least ``side``."""
    cell_height, cell_width = patches[0].image.shape[:2]
    rows = len(patches) // columns
    sheet = np.empty((max(side, rows * cell_height), max(side, columns * cell_width), 3), dtype=np.uint8)
    sheet[:] = empty_glass(patches[0].image)
    polygons: list[BaseGeometry] = []
    ignored: list[BaseGeometry] = []
    for slot, patch in enumerate(patches):
        x0, y0 = slot % columns * cell_width, slot // columns * cell_height
        piece = patch.image[:cell_height, :cell_width]
        sheet[y0 : y0 + piece.shape[0], x0 : x0 + piece.shape[1]] = piece
        limits = box(0, 0, piece.shape[1], piece.shape[0])
        polygons += [translate(polygon.intersection(limits), x0, y0) for polygon in patch.polygons]
        ignored += [translate(region.intersection(limits), x0, y0) for region in patch.ignored]
    return _Patch(sheet, tuple(polygons), tuple(ignored))


def _clip(polygons: Sequence[BaseGeometry], x0: int, y0: int, side: int, min_visible: float) -> list[FloatMatrix]:
    """Cut polygons to a window; those with less than ``min_visible`` of their area inside are dropped."""
    window = box(x0, y0, x0 + side, y0 + side)
    rings = []
    for polygon in polygons:
        try:
            inside = polygon.intersection(window)
        except GEOSException:  # pragma: no cover - make_valid ran before
            continue
        if inside.area < max(min_visible * polygon.area, 1.0):
            continue
        largest = max(_rings(inside), key=lambda ring: Polygon(ring).area, default=None)
        if largest is not None:
            rings.append(largest[:-1] - [x0, y0])
    return rings


def _varied(window: _Window, config: SegmenterTrainingConfig, rng: np.random.Generator) -> _Window:
    """Vary a training window's look: the cytoplasm of a share of its cells, then the stain of all of it."""
    image = window.image
    if config.pale_cells > 0:
        pale = [ring for ring in window.cells if rng.random() < config.pale_cells]
        image = fade_cytoplasm(image, pale, rng.uniform(*FADED_TO, size=len(pale)))
    return replace(window, image=vary_stain(image, rng))


def _write_window(folder: Path, part: str, stem: str, window: _Window) -> None:
    image_path = folder / "images" / part / f"{stem}.png"
    label_path = folder / "labels" / part / f"{stem}.txt"
    image_path.parent.mkdir(parents=True, exist_ok=True)
    label_path.parent.mkdir(parents=True, exist_ok=True)
    write_image(image_path, np.ascontiguousarray(window.image))
    side = window.image.shape[0]
    lines = [
        " ".join([label, *(f"{value:.6f}" for value in np.clip(ring / side, 0, 1).ravel())])
        for label, rings in (("0", window.cells), ("1", window.ignored))
        for ring in rings
    ]
    label_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
