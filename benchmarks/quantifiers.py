"""Which correction errs least, and what the calls are worth: virtual patients assembled from predicted cells.

    python benchmarks/quantifiers.py blur COHORT OUT --least 0.3 --most 0.6
    python benchmarks/quantifiers.py corrections --measured RUN COHORT --tested RUN COHORT
    python benchmarks/quantifiers.py calls --measured RUN COHORT --tested RUN COHORT

Runs of one bundle over annotated simulated cohorts, with other patients and other centers on either side. Every expert
cell is used with its outcome in the run (missed, not countable, or its call and probabilities). A virtual patient has
the differential of a diagnosis (table T3) and cells drawn by code from one center, preferably from two of its patients;
cells of one field share a composition. ``corrections`` measures rates on virtual patients of the first cohort and
compares methods on both, with detection undone for all but raw; within the first cohort every second patient measures
and the others test: prevalence shift (ratio 1-90%, whatever the diagnosis), subtype shift (all diagnoses alike), center
shift (the second cohort). ``calls`` learns the threshold on the first cohort, as a study would, freezes it, and calls
patients of the second. ``blur`` makes the task harder: each center's images lose focus by their own amount.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.adjusted_count import adjusted_count
from benchmarks.earlier_corrections import adjusted_ratio, composition, expected_maximum, undo_detection
from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort import read_cohort
from marrowscope.evaluate.link import link_cells
from marrowscope.imaging import read_image, write_image
from marrowscope.patient.quantify.estimate import count_fields, estimate_ratio
from marrowscope.patient.quantify.fit_rates import fit_quantification
from marrowscope.patient.quantify.rates import Kind, kinds_of
from marrowscope.patient.quantify.threshold import StudyThreshold, decide, learn_threshold
from marrowscope.runs.parquet import read_table
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import DATA_DIR, load_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle

    RealArray = NDArray[np.float64]

VOCABULARY = load_vocabulary()
KINDS = kinds_of(VOCABULARY)
IS_CBLC = np.array([kind.cblc for kind in KINDS])
TABLE = tomllib.loads((DATA_DIR / "differentials.toml").read_text(encoding="utf-8"))
DIAGNOSES = TABLE["diagnosis"]
FIELD_CORRELATION = 0.04
FEWEST_OF_DONORS = 5
OURS = "posterior median (ours)"
BEFORE = "adjusted count, impurities taken out"


@dataclass(frozen=True)
class Pool:
    """Expert cells of a cohort with their outcomes; ``rows_of`` finds rows by center, patient and code."""

    cells: pl.DataFrame
    rows_of: dict[tuple[str, str, str], NDArray[np.int64]]
    patients_of: dict[str, list[str]]

    def half(self, which: int) -> Pool:
        """Return every second patient of each center: one half measures, the other may test."""
        chosen = {center: patients[which::2] for center, patients in self.patients_of.items()}
        rows = {key: found for key, found in self.rows_of.items() if key[1] in chosen[key[0]]}
        return Pool(self.cells, rows, chosen)

    def draw(self, rng: np.random.Generator, center: str, donors: list[str], code: str, n: int) -> NDArray[np.int64]:
        """Draw ``n`` rows of ``code``: from the donors if they have a few, else from the center, else from anywhere."""
        for chosen in ([(center, donor) for donor in donors], [(center, who) for who in self.patients_of[center]]):
            rows = np.concatenate([self.rows_of.get((*place, code), np.empty(0, np.int64)) for place in chosen])
            if len(rows) >= FEWEST_OF_DONORS:
                return rng.choice(rows, n)
        rows = np.concatenate(
            [found for key, found in self.rows_of.items() if key[2] == code] or [np.empty(0, np.int64)]
        )
        if not len(rows):
            message = f"found no cell of code {code} in the cohorts, expected some; add a cohort of such patients"
            raise SystemExit(message)
        return rng.choice(rows, n)


def make_pool(pairs: list[list[Path]]) -> Pool:
    """Link runs with the cohorts they were predicted from; centers of two cohorts are never the same."""
    table = pl.concat([linked_cells(run, cohort, f"{number}:") for number, (run, cohort) in enumerate(pairs)])
    table = table.with_row_index("row")
    rows_of = {
        (str(center), str(patient), str(code)): part["row"].to_numpy().astype(np.int64)
        for (center, patient, code), part in table.group_by("center", "patient_id", "code")
    }
    patients_of: dict[str, list[str]] = defaultdict(list)
    for center, patient in table.select("center", "patient_id").unique().sort("patient_id").iter_rows():
        patients_of[center].append(patient)
    return Pool(table, rows_of, dict(patients_of))


def linked_cells(run: Path, cohort: Path, prefix: str) -> pl.DataFrame:
    """Return every whole expert cell of a cohort with its outcome in the run."""
    read, cells = read_cohort(cohort), read_table(run / "cells.parquet", "cells")
    linked = link_cells(read_table(run / "fields.parquet", "fields"), cells, read.patients, read.fields, VOCABULARY)
    chosen = cells.select("cell_id", "is_countable", "is_cblc", "category", p="p_cblc", p_all="p_category")
    return (
        linked.expert.filter(~pl.col("cut"))
        .select("patient_id", "center", "code", "cblc", "countable", "found", "cell_id")
        .join(chosen, on="cell_id", how="left")
        .with_columns(
            counted=pl.col("found") & pl.col("is_countable").fill_null(value=False),
            center=pl.lit(prefix) + pl.col("center"),
            patient_id=pl.lit(prefix) + pl.col("patient_id"),
        )
        .rename({"is_cblc": "called_cblc", "category": "called_category"})
    )


def virtual_patient(
    rng: np.random.Generator,
    pool: Pool,
    name: str,
    diagnosis: str,
    *,
    ratio: float | None = None,
    n_cells: int = 500,
    n_fields: int = 15,
) -> pl.DataFrame:
    """Assemble one patient's cells; ``ratio`` None draws the diagnosis's own share of CBLC."""
    row = DIAGNOSES[diagnosis]
    if ratio is None:
        low, high = row["cblc_share"]
        ratio = low + (high - low) * float(rng.beta(*TABLE["beta"]))
    shares: dict[str, float] = defaultdict(float)
    for part, total, concentration in (("positive", ratio, 40.0), ("negative", 1 - ratio, 50.0)):
        weights = np.array(list(row[part].values()), dtype=float)
        for code, share in zip(row[part], rng.dirichlet(concentration * weights / weights.sum() + 1e-3), strict=True):
            shares[code] += total * float(share)
    shares["V"] = float(rng.uniform(0.03, 0.12))
    codes, weights = list(shares), np.array(list(shares.values()))
    weights /= weights.sum()
    center = str(rng.choice(sorted(pool.patients_of)))
    donors = list(rng.choice(pool.patients_of[center], min(2, len(pool.patients_of[center])), replace=False))
    parts = []
    concentration = (1 - FIELD_CORRELATION) / FIELD_CORRELATION
    for field in range(n_fields):
        counts = rng.multinomial(n_cells // n_fields, rng.dirichlet(concentration * weights + 1e-9))
        rows = [pool.draw(rng, center, donors, code, n) for code, n in zip(codes, counts, strict=True) if n]
        cells = pool.cells[np.concatenate(rows)]
        parts.append(cells.with_columns(patient_id=pl.lit(name), field_id=pl.lit(f"{name}/{field}")))
    return pl.concat(parts)


def counted_cells(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the counted cells with the columns of a run's cells table."""
    return cells.filter("counted").rename({"called_category": "category", "called_cblc": "is_cblc"})


def called_kinds(found: pl.DataFrame) -> RealArray:
    """Count a patient's counted cells by called kind (k,)."""
    called = np.zeros(len(KINDS))
    for category, is_cblc, n in found.group_by("category", "is_cblc").len().iter_rows():
        called[KINDS.index(Kind(category, is_cblc))] += n
    return called


def true_ratio(cells: pl.DataFrame) -> float:
    """Compute CBLC among all countable expert cells, found or not."""
    countable = cells.filter("countable")
    return float(countable["cblc"].mean())  # type: ignore[arg-type]


def compare(measured: Pool, tested: Pool, prior: tuple[RealArray, float], n: int, seed: int) -> pl.DataFrame:
    """Compute the error of every method on virtual patients of both cohorts; detection is undone for ours alone."""
    rng = np.random.default_rng(seed)
    names = list(DIAGNOSES)
    other_half, measured = measured.half(1), measured.half(0)
    cohort = [
        virtual_patient(rng, measured, f"M{i}", str(rng.choice(names, p=study_mix())), n_cells=400, n_fields=12)
        for i in range(80)
    ]
    outcomes = pl.concat(cohort)
    rates = fit_quantification(outcomes, {}, VOCABULARY, source="virtual patients", threshold=0.5).rates
    counted = outcomes.filter(pl.col("counted") & pl.col("countable"))
    called, truth, p = (counted[name].to_numpy() for name in ("called_cblc", "cblc", "p"))
    tpr, fpr, soft_tpr, soft_fpr = called[truth].mean(), called[~truth].mean(), p[truth].mean(), p[~truth].mean()
    kind = np.array([KINDS.index(Kind(VOCABULARY.codes[code].category, VOCABULARY.codes[code].cblc))
                     for code in counted["code"]])  # fmt: skip
    within = np.array([_share_cblc(kind, truth, category) for category in VOCABULARY.categories])
    confusion = np.zeros((len(KINDS), len(KINDS)))
    for (category, cblc), true in zip(counted.select("called_category", "called_cblc").iter_rows(), kind, strict=True):
        confusion[KINDS.index(Kind(category, cblc)), true] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = confusion / confusion.sum(axis=0)
    recalls = [
        float(outcomes.filter(pl.col("countable") & (pl.col("cblc") == cblc))["counted"].mean())  # type: ignore[arg-type]
        for cblc in (True, False)
    ]
    rows = []
    for index in range(n):
        pool, where = ((other_half, "same centers"), (tested, "other centers"))[index % 2]
        diagnosis = str(rng.choice(possible(pool)))
        cells = virtual_patient(rng, pool, f"T{index}", diagnosis, ratio=float(rng.uniform(0.01, 0.9)))
        found = counted_cells(cells)
        x = found["is_cblc"].to_numpy().mean()
        soft, by_category = found["p"].to_numpy(), np.array(found["p_all"].to_list())
        counts = count_fields(found, "is_cblc")
        shares = composition(called_kinds(found), columns)
        estimates = {
            "raw": float(x),
            "adjusted count": float(adjusted_ratio(x, tpr, fpr)),
            "probabilistic adjusted count": float(adjusted_ratio(soft.mean(), soft_tpr, soft_fpr)),
            "expectation-maximization": float(
                expected_maximum(np.stack([1 - soft, soft], axis=1), np.array([1 - prior[1], prior[1]]))[1]
            ),
            "expectation-maximization, 16 categories": float(expected_maximum(by_category, prior[0]) @ within),
            "likeliest mixture of kinds": float(shares[IS_CBLC].sum()),
            BEFORE: adjusted_count(counts, rates)[0],
            OURS: estimate_ratio(counts, rates).ratio,
        }
        corrected = {name: value if name in {"raw", BEFORE, OURS} else float(undo_detection(value, *recalls))
                     for name, value in estimates.items()}  # fmt: skip
        true = true_ratio(cells)
        rows += [(where, diagnosis, true, method, value - true) for method, value in corrected.items()]
    return pl.DataFrame(rows, schema=["where", "diagnosis", "true", "method", "error"], orient="row")


def possible(pool: Pool) -> list[str]:
    """List the diagnoses whose codes all have cells in the pool."""
    known = {key[2] for key in pool.rows_of}
    return [name for name, row in DIAGNOSES.items() if {*row["positive"], *row["negative"]} <= known]


def study_mix() -> RealArray:
    """Return the share of each diagnosis in a study, by the weights of the table."""
    weights = np.array([DIAGNOSES[name].get("weight", 0.0) for name in DIAGNOSES], dtype=float)
    return np.asarray(weights / weights.sum())


def call_all(
    measured: Pool, tested: Pool, n_main: int, n_each: int, seed: int
) -> tuple[StudyThreshold, float, pl.DataFrame]:
    """Learn the threshold on the first cohort's virtual patients, freeze it, call patients of the second."""
    rng = np.random.default_rng(seed)
    names = list(DIAGNOSES)
    diagnosis_of: dict[str, str | None] = {}
    cohort = []
    for index in range(n_main):
        diagnosis = str(rng.choice(names, p=study_mix()))
        diagnosis_of[f"M{index}"] = "AML" if DIAGNOSES[diagnosis]["aml"] else diagnosis
        cohort.append(virtual_patient(rng, measured, f"M{index}", diagnosis, n_cells=400, n_fields=12))
    learned = fit_quantification(pl.concat(cohort), diagnosis_of, VOCABULARY, source="virtual patients")
    if learned.threshold is None:
        raise SystemExit(learned.threshold_missing)
    shares = [float(counted_cells(cells)["is_cblc"].mean()) for cells in cohort]  # type: ignore[arg-type]
    raw_threshold = learn_threshold(np.array(shares), np.array([name == "AML" for name in diagnosis_of.values()])).value
    rows: list[dict[str, Any]] = []
    for diagnosis in names:
        for index in range(n_each):
            cells = virtual_patient(rng, tested, f"{diagnosis}{index}", diagnosis)
            found = counted_cells(cells)
            counts = count_fields(found, "is_cblc")
            estimate = estimate_ratio(counts, learned.rates)
            lymphoid = float((found["category"] == "L").mean())  # type: ignore[arg-type]
            call = decide(
                estimate, len(found), 15, lymphoid_share=lymphoid, threshold=learned.threshold, rules=learned.call_rules
            )
            rows.append(
                {
                    "diagnosis": diagnosis,
                    "aml": bool(DIAGNOSES[diagnosis]["aml"]),
                    "true": true_ratio(cells),
                    "raw": float(counts.cblc_by_field.sum() / counts.countable_by_field.sum()),
                    "corrected": estimate.ratio,
                    "held": estimate.lower <= true_ratio(cells) <= estimate.upper,
                    "call": call.call,
                    "confidence": call.confidence,
                }
            )
    return learned.threshold, raw_threshold, pl.DataFrame(rows)


def mean(frame: pl.DataFrame, column: pl.Expr) -> float:
    """Compute the mean of a column of numbers or booleans."""
    return float(frame.select(column.cast(pl.Float64).mean()).item())


def print_corrections(errors: pl.DataFrame) -> None:
    """Print mean absolute error and bias by method, then the bias of the raw and of our ratio by AML subtype."""
    print(
        "| method | MAE | same centers | other centers | bias | true ratio below 20% | MAE less raw (standard error) |"
    )
    print("|---|---|---|---|---|---|---|")
    raw = errors.filter(method="raw")["error"].abs().to_numpy()
    error = pl.col("error")
    for (method,), part in errors.group_by("method", maintain_order=True):
        frames = [part, part.filter(where="same centers"), part.filter(where="other centers")]
        mae = " | ".join(f"{mean(frame, error.abs()):.4f}" for frame in frames)
        low = mean(part.filter(pl.col("true") < 0.2), error.abs())  # noqa: PLR2004
        less = part["error"].abs().to_numpy() - raw
        paired = f"{less.mean():+.4f} ({less.std(ddof=1) / len(less) ** 0.5:.4f})"
        print(f"| {method} | {mae} | {mean(part, error):+.4f} | {low:.4f} | {paired} |")
    print("\n| AML subtype | n | raw bias | adjusted count | ours |\n|---|---|---|---|---|")
    for name in (name for name in DIAGNOSES if DIAGNOSES[name]["aml"]):
        of_type = errors.filter(diagnosis=name)
        methods = ("raw", BEFORE, OURS)
        bias = " | ".join(f"{mean(of_type.filter(method=method), error):+.4f}" for method in methods)
        print(f"| {name} | {of_type.filter(method='raw').height} | {bias} |")


def print_calls(threshold: StudyThreshold, raw_threshold: float, rows: pl.DataFrame) -> None:
    """Print calls by diagnosis, forced decisions, and the risk-coverage curve."""
    print(
        f"threshold {threshold.value:.3f} ({threshold.lower:.3f} to {threshold.upper:.3f}), learned on "
        f"{threshold.n_aml} AML and {threshold.n_other} others; Youden {threshold.youden:.3f}; of the raw ratio "
        f"{raw_threshold:.3f}\n"
    )
    columns = ("diagnosis", "n", "above", "below", "withheld", "indeterminate", "right of those called")
    print("| " + " | ".join((*columns, "forced error, corrected", "forced error, raw")) + " |")
    print("|---" * (len(columns) + 2) + "|")
    rows = rows.with_columns(
        wrong=(pl.col("corrected") > threshold.value) != pl.col("aml"),
        wrong_raw=(pl.col("raw") > raw_threshold) != pl.col("aml"),
    )
    wrong, wrong_raw = pl.col("wrong"), pl.col("wrong_raw")
    for (name,), part in rows.group_by("diagnosis", maintain_order=True):
        n = {call: part.filter(call=call).height for call in ("above", "below", "withheld", "indeterminate")}
        right, called = (n["above"] if part["aml"][0] else n["below"]), n["above"] + n["below"]
        interval = wilson_interval(right, called)
        words = f"{right} of {called} ({interval.lower:.2f} to {interval.upper:.2f})" if called else "-"
        counts = " | ".join(str(value) for value in n.values())
        forced = f"{mean(part, wrong):.3f} | {mean(part, wrong_raw):.3f}"
        print(f"| {name} | {len(part)} | {counts} | {words} | {forced} |")
    print(
        f"\nall: forced error corrected {mean(rows, wrong):.4f}, raw {mean(rows, wrong_raw):.4f}; indeterminate "
        f"{mean(rows, pl.col('call') == 'indeterminate'):.3f}; interval contains the true ratio "
        f"{mean(rows, pl.col('held')):.3f}"
    )
    inside = rows.filter(pl.col("diagnosis") != "ALL_oos")
    print(f"without ALL: forced error corrected {mean(inside, wrong):.4f}, raw {mean(inside, wrong_raw):.4f}")
    ranked = rows.sort((pl.col("confidence") - 0.5).abs(), descending=True)
    print("\n| share of patients decided, surest first | error |\n|---|---|")
    for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        print(f"| {share:.0%} | {mean(ranked.head(round(share * len(ranked))), wrong):.4f} |")


def blur_cohort(cohort: Path, out: Path, least_um: float, most_um: float, seed: int) -> None:
    """Copy a cohort with images out of focus: a Gaussian of ``least_um`` to ``most_um`` by center."""
    shutil.copytree(cohort, out)
    read, rng = read_cohort(out), np.random.default_rng(seed)
    amount = {center: rng.uniform(least_um, most_um) for center in sorted({field.center for field in read.fields})}
    for field in read.fields:
        sigma = amount[field.center] / (field.um_per_px or 0.15)
        write_image(field.path, np.asarray(cv2.GaussianBlur(read_image(field.path), (0, 0), sigma), dtype=np.uint8))


def implied_prior(bundle: Bundle) -> tuple[RealArray, float]:
    """Return the class shares that the probabilities assume: of the categories, and of CBLC."""
    prior, cblc = bundle.spec.implied_prior, bundle.spec.implied_prior_cblc
    if cblc is None:
        message = f"{bundle.folder}: found no implied prior of CBLC, expected one; export the bundle again"
        raise SystemExit(message)
    return np.array([prior[name] for name in VOCABULARY.categories]), cblc


def _share_cblc(kind: NDArray[np.int64], truth: NDArray[np.bool_], category: str) -> float:
    """Compute the share of CBLC among the measured cells of a category; 0 without any."""
    inside = np.isin(kind, [index for index, item in enumerate(KINDS) if item.category == category])
    return float(truth[inside].mean()) if inside.any() else 0.0


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    blur = commands.add_parser("blur")
    blur.add_argument("cohort", type=Path)
    blur.add_argument("out", type=Path)
    blur.add_argument("--least", type=float, default=0.3, help="um")
    blur.add_argument("--most", type=float, default=0.6, help="um")
    blur.add_argument("--seed", type=int, default=0)
    for name in ("corrections", "calls"):
        command = commands.add_parser(name)
        for option in ("--measured", "--tested"):
            command.add_argument(
                option, type=Path, nargs=2, action="append", required=True, metavar=("RUN", "COHORT"), help="repeatable"
            )
        command.add_argument("--patients", type=int, default=600 if name == "corrections" else 60)
        command.add_argument("--bundle", type=Path, default=demonstration_bundle(), help="of both runs")
        command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "blur":
        blur_cohort(arguments.cohort, arguments.out, arguments.least, arguments.most, arguments.seed)
        return
    measured, tested = make_pool(arguments.measured), make_pool(arguments.tested)
    print(f"{measured.cells.height} and {tested.cells.height} expert cells of "
          f"{len(measured.patients_of)} and {len(tested.patients_of)} centers\n")  # fmt: skip
    if arguments.command == "corrections":
        prior = implied_prior(load_bundle(arguments.bundle))
        print_corrections(compare(measured, tested, prior, arguments.patients, arguments.seed))
    else:
        print_calls(*call_all(measured, tested, 150, arguments.patients, arguments.seed))


if __name__ == "__main__":
    main()
