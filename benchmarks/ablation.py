"""What each part of the training contributes: trained rows on a held-out crop set, against a reference row.

    python benchmarks/ablation.py recipes --out ROWS              a TOML file for each row of the table
    marrowscope train classifier CROPS --split SPLIT --config ROWS/full.toml --seed 1 --out OUT/full_s1      and so on
    python benchmarks/ablation.py table TEST_CROPS OUT --reference full --rows full plain noborder ... [--json]

A row is every folder OUT/<row> or OUT/<row>_s<seed>; its figure is the mean over its seeds. Each expert cell of the
held-out patients is judged by the crop of the predicted contour that matched it, decoded as in prediction with the
training cells' class shares; a cell without such a contour is wrong. Intervals of the paired difference (row minus
reference) come from a bootstrap over patients, with the same draws for both. They cover the choice of patients but not
the noise of training: a row with one seed, marked as such, says little about another seed. Per center, Markdown.

A row may also be a cross-fit (`marrowscope train classifier CROPS --folds folds.csv ...`, its crop set given here): the
one network that never saw a patient then calls it. With the folds of `marrowscope cohort folds --scheme center` this is
leave-one-center-out; with folds by patient it judges every patient of the crop set.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.cells.calls import decode_calls
from marrowscope.statistics import metrics
from marrowscope.statistics.intervals import bootstrap_difference
from marrowscope.statistics.temperature import apply_temperature
from marrowscope.train.checkpoint import CLASSIFIER_NAME
from marrowscope.train.classifier_graph import load_classifier
from marrowscope.train.config import HEADS
from marrowscope.train.crop_set import CropSet, open_crop_set
from marrowscope.train.crossfit_record import CROSSFIT_NAME
from marrowscope.train.left_out_cells import OOF_NAME, fold_folder
from marrowscope.train.out_of_fold import read_priors
from marrowscope.train.validation import predict_logits
from marrowscope.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Rows = NDArray[np.int64]
Reals = NDArray[np.float64]

TWO_STAGES = """
[[stages]]
name = "gt-to-yolo"
train_on = "expert"
select_on = "predicted"
epochs = 6
learning_rate = 1e-3
[[stages]]
name = "yolo-to-yolo"
train_on = "predicted"
select_on = "predicted"
epochs = 4
learning_rate = 3e-4
"""
ONE_STAGE = """
[[stages]]
name = "single"
train_on = "{source}"
select_on = "{select}"
epochs = 10
learning_rate = 1e-3
"""
NO_AUGMENTATION = """
[augment]
scale = 0
shift_px = 0
stain = 0
stain_mix = 0
brightness = 0
blur_chance = 0
blur_sigma_px = 0
illumination = 0
jpeg_chance = 0
contour_px = 0
"""
NO_BORDER = "\n[loss_weights]\nevidence = 0\nconsistency = 0\n"
PLAIN_LOSSES = NO_BORDER + "morphology = 0\n"
PLAIN = 'imbalance = "none"\n' + ONE_STAGE.format(source="expert", select="expert") + PLAIN_LOSSES + NO_AUGMENTATION

RECIPES = {
    "full": TWO_STAGES,
    "plain": PLAIN,
    "noborder": TWO_STAGES + NO_BORDER,
    "nomorph": TWO_STAGES + "\n[loss_weights]\nmorphology = 0\n",
    "noaug": TWO_STAGES + NO_AUGMENTATION,
    "noimb": 'imbalance = "none"\n' + TWO_STAGES,
    "classbal": 'imbalance = "class_balanced"\n' + TWO_STAGES,
    "focal": 'imbalance = "focal"\n' + TWO_STAGES,
    "sqrt": 'imbalance = "square_root_sampler"\n' + TWO_STAGES,
    "gtonly": ONE_STAGE.format(source="expert", select="predicted"),
    "yoloonly": ONE_STAGE.format(source="predicted", select="predicted"),
    "gn": 'norm = "group"\n' + TWO_STAGES,
    "scratch": 'init = "scratch"\n' + TWO_STAGES,
    "plain_scratch": 'init = "scratch"\n' + PLAIN,
}
"""Settings of a row besides those of every row; ``plain`` is a plain EfficientNet-B0 with mirrors and turns only."""

COMMON = "threads = 1\nvalidation_fraction = 0.15\nepoch_crops = {epoch_crops}\n"
FIGURES = ("cblc_wf1", "cblc_f1", "cblc_auc", "category_wf1", "category_mf1", "ratio_mae")


@dataclass(frozen=True, slots=True)
class Judged:
    """Every expert cell of one center as one trained row called it; patients in the order of the crop set."""

    patients: list[str]
    cblc: Rows
    countable: Rows
    category: Rows
    called_cblc: Rows
    called_countable: Rows
    called_category: Rows
    p_cblc: NDArray[np.float64]

    def figures(self, rows: Rows) -> dict[str, float]:
        """Compute all figures of some rows (a row may repeat); AUC over the matched cells alone."""
        binary = metrics.confusion_matrix(self.cblc[rows], self.called_cblc[rows], 2)
        many = metrics.confusion_matrix(self.category[rows], self.called_category[rows], 16)
        found = rows[np.isfinite(self.p_cblc[rows])]
        return {
            "cblc_wf1": metrics.weighted_f1(binary),
            "cblc_f1": metrics.positive_f1(binary),
            "cblc_auc": metrics.roc_auc(self.cblc[found] == 1, self.p_cblc[found]),
            "category_wf1": metrics.weighted_f1(many),
            "category_mf1": metrics.macro_f1(many),
        }

    def ratio_errors(self) -> tuple[list[str], NDArray[np.float64]]:
        """Compute each patient's absolute ratio error: calls among cells called countable, against the expert's."""
        frame = pl.DataFrame(
            {
                "patient": self.patients,
                "true": self.cblc * self.countable,
                "of": self.countable,
                "called": (self.called_cblc == 1) & (self.called_countable == 1),
                "called_of": self.called_countable == 1,
            }
        )
        sums = frame.group_by("patient", maintain_order=True).agg(pl.exclude("patient").sum())
        error = (sums["called"] / sums["called_of"] - sums["true"] / sums["of"]).abs()
        return sums["patient"].to_list(), error.to_numpy()


def called_by_training(folder: Path, crop_set: CropSet, rows: Rows) -> dict[str, Reals]:
    """Compute probabilities (n, k) by head from one trained network for some crops."""
    model, info, _ = load_classifier(folder / CLASSIFIER_NAME)
    logits = predict_logits(model, crop_set, rows, info)
    result = {}
    for head, values in logits.items():
        shifted = values.numpy().astype(np.float64) + np.array(info.decision_offset(head, 0.0))
        shifted[:, ~np.array(info.trained(head))] = -np.inf
        shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        result[head] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def called_out_of_fold(folder: Path, crop_set: CropSet, rows: Rows) -> dict[str, Reals]:
    """Read probabilities (n, k) by head of some crops, each from the fold that left its patient out."""
    wanted = crop_set.cells[rows].select("cell_id")
    table = wanted.join(pl.read_parquet(folder / OOF_NAME), on="cell_id", how="left", maintain_order="left")
    if table["fold"].null_count() or table.height != len(rows):
        message = f"{folder}: some crops are not exactly once in {OOF_NAME}; pass the crop set it was trained on"
        raise SystemExit(message)
    fold_of = table["fold"].to_numpy()
    priors = {
        int(fold): read_priors(fold_folder(folder, int(fold)) / CLASSIFIER_NAME)[1] for fold in np.unique(fold_of)
    }
    return {
        head: apply_temperature(
            table[f"logp_{head}"].to_numpy().astype(np.float64),
            np.stack([priors[int(fold)][head].implied for fold in fold_of]),
            np.stack([priors[int(fold)][head].wanted for fold in fold_of]),
            1.0,
        )
        for head in HEADS
    }


def judge(training: Path, crop_set: CropSet, center: str, vocabulary: Vocabulary) -> Judged:
    """Call the matched crops of a center with a trained row, or with a cross-fit's networks."""
    cells = crop_set.cells.with_row_index("row").with_columns(
        pl.col("cell_id").str.replace(r"/(expert|predicted)$", "").alias("key")
    )
    cells = cells.filter(pl.col("center") == center)
    expert = cells.filter(pl.col("source") == "expert")
    if "cut" in expert.columns:  # rejected by the quality rules, found or not
        expert = expert.filter(~pl.col("cut"))
    matched = cells.filter(pl.col("source") == "predicted").select("key", pl.col("row").alias("crop"))
    expert = expert.join(matched, on="key", how="left", maintain_order="left")
    found = np.flatnonzero(expert["crop"].is_not_null().to_numpy())
    rows = expert["crop"].drop_nulls().to_numpy().astype(np.int64)

    call = called_out_of_fold if (training / CROSSFIT_NAME).is_file() else called_by_training
    p = call(training, crop_set, rows)
    calls = decode_calls(p["category"], p["cblc"][:, 1], p["countable"][:, 1], vocabulary)

    def spread(values: NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
        result = np.full(expert.height, metrics.NO_PREDICTION, dtype=np.int64)
        result[found] = values
        return result

    scores = np.full(expert.height, np.nan)
    scores[found] = p["cblc"][:, 1]
    labels = {head: values[expert["row"].to_numpy()] for head, values in crop_set.labels.items()}
    return Judged(
        patients=expert["patient_id"].to_list(),
        **labels,
        called_cblc=spread(calls.is_cblc),
        called_countable=spread(calls.is_countable),
        called_category=spread(calls.category_index),
        p_cblc=scores,
    )


def compare(row: Sequence[Judged], reference: Sequence[Judged], n_resamples: int) -> dict[str, list[float]]:
    """Compute each figure of a row, its spread, and its difference: [mean, deviation of seeds, difference, low, high].

    The standard deviation over seeds is NaN for one seed; the reference itself has no difference.
    """

    def mean_of(side: Sequence[Judged], name: str) -> Callable[[Rows], float]:
        if name != "ratio_mae":
            return lambda rows: float(np.mean([judged.figures(rows)[name] for judged in side]))
        errors = np.mean([judged.ratio_errors()[1] for judged in side], axis=0)
        return lambda rows: float(np.nanmean(errors[rows]))

    result = {}
    for name in FIGURES:
        groups = row[0].ratio_errors()[0] if name == "ratio_mae" else row[0].patients
        a, b = mean_of(row, name), mean_of(reference, name)
        everyone = np.arange(len(groups))
        by_seed = [mean_of([judged], name)(everyone) for judged in row]
        result[name] = [a(everyone), float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan")]
        if row is not reference:
            interval = bootstrap_difference(groups, a, groups, b, n_resamples=n_resamples)
            result[name] += [interval.estimate, interval.lower, interval.upper]
    return result


def shortened(recipe: str, length: float) -> str:
    """Return the recipe with that share of every stage's epochs, at least one."""
    return re.sub(r"epochs = (\d+)", lambda found: f"epochs = {max(1, round(int(found[1]) * length))}", recipe)


def trainings_of(row: str, out: Path) -> list[Path]:
    """List the finished folders of a row, one per seed."""
    folders = [out / row, *sorted(out.glob(f"{row}_s[0-9]*"))]
    return [folder for folder in folders if any((folder / name).is_file() for name in (CLASSIFIER_NAME, OOF_NAME))]


def as_table(results: dict[str, dict[str, list[float]]], seeds: dict[str, int]) -> str:
    """Format one center's rows as Markdown: ± seed deviation, bold differences whose interval excludes zero."""
    lines = ["| row | seeds | " + " | ".join(FIGURES) + " |", "|---|---|" + "---|" * len(FIGURES)]
    for name, figures in results.items():
        texts = []
        for values in figures.values():
            value, deviation, *difference = values
            text = f"{value:.3f}" + (f" ±{deviation:.3f}" if np.isfinite(deviation) else "")
            if difference:
                middle, low, high = difference
                change = f"{middle:+.3f} [{low:.3f}, {high:.3f}]"
                text += f" ({f'**{change}**' if low > 0 or high < 0 else change})"
            texts.append(text)
        lines.append(f"| {name} | {seeds[name]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and write the recipes or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recipes = commands.add_parser("recipes")
    recipes.add_argument("--out", type=Path, required=True)
    recipes.add_argument("--epoch-crops", type=int, default=2560)
    recipes.add_argument("--length", type=float, default=1.0, help="share of the 6 + 4 epochs, and of 10 of one stage")
    table = commands.add_parser("table")
    table.add_argument("crops", type=Path)
    table.add_argument("out", type=Path)
    table.add_argument("--reference", default="full")
    table.add_argument("--rows", nargs="+", required=True)
    table.add_argument("--resamples", type=int, default=500)
    table.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.command == "recipes":
        given.out.mkdir(parents=True, exist_ok=True)
        for name, text in RECIPES.items():
            start = "" if "init" in text else 'init = "lite0"\n'
            recipe = start + COMMON.format(epoch_crops=given.epoch_crops) + shortened(text, given.length)
            (given.out / f"{name}.toml").write_text(recipe, encoding="utf-8")
        return
    vocabulary = load_vocabulary()
    crop_set = open_crop_set(given.crops, vocabulary)
    everything = {}
    for center in sorted(crop_set.cells["center"].unique().to_list()):
        judged = {
            row: [judge(folder, crop_set, center, vocabulary) for folder in trainings_of(row, given.out)]
            for row in dict.fromkeys([given.reference, *given.rows])
        }
        judged = {row: seeds for row, seeds in judged.items() if seeds}
        reference = judged[given.reference]
        everything[center] = {row: compare(seeds, reference, given.resamples) for row, seeds in judged.items()}
        if not given.json:
            n_cells, n_patients = len(reference[0].patients), len(set(reference[0].patients))
            print(
                f"\nCenter {center}: {n_patients} patients, {n_cells} expert cells; difference from {given.reference}\n"
            )
            print(as_table(everything[center], {row: len(seeds) for row, seeds in judged.items()}))
    if given.json:
        # JSON has no NaN: the deviation of one seed is null there.
        text = re.sub(r"\bNaN\b", "null", json.dumps(everything, indent=2))
        print(text)


if __name__ == "__main__":
    main()
