"""Rows of the classifier's recipe, each one change away from the default bundle's: settings and crops for trainings.

    marrowscope prepare MARROW --mapping M=marrow-cells --segmenter default --out CROPS
    python benchmarks/stain_clusters.py CROPS --out CLUSTERED
    python benchmarks/recipe_rows.py named CLUSTERED --out NAMED                 blasts without lineage are called N
    marrowscope prepare MARROW --mapping M=marrow-cells --segmenter default --crop-px 128 --out NAMED128
    python benchmarks/recipe_rows.py moved NAMED128 --like NAMED                 patients and codes of the 96 px crops
    python benchmarks/recipe_rows.py settings ROWS [--seed 1] [--epochs 10] [--simulated SIMULATED.safetensors]
    marrowscope train classifier NAMED --split CLUSTERED/split-2.csv --config ROWS/base.toml --out BASE     and so on
    python benchmarks/source_shift.py BASE SOFT ... --crops NAMED BLOOD_CROPS --views 2

Every row sees the same number of crops.

- ``base``: one stage on predicted contours, no center-border term, the moving average of the weights, two views, color
  and sharpness as in docs/train.md
- ``soft``: soft labels between N, M2 and L2
- ``two``: the paper's two stages, six tenths of the epochs on expert contours, the rest on predicted ones
- ``border``: the center-border term at its default weight
- ``px128``: 128 px for the same 28.8 um; strengths in pixels grow alike
- ``pretrained``: a trunk that learned from simulated cells first
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import polars as pl

from marrowscope.cells.crop import CropSpec
from marrowscope.train.config import LOSS_WEIGHTS, AugmentConfig
from marrowscope.train.crop_set import CELLS_NAME

MORE_PX = 128
HEAD = """seed = {seed}
init = "{init}"
crop_px = {crop_px}
imbalance = "logit_adjustment"
select = "ema"
ema_decay = 0.99
views = 2
epoch_crops = 3200
threads = 1
{extra}
"""
STAGE = """
[[stages]]
name = "{source}"
train_on = "{source}"
select_on = "predicted"
epochs = {epochs}
learning_rate = {rate}
"""
REST = """
[loss_weights]
consistency = {consistency}

[augment]
interpolation = "cubic"
stain_swap = 0.3
density = 0.2
cast = 0.05
scale = 0.12
noise_chance = 0.15
"""
IN_PIXELS = ("shift_px", "blur_sigma_px", "contour_px")
CLUSTERED_FACTS = ("patient_id", "expert_code", "field_id", "image_sha256")


def settings(arguments: argparse.Namespace) -> None:
    """Write the TOML file of every row."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    epochs = arguments.epochs
    one = STAGE.format(source="predicted", epochs=epochs, rate=1e-3)
    on_experts = round(0.6 * epochs)
    two = STAGE.format(source="expert", epochs=on_experts, rate=1e-3)
    two += STAGE.format(source="predicted", epochs=epochs - on_experts, rate=3e-4)
    px = CropSpec().size_px
    as_base = {"stages": one, "crop_px": px, "extra": "", "consistency": 0.0, "init": "lite0"}
    rows: dict[str, dict[str, object]] = {
        "base": {},
        "soft": {"extra": 'confusable = [["N", "M2", "L2"]]'},
        "two": {"stages": two},
        "border": {"consistency": LOSS_WEIGHTS["consistency"]},
        f"px{MORE_PX}": {"crop_px": MORE_PX},
    }
    if arguments.simulated:
        rows["pretrained"] = {"init": arguments.simulated}
    for name, change in rows.items():
        row = as_base | change
        text = HEAD.format(seed=arguments.seed, **row) + str(row["stages"]) + REST.format(**row)
        if row["crop_px"] != px:
            text += "".join(f"{name} = {getattr(AugmentConfig(), name) * MORE_PX / px}\n" for name in IN_PIXELS)
        (arguments.out / f"{name}.toml").write_text(text, encoding="utf-8")


def named(arguments: argparse.Namespace) -> None:
    """Copy a crop set in which every coarse label that is mainly N is N, so that soft labels reach it."""
    shutil.copytree(arguments.crops, arguments.out)
    code = pl.col("expert_code")
    is_blast = code.str.contains("mainly N;", literal=True)
    cells = pl.read_parquet(arguments.out / CELLS_NAME)
    cells = cells.with_columns(expert_code=pl.when(is_blast).then(pl.lit("N")).otherwise(code))
    cells.write_parquet(arguments.out / CELLS_NAME)


def moved(arguments: argparse.Namespace) -> None:
    """Give cells that were cut again the patients and codes of the given crop set; they stand in the same order."""
    cells, like = (pl.read_parquet(folder / CELLS_NAME) for folder in (arguments.crops, arguments.like))
    if not cells["cell_id"].equals(like["cell_id"]):
        message = f"{arguments.like}: found other cells than in {arguments.crops}, expected the same; cut both again"
        raise SystemExit(message)
    cells = cells.drop("image_dhash", strict=False).with_columns(like.select(CLUSTERED_FACTS))
    cells.write_parquet(arguments.crops / CELLS_NAME)


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("settings")
    making.add_argument("out", type=Path)
    making.add_argument("--seed", type=int, default=1)
    making.add_argument("--epochs", type=int, default=10)
    making.add_argument("--simulated", type=Path)
    naming = commands.add_parser("named")
    naming.add_argument("crops", type=Path)
    naming.add_argument("--out", type=Path, required=True)
    moving = commands.add_parser("moved")
    moving.add_argument("crops", type=Path)
    moving.add_argument("--like", type=Path, required=True)
    arguments = parser.parse_args()
    {"settings": settings, "named": named, "moved": moved}[arguments.command](arguments)


if __name__ == "__main__":
    main()
