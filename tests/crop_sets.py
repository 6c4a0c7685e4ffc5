"""A synthetic crop set: each code has a color of its own, so that a small network can learn it in seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.config import validate_config
from marrowscope.train.config import ClassifierConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLORS = {"N": (90, 40, 130), "N5": (200, 150, 190), "R1": (40, 60, 160), "L": (120, 170, 220), "V": (220, 220, 210)}
FURTHER = {"P2": (150, 60, 90)}
"""Colors of codes that a set has only where they are asked for."""


def write_crop_set(
    folder: Path,
    *,
    patients: int = 6,
    crops_per_patient: int = 10,
    stored_px: int = 46,
    codes: Sequence[str] = tuple(COLORS),
    seed: int = 0,
) -> Path:
    """Write expert and predicted crops of ``codes`` for patients p0, p1, ... of two centers."""
    random = np.random.default_rng(seed)
    crops, rows = [], []
    for patient in range(patients):
        for index in range(crops_per_patient):
            code = codes[index % len(codes)]
            for source in ("expert", "predicted"):
                noise = random.normal(0, 12, (stored_px, stored_px, 3))
                crops.append(np.clip(np.array((COLORS | FURTHER)[code]) + noise, 0, 255).astype(np.uint8))
                rows.append(
                    {
                        "cell_id": f"p{patient}/f0#{index}/{source}",
                        "field_id": f"p{patient}/f0",
                        "patient_id": f"p{patient}",
                        "center": f"c{patient % 2}",
                        "diagnosis": "AML_M2" if patient % 4 < 2 else "control",
                        "specimen": "blood" if patient == 1 else "marrow",
                        "image_sha256": f"{patient:064x}",
                        "source": source,
                        "expert_code": code,
                        "match_iou": 0.9 if source == "predicted" else None,
                        "um_per_px": 0.3,
                        "image_dhash": f"{patient * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4,
                        "area_um2": 60.0 + 20 * index + float(random.normal()),
                        "circularity": 0.9,
                        "nucleus_area_ratio": None if index == 0 else 0.5 + 0.02 * index,
                    }
                )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crops.npy", np.stack(crops))
    masks = np.zeros((len(crops), stored_px, stored_px), dtype=np.bool_)
    masks[:, stored_px // 4 : -stored_px // 4, stored_px // 4 : -stored_px // 4] = True
    np.save(folder / "masks.npy", masks)
    floats = dict.fromkeys(("match_iou", "nucleus_area_ratio"), pl.Float64())
    pl.DataFrame(rows, schema_overrides=floats).write_parquet(folder / "cells.parquet")
    crop = {"side_um": 9.6, "size_px": 32}
    (folder / "prepare.json").write_text(json.dumps({"crop": crop}), encoding="utf-8")
    return folder


def tiny_config(**changes: object) -> ClassifierConfig:
    """Give settings for a network of 0.1 million weights on 32 px crops, from scratch on one thread."""
    stages = (
        {"name": "gt-to-yolo", "train_on": "expert", "select_on": "predicted", "epochs": 2, "learning_rate": 3e-3},
        {"name": "yolo-to-yolo", "train_on": "predicted", "select_on": "predicted", "epochs": 1, "learning_rate": 1e-3},
    )
    values: dict[str, object] = {
        "architecture": "test_efficientnet",
        "crop_px": 32,
        "init": "scratch",
        "stages": stages,
        "batch_size": 8,
        "threads": 1,
        "device": "cpu",
        "checkpoint_every_steps": 2,
    }
    return validate_config(ClassifierConfig, values | changes, where="test")
