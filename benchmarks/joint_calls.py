"""What the heads say together beside what each says alone: calls and calibration of CBLC on annotated cells.

    python benchmarks/joint_calls.py COHORT [COHORT ...] [--bundle BUNDLE] [--folds 4]

The bundle predicts each cohort, and the cells that an expert labeled are matched. Then CBLC is called in four ways: by
the CBLC head alone, by the most probable combination of the summed heads, by the sum over its combinations at 0.5, and
by that of the heads weighed together. Temperatures, weights and shares are fitted on the patients of the other folds.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cells.calls import call_cells
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.evaluate.link import link_cells
from marrowscope.predict import predict
from marrowscope.statistics import metrics
from marrowscope.statistics.joint import joint_probabilities, marginals
from marrowscope.statistics.joint_fit import HeldOut, fit_joint, yes_and_no
from marrowscope.statistics.temperature import apply_temperature, calibration_figures, fit_temperature
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.records import Call, FloatArray
    from marrowscope.vocabulary import Vocabulary

    RealArray = NDArray[np.float64]

HEADS = ("category", "cblc", "countable")
YES = 0.5


def main() -> None:
    """Predict, match and print one line for each way of calling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", nargs="+", type=Path, metavar="COHORT")
    parser.add_argument("--bundle", type=Path, default=demonstration_bundle())
    parser.add_argument("--folds", type=int, default=4)
    given = parser.parse_args()
    vocabulary = load_vocabulary()
    cells = pl.concat([heads_of_cells(cohort, given.bundle, vocabulary) for cohort in given.cohorts])
    print_ways(cells, given.bundle, given.folds, vocabulary)


def heads_of_cells(cohort: Path, bundle: Path, vocabulary: Vocabulary) -> pl.DataFrame:
    """Return each matched cell: patient, label, and the probabilities of the heads alone (one member)."""

    def heads_alone(
        members: Sequence[Mapping[str, FloatArray]], n_cells: int, vocabulary: Vocabulary, *_: object, **__: object
    ) -> list[Call]:
        calls = call_cells(members, n_cells, vocabulary)
        return [
            replace(
                call,
                p_cblc=float(members[0]["p_cblc"][index, 1]),
                p_countable=float(members[0]["p_countable"][index, 1]),
                p_category=tuple(members[0]["p_category"][index].tolist()),
            )
            for index, call in enumerate(calls)
        ]

    read = require_clean(read_cohort(cohort, vocabulary=vocabulary, decode=False))
    with tempfile.TemporaryDirectory() as scratch, mock.patch("marrowscope.streaming.worker.call_cells", heads_alone):
        run = predict([cohort], bundle, Path(scratch) / "run")
        linked = link_cells(run.fields, run.cells, read.patients, [f for f in read.fields if f.annotated], vocabulary)
        kept = run.cells.select("cell_id", "p_countable", "p_category")
    found = linked.expert.filter(pl.col("found") & ~pl.col("cut"))
    return found.select("patient_id", "code", "cblc", "cell_id", "p_cblc").join(kept, on="cell_id")


def print_ways(cells: pl.DataFrame, bundle: Path, n_folds: int, vocabulary: Vocabulary) -> None:
    """Print F1, AUC, negative log-likelihood and calibration error of CBLC for each way of calling it."""
    spec = load_bundle(bundle).spec
    assumed = {
        "category": np.array([spec.implied_prior[name] for name in vocabulary.categories]),
        **{
            head: np.array([1 - share, share])
            for head, share in (
                ("cblc", spec.implied_prior_cblc or 0.5),
                ("countable", spec.implied_prior_countable or 0.5),
            )
        },
    }
    logits = {
        "category": np.log(np.maximum(np.array(cells["p_category"].to_list()), 1e-12)),
        **{
            head: np.log(np.maximum(yes_and_no(cells[f"p_{head}"].to_numpy()), 1e-12)) for head in ("cblc", "countable")
        },
    }
    codes = [vocabulary.read_label(text) for text in cells["code"]]
    labels = {
        "cblc": np.array([-1 if label.cblc is None else int(label.cblc) for label in codes]),
        "countable": np.array([-1 if label.countable is None else int(label.countable) for label in codes]),
        "category": np.array(
            [vocabulary.categories.index(label.categories[0]) if len(label.categories) == 1 else -1 for label in codes]
        ),
    }
    wanted = {head: _shares(values, len(assumed[head])) for head, values in labels.items()}
    patients = sorted(set(cells["patient_id"]))
    fold = np.array([patients.index(name) % n_folds for name in cells["patient_id"]])

    def heads_without(left_out: int | None) -> dict[str, RealArray]:
        chosen = np.ones(len(fold), dtype=np.bool_) if left_out is None else fold != left_out
        found = {}
        for head in HEADS:
            fit = fit_temperature(logits[head][chosen], labels[head][chosen], assumed[head], wanted[head])
            found[head] = apply_temperature(logits[head], assumed[head], wanted[head], fit.value)
        return found

    record, _, weighed = fit_joint(
        HeldOut(cells["code"].to_list(), labels["cblc"], fold, wanted), heads_without, vocabulary
    )
    alone, best, summed = np.empty(len(fold)), np.empty(len(fold)), np.empty(len(fold))
    yes = np.array([cblc for _, cblc, _ in vocabulary.call_triples])
    for left_out in range(n_folds):
        inside = fold == left_out
        heads = {head: values[inside] for head, values in heads_without(left_out).items()}
        joint = joint_probabilities(heads["category"], heads["cblc"][:, 1], heads["countable"][:, 1], vocabulary)
        alone[inside] = heads["cblc"][:, 1]
        summed[inside] = marginals(joint, vocabulary).p_cblc
        best[inside] = yes[joint.argmax(axis=1)]
    known = labels["cblc"] >= 0
    truth = labels["cblc"][known]
    print(f"{len(truth)} cells of {len(patients)} patients, {int(truth.sum())} CBLC; weights {record.weights}")
    print("| way | F1 of CBLC | weighted F1 | AUC | NLL | ECE |\n|---|---|---|---|---|---|")
    ways = {"CBLC head alone": alone, "best of the sum": best, "sum at 0.5": summed, "weighed": weighed}
    for name, p in ways.items():
        confusion = metrics.confusion_matrix(truth, (p[known] >= YES).astype(np.int64), 2)
        figures = [metrics.positive_f1(confusion), metrics.weighted_f1(confusion)]
        if p is not best:
            figures += [metrics.roc_auc(truth == 1, p[known])]
            clipped = yes_and_no(np.clip(p[known], 1e-12, 1 - 1e-12))
            figures += [value or 0.0 for value in calibration_figures(clipped, truth)]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")
    for name in ("best of the sum", "weighed"):
        print(f"calls that differ from the sum at 0.5, {name}: {int(((ways[name] >= YES) != (summed >= YES)).sum())}")


def _shares(labels: NDArray[np.int64], k: int) -> RealArray:
    counts = np.bincount(labels[labels >= 0], minlength=k) + 0.5
    shares: RealArray = counts / counts.sum()
    return shares


if __name__ == "__main__":
    main()
