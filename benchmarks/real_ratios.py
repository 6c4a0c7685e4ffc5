"""The corrected ratio of patients left out in turn: error beside counting, and whether the interval holds the truth.

    python benchmarks/real_ratios.py RUN=COHORT [RUN=COHORT ...] [--leave patient|center] [--tiles 4x3] [--only ID ...]

Every expert cell of the cohort is linked with the run, as `marrowscope quantify` does. A patient is corrected with the
rates and the prior of the other patients of the center (``--leave patient``), or of all other centers (``--leave
center``), from the linked cells that were counted; the truth is the annotated ratio. Counted, adjusted count and
posterior median are compared by mean absolute error (MAE), paired by patient, with a 95% bootstrap over patients.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.adjusted_count import adjusted_count
from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import EvaluateConfig, link_cells
from marrowscope.patient.quantify.estimate import count_fields, estimate_ratio
from marrowscope.patient.quantify.rates import TRUTH_COLUMNS, fit_error_rates
from marrowscope.runs.parquet import read_table
from marrowscope.statistics.clusters import pooled_correlation
from marrowscope.statistics.intervals import is_wide
from marrowscope.studies.error_rates import outcomes
from marrowscope.vocabulary import load_vocabulary

VOCABULARY = load_vocabulary()
N_RESAMPLES = 10_000


def linked_cells(run: Path, cohort: Path, config: EvaluateConfig) -> pl.DataFrame:
    """Return a row per expert cell with its outcome and center."""
    read = read_cohort(cohort, vocabulary=VOCABULARY, decode=False)
    fields = [field for field in read.fields if field.annotated]
    cells = read_table(run / "cells.parquet", "cells")
    linked = link_cells(
        read_table(run / "fields.parquet", "fields"), cells, read.patients, fields, VOCABULARY, config=config
    )
    centers = {patient.patient_id: patient.center for patient in read.patients}
    print(f"{cohort.name}: {int(linked.expert['nucleus_alone'].sum())} polygons of the nucleus alone inside a contour")
    return outcomes(linked.expert, cells, VOCABULARY).with_columns(center=pl.col("patient_id").replace_strict(centers))


def left_out(cells: pl.DataFrame, leave: str) -> list[dict[str, Any]]:
    """Correct each patient with the rates of the others."""
    rows = []
    for key, group in cells.group_by("center" if leave == "center" else "patient_id", maintain_order=True):
        column = "center" if leave == "center" else "patient_id"
        others = cells.filter(pl.col(column) != key[0])
        counts = {
            str(patient[0]): count_fields(own, "called_cblc")
            for patient, own in others.filter("counted").group_by("patient_id", maintain_order=True)
        }
        correlation = pooled_correlation(
            [item.cblc_by_field for item in counts.values()], [item.countable_by_field for item in counts.values()]
        )
        rates = fit_error_rates(others.select(TRUTH_COLUMNS), VOCABULARY, correlation)
        for (patient,), own in group.group_by("patient_id", maintain_order=True):
            codes = [VOCABULARY.codes[code] for code in own["code"]]
            n = sum(code.countable for code in codes)
            counted = own.filter("counted")
            if not n or counted.is_empty():
                continue
            found = count_fields(counted, "called_cblc")
            ours, (adjusted, low, high) = estimate_ratio(found, rates), adjusted_count(found, rates)
            true = sum(code.cblc and code.countable for code in codes) / n
            rows.append(
                {
                    "patient": str(patient),
                    "center": str(own["center"][0]),
                    "true": true,
                    "counted": float(found.cblc_by_field.sum() / found.countable_by_field.sum()),
                    "adjusted": adjusted,
                    "posterior": ours.ratio,
                    "held": ours.lower <= true <= ours.upper,
                    "held_adjusted": low <= true <= high,
                    "width": ours.upper - ours.lower,
                    "width_adjusted": high - low,
                    "wide": is_wide(ours.lower, ours.upper),
                }
            )
    return rows


def print_center(name: str, rows: pl.DataFrame) -> None:
    """Print one line: patients, errors, paired differences with their upper bound, coverage and width."""
    rng = np.random.default_rng(0)
    true = rows["true"].to_numpy()
    errors = {key: np.abs(rows[key].to_numpy() - true) for key in ("counted", "adjusted", "posterior")}
    chosen = rng.integers(0, len(rows), (N_RESAMPLES, len(rows)))
    cells = [name, str(len(rows)), f"{true.mean():.3f}", *(f"{error.mean():.4f}" for error in errors.values())]
    for key in ("adjusted", "posterior"):
        difference = errors[key] - errors["counted"]
        low, high = np.quantile(difference[chosen].mean(axis=1), [0.025, 0.975])
        cells.append(f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f})")
    for ending in ("_adjusted", ""):
        width = float(rows[f"width{ending}"].to_numpy().mean())
        cells.append(f"{int(rows[f'held{ending}'].sum())} of {len(rows)}, {width:.3f}")
    cells.append(str(int(rows["wide"].sum())))
    print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Print a line per center, and one of all centers if there are several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN=COHORT")
    parser.add_argument("--leave", choices=("patient", "center"), default="patient")
    parser.add_argument("--tiles", default="1x1", help="tiles across and down a mosaic field")
    parser.add_argument("--only", nargs="+", help="patients, all others are left out")
    parser.add_argument("--out", type=Path, help="CSV of the patients")
    arguments = parser.parse_args()
    columns, tile_rows = (int(part) for part in arguments.tiles.split("x"))
    config = EvaluateConfig(tile_columns=columns, tile_rows=tile_rows)
    pairs = [text.split("=", maxsplit=1) for text in arguments.runs]
    cells = pl.concat([linked_cells(Path(run), Path(cohort), config) for run, cohort in pairs])
    if arguments.only:
        cells = cells.filter(pl.col("patient_id").is_in(arguments.only))
    parts = [cells] if arguments.leave == "center" else cells.partition_by("center", maintain_order=True)
    rows = pl.DataFrame([row for part in parts for row in left_out(part, arguments.leave)])
    if arguments.out:
        rows.write_csv(arguments.out)
    heads = ("center", "n", "mean ratio", "MAE counted", "adjusted count", "posterior", "adjusted - counted",
             "posterior - counted", "adjusted: held, width", "posterior: held, width", "no headline")  # fmt: skip
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for (center,), own in rows.group_by("center", maintain_order=True):
        print_center(str(center), own)
    if rows["center"].n_unique() > 1:
        print_center("all", rows)


if __name__ == "__main__":
    main()
