"""Is the simulated task easier than the real one? A plain probe answers.

Logistic regression on the mean colors and the outline shape of each annotated cell, cross-validated by patient, is
fitted to real cells and to simulated cells of the same categories in the same proportions. The simulated weighted F1
may exceed the real one by at most 0.05.

    python benchmarks/realism_probe.py SIMULATED --real BLOOD_AML --real BLOOD_CONTROL

SIMULATED: ``marrowscope simulate`` folder; every pair of its centers is probed (the real packs are two centers) and the
mean is printed. A balanced cohort keeps more cells when thinned to the real proportions.
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from marrowscope.imaging import read_image
from marrowscope.vocabulary import load_vocabulary

FOLDS = 5
REPEATS = 3
MARGIN = 0.05
Cells = dict[str, NDArray[np.generic]]


def describe(image: NDArray[np.uint8], contour: NDArray[np.float64], um_per_px: float) -> list[float]:
    """Return mean and spread of the colors inside the contour, area (um2), circularity, elongation, solidity."""
    x0, y0 = np.floor(contour.min(axis=0)).astype(int).clip(0)
    x1, y1 = np.ceil(contour.max(axis=0)).astype(int) + 1
    window = image[y0:y1, x0:x1]
    mask = np.zeros(window.shape[:2], np.uint8)
    points = np.round((contour - (x0, y0)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 1, shift=4)
    pixels = window[mask > 0].astype(np.float64)
    line = contour.astype(np.float32)
    area, perimeter = cv2.contourArea(line), cv2.arcLength(line, closed=True)
    (_, (short, long), _), hull = cv2.fitEllipse(line), cv2.contourArea(cv2.convexHull(line))
    shape = [area * um_per_px**2, 4 * np.pi * area / perimeter**2, long / max(short, 1e-6), area / max(hull, 1e-6)]
    return [*pixels.mean(axis=0), *pixels.std(axis=0), *shape]


def read(root: Path, limit: int, rng: np.random.Generator) -> Cells:
    """Describe up to ``limit`` fields of a cohort: features, category, patient and center of each whole cell."""
    vocabulary = load_vocabulary()
    with (root / "patients.csv").open(encoding="utf-8") as stream:
        patients = {row["patient_id"]: row for row in csv.DictReader(stream)}
    files = sorted(root.glob("*/*.json"))
    chosen = [files[i] for i in rng.permutation(len(files))[:limit]]
    rows: list[list[float]] = []
    labels: list[tuple[str, str, str]] = []
    for path in sorted(chosen):
        image = read_image(path.with_suffix(".jpg"))
        patient = patients[path.parent.name]
        for shape in json.loads(path.read_text(encoding="utf-8"))["shapes"]:
            contour = np.array(shape["points"])
            inside = contour.min() > 1 and (contour.max(axis=0) < (image.shape[1] - 2, image.shape[0] - 2)).all()
            if len(contour) < FOLDS or not inside:
                continue
            rows.append(describe(image, contour, float(patient["um_per_px"])))
            labels.append((vocabulary.lookup(shape["label"]).category, path.parent.name, patient["center"]))
    category, patient_id, center = (np.array(column) for column in zip(*labels, strict=True))
    return {"x": np.array(rows), "category": category, "patient": patient_id, "center": center}


def probe(cells: Cells) -> float:
    """Compute the probe's weighted F1, with every prediction from a fold without that patient."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=400))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted = cross_val_predict(
            model, cells["x"], cells["category"], groups=cells["patient"], cv=GroupKFold(FOLDS)
        )
    return float(f1_score(cells["category"], predicted, average="weighted", zero_division=0))


def thin(cells: Cells, shares: dict[str, float], rng: np.random.Generator, n: int | None = None) -> Cells:
    """Sample ``n`` cells, or as many as possible, with exactly (within one cell) the category ``shares``."""
    counts = {name: int((cells["category"] == name).sum()) for name in shares}
    total = min(counts[name] / share for name, share in shares.items())
    total = total if n is None else min(n, total)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(cells["category"] == name))[: max(1, round(total * share))]
            for name, share in shares.items()
        ]
    )
    return {key: value[np.sort(chosen)] for key, value in cells.items()}


def main() -> None:
    """Print the probe's metrics for the real packs and for each pair of simulated centers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("simulated", type=Path)
    parser.add_argument("--real", type=Path, action="append", required=True)
    parser.add_argument("--fields", type=int, default=400, help="fields read from each cohort")
    parser.add_argument("--least", type=float, default=0.01, help="leave out real categories rarer than this share")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    packs = [read(root, arguments.fields, rng) for root in arguments.real]
    real = {key: np.concatenate([pack[key] for pack in packs]) for key in packs[0]}
    names, counts = np.unique(real["category"], return_counts=True)
    shares = {
        str(n): c / len(real["x"]) for n, c in zip(names, counts, strict=True) if c >= arguments.least * len(real["x"])
    }
    shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    real = thin(real, shares, rng)
    print(f"real: {len(real['x'])} cells, {len(np.unique(real['patient']))} patients, categories {', '.join(shares)}")
    print(f"real weighted F1 with all cells {probe(real):.3f}")
    simulated = read(arguments.simulated, 10**6, rng)
    simulated_f1: list[float] = []
    real_f1: list[float] = []
    centers = sorted(set(simulated["center"].tolist()))
    for first, second in list(pairwise(centers))[::2]:
        chosen = np.isin(simulated["center"], [first, second])
        cells = thin({key: value[chosen] for key, value in simulated.items()}, shares, rng)
        simulated_f1.append(probe(cells))
        same_size = np.mean([probe(thin(real, shares, rng, len(cells["x"]))) for _ in range(REPEATS)])
        real_f1.append(float(same_size))
        print(
            f"simulated centers {first} + {second}: {len(cells['x'])} cells, weighted F1 {simulated_f1[-1]:.3f}; "
            f"as many real cells {real_f1[-1]:.3f}"
        )
    difference = float(np.mean(simulated_f1) - np.mean(real_f1))
    print(
        f"simulated mean {np.mean(simulated_f1):.3f}, real mean {np.mean(real_f1):.3f}; "
        f"difference {difference:+.3f}, allowed +{MARGIN}"
    )


if __name__ == "__main__":
    main()
