"""How sharp an augmented training crop is beside the crop that a prediction sees: the ratio of Laplacian energies.

    python benchmarks/crop_sharpness.py CROPS ... [--n 400]

For each crop set and center, predicted crops drawn evenly from the table: the mean squared Laplacian of the gray crop,
augmented over unchanged, as the median over cells and the ratio of the means. Each kernel is measured for the warp
alone (mirrors, rotation, scale, shift), for rotation alone and with the whole augmentation; beside it stands the
processor time of one crop.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import cv2
import numpy as np

from marrowscope.train.augment import augment_crop, center_crop
from marrowscope.train.config import NO_AUGMENTATION, AugmentConfig, Interpolation
from marrowscope.train.crop_set import open_crop_set
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marrowscope.records import ImageArray

CROP_PX = 96


def laplacian_energy(crop: ImageArray) -> float:
    """Mean squared Laplacian of the gray crop (s, s, 3), in squared gray levels."""
    gray = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), dtype=np.float32)
    return float((cv2.Laplacian(gray, cv2.CV_32F) ** 2).mean())


def energy_ratio(
    crops: Sequence[ImageArray], config: AugmentConfig, size_px: int = CROP_PX
) -> tuple[float, float, float]:
    """Return median and ratio of means of augmented over unchanged energies of stored crops, and seconds per crop."""
    plain = np.array([laplacian_energy(center_crop(crop, size_px)) for crop in crops])
    start = time.process_time()
    changed = [augment_crop(crop, size_px, config, (0, 1, 0, row))[0] for row, crop in enumerate(crops)]
    seconds = (time.process_time() - start) / len(crops)
    found = np.array([laplacian_energy(crop) for crop in changed])
    return float(np.median(found / plain)), float(found.mean() / plain.mean()), seconds


def variants() -> dict[str, AugmentConfig]:
    """Return what is measured, by name."""
    usual = AugmentConfig()
    warp = {"flips": True, "rotation_deg": usual.rotation_deg, "scale": usual.scale, "shift_px": usual.shift_px}
    found = {}
    for kernel in get_args(Interpolation):
        chosen = {"interpolation": kernel}
        found[f"{kernel}, rotation alone"] = NO_AUGMENTATION.model_copy(update=chosen | {"rotation_deg": 180.0})
        found[f"{kernel}, warp"] = NO_AUGMENTATION.model_copy(update=chosen | warp)
        found[f"{kernel}, whole augmentation"] = usual.model_copy(update=chosen)
    return found


def main() -> None:
    """Parse the command line and print a table for each crop set and center."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=400)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    for folder in given.crops:
        crop_set = open_crop_set(folder, load_vocabulary())
        cells = crop_set.cells
        for center in sorted(cells["center"].unique().to_list()):
            rows = np.flatnonzero(((cells["center"] == center) & (cells["source"] == "predicted")).to_numpy())
            rows = rows[np.linspace(0, len(rows) - 1, given.n).astype(np.int64)]
            crops = [np.asarray(crop_set.crops[row]) for row in rows]
            print(f"\n{folder.name}, center {center}, {len(crops)} crops\n")
            print("| variant | median ratio | ratio of means | ms a crop |\n|---|---:|---:|---:|")
            for name, config in variants().items():
                median, mean, seconds = energy_ratio(crops, config)
                print(f"| {name} | {median:.3f} | {mean:.3f} | {1000 * seconds:.2f} |")


if __name__ == "__main__":
    main()
