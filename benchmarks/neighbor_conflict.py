"""Conflict test: neighbors that match the cell in training and contradict it in test, in the simulator.

    python benchmarks/neighbor_conflict.py cohorts OUT                      # OUT/train, OUT/independent, OUT/reversed
    marrowscope prepare OUT/train --segmenter SEGMENTER --out CROPS_TRAIN    # and so for the other two
    marrowscope train classifier CROPS_TRAIN --config border.toml --out WITH     # and PLAIN with the terms at 0
    python benchmarks/neighbor_conflict.py measure CROPS_INDEPENDENT CROPS_REVERSED --trained WITH --plain PLAIN
    python benchmarks/neighbor_conflict.py association OUT/train OUT/independent OUT/reversed

Both test cohorts have the same patients and the same cells in other positions, so the loss is compared cell by cell. A
loss is the weighted F1 of CBLC on independent minus that on reversed neighbors, in points; at most 2 are allowed for
the regularized model. Prints a Markdown table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.cells.calls import decode_calls
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_over_groups
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.proof_cells import ProofCells, ProofSelection, answer, load_cells, load_trained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.simulate.neighbors import Neighbors

TARGET_POINTS = 2.0
NEAR_UM = 8.0
# About half of the cells are composite blast-like: then reversing can be as strong as correlating.
DIAGNOSES = ("AML_M2", "AML_M4", "AML_M5b", "AEL", "megaloblastic")


def make_cohorts(out: Path, patients: int, test_patients: int, fields: int, *, seed: int, workers: int) -> None:
    """Simulate the training cohort and the two test cohorts, which contain the same cells."""
    plans: tuple[tuple[str, Neighbors, int, str, int], ...] = (
        ("train", "correlated", patients, "T", seed),
        ("independent", "independent", test_patients, "E", seed + 1),
        ("reversed", "reversed", test_patients, "E", seed + 1),
    )
    for name, neighbors, n_patients, prefix, own_seed in plans:
        config = SimulationConfig(
            patients=n_patients,
            centers=min(6, n_patients),
            fields=fields,
            prefix=prefix,
            seed=own_seed,
            diagnoses=DIAGNOSES,
            cells_per_field=(30, 44),
            neighbors=neighbors,
            workers=workers,
        )
        simulate_cohort(out / name, config)


def association(cohort: Path) -> dict[str, float]:
    """Measure how well a cell's neighbors predict it: those with a gap below 8 um, on the truth of one cohort.

    ``auc`` is the AUC of the neighbors' CBLC share for the cell's own state, over all cells with a neighbor and as the
    mean over patients (0.5 means no information); ``same_share`` the mean share of neighbors of the cell's own kind.
    """
    truth = pl.read_parquet(cohort / "truth_cells.parquet")
    codes = load_vocabulary().codes
    own, share, patients = [], [], []
    for field in truth.partition_by("patient_id", "field", maintain_order=True):
        state = np.array([codes[code].cblc for code in field["code"]], dtype=np.float64)
        centers = np.array([np.reshape(contour, (-1, 2)).mean(axis=0) for contour in field["contour_xy"].to_list()])
        radius = field["diameter_um"].to_numpy() / 2
        distance = np.hypot(*(centers[:, None] - centers[None]).transpose(2, 0, 1)) * field["um_per_px"][0]
        near = distance - radius[:, None] - radius[None] < NEAR_UM
        np.fill_diagonal(near, val=False)
        held = np.flatnonzero(near.any(axis=1))
        own.append(state[held])
        share.append((near[held] @ state) / near[held].sum(axis=1))
        patients += [str(field["patient_id"][0])] * len(held)
    cell, neighbors = np.concatenate(own), np.concatenate(share)
    names = np.array(patients)
    within = [metrics.roc_auc(cell[names == name] == 1, neighbors[names == name]) for name in np.unique(names)]
    return {
        "n_cells": len(truth),
        "n_with_neighbor": len(cell),
        "cblc_share": float(cell.mean()),
        "auc": metrics.roc_auc(cell == 1, neighbors),
        "auc_within_patient": float(np.nanmean(within)),
        "same_share": float(np.mean(np.where(cell == 1, neighbors, 1 - neighbors))),
    }


def same_cells(sets: dict[str, ProofCells]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the cells in both crop sets, in the same order."""
    tables = {name: cells.table.select("cell_id").with_row_index("row") for name, cells in sets.items()}
    both = tables["independent"].join(tables["reversed"], on="cell_id", suffix="_reversed", maintain_order="left")
    return {
        "independent": both["row"].to_numpy().astype(np.int64),
        "reversed": both["row_reversed"].to_numpy().astype(np.int64),
    }


def measure(trained: Path, crops: dict[str, Path], selection: ProofSelection) -> dict[str, Any]:
    """Compute F1 on both test sets and the paired loss with an interval over patients, for one model."""
    model, info = load_trained(trained)
    vocabulary = load_vocabulary()
    sets = {name: load_cells(folder, trained, info, selection, vocabulary) for name, folder in crops.items()}
    rows = same_cells(sets)
    patients = [sets["independent"].patients[row] for row in rows["independent"]]
    said = {
        name: answer(model, info, cells.crops[rows[name]], vocabulary, decode_calls) for name, cells in sets.items()
    }
    figures: dict[str, Any] = {
        "n_cells": len(patients),
        "n_patients": len(set(patients)),
        "left_out": {name: cells.left_out for name, cells in sets.items()},
        "only_one_set": {name: len(cells.table) - len(patients) for name, cells in sets.items()},
    }
    for head, n_classes in (("cblc", 2), ("category", len(vocabulary.categories))):
        truth = {name: sets[name].labels[head][rows[name]] for name in sets}

        def f1(name: str, chosen: NDArray[np.int64], head: str = head, k: int = n_classes, truth: Any = truth) -> float:  # noqa: ANN401  one loop's values
            called = said[name][head].called
            return 100 * metrics.weighted_f1(metrics.confusion_matrix(truth[name][chosen], called[chosen], k))

        loss = bootstrap_over_groups(
            patients, lambda chosen: f1("independent", chosen) - f1("reversed", chosen), n_resamples=1000
        )
        everything = np.arange(len(patients), dtype=np.int64)
        figures[head] = {
            "f1_independent": f1("independent", everything),
            "f1_reversed": f1("reversed", everything),
            "loss": [loss.estimate, loss.lower, loss.upper],
        }
    return figures


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """Format the models as a table, F1 in percent, losses in points."""
    lines = [
        "| model | head | independent | reversed | loss (95%) | at most |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in results.items():
        for head in ("cblc", "category"):
            row = figures[head]
            middle, low, high = row["loss"]
            target = f"{TARGET_POINTS:.0f}" if head == "cblc" and name == "trained" else ""
            lines.append(
                f"| {name} | {head} | {row['f1_independent']:.2f} | {row['f1_reversed']:.2f} | "
                f"{middle:.2f} ({low:.2f} to {high:.2f}) | {target} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("cohorts", help="simulate the three cohorts")
    making.add_argument("out", type=Path)
    making.add_argument("--patients", type=int, default=24)
    making.add_argument("--test-patients", type=int, default=12)
    making.add_argument("--fields", type=int, default=6)
    making.add_argument("--seed", type=int, default=31)
    making.add_argument("--workers", type=int, default=1)
    telling = commands.add_parser("association", help="how well neighbors predict the cell")
    telling.add_argument("cohorts", type=Path, nargs="+")
    measuring = commands.add_parser("measure", help="F1 on both test sets")
    measuring.add_argument("independent", type=Path)
    measuring.add_argument("reversed", type=Path)
    measuring.add_argument("--trained", type=Path, required=True, help="the regularized model")
    measuring.add_argument("--plain", type=Path, help="the same without the border terms")
    measuring.add_argument("--source", choices=("expert", "predicted"), default="predicted")
    measuring.add_argument("--most", type=int, default=0, help="maximum number of cells per set; 0: all")
    arguments = parser.parse_args()
    if arguments.command == "cohorts":
        sizes = (arguments.patients, arguments.test_patients, arguments.fields)
        make_cohorts(arguments.out, *sizes, seed=arguments.seed, workers=arguments.workers)
    elif arguments.command == "association":
        print(json.dumps({str(cohort): association(cohort) for cohort in arguments.cohorts}, indent=2))
    else:
        selection = ProofSelection(source=arguments.source, most=arguments.most)
        crops = {"independent": arguments.independent, "reversed": arguments.reversed}
        models = {"trained": arguments.trained} | ({"plain": arguments.plain} if arguments.plain else {})
        results = {name: measure(path, crops, selection) for name, path in models.items()}
        print(markdown(results))
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
