"""Statistics of the training cells' embeddings, category by category, for the distance that a run gives each cell.

Steps: take at most 1,000 training cells of each category, evenly; run the exported graph on them; keep the categories
with at least 20; project on the principal components of all (at most 64, and at most one for ten cells); estimate one
covariance within the categories, shrunk by the formula of Ledoit and Wolf (2004); whiten with it.

One covariance for all categories, as in Lee et al. (NeurIPS 2018), can be estimated where a category has few cells. The
components leave out directions in which the training cells hardly vary, whose variance cannot be estimated. Ren et al.
(2021) subtract the distance from the mean of all training cells, which helps with cells near the known categories; here
a cell is to be far when it is unlike its own category, and the plain distance keeps its unit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marrowscope.cells.embedding import EMBEDDING, ClassStatistics
from marrowscope.cohort.folds import read_split
from marrowscope.imaging import sha256_file
from marrowscope.networks import open_network
from marrowscope.train.checkpoint import SPLIT_NAME
from marrowscope.train.crop_set import CELLS_NAME, open_crop_set
from marrowscope.train.validation import validation_batches
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from marrowscope.train.bundle_card import Member
    from marrowscope.train.crop_set import CropSet, IntArray
    from marrowscope.train.training_record import FinishedTraining

RealArray = NDArray[np.float64]

MIN_CELLS = 20
"""Training cells of a category whose mean is taken."""
_MAX_CELLS = 1000
_MAX_COMPONENTS = 64
_CELLS_A_COMPONENT = 10
_BATCH = 64


def training_statistics(graph: Path, member: Member, crop_set: CropSet) -> ClassStatistics | None:
    """Compute the statistics of the member's training cells with its exported ``graph``.

    The crop set is the member's own: ``crop_set``, or the one its training used. None where neither has its cells, or
    where fewer than two categories have enough of them.
    """
    own = _own_crop_set(member.record, crop_set)
    if own is None:
        return None
    rows, labels = training_rows(member.folder, own)
    if not len(rows):
        return None
    network = open_network(graph)
    batches = validation_batches(own, rows, member.info.crop_px, _BATCH)
    return class_statistics(np.concatenate([network.run_images(batch)[EMBEDDING] for batch in batches]), labels)


def _own_crop_set(record: FinishedTraining, given: CropSet) -> CropSet | None:
    """Return the crop set with the cells that the training used; folds may come from other machines."""
    wanted = record.data_sha256[CELLS_NAME]
    if sha256_file(given.folder / CELLS_NAME) == wanted:
        return given
    table = Path(record.crops) / CELLS_NAME
    found = table.is_file() and sha256_file(table) == wanted
    return open_crop_set(table.parent, load_vocabulary()) if found else None


def training_rows(folder: Path, crop_set: CropSet) -> tuple[IntArray, IntArray]:
    """Return the rows of the crop set that describe the categories, and their categories, each (n,).

    Predicted contours where the set has any, as in a prediction; cells whose label leaves the category open are left
    out.
    """
    patients = {name for name, role in read_split(folder / SPLIT_NAME).items() if role == "train"}
    rows = crop_set.rows(patients, "predicted")
    rows = rows if len(rows) else crop_set.rows(patients, "expert")
    labels = crop_set.labels["category"][rows]
    chosen = [
        inside[np.unique(np.linspace(0, len(inside) - 1, _MAX_CELLS).round().astype(np.int64))]
        for category in np.unique(labels[labels >= 0])
        if len(inside := np.flatnonzero(labels == category)) >= MIN_CELLS
    ]
    kept = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
    return rows[kept], labels[kept]


def class_statistics(embeddings: NDArray[np.floating[Any]], labels: IntArray) -> ClassStatistics | None:
    """Describe embeddings (n, width) with their categories (n,), -1 where open.

    None with fewer than two categories of 20 cells.
    """
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    categories, n_cells = found[counts >= MIN_CELLS], counts[counts >= MIN_CELLS]
    if len(categories) < 2:  # noqa: PLR2004  one category has no others to be told from
        return None
    inside = np.isin(labels, categories)
    values, place = np.asarray(embeddings[inside], dtype=np.float64), np.searchsorted(categories, labels[inside])
    mean = values.mean(axis=0)
    components = _principal_components(values - mean)
    projected = (values - mean) @ components
    means = np.stack([projected[place == index].mean(axis=0) for index in range(len(categories))])
    covariance = shrunk_covariance(projected - means[place])
    scales, axes = np.linalg.eigh(covariance)
    whitening = axes / np.sqrt(scales)
    return ClassStatistics(
        mean=mean.astype(np.float32),
        projection=(components @ whitening).astype(np.float32),
        class_means=(means @ whitening).astype(np.float32),
        category_index=categories.astype(np.int64),
        n_cells=n_cells.astype(np.int64),
    )


def _principal_components(centered: RealArray) -> RealArray:
    """Return the directions (width, d) of largest variance, largest first; those without variance are left out."""
    n, width = centered.shape
    _, lengths, directions = np.linalg.svd(centered, full_matrices=False) if n < width else _by_covariance(centered)
    varied = int((lengths > lengths[0] * 1e-6).sum())
    kept = max(1, min(_MAX_COMPONENTS, n // _CELLS_A_COMPONENT, varied))
    return directions[:kept].T


def _by_covariance(centered: RealArray) -> tuple[None, RealArray, RealArray]:
    """Return lengths and directions as a singular value decomposition does, in less time for many rows."""
    squares, axes = np.linalg.eigh(centered.T @ centered)
    return None, np.sqrt(np.maximum(squares[::-1], 0)), axes[:, ::-1].T


def shrunk_covariance(centered: RealArray) -> RealArray:
    """Estimate the covariance (d, d) of centered rows (n, d), shrunk towards a multiple of the identity.

    The intensity is that of Ledoit and Wolf, Journal of Multivariate Analysis 2004, lemma 3.4.
    """
    n, d = centered.shape
    sample = centered.T @ centered / n
    target = np.trace(sample) / d
    spread = np.sum((sample - target * np.eye(d)) ** 2)
    noise = (np.sum((centered**2).sum(axis=1) ** 2) / n - np.sum(sample**2)) / n
    share = min(1.0, noise / spread) if spread > 0 else 0.0
    shrunk: RealArray = (1 - share) * sample + share * target * np.eye(d)
    return shrunk
