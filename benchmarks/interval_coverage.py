"""Coverage of the corrected ratio's interval on simulated patients: 95% intervals should contain 95 truths in 100.

    python benchmarks/interval_coverage.py --replicates 1000 --out coverage.csv
    python benchmarks/interval_coverage.py --replicates 400 --center-shift 0.7 --out shifted.csv

Each replicate draws a separate cohort to measure error rates on, then one patient for every cell of the grid ratio x
cells x fields. The draws differ from what the interval assumes: patients' rates vary on the logit scale and not as a
beta, every kind of cell has its own rate and recall, up to one counted cell in twenty should not be counted, a
patient's mixture of kinds is that of a diagnosis. Fields cluster by a Dirichlet. Beside ours are Wilson's interval of
the raw ratio, and a bootstrap over the patient's fields corrected with pooled rates (an adjusted count).
``--center-shift`` moves all rates of the patient by one normal draw on the logit scale.
"""

from __future__ import annotations

import argparse
import itertools
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import expit, logit

from marrowscope.patient.quantify.correct import adjusted_ratio
from marrowscope.patient.quantify.estimate import PatientCounts, draw_ratios, estimate_ratio, point_ratio
from marrowscope.patient.quantify.rates import ErrorRates, draw_rates, kinds_of
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
METHODS = ("ours", "wilson", "field bootstrap")
N_DRAWS, N_RESAMPLES = 2000, 400


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
    wrongly, wrong_calls = [], np.zeros(len(KINDS))
    for name in rng.choice(names, n_patients, p=weights / weights.sum()):
        low, high = DIAGNOSES[name]["cblc_share"]
        shares = mixture(rng, name, low + (high - low) * rng.beta(2, 2))
        cells = split(int(rng.integers(300, 601)), 15)
        annotated, counted, called = observe(rng, world, shares, cells)
        for key, values in (("annotated", annotated), ("counted", counted), ("called", called)):
            tables[key].append(tuple(int(value) for value in values.sum(axis=0)))
        extra, extra_called = impurities(rng, world, counted)
        wrongly.append(int(extra.sum()))
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
    )


def run(replicates: int, n_patients: int, center_shift: float, seed: int) -> pl.DataFrame:
    """Return one row per replicate, grid cell and method: whether the interval contains the truth, and its width."""
    grid = list(itertools.product(RATIOS, CELLS, FIELDS))
    rows = []
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, replicate])
        world = make_world(rng)
        rates = measure_rates(rng, world, n_patients)
        draws = draw_rates(rates, N_DRAWS, seed=replicate)
        counted, called = (np.asarray(table, dtype=float) for table in (rates.counted, rates.called))
        tpr, fpr = (called[:, side].sum() / counted[:, side].sum() for side in (IS_CBLC, ~IS_CBLC))
        shift = float(rng.normal(0, center_shift)) if center_shift else 0.0
        p, effective, ratios, raw, resampled = [], [], [], [], []
        for ratio, n_cells, n_fields in grid:
            diagnosis = str(rng.choice(list(DIAGNOSES)))
            shares = mixture(rng, diagnosis, ratio)
            sizes = split(n_cells, n_fields)
            _, by_kind, calls = observe(rng, world, shares, sizes, shift)
            extra, extra_called = impurities(rng, world, by_kind)
            x, n = calls.sum(axis=1) + extra_called, by_kind.sum(axis=1) + extra
            p.append(x.sum() / n.sum())
            effective.append(n.sum() / float(design_effect(x, n, rates.correlation)))
            ratios.append(point_ratio(p[-1], rates))
            raw.append(wilson_interval(int(x.sum()), int(n.sum())))
            chosen = rng.integers(0, n_fields, size=(N_RESAMPLES, n_fields))
            share = x[chosen].sum(axis=1) / np.maximum(n[chosen].sum(axis=1), 1)
            resampled.append(np.quantile(adjusted_ratio(share, tpr, fpr), [0.025, 0.975]))
        drawn = draw_ratios(np.array(p), np.array(effective), draws, seed=replicate)
        limits = np.quantile(drawn, [0.025, 0.975], axis=1).T
        limits[:, 0] = np.where(np.array(p) == 0, 0.0, np.minimum(limits[:, 0], ratios))
        limits[:, 1] = np.maximum(limits[:, 1], ratios)
        for index, (ratio, n_cells, n_fields) in enumerate(grid):
            of_method = (limits[index], (raw[index].lower, raw[index].upper), resampled[index])
            for method, (lower, upper) in zip(METHODS, of_method, strict=True):
                rows.append((ratio, n_cells, n_fields, method, lower <= ratio <= upper, upper - lower))
    return pl.DataFrame(rows, schema=["ratio", "cells", "fields", "method", "held", "width"], orient="row")


def main() -> None:
    """Run the grid and print coverage by ratio, the worst grid cell, widths and the Monte Carlo error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000, help="simulated patients in every cell of the grid")
    parser.add_argument("--patients", type=int, default=80, help="patients the error rates are measured on")
    parser.add_argument("--center-shift", type=float, default=0.0, help="sd of a shift of all rates, logit scale")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV with one row per grid cell and method")
    parser.add_argument("--speed", action="store_true", help="time 1,000 patients of 500 cells instead")
    arguments = parser.parse_args()
    if arguments.speed:
        print_speed(arguments.patients)
        return
    started = time.monotonic()
    rows = run(arguments.replicates, arguments.patients, arguments.center_shift, arguments.seed)
    cells = rows.group_by("method", "ratio", "cells", "fields", maintain_order=True).agg(
        pl.col("held").mean().alias("coverage"), pl.col("width").mean(), pl.len().alias("n")
    )
    if arguments.out:
        cells.write_csv(arguments.out)
    n_grid = len(cells) // len(METHODS)
    print(f"{arguments.replicates} patients in each of {n_grid} cells, {time.monotonic() - started:.0f} s; Monte-Carlo")
    print(f"standard error of a coverage of 0.95: {(0.95 * 0.05 / arguments.replicates) ** 0.5:.4f}\n")
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
    started = time.perf_counter()
    for counts in patients:
        estimate_ratio(counts, rates)
    print(f"1,000 patients of 500 cells: {time.perf_counter() - started:.1f} s")


def print_tables(cells: pl.DataFrame) -> None:
    """Print coverage and width by ratio, then the mean and the worst cell of each method."""
    print("| ratio | " + " | ".join(f"{method}: mean (worst) coverage, width" for method in METHODS) + " |")
    print("|---|" + "---|" * len(METHODS))
    for ratio in RATIOS:
        line = [f"{100 * ratio:g}%"]
        for method in METHODS:
            here = cells.filter((pl.col("method") == method) & (pl.col("ratio") == ratio))
            mean, worst, width = (
                here.select(value).item()
                for value in (pl.col("coverage").mean(), pl.col("coverage").min(), pl.col("width").mean())
            )
            line.append(f"{mean:.3f} ({worst:.3f}), {width:.3f}")
        print("| " + " | ".join(line) + " |")
    for method in METHODS:
        of_method = cells.filter(pl.col("method") == method)
        above, at_zero = (
            of_method.filter(chosen).select(pl.col("coverage").min()).item()
            for chosen in (pl.col("ratio") > 0, pl.col("ratio") == 0)
        )
        mean = of_method.select(pl.col("coverage").mean()).item()
        print(f"\n{method}: mean {mean:.3f}, worst above 0 {above:.3f}, worst at 0 {at_zero:.3f}")


if __name__ == "__main__":
    main()
