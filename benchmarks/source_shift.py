"""Classifiers on sources and stains that they never saw: the figures by which a training recipe is chosen.

    python benchmarks/stain_clusters.py MARROW_CROPS --out CLUSTERED
    marrowscope train classifier CLUSTERED --split CLUSTERED/split-2.csv --config RECIPE.toml --out RECIPE-M
    python benchmarks/source_shift.py RECIPE-M OTHER-M ... --crops CLUSTERED BLOOD_CROPS [--views 1 2] [--json FILE]

Every training is judged on predicted crops of
- each other source: all cells of crop sets whose centers it never saw, of the categories that it was trained on;
- stain held out: the test patients of its own crop set (of ``stain_clusters.py``: clusters of background and stain).
Figures: category accuracy, macro F1 over the categories present, AUC and F1 of CBLC (on another source that knows no
blast: N1 against the others), recall and F1 of blasts (N); the share of calls that flip when a crop's stain is swapped
for the other source's; and how well a linear probe tells the source of cells of one class from their embeddings.
Probabilities assume equal class shares (``--decision-tau 1``). With several trainings, differences from the first that
was judged on the same cells stand beside the figures, with a paired bootstrap over patients; pseudo-patients of single
cells make these intervals too narrow. ``FOLDER:last`` judges the last step's weights, ``FOLDER:average`` their moving
average, where the training kept them in its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from marrowscope.cohort.folds import read_split
from marrowscope.statistics.intervals import bootstrap_difference, bootstrap_over_groups
from marrowscope.train.checkpoint import CLASSIFIER_NAME, SPLIT_NAME, fill, load_tensors
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.crop_set import CropSet, open_crop_set
from marrowscope.train.stage import CHECKPOINT_NAME
from marrowscope.vocabulary import load_vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.source_shift_measures import (
    Panel,
    Seen,
    call_figures,
    flips,
    joined,
    look,
    source_accuracy,
    swapped_stains,
    take_panel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.train.model import CellClassifier, ClassifierInfo

IntArray = NDArray[np.int64]
Figure = Callable[[IntArray], float]
_PARTS = {"last": "model/", "average": "average/"}
BLAST = "N"


@dataclass(frozen=True)
class Trained:
    """A network, its name in the tables, and the patients of its split by role; absent patients are unseen."""

    name: str
    model: CellClassifier
    info: ClassifierInfo
    seen: frozenset[str]
    held_out: frozenset[str]


@dataclass(frozen=True)
class Judged:
    """Figures of one training on one panel, as functions of rows, and what is told by single numbers."""

    patients: list[str]
    figures: dict[str, Figure]
    numbers: dict[str, float]


def open_trained(text: str) -> Trained:
    """Read FOLDER or FOLDER:last or FOLDER:average."""
    name, _, part = text.partition(":")
    folder = Path(name)
    model, info, _ = load_classifier(folder / CLASSIFIER_NAME)
    if part:
        checkpoint = max(folder.glob(f"[0-9]*-*/{CHECKPOINT_NAME}"))
        prefix = _PARTS[part]
        tensors = load_tensors(checkpoint)[0]
        fill(
            model,
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)},
            checkpoint,
        )
    roles = read_split(folder / SPLIT_NAME)
    return Trained(
        folder.name + (f":{part}" if part else ""),
        model,
        info,
        frozenset(patient for patient, role in roles.items() if role != "test"),
        frozenset(patient for patient, role in roles.items() if role == "test"),
    )


def panels_of(trained: Trained, crop_sets: Sequence[CropSet], per_category: int) -> dict[str, Panel]:
    """Return what a training is judged on: the patients held out, and every center it never saw, by name."""
    known = np.array(trained.info.trained("category"))
    panels = {}
    for crop_set in crop_sets:
        center_of = dict(crop_set.cells.select("patient_id", "center").unique().iter_rows())
        own = {center for patient, center in center_of.items() if patient in trained.seen}
        groups = {
            f"{center} held out": {p for p, c in center_of.items() if c == center and p in trained.held_out}
            for center in own
        }
        groups |= {center: {p for p, c in center_of.items() if c == center} for center in set(center_of.values()) - own}
        for name, patients in sorted(groups.items()):
            rows = crop_set.rows(patients, "predicted")
            rows = rows[known[crop_set.labels["category"][rows]]]
            if len(rows):
                panels[name] = take_panel(crop_set, rows, per_category=per_category)
    return panels


def judge(
    trained: Trained, panels: dict[str, Panel], views: Sequence[int], decision_tau: float
) -> dict[str, dict[str, Judged]]:
    """Judge a training on its panels: panel name to variant (views) to figures."""
    blast = trained.info.categories.index(BLAST)
    both = joined(list(panels.values()))
    seen = look(trained.model, trained.info, both.crops, decision_tau, views)
    first = seen[views[0]]
    turned: dict[str, NDArray[np.bool_]] = {}
    probe: dict[int, float] = {}
    if len(set(both.centers)) > 1:
        swapped = look(trained.model, trained.info, swapped_stains(both), decision_tau, views[:1])
        turned = flips(first, swapped[views[0]])
        probe = source_accuracy(both, first.embeddings, range(len(trained.info.categories)))
    results: dict[str, dict[str, Judged]] = {}
    start = 0
    for name, panel in panels.items():
        inside = np.arange(start, start + len(panel))
        start += len(panel)
        has_blasts = bool((panel.labels["category"] == blast).any())
        results[name] = {}
        for n, everything in seen.items():
            part = Seen({head: values[inside] for head, values in everything.p.items()}, everything.embeddings[inside])
            figures = call_figures(panel, part, blast if has_blasts else None)
            numbers: dict[str, float] = {}
            if n == views[0]:
                for kind, changed in turned.items():
                    figures[f"{kind} flips"] = _share(changed[inside])
                if probe:
                    numbers["source told by embeddings"] = float(np.mean(list(probe.values())))
            results[name][trained.name + (f", {n} views" if n > 1 else "")] = Judged(
                list(panel.patients), figures, numbers
            )
    return results


def _share(changed: NDArray[np.bool_]) -> Figure:
    return lambda rows: float(changed[rows].mean())


def tabulate(judged: dict[str, Judged], n_resamples: int) -> dict[str, dict[str, list[float]]]:
    """Compute every figure: [value, low, high], and [difference, low, high] from the first variant that has it."""
    table: dict[str, dict[str, list[float]]] = {}
    reference = next(iter(judged.values()))
    for name, variant in judged.items():
        table[name] = {key: [value] for key, value in variant.numbers.items()}
        for key, figure in variant.figures.items():
            found = bootstrap_over_groups(variant.patients, figure, n_resamples=n_resamples)
            table[name][key] = [found.estimate, found.lower, found.upper]
            same_cells = variant.patients == reference.patients and key in reference.figures
            if variant is not reference and same_cells:
                other = reference.figures[key]
                change = bootstrap_difference(
                    variant.patients, figure, reference.patients, other, n_resamples=n_resamples
                )
                table[name][key] += [change.estimate, change.lower, change.upper]
    return table


def as_markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Format one panel's variants, one a line; a difference whose interval excludes zero is bold."""
    names = list(dict.fromkeys(key for values in table.values() for key in values))
    lines = ["| training | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for variant, values in table.items():
        cells = []
        for key in names:
            found = values.get(key)
            if found is None:
                cells.append("")
                continue
            text = f"{found[0]:.3f}"
            if len(found) == 6:  # noqa: PLR2004  value and difference, each with an interval
                change = f"{found[3]:+.3f} [{found[4]:.3f}, {found[5]:.3f}]"
                text += f" ({f'**{change}**' if found[4] > 0 or found[5] < 0 else change})"
            elif len(found) == 3:  # noqa: PLR2004  a value with its interval
                text += f" [{found[1]:.3f}, {found[2]:.3f}]"
            cells.append(text)
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print a table for each panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", nargs="+", help="FOLDER, FOLDER:last or FOLDER:average")
    parser.add_argument("--crops", type=Path, nargs="+", required=True, help="crop sets of all sources")
    parser.add_argument("--views", type=int, nargs="+", choices=(1, 2, 4), default=[1])
    parser.add_argument("--per-category", type=int, default=250, help="cells of each category of a panel at most")
    parser.add_argument("--decision-tau", type=float, default=1.0, help="1: equal class shares; 0: training cells'")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vocabulary = load_vocabulary()
    crop_sets = [open_crop_set(folder, vocabulary) for folder in given.crops]
    by_panel: dict[str, dict[str, Judged]] = {}
    for text in given.trained:
        trained = open_trained(text)
        panels = panels_of(trained, crop_sets, given.per_category)
        for name, variants in judge(trained, panels, given.views, given.decision_tau).items():
            by_panel.setdefault(name, {}).update(variants)
    results: dict[str, Any] = {}
    for name, judged in by_panel.items():
        results[name] = tabulate(judged, given.resamples)
        n = len(next(iter(judged.values())).patients)
        print(f"\n{name}: {n} cells\n\n{as_markdown(results[name])}")
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
