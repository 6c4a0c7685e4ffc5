"""One or more runs of a center that no training saw, measured as docs/validation.md prints them, with paired intervals.

    python benchmarks/external_center.py COHORT NAME=RUN [NAME=RUN ...] [--tiles 4x3] [--json FILE] [--resamples 2000]

Cells: countable expert cells (by the expert's code) that no edge cuts. `found` are those with a kept contour; in
`misses wrong`, a cell without one has the wrong call. Figures: AUC, weighted F1 and F1 of CBLC, weighted F1 and
accuracy of the 16 categories, slope and intercept of a logistic recalibration of p_cblc; what calling every cell
negative gives; share called CBLC by code. Patients: the counted ratio of the run against the annotated one (MAE, bias,
concordance).
Differences are of the first run minus each other one, over the cells that both found, with a bootstrap over patients.
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
from scipy.optimize import minimize

from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import EvaluateConfig, LinkedCells, link_cells
from marrowscope.runs.parquet import read_table
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_difference, bootstrap_over_groups
from marrowscope.vocabulary import load_vocabulary

Rows = NDArray[np.int64]
Statistic = Callable[[Rows], float]
_CERTAIN = 1e-6


def countable_cells(linked: LinkedCells) -> pl.DataFrame:
    """Return the whole countable expert cells in a fixed order, so that runs of one cohort have equal rows."""
    whole = linked.expert.filter(pl.col("countable") & ~pl.col("cut") & pl.col("cblc").is_not_null())
    return whole.sort("field_id", "shape_index")


def statistics_of(cells: pl.DataFrame, n_categories: int) -> dict[str, Statistic]:
    """Return each figure as a function of row numbers of ``cells``, all of them found."""
    truth = cells["cblc"].to_numpy()
    called = cells["predicted_cblc"].to_numpy().astype(np.int64)
    score = cells["p_cblc"].to_numpy()
    category = cells["category"].fill_null(-1).to_numpy().astype(np.int64)
    named = cells["predicted_category"].to_numpy().astype(np.int64)

    def binary(rows: Rows) -> NDArray[np.int64]:
        return metrics.confusion_matrix(truth[rows].astype(np.int64), called[rows], 2)

    def many(rows: Rows) -> NDArray[np.int64]:
        known = rows[category[rows] >= 0]
        return metrics.confusion_matrix(category[known], named[known], n_categories)

    return {
        "auc": lambda rows: metrics.roc_auc(truth[rows], score[rows]),
        "weighted_f1": lambda rows: metrics.weighted_f1(binary(rows)),
        "f1": lambda rows: metrics.positive_f1(binary(rows)),
        "category_weighted_f1": lambda rows: metrics.weighted_f1(many(rows)),
        "category_accuracy": lambda rows: float(np.trace(many(rows)) / max(many(rows).sum(), 1)),
    }


def recalibration(p: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and intercept of logit(truth) on logit(p): 1 and 0 for calibrated probabilities (Cox 1958)."""
    logit = np.log(np.clip(p, _CERTAIN, 1 - _CERTAIN)) - np.log(1 - np.clip(p, _CERTAIN, 1 - _CERTAIN))

    def loss(x: NDArray[np.float64]) -> float:
        z = x[0] * logit + x[1]
        return float(np.mean(np.logaddexp(0, z) - truth * z))

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    return float(slope), float(intercept)


def _share(yes: pl.Series) -> float:
    """Return the share of true values; a missing one counts as false."""
    return float(yes.fill_null(value=False).to_numpy().mean()) if len(yes) else 0.0


def measure(linked: LinkedCells, n_categories: int, resamples: int) -> dict[str, Any]:
    """Compute one run's figures, cells first."""
    cells = countable_cells(linked)
    found = cells.filter(pl.col("found"))
    rows = np.arange(len(found), dtype=np.int64)
    figures: dict[str, Any] = {"n_cells": len(cells), "n_found": len(found)}
    for name, statistic in statistics_of(found, n_categories).items():
        interval = bootstrap_over_groups(found["patient_id"].to_list(), statistic, n_resamples=resamples, seed=0)
        figures[name] = [interval.estimate, interval.lower, interval.upper]
    truth = cells["cblc"].to_numpy().astype(np.int64)
    called = cells["predicted_cblc"].fill_null(-1).to_numpy().astype(np.int64)
    wrong = np.where(called < 0, 1 - truth, called)
    with_misses = metrics.confusion_matrix(truth, wrong, 2)
    figures["weighted_f1_misses_wrong"] = metrics.weighted_f1(with_misses)
    figures["f1_misses_wrong"] = metrics.positive_f1(with_misses)
    negative = metrics.confusion_matrix(found["cblc"].to_numpy().astype(np.int64), np.zeros(len(rows), np.int64), 2)
    figures["weighted_f1_all_negative"] = metrics.weighted_f1(negative)
    p = found["p_cblc"].to_numpy()
    figures["calibration_slope"], figures["calibration_intercept"] = recalibration(p, found["cblc"].to_numpy())
    figures["mean_p_cblc"], figures["cblc_share"] = float(p.mean()), _share(found["cblc"])
    figures["by_code"] = [
        {
            "code": code,
            "n": len(group),
            "found": _share(group["found"]),
            "called_cblc": _share(group["predicted_cblc"] == 1),
            "category_right": _share(group["predicted_category"] == group["category"]),
        }
        for (code,), group in sorted(cells.group_by("code"))
    ]
    ratios = linked.ratios.filter(pl.col("true_ratio").is_not_null() & pl.col("predicted_ratio").is_not_null())
    true, counted = ratios["true_ratio"].to_numpy(), ratios["predicted_ratio"].to_numpy()
    figures |= {
        "n_patients": len(ratios),
        "ratio_mae": metrics.mean_absolute_error(true, counted),
        "ratio_bias": metrics.bias(true, counted),
        "ratio_concordance": metrics.concordance(true, counted),
        "ratios": [list(row) for row in ratios.select("patient_id", "true_ratio", "predicted_ratio").iter_rows()],
    }
    return figures


def differences(first: LinkedCells, other: LinkedCells, n_categories: int, resamples: int) -> dict[str, Any]:
    """Return first minus other with a paired interval: over the cells both found, and over their patients."""
    ours, theirs = countable_cells(first), countable_cells(other)
    both = (ours["found"] & theirs["found"]).to_numpy()
    ours, theirs = ours.filter(both), theirs.filter(both)
    pair = first.ratios.join(other.ratios, on="patient_id", suffix="_other").drop_nulls(
        ["true_ratio", "predicted_ratio", "predicted_ratio_other"]
    )
    named = pair.select("patient_id", true="true_ratio", ours="predicted_ratio", theirs="predicted_ratio_other")
    return {"n_cells": len(ours)} | paired_figures(ours, theirs, named, n_categories, resamples)


def paired_figures(
    ours: pl.DataFrame, theirs: pl.DataFrame, ratios: pl.DataFrame, n_categories: int, resamples: int
) -> dict[str, list[float]]:
    """Return each figure of cells, and the ratio's absolute error, as ours minus theirs with limits over patients.

    ``ours`` and ``theirs`` are the same cells with their calls; ``ratios`` has patient_id, true, ours and theirs.
    """
    sides = [cells["patient_id"].to_list() for cells in (ours, theirs)]
    figures = [statistics_of(cells, n_categories) for cells in (ours, theirs)]
    pairs = {name: (sides[0], figures[0][name], sides[1], figures[1][name]) for name in figures[0]}
    names, true = ratios["patient_id"].to_list(), ratios["true"].to_numpy()
    errors = [np.abs(ratios[side].to_numpy() - true) for side in ("ours", "theirs")]
    of_errors: list[Statistic] = [lambda rows, error=error: float(error[rows].mean()) for error in errors]  # type: ignore[misc]
    pairs["ratio_mae"] = (names, of_errors[0], names, of_errors[1])
    found = {name: bootstrap_difference(*pair, n_resamples=resamples, seed=0) for name, pair in pairs.items()}
    return {name: [interval.estimate, interval.lower, interval.upper] for name, interval in found.items()}


def main() -> None:
    """Parse the command line, link every run to the cohort, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--tiles", default="4x3")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--json", type=Path, dest="target")
    given = parser.parse_args()
    columns, rows = (int(part) for part in given.tiles.split("x"))
    config = EvaluateConfig(tile_columns=columns, tile_rows=rows)
    vocabulary = load_vocabulary()
    cohort = read_cohort(given.cohort, vocabulary=vocabulary)
    linked = {}
    for item in given.runs:
        name, _, folder = item.partition("=")
        fields, cells = (read_table(Path(folder) / f"{kind}.parquet", kind) for kind in ("fields", "cells"))
        shown = set(fields["patient_id"])
        patients = [patient for patient in cohort.patients if patient.patient_id in shown]
        linked[name] = link_cells(fields, cells, patients, cohort.fields, vocabulary, config=config)
    first = next(iter(linked))
    n = len(vocabulary.categories)
    result = {
        "runs": {name: measure(item, n, given.resamples) for name, item in linked.items()},
        f"{first} minus": {
            name: differences(linked[first], item, n, given.resamples) for name, item in linked.items() if name != first
        },
    }
    text = json.dumps(result, indent=1)
    if given.target:
        given.target.write_text(text, encoding="utf-8")
    for name, figures in result["runs"].items():
        print(name, {key: value for key, value in figures.items() if key not in {"by_code", "ratios"}})
    print(json.dumps(result[f"{first} minus"], indent=1))


if __name__ == "__main__":
    main()
