"""The file of a bundle with the statistics of the training cells' embeddings: arrays, no pickle.

``mean`` (width,), ``projection`` (width, d) and ``class_means`` (k, d) float32, ``category_index`` (k,) and ``n_cells``
(k,) int64; see ``cells.embedding``.
"""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.bundle.arrays import Expected, read_arrays
from marrowscope.bundle.description import EmbeddingStatistics
from marrowscope.cells.embedding import ClassStatistics
from marrowscope.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

EMBEDDINGS_FILE = "embeddings.npz"
_MAX_COMPONENTS = 1024


def describe_embeddings(statistics: ClassStatistics) -> EmbeddingStatistics:
    """Return the section [embeddings] for the file."""
    return EmbeddingStatistics(
        file=EMBEDDINGS_FILE, n_classes=len(statistics.category_index), n_dimensions=statistics.n_dimensions
    )


def embeddings_bytes(statistics: ClassStatistics) -> bytes:
    """Return the content of the file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **asdict(statistics))
    return buffer.getvalue()


def read_embeddings(data: bytes, path: Path, stated: EmbeddingStatistics, n_categories: int) -> ClassStatistics:
    """Read ``data``, the content of ``path``, as the bundle states it.

    Raises BundleError, one sentence, for a file that is damaged, has arrays of other sizes or categories that are not
    those of the vocabulary.
    """
    width, k = stated.n_dimensions, stated.n_classes
    expected = {
        "mean": Expected("float32", (width,)),
        "projection": Expected("float32", (width, None)),
        "class_means": Expected("float32", (k, None)),
        "category_index": Expected("int64", (k,)),
        "n_cells": Expected("int64", (k,)),
    }
    arrays = read_arrays(data, path, expected, what="embedding statistics")
    components, of_means = arrays["projection"].shape[1], arrays["class_means"].shape[1]
    if components != of_means or not 1 <= components <= _MAX_COMPONENTS:
        _refuse(path, f"{components} and {of_means} components", f"the same number, 1 to {_MAX_COMPONENTS}")
    index = arrays["category_index"]
    if len(np.unique(index)) != k or index.min() < 0 or index.max() >= n_categories:
        _refuse(path, f"the categories {index.tolist()}", f"{k} different ones of 0 to {n_categories - 1}")
    return ClassStatistics(**arrays)  # type: ignore[arg-type]


def _refuse(path: Path, found: str, expected: str) -> None:
    message = f"{path}: found {found}, expected {expected}; export the bundle again"
    raise BundleError(message)
