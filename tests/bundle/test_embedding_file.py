"""The file with the statistics of embeddings: what was written is read, and anything else is one sentence."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marrowscope.bundle.embedding_file import describe_embeddings, embeddings_bytes, read_embeddings
from marrowscope.cells.embedding import ClassStatistics
from marrowscope.errors import BundleError

PATH = Path("bundle/embeddings.npz")


def statistics() -> ClassStatistics:
    random = np.random.default_rng(0)
    return ClassStatistics(
        mean=random.normal(size=8).astype(np.float32),
        projection=random.normal(size=(8, 3)).astype(np.float32),
        class_means=random.normal(size=(2, 3)).astype(np.float32),
        category_index=np.array([1, 15]),
        n_cells=np.array([20, 31]),
    )


def test_what_was_written_is_read() -> None:
    given = statistics()
    stated = describe_embeddings(given)
    assert (stated.file, stated.n_classes, stated.n_dimensions) == ("embeddings.npz", 2, 8)
    found = read_embeddings(embeddings_bytes(given), PATH, stated, 16)
    for name in given.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mean": np.zeros(9, np.float32)}, r"embeddings.npz, mean: found float32 \(9,\), expected float32 \(8\)"),
        ({"mean": np.full(8, np.nan, np.float32)}, "mean: found values that are not finite"),
        ({"projection": np.zeros((8, 3))}, r"projection: found float64 \(8, 3\), expected float32 \(8, n\)"),
        ({"class_means": np.zeros((2, 4), np.float32)}, "found 3 and 4 components, expected the same number"),
        ({"class_means": np.zeros((3, 3), np.float32)}, r"class_means: found float32 \(3, 3\)"),
        ({"category_index": np.array([1, 1])}, r"found the categories \[1, 1\], expected 2 different ones of 0 to 15"),
        ({"category_index": np.array([1, 16])}, r"found the categories \[1, 16\]"),
        ({"category_index": np.array([-1, 3])}, r"found the categories \[-1, 3\]"),
        ({"n_cells": np.array([object(), 1])}, r"n_cells: found object \(2,\), expected int64 \(2\)"),
        (
            {"projection": np.zeros((8, 0), np.float32), "class_means": np.zeros((2, 0), np.float32)},
            "found 0 and 0 components, expected the same number, 1 to 1024",
        ),
    ],
)
def test_other_arrays_are_a_sentence(changes: dict[str, np.ndarray], sentence: str) -> None:
    buffer = io.BytesIO()
    arrays = {name: getattr(statistics(), name) for name in ClassStatistics.__slots__} | changes
    np.savez_compressed(buffer, allow_pickle=True, **arrays)
    with pytest.raises(BundleError, match=f"{sentence}.*export the bundle again"):
        read_embeddings(buffer.getvalue(), PATH, describe_embeddings(statistics()), 16)


def test_a_damaged_file_is_a_sentence() -> None:
    content = embeddings_bytes(statistics())
    stated = describe_embeddings(statistics())
    for damaged in (content[:100], b"", content[:-30], content.replace(b"mean.npy", b"mien.npy")):
        with pytest.raises(BundleError, match=r"^bundle/embeddings\.npz: .*export the bundle again$"):
            read_embeddings(damaged, PATH, stated, 16)


def test_the_size_is_that_of_the_statistics_alone() -> None:
    large = replace(statistics(), mean=np.zeros(1280, np.float32), projection=np.ones((1280, 64), np.float32))
    assert len(embeddings_bytes(large)) < 500_000
