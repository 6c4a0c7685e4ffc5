"""Two runs of the same annotated cohort, compared patient by patient: A - B with a paired bootstrap interval.

    python benchmarks/paired_difference.py RUN_A RUN_B COHORT [--tiles 4x3]

Per center: CBLC weighted and positive-class F1 and AUC over matched cells, CBLC weighted F1 over all expert cells (a
miss counted as wrong), category weighted and macro F1, and the mean absolute error of the patients' ratios. Each
resample draws patients once for both runs. One JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.runs.parquet import read_table
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_difference
from marrowscope.vocabulary import load_vocabulary

Rows = NDArray[np.int64]
Statistic = Callable[[Rows], float]


def cell_statistics(expert: pl.DataFrame, n_categories: int) -> dict[str, tuple[list[str], Statistic]]:
    """Return patients and statistic by name: over matched cells, and over all cells with misses as a separate class."""
    found = expert.filter(pl.col("found"))
    patients, everyone = found["patient_id"].to_list(), expert["patient_id"].to_list()
    cblc = found["cblc"].to_numpy().astype(np.int64)
    called = found["predicted_cblc"].to_numpy().astype(np.int64)
    p_cblc = found["p_cblc"].to_numpy()
    category = found["category"].to_numpy()
    named = found["predicted_category"].to_numpy().astype(np.int64)
    all_cblc = expert["cblc"].to_numpy().astype(np.int64)
    all_called = expert["predicted_cblc"].fill_null(metrics.NO_PREDICTION).to_numpy().astype(np.int64)

    def confusion(truth: Rows, call: Rows, n_classes: int) -> Callable[[Rows], NDArray[np.int64]]:
        return lambda rows: metrics.confusion_matrix(truth[rows], call[rows], n_classes)

    binary, many = confusion(cblc, called, 2), confusion(category, named, n_categories)
    with_misses = confusion(all_cblc, all_called, 2)
    return {
        "cblc_weighted_f1_matched": (patients, lambda rows: metrics.weighted_f1(binary(rows))),
        "cblc_positive_f1_matched": (patients, lambda rows: metrics.positive_f1(binary(rows))),
        "cblc_auc_matched": (patients, lambda rows: metrics.roc_auc(cblc[rows] == 1, p_cblc[rows])),
        "cblc_weighted_f1_all_expert": (everyone, lambda rows: metrics.weighted_f1(with_misses(rows))),
        "category_weighted_f1_matched": (patients, lambda rows: metrics.weighted_f1(many(rows))),
        "category_macro_f1_matched": (patients, lambda rows: metrics.macro_f1(many(rows))),
    }


def ratio_statistic(ratios: pl.DataFrame) -> dict[str, tuple[list[str], Statistic]]:
    """Compute the mean absolute error of the patients' ratios; cells at mosaic seams are left out if there are any."""
    predicted = ratios.select(pl.coalesce("predicted_ratio_no_seams", "predicted_ratio")).to_series()
    errors = np.abs(predicted.to_numpy() - ratios["true_ratio"].to_numpy())
    return {"ratio_mae": (ratios["patient_id"].to_list(), lambda rows: float(np.nanmean(errors[rows])))}


def compare(run_a: LinkedCells, run_b: LinkedCells, n_categories: int) -> dict[str, Any]:
    """Compute the figures of both runs and their paired difference, per center."""
    result: dict[str, Any] = {}
    for center in sorted(set(run_a.expert["center"])):
        of_center = pl.col("center") == center
        sides = [
            cell_statistics(run.expert.filter(of_center & ~pl.col("cut")), n_categories)
            | ratio_statistic(run.ratios.filter(of_center))
            for run in (run_a, run_b)
        ]
        figures: dict[str, Any] = {
            "n_patients": run_a.ratios.filter(of_center).height,
            "n_expert": run_a.expert.filter(of_center).height,
        }
        for name, (patients_a, statistic_a) in sides[0].items():
            patients_b, statistic_b = sides[1][name]
            difference = bootstrap_difference(patients_a, statistic_a, patients_b, statistic_b, n_resamples=1000)
            figures[name] = {
                "a": statistic_a(np.arange(len(patients_a))),
                "b": statistic_b(np.arange(len(patients_b))),
                "difference": [difference.estimate, difference.lower, difference.upper],
            }
        result[center] = figures
    return result


def main() -> None:
    """Parse the command line and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--tiles", default="1x1")
    arguments = parser.parse_args()
    columns, rows = (int(part) for part in arguments.tiles.split("x"))
    vocabulary = load_vocabulary()
    cohort = read_cohort(arguments.cohort, vocabulary=vocabulary)
    linked = [
        link_cells(
            read_table(run / "fields.parquet", "fields"),
            read_table(run / "cells.parquet", "cells"),
            cohort.patients,
            cohort.fields,
            vocabulary,
            config=EvaluateConfig(tile_columns=columns, tile_rows=rows),
        )
        for run in (arguments.run_a, arguments.run_b)
    ]
    print(json.dumps(compare(linked[0], linked[1], len(vocabulary.categories)), indent=2))


if __name__ == "__main__":
    main()
