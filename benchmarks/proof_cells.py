"""The cells of the border proofs, read from a crop set, and a classifier's calls on them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from pydantic import Field

from benchmarks.border_proof import Answer, fits_crop, predict_crops, select_cells
from marrowscope.config import StageConfig
from marrowscope.errors import InputError
from marrowscope.train.augment import center_crop
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.crop_set import open_crop_set

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from numpy.typing import NDArray

    from marrowscope.records import ImageArray, MaskArray
    from marrowscope.train.crop_set import IntArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo
    from marrowscope.vocabulary import Vocabulary


class Calls(Protocol):
    """Calls of n cells, as ``marrowscope.patient.counts.decode_calls`` returns them."""

    @property
    def category_index(self) -> NDArray[np.int64]:
        """Category of each cell."""

    @property
    def is_cblc(self) -> NDArray[np.bool_]:
        """Tell whether each cell is composite blast-like."""


class Decoder(Protocol):
    """Turns p_category (n, 16), p_cblc (n,), p_countable (n,) into calls that exist in the vocabulary."""

    def __call__(
        self,
        p_category: NDArray[np.float64],
        p_cblc: NDArray[np.float64],
        p_countable: NDArray[np.float64],
        vocabulary: Vocabulary,
        /,
    ) -> Calls:
        """Decode n cells."""


class ProofSelection(StageConfig):
    """Selection of a crop set's cells for a proof."""

    source: Literal["expert", "predicted"] = Field(default="predicted", description="contours the crops are cut from")
    split: Path | None = Field(default=None, description="split.csv; None takes the one beside the weights, if any")
    roles: tuple[str, ...] = Field(default=("test",), description="patients not in the split count as test")
    dilation_px: float = Field(default=3.0, ge=0, description="the contour grows by this before the ring begins")
    most: int = Field(default=0, ge=0, description="maximum number of cells, drawn at random; 0 uses all")


@dataclass(frozen=True, slots=True)
class ProofCells:
    """Cells that a proof may use, as the network sees them.

    ``crops`` (n, s, s, 3), ``masks`` (n, s, s), labels by head (n,), the crop set's rows as ``table``; ``left_out``
    counts the chosen patients' other cells by reason.
    """

    crops: ImageArray
    masks: MaskArray
    labels: Mapping[str, IntArray]
    table: pl.DataFrame
    lineages: list[str]
    left_out: dict[str, int]

    @property
    def patients(self) -> list[str]:
        """Patient of each cell."""
        return self.table["patient_id"].to_list()

    @property
    def fields(self) -> list[str]:
        """Field of each cell."""
        return self.table["field_id"].to_list()


def load_trained(path: Path) -> tuple[CellClassifier, ClassifierInfo]:
    """Load a training folder's best weights, or a weights file; on CUDA if available."""
    model, info, _ = load_classifier(_weights_of(path))
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), info


def load_cells(
    folder: Path, trained: Path, info: ClassifierInfo, selection: ProofSelection, vocabulary: Vocabulary
) -> ProofCells:
    """Read the cells of the crop set ``folder`` that ``selection`` and ``select_cells`` keep.

    Raises InputError for a crop set without masks, or when the chosen patients have no crop.
    """
    crop_set = open_crop_set(folder, vocabulary)
    if crop_set.masks is None:
        message = f"{folder}: found no masks.npy, expected one; make the crop set again with `marrowscope prepare`"
        raise InputError(message)
    patients = _patients_of(crop_set.cells, trained, selection)
    rows = crop_set.rows(patients, selection.source)
    if not len(rows):
        message = (
            f"{folder}: found no {selection.source} crop of a patient whose role is {' or '.join(selection.roles)}, "
            "expected some; choose other --roles or another crop set"
        )
        raise InputError(message)
    if selection.most and len(rows) > selection.most:
        rows = np.sort(np.random.default_rng(0).choice(rows, selection.most, replace=False))
    masks: MaskArray = np.stack([center_crop(crop_set.masks[row].view(np.uint8), info.crop_px) > 0 for row in rows])
    codes = crop_set.cells["expert_code"].to_list()
    kept, left_out = select_cells([codes[row] for row in rows], fits_crop(masks, selection.dilation_px), vocabulary)
    rows = rows[kept]
    side = (len(rows), info.crop_px, info.crop_px, 3)
    crops = np.array([center_crop(crop_set.crops[row], info.crop_px) for row in rows], dtype=np.uint8).reshape(side)
    return ProofCells(
        crops=crops,
        masks=masks[kept],
        labels={head: values[rows] for head, values in crop_set.labels.items()},
        table=crop_set.cells[rows.tolist()],
        lineages=[vocabulary.lookup(codes[row]).lineage for row in rows],
        left_out=left_out,
    )


def answer(
    model: CellClassifier, info: ClassifierInfo, crops: ImageArray, vocabulary: Vocabulary, decode: Decoder
) -> dict[str, Answer]:
    """Compute probabilities and calls of heads ``cblc`` and ``category`` for crops (n, s, s, 3), as in prediction."""
    p = predict_crops(model, info, crops)
    calls = decode(p["category"], p["cblc"][:, 1], p["countable"][:, 1], vocabulary)
    return {
        "cblc": Answer(p["cblc"], calls.is_cblc.astype(np.int64)),
        "category": Answer(p["category"], calls.category_index),
    }


def _weights_of(path: Path) -> Path:
    return path / CLASSIFIER_NAME if path.is_dir() else path


def _patients_of(cells: pl.DataFrame, trained: Path, selection: ProofSelection) -> set[str]:
    """Return the patients with the selected roles."""
    beside = _weights_of(trained).parent / SPLIT_NAME
    path = selection.split or (beside if beside.is_file() else None)
    role_of: dict[str, str] = {}
    if path is not None:
        with path.open(encoding="utf-8", newline="") as stream:
            role_of = {row["patient_id"]: row["role"] for row in csv.DictReader(stream)}
    return {name for name in cells["patient_id"].unique() if role_of.get(name, "test") in selection.roles}
