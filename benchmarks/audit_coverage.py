"""Coverage of a random audit's interval on simulated patients whose calls err as real ones did.

    python benchmarks/audit_coverage.py grid --out audit.csv     # ratio x cells x audit x classifier, beside Wald
    python benchmarks/audit_coverage.py constructions            # other pseudo-counts
    python benchmarks/audit_coverage.py looks                    # 50, 100, 200, jointly; and looking every 5 cells
    python benchmarks/audit_coverage.py first                    # uncertain cells named before the audit
    python benchmarks/audit_coverage.py smear                    # fields as a sample of the smear
    python benchmarks/audit_coverage.py missed                   # cells that the machine missed
    python benchmarks/audit_coverage.py spread                   # width of other rules of allocation
    python benchmarks/audit_coverage.py confusion RUN COHORT     # a row of CONFUSION from a run and its annotation

A patient has a fixed number of cells and a fixed ratio. Each cell's call and certainty are drawn from real cells of its
kind (CONFUSION), cells are drawn by the package's own allocation, and the package's own draws give the interval. The
truth is the ratio of these very cells. A few draws settle whether it is well inside the interval; where not, the
limit is a quantile of 1,000 draws. A truth whose tail is 2.5% passes a first step by chance less than once in 1,000.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from marrowscope.review.audit import LOOKS, N_SIDES, NOT_COUNTABLE, OTHER, STRATUM_KEYS, FrameCell, allocate
from marrowscope.review.audited_ratio import PSEUDO_COUNTS, draw_smear, draw_totals, expand, limits_of, share
from marrowscope.review.looks import LOOK_LEVEL
from marrowscope.review.missed_fields import CheckedFields
from marrowscope.statistics.clusters import ASSUMED_CORRELATION, design_effect

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from marrowscope.review.audited_ratio import End

    RealArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

CONFUSION: dict[str, IntArray] = {
    "default bundle, blood": np.array([[54, 27, 0, 8, 0], [1, 9, 658, 91, 0], [2, 1, 21, 2, 0]]),
    "demo bundle, blood": np.array([[80, 4, 2, 2, 0], [169, 48, 478, 59, 1], [5, 2, 20, 2, 0]]),
    "default bundle, marrow": np.array([[256, 32, 5, 10, 0], [5, 13, 181, 28, 0], [2, 1, 21, 2, 0]]),
}
"""Found cells of real photographs: rows CBLC, other countable, not countable by the expert; columns STRATUM_KEYS.

Blood: six pseudo-patients of blood-control (Bdc33cf, Baf903e, B7aaecc, Bf5ed9e, B0b2d22, Bb642a7). Marrow: six of
marrow-cells (M001, M009, M012, M023, M035, M037), where only center cells are labeled, so that the row of what is not
countable is that of the same bundle in blood. The default bundle was trained on most of them, and flatters itself.
"""

RATIOS = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
CELLS = (116, 300, 500, 1000)
NOT_COUNTABLE_SHARE = 0.04
DRAWS = 1000
STEPS = ((40, 0.15), (120, 0.09))
"""Draws, and the share of them beyond the truth at which it is well inside the interval."""

LOWEST = 0.92
Z = 1.959963984540054


class Patients(NamedTuple):
    """Simulated patients: cells by truth and stratum (R, 3, 5), those named (R, 5, 3), the true ratio."""

    cells: IntArray
    named: IntArray
    truth: float


def make_cells(rng: np.random.Generator, confusion: IntArray, ratio: float, n: int, replicates: int) -> Patients:
    """Draw patients of ``n`` cells with the ratio (as whole cells allow); nobody named a cell yet."""
    n_not = round(NOT_COUNTABLE_SHARE * n)
    n_cblc = round(ratio * (n - n_not))
    shares = confusion / confusion.sum(axis=1, keepdims=True)
    by_side = (n_cblc, n - n_not - n_cblc, n_not)
    cells = np.stack([rng.multinomial(k, p, size=replicates) for k, p in zip(by_side, shares, strict=True)], axis=1)
    named = np.zeros((replicates, cells.shape[-1], N_SIDES), dtype=np.int64)
    return Patients(cells, named, n_cblc / (n - n_not))


def name_more(rng: np.random.Generator, patients: Patients, wanted: IntArray) -> Patients:
    """Name cells until each stratum has ``wanted`` (R, 5): a simple random sample of those not named yet."""
    left = np.moveaxis(patients.cells, 1, 2) - patients.named
    more = wanted - patients.named.sum(axis=-1)
    cblc = rng.hypergeometric(left[..., 0], left[..., 1] + left[..., 2], more)
    other = rng.hypergeometric(left[..., 1], left[..., 2], more - cblc)
    added = np.stack([cblc, other, more - cblc - other], axis=-1)
    return patients._replace(named=patients.named + added)


def sizes_of(patients: Patients) -> IntArray:
    """Cells of each stratum, (R, 5)."""
    return np.asarray(patients.cells.sum(axis=1), dtype=np.int64)


def audit(rng: np.random.Generator, patients: Patients, size: int, spread: RealArray | float = 1.0) -> Patients:
    """Name the cells of an audit of ``size``, beyond those of a smaller one."""
    return name_more(rng, patients, allocate(sizes_of(patients), size, spread))


def ratio_draws(n_cells: IntArray, named: IntArray, n_draws: int, rng: np.random.Generator, end: End) -> RealArray:
    """Draw the ratios (R, d) for one end of the interval by the package's own construction."""
    totals = draw_totals(n_cells, named, n_draws, rng, end)
    return share(totals[..., 0], totals.sum(axis=-1))


def estimate_of(n_cells: IntArray, named: IntArray) -> RealArray:
    """Point estimates (R,)."""
    point = expand(n_cells, named)
    return share(point[:, 0], point[:, 0] + point[:, OTHER])


def limits(
    rng: np.random.Generator, n_cells: IntArray, named: IntArray, level: float, n_draws: int = DRAWS
) -> tuple[RealArray, RealArray]:
    """Draw the reported limits (R,), (R,)."""
    low, high = (ratio_draws(n_cells, named, n_draws, rng, end) for end in PSEUDO_COUNTS)
    return limits_of(low, high, estimate_of(n_cells, named), level)


def is_held(rng: np.random.Generator, n_cells: IntArray, named: IntArray, truth: float, level: float) -> BoolArray:
    """Whether each patient's reported interval contains the truth, (R,).

    The interval contains its estimate, so only the end on the truth's side has to be drawn.
    """
    estimate = estimate_of(n_cells, named)
    held = np.ones(len(named), dtype=bool)
    for end in PSEUDO_COUNTS:
        here = np.flatnonzero(truth < estimate if end == "lower" else truth > estimate)
        if not len(here):
            continue
        for n_draws, enough in STEPS:
            drawn = ratio_draws(n_cells[here], named[here], n_draws, rng, end)
            beyond = (drawn <= truth) if end == "lower" else (drawn >= truth)
            here = here[beyond.mean(axis=1) < enough]
            if not len(here):
                break
        else:
            drawn = ratio_draws(n_cells[here], named[here], DRAWS, rng, end)
            lower, upper = limits_of(drawn, drawn, estimate[here], level)
            # Shares of the same whole cells may differ in the last digit.
            held[here] = lower <= truth + 1e-12 if end == "lower" else truth - 1e-12 <= upper
    return held


def wald(n_cells: IntArray, named: IntArray, level_z: float = Z) -> tuple[RealArray, RealArray]:
    """Plain Wald limits of the stratified ratio (Cochran, Sampling Techniques, 1977, 6.11), finite populations."""
    n_named = named.sum(axis=-1)
    point = expand(n_cells, named)
    countable = point[:, 0] + point[:, OTHER]
    ratio = share(point[:, 0], countable)
    residual = np.stack([1 - ratio, -ratio, np.zeros_like(ratio)], axis=-1)[:, None, :]
    m = np.maximum(n_named, 1)
    mean = (named * residual).sum(axis=-1) / m
    square = (named * residual**2).sum(axis=-1) / m - mean**2
    variance = np.where(n_named > 1, square * m / np.maximum(m - 1, 1), 0.0)
    variance = np.maximum(variance, 0.0)
    total = (n_cells**2 * (1 - n_named / np.maximum(n_cells, 1)) * variance / m).sum(axis=-1)
    half = level_z * np.sqrt(total) / countable
    return ratio - half, ratio + half


def run_grid(replicates: int, seed: int, names: list[str], out: Path | None) -> pl.DataFrame:
    """Coverage, width and error of the point for every cell of the grid."""
    rows = []
    grid = list(itertools.product(CONFUSION, RATIOS, CELLS, LOOKS))
    for number, (name, ratio, n, size) in enumerate(grid):
        if name not in names:
            continue
        rng = np.random.default_rng([seed, number])
        patients = audit(rng, make_cells(rng, CONFUSION[name], ratio, n, replicates), size)
        n_cells, named, truth = sizes_of(patients), patients.named, patients.truth
        held = is_held(rng, n_cells, named, truth, 0.95)
        low, high = wald(n_cells, named)
        estimate = estimate_of(n_cells, named)
        lower, upper = limits(rng, n_cells[:60], named[:60], 0.95, 500)
        called = patients.cells[:, :, :4].sum(axis=1)
        rows.append(
            {
                "classifier": name,
                "ratio": ratio,
                "cells": n,
                "audit": min(size, n),
                "asked": size,
                "coverage": held.mean(),
                "wald": ((low - 1e-12 <= truth) & (truth <= high + 1e-12)).mean(),
                "width": (upper - lower).mean(),
                "wald_width": (high - low).mean(),
                "bias": (estimate - truth).mean(),
                "mae": np.abs(estimate - truth).mean(),
                "machine": (called[:, :2].sum(axis=1) / called.sum(axis=1)).mean(),
            }
        )
        if number % 21 == 20:  # noqa: PLR2004 - a line now and then
            print(f"{number + 1} of {len(grid)}", flush=True)
            if out:
                pl.DataFrame(rows).write_csv(out)
    return pl.DataFrame(rows)


def _mean(values: ArrayLike) -> float:
    return float(np.mean(np.asarray(values)))


def _least(values: ArrayLike) -> float:
    return float(np.min(np.asarray(values)))


def print_grid(table: pl.DataFrame, replicates: int) -> None:
    """Print coverage by ratio, then mean and worst, with and without audits that name every cell."""
    n_part = (table["audit"] < table["cells"]).sum()
    print(f"\n{replicates} patients in each of {len(table)} cells of the grid, {n_part} of them audits of a part;")
    print(f"standard error of a coverage of 0.95: {math.sqrt(0.95 * 0.05 / replicates):.4f}\n")
    part = table.filter(pl.col("audit") < pl.col("cells"))
    print("| true ratio | coverage: mean (worst) | mean width | Wald: mean (worst) | Wald width | machine's ratio |")
    print("|---|---|---|---|---|---|")
    for ratio in RATIOS:
        here = part.filter(pl.col("ratio") == ratio)
        seen = here["classifier"].unique(maintain_order=True)
        of_machine = [f"{_mean(here.filter(pl.col('classifier') == name)['machine']):.2f}" for name in seen]
        print(
            f"| {100 * ratio:g}% | {_mean(here['coverage']):.3f} ({_least(here['coverage']):.3f}) "
            f"| {_mean(here['width']):.3f} | {_mean(here['wald']):.3f} ({_least(here['wald']):.3f}) "
            f"| {_mean(here['wald_width']):.3f} | {', '.join(of_machine)} |"
        )
    for title, chosen in (("all cells of the grid", table), ("audits of a part", part)):
        print(
            f"\n{title}: mean {_mean(chosen['coverage']):.4f}, worst {_least(chosen['coverage']):.4f}, "
            f"below 0.92: {(chosen['coverage'] < LOWEST).sum()}; Wald mean {_mean(chosen['wald']):.4f}, "
            f"worst {_least(chosen['wald']):.4f}"
        )
    print("\n| audit | cells | mean width | mean coverage (worst) |\n|---|---|---|---|")
    for size, n in itertools.product(LOOKS, CELLS):
        here = part.filter((pl.col("asked") == size) & (pl.col("cells") == n))
        if len(here):
            print(
                f"| {size} | {n} | {_mean(here['width']):.3f} "
                f"| {_mean(here['coverage']):.3f} ({_least(here['coverage']):.3f}) |"
            )
    for name in part["classifier"].unique(maintain_order=True):
        here = part.filter(pl.col("classifier") == name)
        print(f"{name}: mean {_mean(here['coverage']):.4f}, worst {_least(here['coverage']):.4f}")
    print("\nlargest bias of the point:", f"{-_least(-part['bias'].abs()):.4f}")
    print(part.sort("coverage").head(8).select("classifier", "ratio", "cells", "audit", "coverage", "wald", "width"))


def plain_draws(
    n_cells: IntArray, named: IntArray, pseudo: RealArray, n_draws: int, rng: np.random.Generator
) -> RealArray:
    """Ratios (R, d) of a Dirichlet-multinomial with any pseudo-counts (R, 5, 3)."""
    totals = np.zeros((len(named), n_draws, 2))
    for h in range(n_cells.shape[-1]):
        counts = named[:, h]
        n_open = (n_cells[:, h] - counts.sum(axis=-1))[:, None]
        weights = counts + pseudo[:, h]
        cblc, other, neither = (rng.standard_gamma(weights[:, k, None], totals.shape[:-1]) for k in range(N_SIDES))
        n_countable = rng.binomial(n_open, (cblc + other) / (cblc + other + neither))
        n_cblc = rng.binomial(n_countable, cblc / (cblc + other))
        totals += np.stack([counts[:, None, 0] + n_cblc, counts[:, None, 1] + n_countable - n_cblc], axis=-1)
    return share(totals[..., 0], totals.sum(axis=-1))


def run_constructions(replicates: int, seed: int) -> None:
    """Coverage and width of three choices of pseudo-counts: where the first one fails, and why another was taken."""
    print("| classifier | true ratio | cells | audit | half in each stratum | half shared | one at each end (used) |")
    print("|---|---|---|---|---|---|---|")
    places = itertools.product(CONFUSION, (0.05, 0.5, 0.8, 0.95), ((300, 50), (300, 100), (1000, 50), (1000, 200)))
    for number, (name, ratio, (n, size)) in enumerate(places):
        rng = np.random.default_rng([seed, 6000 + number])
        patients = audit(rng, make_cells(rng, CONFUSION[name], ratio, n, replicates), size)
        n_cells, named, truth = sizes_of(patients), patients.named, patients.truth
        n_open = np.maximum((n_cells > named.sum(axis=-1)).sum(axis=-1), 1)[:, None, None]
        half = np.full(named.shape, 0.5)
        line = []
        for pseudo in (half, half / n_open):
            drawn = plain_draws(n_cells, named, pseudo, 500, rng)
            lower, upper = limits_of(drawn, drawn, estimate_of(n_cells, named), 0.95)
            line.append((lower, upper))
        line.append(limits(rng, n_cells, named, 0.95, 500))
        words = [
            f"{_mean((lower <= truth + 1e-12) & (truth - 1e-12 <= upper)):.3f}, {_mean(upper - lower):.3f}"
            for lower, upper in line
        ]
        print(f"| {name} | {100 * ratio:g}% | {n} | {size} | " + " | ".join(words) + " |", flush=True)


def run_looks(replicates: int, seed: int) -> None:
    """Joint coverage of three looks, and of one look every five cells, for one audit of 500 cells."""
    print("| classifier | true ratio | looks at 50 / 100 / 200 | all three | every 5 cells at 95%, all of them |")
    print("|---|---|---|---|---|")
    for number, (name, ratio) in enumerate(itertools.product(CONFUSION, (0.01, 0.05, 0.2, 0.5, 0.8))):
        rng = np.random.default_rng([seed, 1000 + number])
        patients = make_cells(rng, CONFUSION[name], ratio, 500, replicates)
        often = np.ones(replicates, dtype=bool)
        at_look = []
        for size in range(10, 201, 5):
            patients = audit(rng, patients, size)
            n_cells = sizes_of(patients)
            if size in LOOKS:
                at_look.append(is_held(rng, n_cells, patients.named, patients.truth, LOOK_LEVEL))
            still = np.flatnonzero(often)
            often[still] = is_held(rng, n_cells[still], patients.named[still], patients.truth, 0.95)
        single = " / ".join(f"{_mean(held):.3f}" for held in at_look)
        print(f"| {name} | {100 * ratio:g}% | {single} | {_mean(np.all(at_look, axis=0)):.3f} | {_mean(often):.3f} |")


def run_first(replicates: int, seed: int) -> None:
    """Name cells of the uncertain strata first, by what they are: CBLC before others; then audit the rest."""
    print("| classifier | true ratio | corrected count: mean | audit after it: mean estimate | coverage |")
    print("|---|---|---|---|---|")
    for number, (name, ratio) in enumerate(itertools.product(CONFUSION, (0.01, 0.05, 0.2, 0.5, 0.8))):
        rng = np.random.default_rng([seed, 2000 + number])
        patients = make_cells(rng, CONFUSION[name], ratio, 300, replicates)
        seen = patients.cells.copy()
        seen[:, :, [0, 2, 4]] = 0
        rest = patients._replace(cells=patients.cells - seen)
        rest = audit(rng, rest, 50)
        n_cells = np.concatenate([seen.sum(axis=(1, 2))[:, None], sizes_of(rest)], axis=1)
        named = np.concatenate([seen.sum(axis=2)[:, None, :], rest.named], axis=1)
        held = is_held(rng, n_cells, named, patients.truth, 0.95)
        left = rest.cells.sum(axis=1)
        x, n = seen[:, 0].sum(axis=1) + left[:, 0] + left[:, 1], seen[:, :2].sum(axis=(1, 2)) + left[:, :4].sum(axis=1)
        estimate = estimate_of(n_cells, named).mean()
        print(f"| {name} | {100 * patients.truth:.1f}% | {_mean(x / n):.3f} | {estimate:.3f} | {_mean(held):.3f} |")


def run_smear(replicates: int, seed: int) -> None:
    """Coverage of the smear's ratio: fields vary around it by a Beta, and the audit sees a part of their cells."""
    print(
        "| true ratio of the smear | cells | fields | smear: coverage, width | these fields' interval, for the smear |"
    )
    print("|---|---|---|---|---|")
    confusion = next(iter(CONFUSION.values()))
    shares = confusion / confusion.sum(axis=1, keepdims=True)
    concentration = (1 - ASSUMED_CORRELATION) / ASSUMED_CORRELATION
    for number, (ratio, n, n_fields) in enumerate(
        itertools.product((0.01, 0.05, 0.2, 0.5, 0.8), (300, 1000), (10, 30))
    ):
        rng = np.random.default_rng([seed, 3000 + number])
        per_field = n // n_fields
        means = rng.beta(ratio * concentration, (1 - ratio) * concentration, (replicates, n_fields))
        cblc = rng.binomial(per_field, means)
        by_field = rng.multinomial(cblc, shares[0]) + rng.multinomial(per_field - cblc, shares[1])
        cells = np.zeros((replicates, N_SIDES, len(STRATUM_KEYS)), dtype=np.int64)
        cells[:, 0] = rng.multinomial(cblc.sum(axis=1), shares[0])
        cells[:, 1] = rng.multinomial(per_field * n_fields - cblc.sum(axis=1), shares[1])
        patients = audit(rng, Patients(cells, np.zeros((replicates, len(STRATUM_KEYS), N_SIDES), np.int64), ratio), 100)
        n_cells, named = sizes_of(patients), patients.named
        effect = design_effect(by_field[..., :2].sum(-1), by_field[..., :4].sum(-1), ASSUMED_CORRELATION)
        low, high = (ratio_draws(n_cells, named, DRAWS, rng, end) for end in PSEUDO_COUNTS)
        estimate = estimate_of(n_cells, named)
        effective = np.broadcast_to(n / effect[:, None], low.shape)
        smear_low, smear_high = (draw_smear(draws, effective, 1.0, rng) for draws in (low, high))
        held = []
        for pair in ((smear_low, smear_high), (low, high)):
            lower, upper = limits_of(*pair, estimate, 0.95)
            held.append((((lower <= ratio) & (ratio <= upper)).mean(), (upper - lower).mean()))
        print(
            f"| {100 * ratio:g}% | {n} | {n_fields} | {held[0][0]:.3f}, {held[0][1]:.3f} "
            f"| {held[1][0]:.3f}, {held[1][1]:.3f} |"
        )


def run_missed(replicates: int, seed: int) -> None:
    """Coverage of the ratio of all cells, found and missed, when m of 20 fields were checked whole."""
    n_fields, n_found, found_ratio = 20, 500, 0.2
    print("| missed per field | of them CBLC | variance / mean | m of 20 | coverage | width | found cells only |")
    print("|---|---|---|---|---|---|---|")
    cases = itertools.product((0.25, 1.5), (0.2, 0.6), (1.0, 3.0), (3, 5, 10))
    for number, (mean, part, dispersion, m) in enumerate(cases):
        rng = np.random.default_rng([seed, 4000 + number])
        shape = mean / (dispersion - 1) if dispersion > 1 else None
        rate = (
            rng.gamma(shape, mean / shape, (replicates, n_fields)) if shape else np.full((replicates, n_fields), mean)
        )
        total = rng.poisson(rate)
        cblc = rng.binomial(total, part)
        x, held, alone, width = round(found_ratio * n_found), 0, 0, 0.0
        for row in range(replicates):
            added = np.stack([cblc[row], total[row] - cblc[row]], axis=1)
            truth = (x + cblc[row].sum()) / (n_found + total[row].sum())
            checked = CheckedFields(added[:m], n_fields)
            found = np.array([x, n_found - x, 0])
            point = checked.expanded + found
            low, high = (checked.draw(DRAWS, rng, end) + found[:2] for end in PSEUDO_COUNTS)
            lower, upper = limits_of(
                low[:, 0] / low.sum(axis=1),
                high[:, 0] / high.sum(axis=1),
                np.array(point[0] / point[:NOT_COUNTABLE].sum()),
                0.95,
            )
            held += bool(lower - 1e-12 <= truth <= upper + 1e-12)
            width += float(upper - lower)
            alone += bool(abs(truth - found_ratio) < 1e-12)  # noqa: PLR2004 - the same whole cells
        print(
            f"| {mean} | {part:.0%} | {dispersion:g} | {m} | {held / replicates:.3f} | {width / replicates:.3f} "
            f"| {alone / replicates:.3f} |"
        )


def run_spread(replicates: int, seed: int) -> None:
    """Mean width where cells beyond the minima go by size alone, and where certain strata count half or a quarter."""
    rules = {"by size": 1.0, "certain half": 0.5, "certain a quarter": 0.25}
    print("| classifier | audit | " + " | ".join(f"{rule}: width (coverage)" for rule in rules) + " |")
    print("|---|---|" + "---|" * len(rules))
    for name, size in itertools.product(CONFUSION, (100, 200)):
        line = []
        for certain in rules.values():
            widths, covers = [], []
            for number, ratio in enumerate(RATIOS):
                rng = np.random.default_rng([seed, 5000 + number])
                patients = make_cells(rng, CONFUSION[name], ratio, 500, replicates)
                patients = audit(rng, patients, size, np.array([certain, 1, certain, 1, certain]))
                n_cells, named = sizes_of(patients), patients.named
                lower, upper = limits(rng, n_cells, named, 0.95)
                widths.append((upper - lower).mean())
                covers.append(((lower <= patients.truth) & (patients.truth <= upper)).mean())
            line.append(f"{np.mean(widths):.3f} ({np.mean(covers):.3f}, worst {np.min(covers):.3f})")
        print(f"| {name} | {size} | " + " | ".join(line) + " |")


def print_confusion(run: Path, cohort: Path) -> None:
    """Count a run's found cells by what the expert says (rows) and stratum (columns).

    Contours that no polygon matches are not countable where the annotation is exhaustive and they lie off the edge.
    """
    from marrowscope.cohort import read_cohort  # noqa: PLC0415 - only this part needs images
    from marrowscope.evaluate.link import EvaluateConfig, link_cells  # noqa: PLC0415
    from marrowscope.vocabulary import load_vocabulary  # noqa: PLC0415

    vocabulary = load_vocabulary()
    read = read_cohort(cohort, vocabulary=vocabulary)
    fields, cells = (pl.read_parquet(run / f"{name}.parquet") for name in ("fields", "cells"))
    linked = link_cells(
        fields, cells, read.patients, read.fields, vocabulary, config=EvaluateConfig(tile_columns=4, tile_rows=3)
    )
    stratum = {
        row["cell_id"]: FrameCell(row["cell_id"], row["is_cblc"], row["is_countable"], row["p_cblc"]).stratum
        for row in cells.filter(pl.col("reject_reason").is_null()).iter_rows(named=True)
    }
    table = np.zeros((N_SIDES, len(STRATUM_KEYS)), dtype=np.int64)
    for row in linked.expert.filter(pl.col("found")).iter_rows(named=True):
        side = NOT_COUNTABLE if not row["countable"] else OTHER if not row["cblc"] else 0
        table[side, STRATUM_KEYS.index(stratum[row["cell_id"]])] += 1
    for row in linked.detections.filter(~pl.col("matched") & ~pl.col("ignored")).iter_rows(named=True):
        if row["exhaustive"]:
            table[NOT_COUNTABLE, STRATUM_KEYS.index(stratum[row["cell_id"]])] += 1
    print(STRATUM_KEYS, table.tolist())


def main() -> None:
    """Run one part of the proof."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", choices=["grid", "constructions", "looks", "first", "smear", "missed", "spread", "confusion"]
    )
    parser.add_argument("paths", nargs="*", type=Path, help="confusion: run and cohort; grid: earlier CSV to print")
    parser.add_argument("--classifier", action="append", help="grid: one of CONFUSION; all without it")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="grid: CSV with one row per cell of the grid")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.part == "confusion":
        print_confusion(*arguments.paths)
        return
    if arguments.part == "grid":
        names = arguments.classifier or list(CONFUSION)
        tables = [pl.read_csv(path) for path in arguments.paths]
        table = pl.concat(tables) if tables else run_grid(arguments.replicates, arguments.seed, names, arguments.out)
        if arguments.out:
            table.write_csv(arguments.out)
        print_grid(table, arguments.replicates)
    else:
        parts = {
            "constructions": run_constructions,
            "looks": run_looks,
            "first": run_first,
            "smear": run_smear,
            "missed": run_missed,
            "spread": run_spread,
        }
        parts[arguments.part](arguments.replicates, arguments.seed)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
