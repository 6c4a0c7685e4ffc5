"""A crop set of random blobs of color that costs as much to read, augment and train on as real crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import polars as pl

from marrowscope.cells.crop import CropSpec
from marrowscope.disk import write_json
from marrowscope.train.crop_set import CELLS_NAME, CROPS_NAME, MASKS_NAME, SUMMARY_NAME, CropSetSummary
from marrowscope.train.targets import MORPHOLOGY_TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BLOBS = 12  # per side: as coarse as nuclei and granules, so that its JPEG is no larger than a real cell's


def write_random_crops(
    folder: Path, codes: Sequence[str], *, n: int = 512, size_px: int = 136, um_per_px: float = 0.2, seed: int = 0
) -> Path:
    """Write a crop set of ``n`` random crops (size_px, size_px, 3) with round masks, labels cycling over ``codes``."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    crops = np.empty((n, size_px, size_px, 3), dtype=np.uint8)
    masks = np.zeros((n, size_px, size_px), dtype=np.uint8)
    middle = (size_px // 2, size_px // 2)
    for index in range(n):
        coarse = random.integers(40, 240, (_BLOBS, _BLOBS, 3)).astype(np.uint8)
        crops[index] = cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        axes = tuple(int(value) for value in random.integers(size_px // 6, size_px // 3, 2))
        cv2.ellipse(masks[index], middle, axes, 0, 0, 360, 1, thickness=-1)
    np.save(folder / CROPS_NAME, crops)
    np.save(folder / MASKS_NAME, masks.astype(np.bool_))
    cells = pl.DataFrame(
        {
            "cell_id": [f"random#{index}" for index in range(n)],
            "field_id": "random",
            "patient_id": "random",
            "center": "random",
            "diagnosis": "random",
            "image_sha256": "0" * 64,
            "source": "expert",
            "expert_code": [codes[index % len(codes)] for index in range(n)],
            "match_iou": None,
            "um_per_px": um_per_px,
        }
        | {name: random.normal(size=n) for name in MORPHOLOGY_TARGETS},
        schema_overrides={"match_iou": pl.Float64()},
    )
    cells.write_parquet(folder / CELLS_NAME)
    summary = CropSetSummary(crop=CropSpec(side_um=size_px * um_per_px, size_px=size_px), stored_px=size_px)
    write_json(folder / SUMMARY_NAME, summary.model_dump(mode="json"))
    return folder
