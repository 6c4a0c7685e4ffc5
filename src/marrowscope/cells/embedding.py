"""How far a cell is from the training cells of the category it was called: a distance of embeddings.

An embedding is the classifier's pooled feature vector, the input of its heads. The training cells of each category are
described by their mean and one covariance within all categories (Lee et al., NeurIPS 2018), on the principal components
of the training embeddings. ``projection`` maps an embedding to these components and whitens them, so that

    distance = squared length of (projected embedding - projected mean of its category) / number of components

the squared Mahalanobis distance per dimension: 1 on average over the training cells. It says how unlike its category's
training cells a cell is, whatever the network's probabilities say, not how probable an error is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMBEDDING = "embedding"
"""The output of a classifier's graph with the embeddings (n, width)."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassStatistics:
    """Statistics of the training cells' embeddings, on d whitened components.

    ``mean`` (width,) of all, ``projection`` (width, d), ``class_means`` (k, d) of the categories with index
    ``category_index`` (k,) in the vocabulary, each once, and their training cells ``n_cells`` (k,).
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    class_means: NDArray[np.float32]
    category_index: NDArray[np.int64]
    n_cells: NDArray[np.int64]

    @property
    def n_dimensions(self) -> int:
        """Length of an embedding."""
        return len(self.mean)


def embedding_distances(
    embeddings: NDArray[np.floating[Any]], called_category: NDArray[np.int64], statistics: ClassStatistics
) -> NDArray[np.float64]:
    """Return the distance (n,) of each embedding (n, width) to the mean of its called category.

    ``called_category`` (n,) are indexes in the vocabulary. NaN for a category without statistics.
    """
    known = called_category[:, None] == statistics.category_index
    centered = np.asarray(embeddings, dtype=np.float64) - statistics.mean
    # Not a product of matrices, whose last bits depend on the number of cells.
    components = np.einsum("nw,wd->nd", centered, statistics.projection.astype(np.float64))
    away = components - statistics.class_means[known.argmax(axis=1)]
    return np.where(known.any(axis=1), np.mean(away**2, axis=1), np.nan)
