"""A crop set on disk: its files, the schemas of its tables, its summary, and the labels of its crops.

A crop set is a folder: ``crops.npy`` (n, s, s, 3) uint8 RGB, ``masks.npy`` (n, s, s) bool, ``cells.parquet`` with one
row per crop in the same order, ``missed.parquet``, ``fields.parquet``, and ``prepare.json``, a ``CropSetSummary``,
written last. The vocabulary derives the labels here from the expert's raw codes, each label independently. Crops stay
on disk (memory-mapped). Nothing here needs PyTorch: `prepare` writes what training reads.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, field_validator

from marrowscope.cells.crop import CropSpec
from marrowscope.cells.field_measures import FIELD_MEASURES
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cells.quality import RULES_OFF, QualityRules
from marrowscope.config import FrozenModel, load_record
from marrowscope.errors import InputError, TrainingError, VocabularyError
from marrowscope.imaging import sha256_file
from marrowscope.runs.parquet import read_columns
from marrowscope.train.category_sets import CategorySets, one_hot
from marrowscope.train.config import HEADS, PLASMA
from marrowscope.train.targets import measured_values
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.config import Source
    from marrowscope.vocabulary import CenterMappings, Vocabulary

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CROPS_NAME, MASKS_NAME, CELLS_NAME, SUMMARY_NAME = "crops.npy", "masks.npy", "cells.parquet", "prepare.json"
CELLS_SCHEMA: dict[str, pl.DataType] = {
    "cell_id": pl.String(),
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    "diagnosis": pl.String(),
    "specimen": pl.String(),
    "image_sha256": pl.String(),
    "image_dhash": pl.String(),
    "source": pl.String(),
    "expert_code": pl.String(),
    "can_label": pl.String(),
    "match_iou": pl.Float64(),
    "cut": pl.Boolean(),
    "um_per_px": pl.Float64(),
    "simulated": pl.Boolean(),
    "area_um2": pl.Float64(),
    "circularity": pl.Float64(),
    **{name: pl.Float64() for name in MORPHOLOGY_COLUMNS},
}
MISSED_SCHEMA: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "shape_index": pl.Int64(),
    "expert_code": pl.String(),
    "cut": pl.Boolean(),
}
FIELDS_SCHEMA: dict[str, pl.DataType] = {
    "field_id": pl.String(),
    "patient_id": pl.String(),
    "center": pl.String(),
    **{name: pl.Float64() for name in FIELD_MEASURES if name != "stain_distance"},  # measured from these fields
}
_NEEDED_COLUMNS = (
    "cell_id", "field_id", "patient_id", "center", "diagnosis", "image_sha256", "source", "expert_code", "match_iou",
    "um_per_px",
)  # fmt: skip
"""Columns of cells.parquet required for training; a set of an earlier version may lack the others."""
_NULLABLE = ("expert_code", "match_iou", "um_per_px")
_SEPARATOR = ","
_PIXEL_RULES = frozenset({"min_area_px", "max_area_px", "edge_margin_px"})
_ADVICE = "make the crop set again with `marrowscope prepare`"


class CropCounts(FrozenModel):
    """What was cut and what was not; expert = matched + missed."""

    expert: int
    predicted: int
    missed: int
    missed_cut: int = Field(default=0, description="missed cells cut by the image edge; earlier versions: not counted")
    unlabeled: int = Field(validation_alias=AliasChoices("unlabeled", "unlabelled"))
    rejected: int


class UsedMapping(FrozenModel):
    """A mapping that translated the labels of a center, or of all that have none of their own."""

    center: str | None = Field(description="null for every center without its own")
    name: str
    version: str
    sha256: str = Field(description="of the mapping file")


class CropSetSummary(FrozenModel):
    """Content of prepare.json; only ``crop`` is required to read a set, since earlier versions wrote less."""

    schema_version: int = 1
    crop: CropSpec = Field(description="the crop that the network sees, without the margin of the stored crop")
    stored_px: int | None = Field(default=None, description="side of a stored crop")
    quality_rules: QualityRules = Field(default_factory=QualityRules, description="of predicted contours")
    segmenter_sha256: str | None = Field(default=None, description="null where only expert contours were cut")
    simulated: bool = Field(default=False, description="every photograph carries the mark of `marrowscope simulate`")
    counts: CropCounts | None = None
    mappings: tuple[UsedMapping, ...] = Field(default=(), description="empty where all labels were stored ones")

    @field_validator("quality_rules", mode="before")
    @classmethod
    def _of_earlier_versions(cls, given: object) -> object:
        """Drop the limits in pixels, which no image reached; rules that an earlier version did not know were off."""
        if isinstance(given, dict):
            return RULES_OFF | {key: value for key, value in given.items() if key not in _PIXEL_RULES}
        return given


@dataclass(frozen=True, slots=True)
class CropSet:
    """Stored crops (n, s, s, 3) uint8, their table, and their labels by head, each (n,) int64.

    A label is -1 where a coarse label leaves it open, and in every head where nobody labeled the cell. That of
    ``PLASMA`` is also -1 in a source that can label no plasma cell: it would only teach to know the source. ``sets``
    are the categories that each cell may have and those that its source can label. ``masks`` (n, s, s) bool are the
    cells in the same frame, None where the set has none; ``measured`` are its morphology columns, each (n,) float64
    with NaN where not measured. ``um_per_px`` is the scale of a crop, ``summary`` the content of prepare.json.
    """

    folder: Path
    crops: ImageArray
    masks: MaskArray | None
    cells: pl.DataFrame
    labels: Mapping[str, IntArray]
    sets: CategorySets
    measured: Mapping[str, FloatArray]
    categories: tuple[str, ...]
    um_per_px: float
    summary: CropSetSummary

    @property
    def stored_px(self) -> int:
        """Side of the stored crops."""
        return int(self.crops.shape[1])

    def __reduce__(self) -> tuple[object, tuple[dict[str, object]]]:
        """Pickle a mapped file's path instead of its gigabytes: a worker process maps it itself."""
        return _unpickle, ({field.name: _path_or_value(getattr(self, field.name)) for field in fields(self)},)

    def rows(self, patients: set[str], source: Source) -> IntArray:
        """Rows of the labeled crops of ``patients`` cut from ``source`` contours, in table order."""
        chosen = (
            self.cells["patient_id"].is_in(sorted(patients))
            & (self.cells["source"] == source)
            & self.cells["expert_code"].is_not_null()
        )
        return np.flatnonzero(chosen.to_numpy()).astype(np.int64)

    def with_main_categories(self) -> CropSet:
        """Return the set with every coarse label of a main category taken as that category; cblc stays as it is."""
        sets = self.sets.taken_as_main()
        return replace(self, sets=sets, labels={**self.labels, "category": sets.labels()})

    def class_shares(self, rows: IntArray, heads: Sequence[str] = HEADS) -> dict[str, FloatArray]:
        """How the training cells ``rows`` are divided over the classes of each head, (n, k); see ``category_sets``.

        A cell that leaves a head's answer open is a row of zeros in the heads with two answers.
        """
        sets = self.sets.at(rows)
        shares = {head: one_hot(self.labels[head][rows], 2) for head in heads if head != "category"}
        return shares | {"category": sets.shares(sets.decided())}

    def has_plasma(self, rows: IntArray) -> bool:
        """Tell whether cells ``rows`` answer both yes and no to the question of the head ``PLASMA``."""
        return {0, 1} <= set(self.labels[PLASMA][rows].tolist())


class GrowingArray:
    """A .npy file that grows by rows, one field after another; closing it writes their number into its header.

    Plain writes: a full disk gives a readable error, where a memory map would kill the process.
    """

    def __init__(self, path: Path, dtype: type[np.generic], row_shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._dtype, self._row_shape, self._n = np.dtype(dtype), row_shape, 0
        self._write_header()

    def append(self, rows: NDArray[np.generic]) -> None:
        """Add rows (n, *row_shape)."""
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self._n += len(rows)

    def _write_header(self) -> None:
        """Write the header; numpy leaves room in it for a first axis that grows."""
        self._file.seek(0)
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._n, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, described)

    def __enter__(self) -> Self:
        """Return the open file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the number of rows, and close the file."""
        self._write_header()
        self._file.close()


def open_crop_set(folder: Path, vocabulary: Vocabulary) -> CropSet:
    """Open a crop set and derive its labels; InputError naming the file when it is incomplete or inconsistent."""
    absent = [name for name in (CROPS_NAME, CELLS_NAME, SUMMARY_NAME) if not (folder / name).is_file()]
    if absent:
        message = f"{folder}: not found: {', '.join(absent)}; expected a crop set; make one with `marrowscope prepare`"
        raise InputError(message)
    summary = load_record(CropSetSummary, folder / SUMMARY_NAME, error=InputError, advice=_ADVICE)
    crops: ImageArray = _open_array(folder / CROPS_NAME)
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3 or crops.dtype != np.uint8:  # noqa: PLR2004  (n, s, s, 3)
        message = (
            f"{folder / CROPS_NAME}: found crops {crops.shape} {crops.dtype}, expected (n, s, s, 3) uint8; {_ADVICE}"
        )
        raise InputError(message)
    cells = read_columns(
        folder / CELLS_NAME, CELLS_SCHEMA, _NEEDED_COLUMNS, nullable=_NULLABLE, error=InputError, advice=_ADVICE
    )
    masks: MaskArray | None = _open_array(folder / MASKS_NAME) if (folder / MASKS_NAME).is_file() else None
    if masks is not None and masks.dtype != np.bool_:
        message = f"{folder / MASKS_NAME}: found masks of {masks.dtype}, expected bool; {_ADVICE}"
        raise InputError(message)
    if len(crops) != len(cells) or (masks is not None and masks.shape != crops.shape[:3]):
        found = count_of(len(crops), "crop") + ("" if masks is None else f" and {count_of(len(masks), 'mask')}")
        message = f"{folder}: found {found} beside {count_of(len(cells), 'table row')}; make the crop set again"
        raise InputError(message)
    labels, sets = _labels(cells, vocabulary, folder)
    return CropSet(
        folder=folder,
        crops=crops,
        masks=masks,
        cells=cells,
        labels=labels,
        sets=sets,
        measured=measured_values(cells),
        categories=vocabulary.categories,
        um_per_px=summary.crop.um_per_px,
        summary=summary,
    )


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each crop set file that affects training; an older set may have no masks."""
    return {
        name: sha256_file(folder / name) for name in (CROPS_NAME, MASKS_NAME, CELLS_NAME) if (folder / name).is_file()
    }


def class_priors(shares: Mapping[str, FloatArray]) -> dict[str, tuple[float, ...]]:
    """Share of each class by head among training cells divided as in ``CropSet.class_shares``; 0: not trained.

    Raises TrainingError for a head that no cell answers.
    """
    priors = {}
    for head, divided in shares.items():
        counts = divided.sum(axis=0)
        if not counts.sum():
            message = (
                f"found {count_of(len(divided), 'training cell')} whose labels all leave {head} open, expected "
                "one that decides it; add cells with exact labels, or declare it in the mapping"
            )
            raise TrainingError(message)
        priors[head] = tuple(float(n) / float(counts.sum()) for n in counts)
    return priors


def _path_or_value(value: object) -> object:
    """Return the path of an array that is a whole mapped file, and anything else unchanged."""
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


def _open_array(path: Path) -> NDArray[Any]:
    """Map an array file; InputError for a file that cannot be read as one."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        message = f"{path}: the array cannot be read ({error}); {_ADVICE}"
        raise InputError(message) from error
    if not isinstance(array, np.ndarray):
        array.close()
        message = f"{path}: found an archive of arrays, expected one array; {_ADVICE}"
        raise InputError(message)
    return array


def _labels(cells: pl.DataFrame, vocabulary: Vocabulary, folder: Path) -> tuple[dict[str, IntArray], CategorySets]:
    """Translate stored labels to those of every head; the error for one that is unknown names its first cell."""
    column = "expert_code"
    texts, place = _distinct(cells[column])
    facts = np.full((len(texts), 4), -1, dtype=np.int64)  # cblc, countable, main category, plasma
    may_be = np.zeros((len(texts), len(vocabulary.categories)), dtype=np.bool_)
    for index, text in enumerate(texts):
        if text is None:
            continue
        try:
            label = vocabulary.read_label(text)
        except VocabularyError as error:
            cell = cells.filter(pl.col(column) == text)["cell_id"][0]
            message = f"{folder}, cell {cell}: {error}"
            raise VocabularyError(message) from error
        main = None if label.mainly is None else vocabulary.categories.index(label.mainly)
        said = (label.cblc, label.countable, main, label.plasma)
        facts[index] = [-1 if fact is None else int(fact) for fact in said]
        may_be[index, [vocabulary.categories.index(name) for name in label.categories]] = True
    can_label, can_plasma = _can_label(cells, vocabulary, folder)
    sets = CategorySets(may_be[place], can_label, facts[place, 2])
    labels = {"cblc": facts[place, 0], "countable": facts[place, 1], "category": sets.labels()}
    return labels | {PLASMA: np.where(can_plasma, facts[place, 3], -1)}, sets


def _can_label(
    cells: pl.DataFrame, vocabulary: Vocabulary, folder: Path
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what each cell's source can label: the categories (n, k), and if a plasma cell (n,).

    All where the table does not say.
    """
    column = "can_label"
    if column not in cells.columns:
        return np.ones((len(cells), len(vocabulary.categories)), dtype=np.bool_), np.ones(len(cells), dtype=np.bool_)
    texts, place = _distinct(cells[column])
    known = np.ones((len(texts), len(vocabulary.categories)), dtype=np.bool_)
    plasma = np.ones(len(texts), dtype=np.bool_)
    for index, text in enumerate(texts):
        if text is not None:
            codes = [vocabulary.lookup(code, f"{folder}, column {column}") for code in text.split(_SEPARATOR)]
            known[index] = [any(code.category == name for code in codes) for name in vocabulary.categories]
            plasma[index] = any(code.plasma for code in codes)
    return known[place], plasma[place]


def _distinct(column: pl.Series) -> tuple[list[str | None], IntArray]:
    """Return the distinct values of a column, nulls included, and the position of each row's value among them."""
    values = column.to_list()
    distinct = list(dict.fromkeys(values))
    position = {value: index for index, value in enumerate(distinct)}
    return distinct, np.array([position[value] for value in values], dtype=np.int64)


def used_mappings(mappings: CenterMappings | None) -> tuple[UsedMapping, ...]:
    """Describe the mappings for the summary."""
    if mappings is None:
        return ()
    given = [(None, mappings.default), *mappings.by_center.items()]
    return tuple(
        UsedMapping(center=center, name=item.name, version=item.version, sha256=item.sha256)
        for center, item in given
        if item is not None
    )


def joined_codes(codes: tuple[str, ...]) -> str | None:
    """Return the value of the column ``can_label``: the codes joined by commas, null where there are none."""
    return _SEPARATOR.join(codes) or None
