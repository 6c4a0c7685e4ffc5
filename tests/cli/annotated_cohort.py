"""A small annotated cohort on disk, and a run of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.imaging import sha256_file, write_image
from marrowscope.records import Annotation
from marrowscope.runs.manifest import RunCounts, write_manifest
from marrowscope.runs.parquet import write_table
from marrowscope.runs.schemas import CELLS, FIELDS
from tests.fake_runs import bare_manifest

if TYPE_CHECKING:
    from pathlib import Path

CENTERS = {"P1": "A", "P2": "A", "Q1": "B"}
CODES = ("N", "N5", "L2", "N5")


def circle(x: float, y: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + 20 * np.cos(angle), y + 20 * np.sin(angle)], axis=1)


def make_cohort_and_run(tmp_path: Path) -> tuple[Path, Path]:
    """Three patients of two centers, one field each; the run finds all but each patient's last cell."""
    cohort, run = tmp_path / "cohort", tmp_path / "run"
    generator = np.random.default_rng(0)
    lines, fields, cells = ["patient_id,center,diagnosis,um_per_px"], [], []
    for patient, center in CENTERS.items():
        lines.append(f"{patient},{center},AML,0.15")
        (cohort / patient).mkdir(parents=True)
        path = cohort / patient / "f.png"
        write_image(path, generator.integers(0, 255, (200, 400, 3), dtype=np.uint8))
        shapes = [Annotation(code, circle(60 + 80 * k, 100), k) for k, code in enumerate(CODES)]
        write_labelme(path.with_suffix(".json"), path.name, 400, 200, shapes)
        where = {"field_id": f"{patient}/f", "patient_id": patient}
        size = {"width_px": 400, "height_px": 200}
        fields.append(where | size | {"path": str(path), "sha256": sha256_file(path), "status": "ok"})
        for shape in shapes[:-1]:
            category = shape.code[:1] if shape.code == "L2" else shape.code
            call = {"category": category, "is_cblc": category == "N", "is_countable": True}
            outline = {"contour_xy": shape.contour_xy.ravel().tolist(), "cell_id": f"{patient}{shape.shape_index}"}
            cells.append(where | call | outline | {"p_cblc": 0.9 if category == "N" else 0.1, "score": 0.9})
    (cohort / "patients.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run.mkdir()
    write_table(run / "fields.parquet", pl.DataFrame(fields, schema_overrides=FIELDS), "fields")
    write_table(run / "cells.parquet", pl.DataFrame(cells, schema_overrides=CELLS), "cells")
    write_table(run / "patients.parquet", pl.DataFrame({"patient_id": list(CENTERS)}), "patients")
    counts = RunCounts(
        patients=3,
        images=3,
        images_read=3,
        images_failed=0,
        contours=9,
        rejected={},
        cells=9,
        countable=9,
        cblc=3,
        contradictions=0,
    )
    write_manifest(run, bare_manifest(counts))
    return cohort, run
