"""Statistics of embeddings against independent calculations, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
sklearn_covariance = pytest.importorskip("sklearn.covariance")

from marrowscope.cells.embedding import embedding_distances  # noqa: E402
from marrowscope.train.embedding_statistics import (  # noqa: E402
    MIN_CELLS,
    class_statistics,
    shrunk_covariance,
)


def clouds(n: int = 400, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw three categories, 1, 4 and 9, with one covariance and means apart."""
    random = np.random.default_rng(seed)
    mixing = np.eye(width) + 0.2 * random.normal(size=(width, width)) / np.sqrt(width)
    labels = np.repeat([1, 4, 9], n)
    means = random.normal(scale=4, size=(10, width))
    return (random.normal(size=(3 * n, width)) @ mixing + means[labels]).astype(np.float32), labels


def test_the_shrunk_covariance_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    for n in (8, 30, 500):
        rows = random.normal(size=(n, 10)) * np.arange(1, 11)
        expected = sklearn_covariance.ledoit_wolf(rows, assume_centered=True)[0]
        np.testing.assert_allclose(shrunk_covariance(rows), expected)


def test_with_every_component_the_distance_is_the_squared_mahalanobis_distance_per_dimension() -> None:
    embeddings, labels = clouds()
    found = class_statistics(embeddings, labels)
    assert found is not None
    assert (found.category_index.tolist(), found.n_cells.tolist()) == ([1, 4, 9], [400] * 3)
    assert found.projection.shape == (12, 12)
    means = {label: embeddings[labels == label].mean(axis=0, dtype=np.float64) for label in (1, 4, 9)}
    away = embeddings - np.stack([means[label] for label in labels])
    inverse = np.linalg.inv(shrunk_covariance(away))  # shrinking towards the identity is the same in every basis
    expected = np.einsum("ni,ij,nj->n", away, inverse, away) / 12
    distances = embedding_distances(embeddings, labels, found)
    np.testing.assert_allclose(distances, expected, rtol=1e-3)
    assert distances.mean() == pytest.approx(1, abs=0.05)


def test_a_cell_unlike_its_category_is_far_and_one_of_another_category_too() -> None:
    embeddings, labels = clouds()
    statistics = class_statistics(embeddings, labels)
    assert statistics is not None
    own = embedding_distances(embeddings, labels, statistics)
    exchanged = embedding_distances(embeddings, np.array([4, 9, 1])[np.searchsorted([1, 4, 9], labels)], statistics)
    assert np.median(exchanged) > 3 * np.median(own)
    far = embeddings + 50 * np.random.default_rng(5).normal(size=12).astype(np.float32)
    assert embedding_distances(far, labels, statistics).min() > own.max()


def test_a_category_with_few_cells_has_no_distance() -> None:
    embeddings, labels = clouds()
    labels[: 400 - MIN_CELLS + 1] = -1
    statistics = class_statistics(embeddings, labels)
    assert statistics is not None
    assert statistics.category_index.tolist() == [4, 9]
    distances = embedding_distances(embeddings[:3], np.array([1, 4, 15]), statistics)
    assert np.isnan(distances).tolist() == [True, False, True]
    assert class_statistics(embeddings[labels == 4], labels[labels == 4]) is None


@pytest.mark.parametrize(("n", "width", "components"), [(400, 200, 64), (30, 200, 9), (30, 5, 5), (400, 2000, 64)])
def test_components_are_few_and_fewer_where_cells_are(n: int, width: int, components: int) -> None:
    embeddings, labels = clouds(n, width)
    statistics = class_statistics(embeddings, labels)
    assert statistics is not None
    assert statistics.projection.shape == (width, components)
    assert np.isfinite(statistics.projection).all()


def test_directions_without_variance_are_left_out() -> None:
    embeddings, labels = clouds(width=6)
    dead = np.zeros((len(labels), 30), np.float32)
    statistics = class_statistics(np.hstack([embeddings, dead]), labels)
    assert statistics is not None
    assert statistics.projection.shape == (36, 6)
    distances = embedding_distances(np.hstack([embeddings, dead]), labels, statistics)
    assert np.isfinite(distances).all()
