"""What calls gain or lose if each patient's share of CBLC is first estimated from the patient's own cells.

    python benchmarks/patient_prior.py RUN COHORT [--weight W]

``p_cblc`` of every cell assumes one share for all patients. Here each patient has an own share, found by
expectation-maximization (Saerens, Latinne, Decaestecker, Neural Comput 2002;14:21) with the common share as a prior
worth W cells (Dirichlet), and its countable cells are called again by it. The labeled cells of COHORT that RUN found
are called both ways; F1 of CBLC is pooled over patients with AML and over all others, its difference with a 95%
interval from a bootstrap over patients.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from marrowscope.cohort import read_cohort
from marrowscope.evaluate import link_cells
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary

RealArray = NDArray[np.float64]
_MOST_STEPS = 500
_CONVERGED = 1e-8


def with_own_share(p: RealArray, common: float, weight: float) -> RealArray:
    """Return the probabilities of one patient's cells under the patient's own share."""
    likelihood = np.clip(p, 1e-9, 1 - 1e-9)
    likelihood = likelihood / (1 - likelihood) * (1 - common) / common
    share = common
    for _ in range(_MOST_STEPS):
        own = likelihood * share / (likelihood * share + 1 - share)
        moved = float((own.sum() + weight * common) / (len(p) + weight))
        if abs(moved - share) < _CONVERGED:
            break
        share = moved
    return np.asarray(likelihood * share / (likelihood * share + 1 - share), dtype=np.float64)


def f1(counts: RealArray) -> float:
    """Return F1 of summed counts: right calls, calls, true cells."""
    right, called, true = counts
    return float(2 * right / (called + true)) if called + true else float("nan")


def main() -> None:
    """Print both F1 and their difference by group as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--weight", type=float, default=20.0)
    given = parser.parse_args()
    vocabulary = load_vocabulary()
    cells, fields = (read_table(given.run / f"{name}.parquet", name) for name in ("cells", "fields"))
    cohort = read_cohort(given.cohort, vocabulary=vocabulary, decode=False)
    expert = link_cells(fields, cells, cohort.patients, cohort.fields, vocabulary).expert
    kept = cells.filter(pl.col("reject_reason").is_null() & pl.col("is_countable"))
    common = float(np.clip(kept["p_cblc"].to_numpy().mean(), 0.01, 0.99))
    again = pl.concat(
        part.select("cell_id").with_columns(
            own=pl.Series(with_own_share(part["p_cblc"].to_numpy(), common, given.weight) >= 0.5)  # noqa: PLR2004
        )
        for part in kept.partition_by("patient_id")
    )
    calls = kept.select("cell_id", before=pl.col("is_cblc")).join(again, on="cell_id")
    found = expert.filter(pl.col("found") & pl.col("cblc").is_not_null()).join(calls, on="cell_id")
    diagnosis = {patient.patient_id: patient.diagnosis for patient in cohort.patients}
    generator = np.random.default_rng(0)
    result = {"common_share": common, "weight": given.weight}
    for name, is_aml in (("AML", True), ("others", False)):
        sums = [
            [
                ((part["cblc"] & part[call]).sum(), part[call].sum(), part["cblc"].sum())
                for part in found.partition_by("patient_id")
                if (diagnosis[part["patient_id"][0]] == "AML") == is_aml
            ]
            for call in ("before", "own")
        ]
        if not sums[0]:
            continue
        before, own = np.asarray(sums, dtype=np.float64)
        drawn = generator.integers(0, len(before), (2000, len(before)))
        differences = [f1(own[rows].sum(axis=0)) - f1(before[rows].sum(axis=0)) for rows in drawn]
        low, high = np.nanquantile(differences, [0.025, 0.975])
        values = {"f1": f1(before.sum(axis=0)), "f1_own_share": f1(own.sum(axis=0))}
        result |= {name: values | {"n": len(before), "difference": [float(low), float(high)]}}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
