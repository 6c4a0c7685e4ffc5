"""A cross-fit's cells out of fold, beside other cross-fits of the same crops and folds.

    python benchmarks/research_folds.py NAME=CROSSFIT [NAME=CROSSFIT ...] [--resamples 2000] [--json FILE]

CROSSFIT is what `marrowscope train classifier CROPS --folds FILE` writes. Each patient's cells are called by the one
member that never saw the patient, with temperatures that the other folds fitted. Cells are countable expert cells that
no edge cuts; `matched` ones have a predicted contour, the others were missed and have the wrong call in `misses wrong`.
A patient's counted ratio is that of CBLC among countable calls of the matched cells, against the annotated ratio of
all. Differences are of the first cross-fit minus each other one. Intervals: bootstrap over patients.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.external_center import paired_figures, recalibration, statistics_of
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_over_groups
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.ensemble import find_members
from marrowscope.train.left_out_cells import (
    MISSED_NAME,
    OOF_NAME,
    fold_folder,
    left_out_calls,
    read_left_out,
    read_missed,
)
from marrowscope.train.out_of_fold import read_priors
from marrowscope.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class OutOfFold:
    """The cells of a cross-fit: all matched labeled ones with their calls, the missed ones, and those that count."""

    called: pl.DataFrame
    missed: pl.DataFrame

    @property
    def matched(self) -> pl.DataFrame:
        """The matched cells that are countable by the expert's code."""
        return self.called.filter("countable")


def read_folds(crossfit: Path, vocabulary: Vocabulary) -> OutOfFold:
    """Call the cells of each fold by its own member, with the temperatures of the other folds."""
    calibration = find_members([crossfit], calibrate=True)[1]
    if calibration is None:
        message = f"{crossfit}: found no temperatures, expected a cross-fit whose folds are all trained"
        raise SystemExit(message)
    cells = read_left_out(crossfit / OOF_NAME).filter(pl.col("expert_code").is_not_null() & ~pl.col("cut"))
    parts = []
    for (fold,), part in cells.group_by("fold", maintain_order=True):
        number = int(str(fold))
        priors = read_priors(fold_folder(crossfit, number) / CLASSIFIER_NAME)[1]
        temperatures = {head: found.nested_temperatures[str(number)] for head, found in calibration.heads.items()}
        calls = left_out_calls(part, priors, temperatures, vocabulary)
        parts.append(
            part.select("patient_id", "field_id", "expert_code").with_columns(
                p_cblc=calls.p_cblc,
                predicted_cblc=calls.is_cblc.astype(np.int64),
                predicted_countable=calls.is_countable,
                predicted_category=calls.category_index,
            )
        )
    missed = read_missed(crossfit / MISSED_NAME, ("field_id", "expert_code", "patient_id", "cut")).filter(
        ~pl.col("cut")
    )
    known = missed["patient_id"].is_in(cells["patient_id"].unique().to_list())
    return OutOfFold(with_facts(pl.concat(parts), vocabulary), with_facts(missed.filter(known), vocabulary))


def with_facts(cells: pl.DataFrame, vocabulary: Vocabulary) -> pl.DataFrame:
    """Add what the expert's code says: cblc, countable, and the number of the category."""
    codes = [vocabulary.codes[code] for code in cells["expert_code"]]
    place = {name: index for index, name in enumerate(vocabulary.categories)}
    return cells.with_columns(
        pl.Series("cblc", [code.cblc for code in codes], dtype=pl.Boolean),
        pl.Series("countable", [code.countable for code in codes], dtype=pl.Boolean),
        pl.Series("category", [place[code.category] for code in codes], dtype=pl.Int64),
    )


def ratios(cells: OutOfFold) -> pl.DataFrame:
    """Return each patient's annotated and counted ratio."""
    counted = cells.called.filter("predicted_countable").group_by("patient_id")
    everything = pl.concat(
        [part.filter("countable").select("patient_id", "cblc") for part in (cells.called, cells.missed)]
    )
    return (
        everything.group_by("patient_id")
        .agg(true=pl.col("cblc").mean())
        .join(counted.agg(counted=pl.col("predicted_cblc").mean()), on="patient_id")
        .sort("patient_id")
    )


def measure(cells: OutOfFold, n_categories: int, resamples: int) -> dict[str, Any]:
    """Compute one cross-fit's figures."""
    matched, missed = cells.matched, cells.missed.filter("countable")
    figures: dict[str, Any] = {"n_matched": len(matched), "n_missed": len(missed)}
    for name, statistic in statistics_of(matched, n_categories).items():
        found = bootstrap_over_groups(matched["patient_id"].to_list(), statistic, n_resamples=resamples, seed=0)
        figures[name] = [found.estimate, found.lower, found.upper]
    truth = np.concatenate([part["cblc"].to_numpy().astype(np.int64) for part in (matched, missed)])
    called = np.concatenate([matched["predicted_cblc"].to_numpy(), 1 - truth[len(matched) :]])
    with_misses = metrics.confusion_matrix(truth, called, 2)
    figures["weighted_f1_misses_wrong"] = metrics.weighted_f1(with_misses)
    figures["f1_misses_wrong"] = metrics.positive_f1(with_misses)
    figures["calibration"] = list(recalibration(matched["p_cblc"].to_numpy(), matched["cblc"].to_numpy()))
    figures["by_code"] = {
        str(code): [len(own), float((own["predicted_cblc"] == 1).to_numpy().mean())]
        for (code,), own in sorted(matched.group_by("expert_code"))
    }
    found_ratios = ratios(cells)
    true, counted = found_ratios["true"].to_numpy(), found_ratios["counted"].to_numpy()
    return figures | {
        "n_patients": len(found_ratios),
        "ratio_mae": metrics.mean_absolute_error(true, counted),
        "ratio_bias": metrics.bias(true, counted),
        "ratio_concordance": metrics.concordance(true, counted),
    }


def differences(first: OutOfFold, other: OutOfFold, n_categories: int, resamples: int) -> dict[str, Any]:
    """Return first minus other with paired intervals; SystemExit where the cells differ."""
    same = ["patient_id", "field_id", "expert_code"]
    if not first.called.sort(same).select(same).equals(other.called.sort(same).select(same)):
        message = "found other cells, expected two cross-fits of one crop set with equal folds"
        raise SystemExit(message)
    pair = ratios(first).join(ratios(other), on="patient_id", suffix="_other")
    named = pair.select("patient_id", "true", ours="counted", theirs="counted_other")
    return paired_figures(first.matched, other.matched, named, n_categories, resamples)


def main() -> None:
    """Parse the command line, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crossfits", nargs="+", metavar="NAME=CROSSFIT")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--json", type=Path, dest="target")
    given = parser.parse_args()
    vocabulary = load_vocabulary()
    n = len(vocabulary.categories)
    pairs = [text.partition("=") for text in given.crossfits]
    read = {name: read_folds(Path(folder), vocabulary) for name, _, folder in pairs}
    first = next(iter(read))
    result: dict[str, Any] = {name: measure(cells, n, given.resamples) for name, cells in read.items()}
    result |= {
        f"{first} minus {name}": differences(read[first], cells, n, given.resamples)
        for name, cells in read.items()
        if name != first
    }
    text = json.dumps(result, indent=1)
    if given.target:
        given.target.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
