"""Classifiers on centers they never saw: batch norm as is, batch norm re-estimated there, group norm.

    python benchmarks/center_shift.py CROPS TRAINED TRAINED ... [--source predicted] [--decision-tau 0] [--out FILE]

Each TRAINED is a training folder made with `marrowscope train classifier CROPS --split ...`, with all patients of at
least one center as test patients in the split. The folder predicts the test patients of every such center; one with
batch norm does so twice, the second time with its statistics re-estimated on all crops of that center, the judged ones
among them, without their classes (a predicted crop is in a crop set only where an expert drew a cell). Only cells of
shared categories are judged: trained by every compared folder; the others are counted. Folders that trained on the same
centers are compared, each with the first: a paired bootstrap over patients. The tables are Markdown; `--out` also
writes all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from marrowscope.cohort.folds import read_split
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_difference, bootstrap_over_groups
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.crop_set import CropSet, IntArray, open_crop_set
from marrowscope.train.validation import predict_logits, probabilities
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.normalization import reestimate_batch_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.train.config import Source
    from marrowscope.train.model import CellClassifier, ClassifierInfo

Statistic = tuple[list[str], Callable[[IntArray], float]]
"""The patient of each row, and a figure of some rows."""


@dataclass(frozen=True)
class Trained:
    """A training folder: its network, and the patients of the centers it never saw."""

    folder: Path
    model: CellClassifier
    info: ClassifierInfo
    trained_on: tuple[str, ...]
    test_patients: Mapping[str, set[str]]


def open_trained(folder: Path, crop_set: CropSet) -> Trained:
    """Read the network and its split; a center with a patient on the training side is not an unseen one."""
    roles = read_split(folder / SPLIT_NAME)
    center_of = dict(crop_set.cells.select("patient_id", "center").unique().iter_rows())
    seen = {center_of[patient] for patient, role in roles.items() if role != "test" and patient in center_of}
    test: dict[str, set[str]] = {}
    for patient, role in roles.items():
        if role == "test" and patient in center_of and center_of[patient] not in seen:
            test.setdefault(center_of[patient], set()).add(patient)
    model, info, _ = load_classifier(folder / CLASSIFIER_NAME)
    return Trained(folder, model, info, tuple(sorted(seen)), test)


def predict(
    model: CellClassifier, crop_set: CropSet, rows: IntArray, info: ClassifierInfo, decision_tau: float
) -> dict[str, NDArray[np.float32]]:
    """Compute probabilities (n, k) by head under the class shares of ``decision_tau``."""
    logits = predict_logits(model, crop_set, rows, info)
    turned = {head: values + torch.tensor(info.decision_offset(head, decision_tau)) for head, values in logits.items()}
    return probabilities(turned, info)


def statistics_of(
    truth: Mapping[str, IntArray],
    predicted: Mapping[str, NDArray[np.float32]],
    patients: list[str],
) -> dict[str, Statistic]:
    """Return the figures of n cells by name: labels (n,), probabilities (n, k) by head, the patient of each cell."""
    called = {head: values.argmax(axis=1).astype(np.int64) for head, values in predicted.items()}
    score = predicted["cblc"][:, 1].astype(np.float64)
    n_categories = predicted["category"].shape[1]

    def cblc(rows: IntArray) -> IntArray:
        return metrics.confusion_matrix(truth["cblc"][rows], called["cblc"][rows], 2)

    def category(rows: IntArray) -> IntArray:
        return metrics.confusion_matrix(truth["category"][rows], called["category"][rows], n_categories)

    names = sorted(set(patients))
    place = np.array([names.index(patient) for patient in patients])
    errors = np.abs(_ratios(called, place, len(names)) - _ratios(truth, place, len(names)))
    return {
        "CBLC weighted F1": (patients, lambda rows: metrics.weighted_f1(cblc(rows))),
        "CBLC positive F1": (patients, lambda rows: metrics.positive_f1(cblc(rows))),
        "CBLC AUC": (patients, lambda rows: metrics.roc_auc(truth["cblc"][rows] == 1, score[rows])),
        "category weighted F1": (patients, lambda rows: metrics.weighted_f1(category(rows))),
        "category macro F1": (patients, lambda rows: metrics.macro_f1(category(rows))),
        "ratio MAE": (names, lambda rows: float(np.nanmean(errors[rows]))),
    }


def _ratios(labels: Mapping[str, IntArray], place: IntArray, n_patients: int) -> NDArray[np.float64]:
    """Compute CBLC among countable cells of each patient; NaN without a countable cell."""
    countable = np.bincount(place, weights=labels["countable"] == 1, minlength=n_patients)
    cblc = np.bincount(place, weights=(labels["countable"] == 1) & (labels["cblc"] == 1), minlength=n_patients)
    return np.asarray(np.divide(cblc, countable, out=np.full(n_patients, np.nan), where=countable > 0))


def compare(
    crop_set: CropSet,
    folders: list[Trained],
    *,
    center: str,
    source: Source,
    decision_tau: float,
    n_resamples: int,
) -> dict[str, Any]:
    """Compute the figures of every variant of folders with equal training centers, on one center none of them saw."""
    patients = set.intersection(*(trained.test_patients[center] for trained in folders))
    rows = crop_set.rows(patients, source)
    known = np.all([trained.info.trained("category") for trained in folders], axis=0)
    kept = rows[known[crop_set.labels["category"][rows]]]
    shared = tuple(int(k) for k in np.unique(crop_set.labels["category"][kept]))
    of_center = (crop_set.cells["center"] == center) & (crop_set.cells["source"] == source)
    unlabeled = np.flatnonzero(of_center.to_numpy()).astype(np.int64)
    truth = {head: labels[kept] for head, labels in crop_set.labels.items()}
    names = crop_set.cells["patient_id"][kept].to_list()
    variants: dict[str, dict[str, Statistic]] = {}
    notes = []
    for trained in folders:
        name = f"{trained.folder.name}: {trained.info.norm} norm"
        models = {name: trained.model}
        if trained.info.norm == "batch":
            adapted = reestimate_batch_norm(trained.model, crop_set, unlabeled, trained.info)
            models[f"{name}, estimated again"] = adapted.model
            notes += [adapted.note] if adapted.note else []
        for variant, model in models.items():
            predicted = predict(model, crop_set, kept, trained.info, decision_tau)
            variants[variant] = statistics_of(truth, predicted, names)
    first = next(iter(variants.values()))
    return {
        "trained_on": folders[0].trained_on,
        "center": center,
        "source": source,
        "decision_tau": decision_tau,
        "n_patients": len(set(names)),
        "n_cells": len(kept),
        "n_cells_of_other_categories": len(rows) - len(kept),
        "n_crops_estimated_on": len(unlabeled),
        "shared_categories": [crop_set.categories[k] for k in shared],
        "notes": notes,
        "variants": {
            variant: {
                figure: _figure(statistic, None if values is first else first[figure], n_resamples)
                for figure, statistic in values.items()
            }
            for variant, values in variants.items()
        },
    }


def _figure(own: Statistic, other: Statistic | None, n_resamples: int) -> dict[str, list[float]]:
    """Return the estimate with its interval and, beside another, the paired difference with its interval."""
    intervals = {"value": bootstrap_over_groups(*own, n_resamples=n_resamples)}
    if other is not None:
        intervals["difference"] = bootstrap_difference(*own, *other, n_resamples=n_resamples)
    return {name: [found.estimate, found.lower, found.upper] for name, found in intervals.items()}


def as_markdown(result: Mapping[str, Any]) -> str:
    """Format one table: one variant per line, differences from the first below the value."""
    figures = list(next(iter(result["variants"].values())))
    heading = (
        f"Trained on {', '.join(result['trained_on'])}, tested on {result['center']}: {result['n_patients']} patients, "
        f"{result['n_cells']} cells of {len(result['shared_categories'])} shared categories "
        f"({result['n_cells_of_other_categories']} of others left out); batch norm estimated again on "
        f"{result['n_crops_estimated_on']} crops."
    )
    lines = [
        heading,
        *result["notes"],
        "",
        "| variant | " + " | ".join(figures) + " |",
        "|---" * (len(figures) + 1) + "|",
    ]
    for variant, values in result["variants"].items():
        cells = []
        for figure in figures:
            text = "{:.3f} ({:.3f}-{:.3f})".format(*values[figure]["value"])
            if "difference" in values[figure]:
                text += "; {:+.3f} ({:+.3f} to {:+.3f})".format(*values[figure]["difference"])
            cells.append(text)
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("trained", type=Path, nargs="+")
    parser.add_argument("--source", choices=("expert", "predicted"), default="predicted")
    parser.add_argument("--decision-tau", type=float, default=0.0, help="0: class shares of the training cells")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    crop_set = open_crop_set(arguments.crops, load_vocabulary())
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for folder in arguments.trained:
        trained = open_trained(folder, crop_set)
        groups.setdefault(trained.trained_on, []).append(trained)
    results = []
    for folders in groups.values():
        for center in sorted(set.intersection(*(set(trained.test_patients) for trained in folders))):
            results.append(
                compare(
                    crop_set,
                    folders,
                    center=center,
                    source=arguments.source,
                    decision_tau=arguments.decision_tau,
                    n_resamples=arguments.resamples,
                )
            )
            print(as_markdown(results[-1]), end="\n\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
