"""The crops that the default bundle learns from, chosen out of one prepared crop set of all its sources.

    python benchmarks/default_crops.py CROPS --out CHOSEN [--leave-out CENTER] [--seed 0]

CROPS is what `marrowscope prepare marrow-cells blood-control SIMULATED --mapping M=marrow-cells --mapping
B=blood-control --segmenter default` writes. Chosen are the predicted crops

- of every real patient but M034 to M037 and six of center B, which no training of what ships may see. One of the six is
  the pseudo-patient that ships as photographs, the others are drawn by the hash of their names;
- of simulated patients, only codes of categories that no chosen real source labels, and those of the category Other but
  basophils and "normal" blasts (N0, M0); at most 120 a code, 60 of Other (120 smudges, V).

The blasts of marrow-cells (a coarse label) become the code N: a label without its lineage left the networks free to
call them anything. `--leave-out M` takes a whole source away, for a bundle that has not seen it; its codes are then
simulated where no other source has them. Prints the chosen cells by center and code as one JSON object, and writes
``split.csv``, in which every patient trains.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from marrowscope.train.crop_set import (
    CELLS_NAME,
    CROPS_NAME,
    MASKS_NAME,
    SUMMARY_NAME,
    GrowingArray,
    open_crop_set,
)
from marrowscope.vocabulary import load_vocabulary

_LEFT_OUT_OF_M = ("M034", "M035", "M036", "M037")
_SHIPPED_OF_B = "B0b2d22"
_DRAWN_OF_B = 5
_MOST, _MOST_OF_OTHER = 120, 60
_NOT_SIMULATED = ("N0", "M0", "B1")
_BLOCK = 1024


def never_trained(cells: pl.DataFrame) -> set[str]:
    """Return the real patients that no classifier sees."""
    of_b = cells.filter(pl.col("center") == "B")["patient_id"].unique().to_list()
    others = sorted(set(of_b) - {_SHIPPED_OF_B}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return {*_LEFT_OUT_OF_M, _SHIPPED_OF_B, *others[:_DRAWN_OF_B]}


def chosen_rows(cells: pl.DataFrame, leave_out: str | None, seed: int) -> pl.DataFrame:
    """Return the chosen rows of ``cells``, with a column ``row`` (their place in the set) and codes that are raw."""
    main_category = {code: facts.category for code, facts in load_vocabulary().codes.items()}
    cells = cells.with_row_index("row").filter(pl.col("source") == "predicted", pl.col("expert_code").is_not_null())
    cells = cells.with_columns(
        pl.when(pl.col("expert_code").is_in(list(main_category)))
        .then(pl.col("expert_code"))
        .otherwise(pl.lit("N"))
        .alias("expert_code"),
        pl.lit(None, dtype=pl.String).alias("can_label"),
    )
    real = cells.filter(~pl.col("simulated"), ~pl.col("patient_id").is_in(sorted(never_trained(cells))))
    if leave_out is not None:
        real = real.filter(pl.col("center") != leave_out)
    random = np.random.default_rng(seed)
    known = real["expert_code"].unique().to_list()
    categories = {main_category[code] for code in known} - {"Other"}
    absent = [
        code
        for code, category in main_category.items()
        if code not in known and category not in categories and code not in _NOT_SIMULATED
    ]
    simulated = cells.filter(pl.col("simulated"), pl.col("expert_code").is_in(absent))
    parts = [real]
    for code in sorted(simulated["expert_code"].unique().to_list()):
        of_code = simulated.filter(pl.col("expert_code") == code)
        most = min(_MOST_OF_OTHER if main_category[code] == "Other" and code != "V" else _MOST, len(of_code))
        parts.append(of_code[np.sort(random.choice(len(of_code), most, replace=False))])
    return pl.concat(parts).sort("row")


def main() -> None:
    """Parse the command line, write the crop set, and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--leave-out", metavar="CENTER")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    crop_set = open_crop_set(given.crops, load_vocabulary())
    if crop_set.masks is None:
        message = f"{given.crops}: found no masks, expected them; make the crop set again"
        raise SystemExit(message)
    chosen = chosen_rows(crop_set.cells, given.leave_out, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    side = crop_set.stored_px
    for name, array, kind, shape in (
        (CROPS_NAME, crop_set.crops, np.uint8, (side, side, 3)),
        (MASKS_NAME, crop_set.masks, np.bool_, (side, side)),
    ):
        with GrowingArray(given.out / name, kind, shape) as written:
            for start in range(0, len(chosen), _BLOCK):
                written.append(array[chosen["row"][start : start + _BLOCK].to_numpy()])
    chosen.drop("row").write_parquet(given.out / CELLS_NAME)
    for name in (SUMMARY_NAME, "fields.parquet"):
        (given.out / name).write_bytes((given.crops / name).read_bytes())
    patients = chosen["patient_id"].unique().sort().to_list()
    lines = ["patient_id,role", *(f"{patient},train" for patient in patients)]
    (given.out / "split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = pl.when(pl.col("simulated")).then(pl.lit("simulated")).otherwise(pl.col("center"))
    counts = chosen.group_by(source.alias("source"), "expert_code").len().sort("source", "expert_code")
    held: dict[str, dict[str, int]] = {}
    for name, code, n in counts.iter_rows():
        held.setdefault(name, {})[code] = n
    print(
        json.dumps({"patients": len(patients), "never trained": sorted(never_trained(crop_set.cells)), "cells": held})
    )


if __name__ == "__main__":
    main()
