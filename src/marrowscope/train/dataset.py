"""A crop set on disk and the labels of its crops.

A crop set is a folder: ``crops.npy`` (n, s, s, 3) uint8 RGB, ``masks.npy`` (n, s, s) bool, ``cells.parquet`` with one
row per crop in the same order, and ``prepare.json`` with the crop's physical side. Labels are derived here from the
expert's raw code by the vocabulary, each fact on its own. Crops stay on disk (memory-mapped); a batch is read when it
is needed.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.errors import InputError, VocabularyError
from marrowscope.train.augment import augment_crop, center_crop
from marrowscope.train.targets import measured_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from marrowscope.records import ImageArray, JsonDict, MaskArray
    from marrowscope.train.config import AugmentConfig, Source
    from marrowscope.vocabulary import Vocabulary

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CROPS_NAME, MASKS_NAME, CELLS_NAME, SUMMARY_NAME = "crops.npy", "masks.npy", "cells.parquet", "prepare.json"
COLUMNS = (
    "cell_id", "field_id", "patient_id", "center", "diagnosis", "image_sha256", "source", "expert_code", "match_iou",
    "um_per_px",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CropSet:
    """Stored crops (n, s, s, 3) uint8, their table, and their labels by head, each (n,) int64.

    Crops without an expert code (predicted cells that nobody labelled) have the label -1 in every head.
    ``masks`` (n, s, s) bool are the cells in the same frame, None where the set has none; ``measured`` are the
    morphology columns it has, each (n,) float64 with NaN where not measured. ``um_per_px`` is the scale of a crop,
    ``summary`` the content of prepare.json.
    """

    folder: Path
    crops: ImageArray
    masks: MaskArray | None
    cells: pl.DataFrame
    labels: Mapping[str, IntArray]
    measured: Mapping[str, FloatArray]
    categories: tuple[str, ...]
    um_per_px: float
    summary: JsonDict

    @property
    def stored_px(self) -> int:
        """Side of the stored crops."""
        return int(self.crops.shape[1])

    def __reduce__(self) -> tuple[object, tuple[dict[str, object]]]:
        """Pickle the path of a file that is mapped instead of its gigabytes: a worker process maps it itself."""
        return _unpickle, ({field.name: _path_or_value(getattr(self, field.name)) for field in fields(self)},)

    def rows(self, patients: set[str], source: Source) -> IntArray:
        """Rows of the labelled crops of ``patients`` cut from ``source`` contours, in table order."""
        chosen = (
            self.cells["patient_id"].is_in(sorted(patients))
            & (self.cells["source"] == source)
            & self.cells["expert_code"].is_not_null()
        )
        return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def open_crop_set(folder: Path, vocabulary: Vocabulary) -> CropSet:
    """Open a crop set and derive its labels; InputError naming the file when it is incomplete or inconsistent."""
    absent = [name for name in (CROPS_NAME, CELLS_NAME, SUMMARY_NAME) if not (folder / name).is_file()]
    if absent:
        message = (
            f"{folder}: found no {' and no '.join(absent)}, expected a crop set; make one with `marrowscope prepare`"
        )
        raise InputError(message)
    try:
        crops = np.load(folder / CROPS_NAME, mmap_mode="r", allow_pickle=False)
        cells = pl.read_parquet(folder / CELLS_NAME)
        summary = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
        um_per_px = float(summary["crop"]["side_um"]) / float(summary["crop"]["size_px"])
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        message = f"{folder}: the crop set cannot be read ({error}); make it again with `marrowscope prepare`"
        raise InputError(message) from error
    missing = [name for name in COLUMNS if name not in cells.columns]
    if missing or crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.dtype != np.uint8:  # noqa: PLR2004  (n, s, s, 3)
        message = (
            f"{folder}: found crops {crops.shape} {crops.dtype} and a table without {missing}, expected (n, s, s, 3) "
            "uint8 and every column; make the crop set again with `marrowscope prepare`"
        )
        raise InputError(message)
    masks = _open_masks(folder)
    if len(crops) != len(cells) or (masks is not None and masks.shape != crops.shape[:3]):
        found = f"{len(crops)} crops" + ("" if masks is None else f" and {len(masks)} masks")
        message = f"{folder}: found {found} beside {len(cells)} table rows; make the crop set again"
        raise InputError(message)
    return CropSet(
        folder=folder,
        crops=crops,
        masks=masks,
        cells=cells,
        labels=_labels(cells, vocabulary, folder),
        measured=measured_values(cells),
        categories=vocabulary.categories,
        um_per_px=um_per_px,
        summary=summary,
    )


def class_priors(labels: Mapping[str, IntArray], rows: IntArray, n_categories: int) -> dict[str, tuple[float, ...]]:
    """Share of each class among ``rows`` by head; 0 for a class without a cell."""
    sizes = {"cblc": 2, "countable": 2, "category": n_categories}
    return {
        head: tuple(float(n) / len(rows) for n in np.bincount(labels[head][rows], minlength=size))
        for head, size in sizes.items()
    }


def epoch_order(
    rows: IntArray, key: tuple[int, int, int], *, size: int | None = None, weights: FloatArray | None = None
) -> IntArray:
    """Give the rows of an epoch in order, as a function of ``key`` = (seed, stage, epoch).

    All of ``rows`` shuffled, or ``size`` of them; with ``weights`` (their probabilities) drawn with replacement.
    """
    random = np.random.default_rng(key)
    n = len(rows) if size is None else min(size, len(rows))
    if weights is None:
        return random.permutation(rows)[:n]
    return random.choice(rows, size=n, p=weights)


def earlier_draws(order: IntArray) -> IntArray:
    """Say of each place in an epoch (n,) how often its row stands before it: 0 throughout without replacement."""
    by_row = np.argsort(order, kind="stable")
    _, starts, counts = np.unique(order[by_row], return_index=True, return_counts=True)
    draws = np.empty(len(order), dtype=np.int64)
    draws[by_row] = np.arange(len(order)) - np.repeat(starts, counts)
    return draws


def training_crops(
    crop_set: CropSet,
    rows: IntArray,
    size_px: int,
    augment: AugmentConfig,
    key: tuple[int, int, int],
    *,
    draws: IntArray | None = None,
    with_masks: bool = False,
) -> tuple[ImageArray, MaskArray]:
    """Read and augment the crops of ``rows``: (n, size_px, size_px, 3) uint8; ``key`` is (seed, stage, epoch).

    ``draws`` (n,) say how often each crop was seen in the epoch before (``earlier_draws``; None: never), so that one
    drawn again is changed in another way. The masks (n, size_px, size_px) bool follow the same warp; without
    ``with_masks`` there are none (0, s, s).
    """
    batch = np.empty((len(rows), size_px, size_px, 3), dtype=np.uint8)
    masks = np.zeros((len(rows) if with_masks else 0, size_px, size_px), dtype=np.bool_)
    for place, row in enumerate(rows):
        stored = crop_set.masks[row] if with_masks and crop_set.masks is not None else None
        again = (int(draws[place]),) if draws is not None and draws[place] else ()
        batch[place], mask = augment_crop(crop_set.crops[row], size_px, augment, (*key, int(row), *again), stored)
        if mask is not None:
            masks[place] = mask
    return batch, masks


def validation_batches(crop_set: CropSet, rows: IntArray, size_px: int, batch_size: int) -> Iterator[ImageArray]:
    """Give the central ``size_px`` of each stored crop of ``rows`` in order, unchanged: (n, size_px, size_px, 3)."""
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        yield np.stack([center_crop(crop_set.crops[row], size_px) for row in chosen])


def _path_or_value(value: object) -> object:
    """Give the path of an array that is a whole mapped file, and anything else as it is."""
    if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap):
        return _MappedFile(str(value.filename))
    return value


@dataclass(frozen=True, slots=True)
class _MappedFile:
    path: str


def _unpickle(values: dict[str, Any]) -> CropSet:
    """Map the files again."""
    opened = {
        name: np.load(value.path, mmap_mode="r", allow_pickle=False) if isinstance(value, _MappedFile) else value
        for name, value in values.items()
    }
    return CropSet(**opened)


def _open_masks(folder: Path) -> MaskArray | None:
    """Map the masks, or None where the crop set has none; InputError for a file that cannot be read."""
    path = folder / MASKS_NAME
    if not path.is_file():
        return None
    try:
        masks: MaskArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        message = f"{path}: the masks cannot be read ({error}); make the crop set again with `marrowscope prepare`"
        raise InputError(message) from error
    return masks


def _labels(cells: pl.DataFrame, vocabulary: Vocabulary, folder: Path) -> dict[str, IntArray]:
    """Translate raw codes to the labels of every head; an unknown code names its first cell."""
    facts: dict[str, tuple[int, int, int]] = {}
    for code in cells["expert_code"].drop_nulls().unique().sort().to_list():
        try:
            entry = vocabulary.lookup(code)
        except VocabularyError as error:
            cell = cells.filter(pl.col("expert_code") == code)["cell_id"][0]
            message = f"{folder}, cell {cell}: {error}"
            raise VocabularyError(message) from error
        facts[code] = (int(entry.cblc), int(entry.countable), vocabulary.category_index(code))
    table = np.array([facts.get(code, (-1, -1, -1)) for code in cells["expert_code"].to_list()], dtype=np.int64)
    table = table.reshape(-1, 3)
    return {head: table[:, column] for column, head in enumerate(("cblc", "countable", "category"))}
