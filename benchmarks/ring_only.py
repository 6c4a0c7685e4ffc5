"""Ring-only crops: what a crop reveals about its cell when the cell is painted over. Descriptive, no target.

    python benchmarks/ring_only.py make CROPS OUT --trained TRAINED           # a crop set without centers, to train on
    marrowscope train classifier OUT --config rings.toml --split split.csv --out RINGS
    python benchmarks/ring_only.py measure TRAINED CROPS [--ceiling RINGS]

The same disc, 10% above the 99th percentile cell, is painted in one color in every crop; cells that reach beyond it are
left out and counted. The classifier's balanced accuracy within patients on rings is compared with that on rings
shuffled among the cells of the same patient: the difference is what the ring reveals, and the classifier uses, beyond
the patient it belongs to. A call is the class whose probability is highest relative to its mean over the patient's
rings: direct calls are nearly all smudges. A classifier trained on rings is the ceiling; rings.toml sets the weights of
consistency and evidence to 0, since both would teach it to ignore the ring, and keeps the rest as in TRAINED. Neighbors
share the patient and erythroid cells grow in islands, so part of it is legitimate. Prints a Markdown table and one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.calls import decode_calls
from marrowscope.statistics.intervals import bootstrap_over_groups
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.border_proof import (
    balanced_accuracy_within,
    reach_px,
    relative_calls,
    ring_only,
    ring_radius,
    shuffle_within,
)
from benchmarks.proof_cells import ProofSelection, answer, load_cells, load_trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.border_proof import IntArray, RealArray
    from benchmarks.proof_cells import ProofCells

FILL = (224, 214, 206)
"""A color of clear smear background, near the median of stained slides; the same for every cell."""
N_SHUFFLES = 5
_CHUNK = 256


def make_ring_set(crops: Path, out: Path, radius_px: float) -> None:
    """Copy a crop set with the disc painted into every stored crop, and as every mask: no shape is left."""
    out.mkdir(parents=True)
    for path in sorted(crops.glob("*.*")):
        if path.name not in ("crops.npy", "masks.npy"):
            shutil.copy(path, out / path.name)
    stored = np.load(crops / "crops.npy", mmap_mode="r")
    rings = np.lib.format.open_memmap(out / "crops.npy", mode="w+", dtype=np.uint8, shape=stored.shape)
    masks = np.lib.format.open_memmap(out / "masks.npy", mode="w+", dtype=np.bool_, shape=stored.shape[:3])
    disc = ring_only(np.zeros((1, *stored.shape[1:]), dtype=np.uint8), radius_px, (1, 1, 1))[0, ..., 0] > 0
    for start in range(0, len(stored), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        rings[chosen] = ring_only(np.asarray(stored[chosen]), radius_px, FILL)
        masks[chosen] = disc
    rings.flush()
    masks.flush()


def measure(trained: Path, cells: ProofCells, radius_px: float) -> dict[str, Any]:
    """Compute one model's balanced accuracy within patients on own rings, on shuffled rings, and the difference."""
    model, info = load_trained(trained)
    covered = np.flatnonzero(reach_px(cells.masks) <= radius_px)
    patients = [cells.patients[row] for row in covered]
    rings = ring_only(cells.crops[covered], radius_px, FILL)
    said = answer(model, info, rings, load_vocabulary(), decode_calls)
    rng = np.random.default_rng(0)
    shuffles = [shuffle_within(patients, rng) for _ in range(N_SHUFFLES)]
    figures: dict[str, Any] = {"n_cells": len(covered)}
    for head in ("cblc", "category"):
        truth = cells.labels[head][covered]
        called = relative_calls(patients, truth, said[head].probability)
        own, n_patients = balanced_accuracy_within(patients, truth, called)
        others = [balanced_accuracy_within(patients, truth, called[order])[0] for order in shuffles]
        # Every patient counts once per resample: the mean over patients is resampled, not their cells.
        names, gains = _gain_by_patient(patients, truth, called, shuffles)
        gain = bootstrap_over_groups(names, _mean_of(gains))
        figures[head] = {
            "n_patients": n_patients,
            "plainly_called": dict(
                zip(*(part.tolist() for part in np.unique(said[head].called, return_counts=True)), strict=True)
            ),
            "own": own,
            "shuffled": float(np.mean(others)),
            "gain": [gain.estimate, gain.lower, gain.upper],
        }
    return figures


def _mean_of(values: RealArray) -> Callable[[IntArray], float]:
    return lambda rows: float(values[rows].mean())


def _gain_by_patient(
    patients: list[str], truth: IntArray, called: IntArray, shuffles: list[IntArray]
) -> tuple[list[str], RealArray]:
    """Balanced accuracy on own rings minus that on shuffled ones, for each patient where it is defined."""
    everyone = np.array(patients)
    names, gains = [], []
    for name in sorted(set(patients)):
        here = np.flatnonzero(everyone == name)
        one = [name] * len(here)
        own, n_patients = balanced_accuracy_within(one, truth[here], called[here])
        if n_patients:
            others = [balanced_accuracy_within(one, truth[here], called[order[here]])[0] for order in shuffles]
            names.append(name)
            gains.append(own - float(np.mean(others)))
    return names, np.array(gains)


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """Format the models as a table, balanced accuracy in percent, gains in points."""
    lines = [
        "| model | head | own ring | shuffled rings | gain (95%) | patients |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in results.items():
        for head in ("cblc", "category"):
            row = figures[head]
            middle, low, high = (100 * value for value in row["gain"])
            lines.append(
                f"| {name} | {head} | {100 * row['own']:.2f} | {100 * row['shuffled']:.2f} | "
                f"{middle:.2f} ({low:.2f} to {high:.2f}) | {row['n_patients']} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="make a crop set with painted-over centers")
    making.add_argument("crops", type=Path)
    making.add_argument("out", type=Path, help="new folder")
    making.add_argument("--trained", type=Path, required=True, help="sets the size of the network's crop")
    making.add_argument("--radius-px", type=float, help="of the disc; default: 10%% above the 99th percentile cell")
    measuring = commands.add_parser("measure", help="balanced accuracy within patients")
    measuring.add_argument("trained", type=Path)
    measuring.add_argument("crops", type=Path, help="the crop set with its centers")
    measuring.add_argument("--ceiling", type=Path, help="a classifier trained on rings")
    measuring.add_argument("--radius-px", type=float, help="of the disc; pass the one that `make` printed")
    measuring.add_argument("--roles", default="test", help="comma-separated; patients not in the split count as test")
    measuring.add_argument("--split", type=Path, help="split.csv; default: the one beside the weights")
    measuring.add_argument("--most", type=int, default=0, help="maximum number of cells, drawn at random; 0: all")
    for command in (making, measuring):
        command.add_argument("--source", choices=("expert", "predicted"), default="predicted")
    arguments = parser.parse_args()
    info = load_trained(arguments.trained)[1]
    roles = ("train", "validation", "test") if arguments.command == "make" else tuple(arguments.roles.split(","))
    measuring_only = {} if arguments.command == "make" else {"split": arguments.split, "most": arguments.most}
    selection = ProofSelection(source=arguments.source, roles=roles, **measuring_only)
    cells = load_cells(arguments.crops, arguments.trained, info, selection, load_vocabulary())
    radius_px = arguments.radius_px or ring_radius(cells.masks)
    if arguments.command == "make":
        make_ring_set(arguments.crops, arguments.out, radius_px)
        print(
            json.dumps({"radius_px": radius_px, "radius_um": radius_px * info.um_per_px, "crops": arguments.out.name})
        )
        return
    models = {"trained": arguments.trained} | ({"trained on rings": arguments.ceiling} if arguments.ceiling else {})
    results = {name: measure(path, cells, radius_px) for name, path in models.items()}
    print(markdown(results))
    beyond = int((reach_px(cells.masks) > radius_px).sum())
    left_out = cells.left_out | {"larger_than_disc": beyond}
    about = {"radius_px": radius_px, "radius_um": radius_px * info.um_per_px, "left_out": left_out}
    print(json.dumps(about | results, indent=2))


if __name__ == "__main__":
    main()
