"""Border swap: whether a call changes when everything around the cell is replaced.

    python benchmarks/border_swap.py TRAINED CROPS [--source predicted] [--roles test] [--draws 3]

TRAINED is a training folder or its classifier.safetensors, CROPS a crop set of `marrowscope prepare`. Every cell of the
chosen patients gets the ring of a donor: same patient and lineage, same patient and another lineage, another patient
and the same lineage. The effect is the share of calls changed by the second minus the share changed by the first, which
removes the paste artifact; intervals resample patients. J, J1, codes without a lineage, cells larger than the crop and
cells without all three donors are left out and counted. Prints a Markdown table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.cells.calls import decode_calls
from marrowscope.train.border import swap_border
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.border_proof import DONOR_KINDS, NO_DONOR, choose_donors, drift, join_answers, swap_effect
from benchmarks.proof_cells import ProofCells, ProofSelection, answer, load_cells, load_trained

if TYPE_CHECKING:
    from benchmarks.border_proof import Answer, IntArray
    from marrowscope.train.model import CellClassifier, ClassifierInfo

TARGETS = {"cblc": 0.02, "category": 0.05}


def answer_swapped(
    trained: tuple[CellClassifier, ClassifierInfo],
    cells: ProofCells,
    rows: IntArray,
    donors: IntArray,
    *,
    dilation_px: float,
    feather_px: float,
) -> dict[str, Answer]:
    """Compute answers for the cells of ``rows``, each with the ring of its donor."""
    swapped = swap_border(
        cells.crops[rows],
        cells.masks[rows],
        cells.crops[donors],
        cells.masks[donors],
        dilation_px=dilation_px,
        feather_px=feather_px,
    )
    return answer(*trained, swapped, load_vocabulary(), decode_calls)


def measure(
    trained: tuple[CellClassifier, ClassifierInfo], cells: ProofCells, draws: int, dilation_px: float, feather_px: float
) -> dict[str, Any]:
    """Swap every cell's border ``draws`` times with each kind of donor and compare the calls."""
    rng = np.random.default_rng(0)
    drawn = [
        {kind: choose_donors(cells.patients, cells.fields, cells.lineages, kind, rng) for kind in DONOR_KINDS}
        for _ in range(draws)
    ]
    complete = np.all([drawn[0][kind] != NO_DONOR for kind in DONOR_KINDS], axis=0)
    rows = np.flatnonzero(complete)
    repeated = np.tile(rows, draws)
    patients = [cells.patients[row] for row in repeated]
    before = answer(*trained, cells.crops, load_vocabulary(), decode_calls)
    donors = {kind: [draw[kind][rows] for draw in drawn] for kind in DONOR_KINDS}
    after = {
        kind: [
            answer_swapped(trained, cells, rows, picked, dilation_px=dilation_px, feather_px=feather_px)
            for picked in donors[kind]
        ]
        for kind in DONOR_KINDS
    }
    figures: dict[str, Any] = {
        "n_cells": len(rows),
        "n_patients": len(set(patients)),
        "draws": draws,
        "left_out": cells.left_out | {"no_donor": int((~complete).sum())},
    }
    for head, target in TARGETS.items():
        start, labels = before[head].take(repeated), cells.labels[head]
        ends = {kind: join_answers([part[head] for part in after[kind]]) for kind in DONOR_KINDS}
        flips = {kind: start.called != ends[kind].called for kind in DONOR_KINDS}
        effect = swap_effect(patients, flips["other_lineage"], flips["same_lineage"])
        abroad = swap_effect(patients, flips["other_patient"], flips["same_lineage"])
        figures[head] = {
            "flips": {kind: float(flips[kind].mean()) for kind in DONOR_KINDS},
            "effect": [effect.estimate, effect.lower, effect.upper],
            "other_patient_effect": [abroad.estimate, abroad.lower, abroad.upper],
            "target": target,
            "reached": effect.estimate <= target,
            "drift": {
                kind: asdict(drift(start, ends[kind], labels[repeated], labels[np.concatenate(donors[kind])]))
                for kind in DONOR_KINDS
            },
        }
    return figures


def markdown(figures: dict[str, Any]) -> str:
    """Format the figures as a table, shares in percent."""
    lines = [
        "| head | same lineage | other lineage | other patient | effect (95%) | target | drift of p | arrived |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for head in TARGETS:
        row = figures[head]
        shares = " | ".join(f"{100 * row['flips'][kind]:.2f}%" for kind in DONOR_KINDS)
        middle, low, high = (100 * value for value in row["effect"])
        pull = row["drift"]["other_lineage"]
        lines.append(
            f"| {head} | {shares} | {middle:.2f} ({low:.2f} to {high:.2f}) | {100 * row['target']:.0f} | "
            f"{pull['probability']:+.4f} | {pull['to_donor']} of {pull['n_flips']} |"
        )
    left_out = ", ".join(f"{reason} {n}" for reason, n in figures["left_out"].items())
    lines.append(
        f"\n{figures['n_cells']} cells of {figures['n_patients']} patients, {figures['draws']} draws; "
        f"left out: {left_out}"
    )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--source", choices=("expert", "predicted"), default="predicted")
    parser.add_argument("--split", type=Path, help="split.csv; default: the one beside the weights")
    parser.add_argument("--roles", default="test", help="comma-separated; patients not in the split count as test")
    parser.add_argument("--most", type=int, default=0, help="maximum number of cells, drawn at random; 0: all")
    parser.add_argument("--draws", type=int, default=3, help="donors of each kind per cell")
    parser.add_argument("--dilation-px", type=float, default=3.0)
    parser.add_argument("--feather-px", type=float, default=1.0)
    arguments = parser.parse_args()
    trained = load_trained(arguments.trained)
    selection = ProofSelection(
        source=arguments.source,
        split=arguments.split,
        roles=tuple(arguments.roles.split(",")),
        dilation_px=arguments.dilation_px,
        most=arguments.most,
    )
    cells = load_cells(arguments.crops, arguments.trained, trained[1], selection, load_vocabulary())
    figures = measure(trained, cells, arguments.draws, arguments.dilation_px, arguments.feather_px)
    print(markdown(figures))
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
