"""A plain probe beside every classifier figure: logistic regression on the mean colours and the shape of a cell.

    python benchmarks/colour_shape_probe.py --train TRAIN_CROPS --test TEST_CROPS [--source expert]

Crop sets come from `marrowscope prepare`. Prints, per centre of the test set, CBLC weighted F1 (and what calling
every cell negative would give), positive-class F1, AUC, and 16-category weighted and macro F1, as one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

Matrix = NDArray[np.float64]


def cell_features(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> list[float]:
    """Mean and spread of each colour channel inside the cell, and its size and shape, from a crop and its mask."""
    inside = image[mask].astype(np.float64)
    if len(inside) == 0:
        return [0.0] * 11
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    perimeter = max(cv2.arcLength(contour, closed=True), 1.0)
    area = float(mask.sum())
    hull = max(cv2.contourArea(cv2.convexHull(contour)), 1.0)
    _, axes, _ = cv2.minAreaRect(contour)
    elongation = 1.0 - min(axes) / max(*axes, 1.0)
    shape = [np.sqrt(area), 4 * np.pi * area / perimeter**2, area / hull, elongation, float(inside.mean(axis=1).min())]
    return [*inside.mean(axis=0), *inside.std(axis=0), *shape]


def load_features(folder: Path, source: str) -> tuple[Matrix, pl.DataFrame]:
    """Features (n, 11) and table of one crop set's crops of one source."""
    crops = np.load(folder / "crops.npy", mmap_mode="r")
    masks = np.load(folder / "masks.npy", mmap_mode="r")
    cells = pl.read_parquet(folder / "cells.parquet").with_row_index("row").filter(pl.col("source") == source)
    rows = cells["row"].to_list()
    features = [cell_features(np.asarray(crops[row]), np.asarray(masks[row]).astype(np.bool_)) for row in rows]
    return np.asarray(features, dtype=np.float64), cells


def run_probe(train: Path, test: Path, source: str) -> dict[str, Any]:
    """Fit on one crop set, test on another; figures per centre."""
    codes = load_vocabulary().codes
    (x_train, train_cells), (x_test, test_cells) = load_features(train, source), load_features(test, source)
    labels: dict[str, Callable[[pl.DataFrame], NDArray[np.generic]]] = {
        "cblc": lambda cells: np.array([codes[code].cblc for code in cells["expert_code"]]),
        "category": lambda cells: np.array([codes[code].category for code in cells["expert_code"]]),
    }
    models = {
        head: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x_train, label(train_cells))
        for head, label in labels.items()
    }
    figures: dict[str, Any] = {}
    for center in sorted(test_cells["center"].unique()):
        chosen = (test_cells["center"] == center).to_numpy()
        cblc, category = labels["cblc"](test_cells)[chosen], labels["category"](test_cells)[chosen]
        called = models["cblc"].predict(x_test[chosen])
        named = models["category"].predict(x_test[chosen])
        figures[center] = {
            "n_cells": int(chosen.sum()),
            "n_cblc": int(cblc.sum()),
            "cblc_weighted_f1": f1_score(cblc, called, average="weighted"),
            "cblc_weighted_f1_all_negative": f1_score(cblc, np.zeros_like(cblc), average="weighted"),
            "cblc_positive_f1": f1_score(cblc, called, zero_division=0.0),
            "cblc_auc": roc_auc_score(cblc, models["cblc"].predict_proba(x_test[chosen])[:, 1]),
            "category_weighted_f1": f1_score(category, named, average="weighted", zero_division=0.0),
            "category_macro_f1": f1_score(
                category, named, average="macro", labels=sorted(set(category)), zero_division=0.0
            ),
        }
    return figures


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--source", choices=("expert", "predicted"), default="expert")
    arguments = parser.parse_args()
    print(json.dumps(run_probe(arguments.train, arguments.test, arguments.source), indent=2))


if __name__ == "__main__":
    main()
