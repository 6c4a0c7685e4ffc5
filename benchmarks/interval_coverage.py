"""Coverage of the corrected ratio's interval on simulated patients: 95% intervals should contain 95 truths in 100.

    python benchmarks/interval_coverage.py --replicates 1000 --out coverage.parquet
    python benchmarks/interval_coverage.py --replicates 400 --center-shift 0.7
    python benchmarks/interval_coverage.py --replicates 200 --unlike
    python benchmarks/interval_coverage.py --rows coverage.parquet more.parquet

Each replicate draws a separate cohort to measure error rates on, then one patient for every cell of the grid ratio x
cells x fields. The draws differ from what the interval assumes: every kind of cell has its own rate and recall, a
patient's mixture of kinds is that of a diagnosis, patients vary in all kinds of a side together, and up to one counted
cell in twenty should not be counted. Fields cluster by a Dirichlet. Beside ours are the adjusted count, Wilson's
interval of the raw ratio, and a bootstrap over the patient's fields corrected with pooled rates. ``--center-shift``
moves all rates of the patient by one normal draw on the logit scale. With ``--unlike``, the prior comes from patients
with ratios below 5% alone: a center of controls, into which every other patient comes unexpected.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import expit, logit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a script finds its neighbors too
from benchmarks.adjusted_count import draw_rates, draw_ratios, impurity_of
from benchmarks.earlier_corrections import adjusted_ratio, undo_detection
from marrowscope.patient.quantify.estimate import PatientCounts, PreparedRates, estimate_ratio, prepare_rates, ratio_of
from marrowscope.patient.quantify.posterior import prior_of_ratios
from marrowscope.patient.quantify.rates import ErrorRates, kinds_of
from marrowscope.statistics.clusters import design_effect, pooled_correlation
from marrowscope.statistics.intervals import wilson_interval
from marrowscope.vocabulary import DATA_DIR, load_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    RealArray = NDArray[np.float64]

VOCABULARY = load_vocabulary()
KINDS = kinds_of(VOCABULARY)
IS_CBLC = np.array([kind.cblc for kind in KINDS])
DIAGNOSES = tomllib.loads((DATA_DIR / "differentials.toml").read_text(encoding="utf-8"))["diagnosis"]
RATIOS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
CELLS = (100, 200, 500, 1000, 2000)
FIELDS = (5, 10, 20, 60)
METHODS = ("ours", "adjusted count", "wilson", "field bootstrap")
N_DRAWS, N_RESAMPLES = 2000, 400
LEAST_COVERAGE = 0.92


@dataclass(frozen=True)
class World:
    """The classifier's true errors: a rate for every kind, and how far patients deviate from it."""

    rates: RealArray
    recalls: RealArray
    impurity: float
    impurity_rate: float
    patient_spread: float = 0.5
    recall_spread: float = 0.4
    field_correlation: float = 0.04


def make_world(rng: np.random.Generator) -> World:
    """Draw each kind's rate (CBLC 0.75-0.95, others 0.01-0.10) and recall, and the share counted in error."""
    rates = np.where(IS_CBLC, rng.uniform(0.75, 0.95, len(KINDS)), rng.uniform(0.01, 0.10, len(KINDS)))
    recalls = rng.uniform(0.90, 0.99, len(KINDS))
    return World(rates, recalls, float(rng.uniform(0.0, 0.05)), float(rng.uniform(0.05, 0.4)))


def mixture(rng: np.random.Generator, diagnosis: str, ratio: float) -> RealArray:
    """Shares (k,) of the kinds of a patient of ``diagnosis`` with the given share of CBLC."""
    shares = np.zeros(len(KINDS))
    for part, total, concentration in (("positive", ratio, 40.0), ("negative", 1 - ratio, 50.0)):
        codes = DIAGNOSES[diagnosis][part]
        weights = np.array(list(codes.values()), dtype=float)
        drawn = rng.dirichlet(concentration * weights / weights.sum() + 1e-3)
        for code, share in zip(codes, drawn, strict=True):
            row = VOCABULARY.codes[code]
            shares[KINDS.index((row.category, row.cblc))] += total * share
    return shares


def observe(
    rng: np.random.Generator, world: World, shares: RealArray, cells: RealArray, shift: float = 0.0
) -> tuple[RealArray, RealArray, RealArray]:
    """Draw annotated and counted cells by kind (K, k) and calls of CBLC by kind, for fields of ``cells`` (K,) cells."""
    concentration = (1 - world.field_correlation) / world.field_correlation
    gammas = rng.standard_gamma(np.maximum(shares * concentration, 1e-9), size=(len(cells), len(shares)))
    present = shares > 0
    gammas[:, ~present] = 0.0
    annotated = rng.multinomial(cells.astype(int), gammas / gammas.sum(axis=1, keepdims=True))
    by_side = rng.normal(0, world.recall_spread, 2)
    counted = rng.binomial(annotated, expit(logit(world.recalls) + by_side[IS_CBLC.astype(int)]))
    effect = rng.normal(0, world.patient_spread, 2) + shift
    called = rng.binomial(counted, expit(logit(world.rates) + effect[IS_CBLC.astype(int)]))
    return annotated.astype(float), counted.astype(float), called.astype(float)


def impurities(rng: np.random.Generator, world: World, counted: RealArray) -> tuple[RealArray, RealArray]:
    """Draw cells counted in error, and those of them called CBLC, by field (K,)."""
    share = expit(logit(max(world.impurity, 1e-4)) + rng.normal(0, world.patient_spread))
    n = rng.poisson(counted.sum(axis=1) * share / (1 - share)).astype(float)
    return n, rng.binomial(n.astype(int), world.impurity_rate).astype(float)


def spread_calls(rng: np.random.Generator, n: float, x: float) -> RealArray:
    """Draw the called kinds (k,) of n cells without a kind, x of them called CBLC."""
    calls = np.zeros(len(KINDS))
    for side, cells in ((True, x), (False, n - x)):
        same = np.equal(IS_CBLC, side)
        calls += rng.multinomial(int(cells), same / same.sum())
    return calls


def split(cells: int, fields: int) -> RealArray:
    """Spread cells over fields as evenly as whole cells allow."""
    return np.array([cells // fields + (index < cells % fields) for index in range(fields)], dtype=float)


def measure_rates(rng: np.random.Generator, world: World, n_patients: int) -> ErrorRates:
    """Measure the rates on a separate cohort: diagnoses by their weights, 300-600 cells in 15 fields each."""
    names = list(DIAGNOSES)
    weights = np.array([DIAGNOSES[name].get("weight", 1.0) for name in names], dtype=float)
    tables: dict[str, list[tuple[int, ...]]] = {"annotated": [], "counted": [], "called": []}
    x_fields, n_fields = [], []
    wrongly, wrongly_called, wrong_calls = [], [], np.zeros(len(KINDS))
    for name in rng.choice(names, n_patients, p=weights / weights.sum()):
        low, high = DIAGNOSES[name]["cblc_share"]
        shares = mixture(rng, name, low + (high - low) * rng.beta(2, 2))
        cells = split(int(rng.integers(300, 601)), 15)
        annotated, counted, called = observe(rng, world, shares, cells)
        for key, values in (("annotated", annotated), ("counted", counted), ("called", called)):
            tables[key].append(tuple(int(value) for value in values.sum(axis=0)))
        extra, extra_called = impurities(rng, world, counted)
        wrongly.append(int(extra.sum()))
        wrongly_called.append(int(extra_called.sum()))
        wrong_calls += spread_calls(rng, extra.sum(), extra_called.sum())
        x_fields.append(called.sum(axis=1) + extra_called)
        n_fields.append(counted.sum(axis=1) + extra)
    return ErrorRates(
        kinds=KINDS,
        annotated=tuple(tables["annotated"]),
        counted=tuple(tables["counted"]),
        called=tuple(tables["called"]),
        correlation=pooled_correlation(x_fields, n_fields),
        wrongly_counted=tuple(wrongly),
        wrong_calls=tuple(int(value) for value in wrong_calls),
        wrongly_called=tuple(wrongly_called),
    )


def prepared_for(rates: ErrorRates, rng: np.random.Generator, *, unlike: bool) -> PreparedRates | None:
    """Prepare the rates as for a patient, or with the prior of a center of controls."""
    prepared = prepare_rates(rates)
    if prepared is None or not unlike:
        return prepared
    return PreparedRates(prepared.curve, prior_of_ratios(rng.uniform(0.0, 0.05, 30)))


def run(replicates: range, n_patients: int, center_shift: float, seed: int, *, unlike: bool = False) -> pl.DataFrame:
    """Return a row per replicate, grid cell and method: is the truth inside, the width, and the point's error."""
    grid = list(itertools.product(RATIOS, CELLS, FIELDS))
    rows: list[tuple[object, ...]] = []
    for replicate in replicates:
        rng = np.random.default_rng([seed, replicate])
        world = make_world(rng)
        rates = measure_rates(rng, world, n_patients)
        prepared = prepared_for(rates, np.random.default_rng([seed, replicate, 1]), unlike=unlike)
        if prepared is None:
            continue
        draws, impurity = draw_rates(rates, N_DRAWS, seed=replicate), impurity_of(rates)
        tpr, fpr, *recalls = (of(cblc=side) for of in (rates.call_rate, rates.recall) for side in (True, False))
        shift = float(rng.normal(0, center_shift)) if center_shift else 0.0
        p, effective, ours, adjusted, raw, resampled = [], [], [], [], [], []
        for ratio, n_cells, n_fields in grid:
            diagnosis = str(rng.choice(list(DIAGNOSES)))
            shares = mixture(rng, diagnosis, ratio)
            sizes = split(n_cells, n_fields)
            _, by_kind, calls = observe(rng, world, shares, sizes, shift)
            extra, extra_called = impurities(rng, world, by_kind)
            x, n = calls.sum(axis=1) + extra_called, by_kind.sum(axis=1) + extra
            effect = float(design_effect(x, n, rates.correlation))
            p.append(x.sum() / n.sum())
            effective.append(n.sum() / effect)
            ours.append(ratio_of(float(x.sum()), float(n.sum()), effect, prepared))
            adjusted.append(float(undo_detection(adjusted_ratio(impurity.purified(p[-1]), tpr, fpr), *recalls)))
            raw.append(wilson_interval(int(x.sum()), int(n.sum())))
            chosen = rng.integers(0, n_fields, size=(N_RESAMPLES, n_fields))
            share = x[chosen].sum(axis=1) / np.maximum(n[chosen].sum(axis=1), 1)
            resampled.append(np.quantile(adjusted_ratio(share, tpr, fpr), [0.025, 0.975]))
        drawn = draw_ratios(np.array(p), np.array(effective), draws, seed=replicate)
        limits = np.quantile(drawn, [0.025, 0.975], axis=1).T
        limits[:, 0] = np.where(np.array(p) == 0, 0.0, np.minimum(limits[:, 0], adjusted))
        limits[:, 1] = np.maximum(limits[:, 1], adjusted)
        for index, (ratio, n_cells, n_fields) in enumerate(grid):
            of_method = (
                (ours[index].ratio, ours[index].lower, ours[index].upper),
                (adjusted[index], *limits[index]),
                (p[index], raw[index].lower, raw[index].upper),
                (float(adjusted_ratio(p[index], tpr, fpr)), *resampled[index]),
            )
            for method, (point, lower, upper) in zip(METHODS, of_method, strict=True):
                held, error = bool(lower <= ratio <= upper), abs(point - ratio)
                rows.append((ratio, n_cells, n_fields, method, held, float(upper - lower), float(error)))
    columns = ["ratio", "cells", "fields", "method", "held", "width", "error"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def main() -> None:
    """Run the grid and print coverage by ratio, the worst grid cell, widths and the Monte Carlo error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000, help="simulated patients in every cell of the grid")
    parser.add_argument("--patients", type=int, default=80, help="patients the error rates are measured on")
    parser.add_argument("--center-shift", type=float, default=0.0, help="sd of a shift of all rates, logit scale")
    parser.add_argument("--unlike", action="store_true", help="the prior is that of a center of controls")
    parser.add_argument("--first", type=int, default=0, help="first replicate, so that several processes share them")
    parser.add_argument("--rows", type=Path, nargs="+", help="print the tables of --out files instead")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Parquet with a row per replicate, grid cell and method")
    parser.add_argument("--speed", action="store_true", help="time 1,000 patients of 500 cells instead")
    arguments = parser.parse_args()
    if arguments.speed:
        print_speed(arguments.patients)
        return
    if arguments.rows:
        rows = pl.concat([pl.read_parquet(path) for path in arguments.rows])
    else:
        replicates = range(arguments.first, arguments.first + arguments.replicates)
        rows = run(replicates, arguments.patients, arguments.center_shift, arguments.seed, unlike=arguments.unlike)
    if arguments.out:
        rows.write_parquet(arguments.out)
    cells = rows.group_by("method", "ratio", "cells", "fields", maintain_order=True).agg(
        pl.col("held").mean().alias("coverage"), pl.col("width", "error").mean(), pl.len().alias("n")
    )
    n_each = int(cells["n"].min())  # type: ignore[arg-type]
    print(
        f"{n_each} patients in each of {len(cells) // len(METHODS)} cells; Monte Carlo standard error of a coverage of"
    )
    print(f"0.95: {(0.95 * 0.05 / n_each) ** 0.5:.4f}\n")
    print_tables(cells)


def print_speed(n_patients: int) -> None:
    """Time the correction of 1,000 patients of 500 cells in 15 fields."""
    rng = np.random.default_rng(0)
    world = make_world(rng)
    rates = measure_rates(rng, world, n_patients)
    patients = []
    for _ in range(1000):
        shares = mixture(rng, str(rng.choice(list(DIAGNOSES))), float(rng.uniform(0, 0.9)))
        _, by_kind, calls = observe(rng, world, shares, split(500, 15))
        patients.append(PatientCounts(calls.sum(axis=1), by_kind.sum(axis=1)))
    started = time.process_time()
    for counts in patients:
        estimate_ratio(counts, rates)
    print(f"1,000 patients of 500 cells, processor time: {time.process_time() - started:.1f} s")


def print_tables(cells: pl.DataFrame) -> None:
    """Print coverage and width by ratio, then the mean and the worst cell of each method."""
    print("| ratio | " + " | ".join(f"{method}: mean (worst) coverage, width, MAE" for method in METHODS) + " |")
    print("|---|" + "---|" * len(METHODS))
    for ratio in RATIOS:
        line = [f"{100 * ratio:g}%"]
        for method in METHODS:
            here = cells.filter((pl.col("method") == method) & (pl.col("ratio") == ratio))
            mean, worst, width, error = (
                here.select(value).item()
                for value in (
                    pl.col("coverage").mean(),
                    pl.col("coverage").min(),
                    pl.col("width").mean(),
                    pl.col("error").mean(),
                )
            )
            line.append(f"{mean:.3f} ({worst:.3f}), {width:.3f}, {error:.3f}")
        print("| " + " | ".join(line) + " |")
    for method in METHODS:
        of_method = cells.filter(pl.col("method") == method)
        above, at_zero = (
            of_method.filter(chosen).select(pl.col("coverage").min()).item()
            for chosen in (pl.col("ratio") > 0, pl.col("ratio") == 0)
        )
        mean = of_method.select(pl.col("coverage").mean()).item()
        below = of_method.filter(pl.col("coverage") < LEAST_COVERAGE).height
        print(f"\n{method}: mean {mean:.3f}, worst above 0 {above:.3f}, worst at 0 {at_zero:.3f}; {below} below 0.92")


if __name__ == "__main__":
    main()
