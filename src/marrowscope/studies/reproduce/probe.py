"""The baseline a network must beat: logistic regression on the mean colors and the shape of a cell.

Eleven numbers per cell, standardized on the training cells; L2-penalized logistic regression (softmax over several
classes), fitted to its minimum by L-BFGS. The objective and the calls match scikit-learn's `LogisticRegression` with C
= 1; scikit-learn itself is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from marrowscope.records import ImageArray, MaskArray

Matrix = NDArray[np.float64]
N_FEATURES = 11


def cell_features(crop: ImageArray, mask: MaskArray) -> list[float]:
    """Mean and spread of each color channel inside the cell, its size and its shape; zeros for an empty mask.

    ``crop`` is (s, s, 3) uint8 RGB, ``mask`` (s, s) in the same frame; lengths are in pixels of the crop.
    """
    inside = crop[mask].astype(np.float64)
    if len(inside) == 0:
        return [0.0] * N_FEATURES
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    perimeter = max(cv2.arcLength(contour, closed=True), 1.0)
    area = float(mask.sum())
    hull = max(cv2.contourArea(cv2.convexHull(contour)), 1.0)
    _, axes, _ = cv2.minAreaRect(contour)
    elongation = 1.0 - min(axes) / max(*axes, 1.0)
    shape = [np.sqrt(area), 4 * np.pi * area / perimeter**2, area / hull, elongation, float(inside.mean(axis=1).min())]
    return [*inside.mean(axis=0), *inside.std(axis=0), *shape]


def load_features(crops_folder: Path, source: str) -> tuple[Matrix, pl.DataFrame]:
    """Return features (n, 11) and table of a crop set's crops from one source (expert or predicted), in its order."""
    crops = np.load(crops_folder / "crops.npy", mmap_mode="r")
    masks = np.load(crops_folder / "masks.npy", mmap_mode="r")
    cells = pl.read_parquet(crops_folder / "cells.parquet").with_row_index("row").filter(pl.col("source") == source)
    rows = cells["row"].to_list()
    features = [cell_features(np.asarray(crops[row]), np.asarray(masks[row]).astype(np.bool_)) for row in rows]
    return np.asarray(features, dtype=np.float64).reshape(-1, N_FEATURES), cells


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted probe: names of the classes, and logits = standardized features @ weights (d, k) + offsets (k,)."""

    classes: tuple[str, ...]
    mean: Matrix
    scale: Matrix
    weights: Matrix
    offsets: Matrix

    def probabilities(self, features: Matrix) -> Matrix:
        """Return (n, k), the classes in the order of ``classes``."""
        logits = (features - self.mean) / self.scale @ self.weights + self.offsets
        chances: Matrix = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        return chances

    def predict(self, features: Matrix) -> list[str]:
        """Return the most probable class of each row."""
        return [self.classes[index] for index in self.probabilities(features).argmax(axis=1)]


def fit_probe(features: Matrix, labels: Sequence[str], strength: float = 1.0) -> LinearProbe:
    """Fit on ``features`` (n, d) and one label per row; ``strength`` is scikit-learn's C.

    Minimizes C times the summed cross-entropy plus half the squared weights, with free offsets. With two classes, the
    first has zero weights; with more, every class has its own, as in scikit-learn, since the penalty distinguishes
    them. A single class is always called.
    """
    classes = tuple(sorted(set(labels)))
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    wanted = np.zeros((len(features), len(classes)))
    wanted[np.arange(len(features)), [classes.index(label) for label in labels]] = 1.0
    n_free = len(classes) if len(classes) > 2 else len(classes) - 1  # noqa: PLR2004  the first of two stays at zero
    shape = (x.shape[1], n_free)
    penalized = np.ones(shape)
    penalized[-1] = 0.0

    def loss(flat: Matrix) -> tuple[float, Matrix]:
        free = flat.reshape(shape)
        logits = np.column_stack([np.zeros((len(x), len(classes) - n_free)), x @ free])
        log_chances = logits - logsumexp(logits, axis=1, keepdims=True)
        value = -strength * float((wanted * log_chances).sum()) + 0.5 * float((penalized * free**2).sum())
        slope = strength * x.T @ (np.exp(log_chances) - wanted)[:, len(classes) - n_free :] + penalized * free
        return value, slope.ravel()

    best = minimize(loss, np.zeros(x.shape[1] * n_free), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    fitted = np.column_stack([np.zeros((x.shape[1], len(classes) - n_free)), best.x.reshape(shape)])
    return LinearProbe(classes, mean, scale, fitted[:-1], fitted[-1])
