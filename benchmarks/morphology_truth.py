"""How well morphology measured on images agrees with what the simulator drew: one row per column, Markdown or JSON.

    python benchmarks/morphology_truth.py COHORT [--segmenter SEG.onnx] [--json]

COHORT is simulated (`marrowscope simulate`), with truth_cells.parquet. Every whole and uncovered cell is measured on
its expert contour and, with a segmenter, on the predicted contour that matches it. The exact values are those drawn,
before lens, noise and JPEG. Pearson's r is shown beside Spearman's, and beside r within patients (means subtracted),
which ignores what a patient's stain and camera add to all of its cells alike. `missing` is the share of cells without a
measured value, among those with an exact one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import track
from scipy import stats

from marrowscope import geometry
from marrowscope.cells.crop import CropSpec, cut_crop
from marrowscope.cells.match import match_contours
from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS, measure
from marrowscope.cells.quality import QualityRules, apply_quality_rules
from marrowscope.cohort import read_cohort
from marrowscope.imaging import read_image
from marrowscope.segment.segmenter import Segmenter
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from marrowscope.records import ContourArray, Field, ImageArray

COLUMNS = ("area_um2", "circularity", *MORPHOLOGY_COLUMNS)
TARGETS = dict.fromkeys(COLUMNS, 0.7) | dict.fromkeys(("area_um2", "circularity", "nucleus_area_ratio"), 0.9)
WHOLE_FRACTION = 0.97
Values = NDArray[np.float64]


class Measurer:
    """Measures cells and adds up the CPU time, without reading and cropping."""

    def __init__(self) -> None:
        self.spec = CropSpec()
        self.seconds, self.n_cells = 0.0, 0

    def __call__(self, image: ImageArray, contour_xy: ContourArray, um_per_px: float) -> dict[str, float]:
        """Measure every column of one cell."""
        crop = cut_crop(image, contour_xy, um_per_px, self.spec)
        start = time.process_time()
        values = measure(crop, contour_xy, um_per_px, self.spec.um_per_px)
        self.seconds += time.process_time() - start
        self.n_cells += 1
        return {
            "area_um2": geometry.area(contour_xy) * um_per_px**2,
            "circularity": geometry.circularity(contour_xy),
            **values,
        }


def whole_cells(cohort: Path) -> pl.DataFrame:
    """Read exact values of the annotated cells that no edge cuts and no other cell covers."""
    truth = pl.read_parquet(cohort / "truth_cells.parquet")
    if "chromatin_texture" not in truth.columns:
        message = f"{cohort}: truth_cells.parquet has no exact morphology; simulate the cohort with this version"
        raise SystemExit(message)
    whole = ~pl.col("cut_by_edge") & (pl.col("visible_fraction") >= WHOLE_FRACTION)
    return truth.filter(pl.col("shape_index").is_not_null() & whole).rename({"nc": "nucleus_area_ratio"})


def measure_field(
    field: Field, wanted: set[int], segmenter: Segmenter | None, measurer: Measurer
) -> list[dict[str, Any]]:
    """Measure the cells ``wanted`` (shape indices), one row per kind of contour."""
    image, um_per_px = read_image(field.path), field.um_per_px or 0.0
    cells = [(item.shape_index, "expert", item.contour_xy) for item in field.annotations]
    if segmenter:
        detections = segmenter.detect(image, um_per_px)
        reasons = apply_quality_rules(detections, QualityRules(), field.width_px, field.height_px, um_per_px)
        kept = [item.contour_xy for item, reason in zip(detections, reasons, strict=True) if reason is None]
        pairs = match_contours(kept, [item.contour_xy for item in field.annotations]).pairs
        cells += [(field.annotations[pair.expert].shape_index, "predicted", kept[pair.predicted]) for pair in pairs]
    return [
        {
            "patient_id": field.patient_id,
            "field": field.path.stem,
            "shape_index": shape_index,
            "contour": kind,
            **{f"{name}_measured": value for name, value in measurer(image, contour_xy, um_per_px).items()},
        }
        for shape_index, kind, contour_xy in cells
        if shape_index in wanted
    ]


def agreement(frame: pl.DataFrame, name: str) -> dict[str, Any]:
    """Compute the agreement of one column over the cells of ``frame``."""
    exact = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    measured = frame[f"{name}_measured"].to_numpy()
    known = np.isfinite(exact)
    both = known & np.isfinite(measured)
    patients = frame["patient_id"].to_numpy()[both]
    a, b = measured[both], exact[both]
    return {
        "column": name,
        "n": int(both.sum()),
        "missing": float(1.0 - both.sum() / max(1, known.sum())),
        "pearson": float(np.corrcoef(a, b)[0, 1]),
        "spearman": float(stats.spearmanr(a, b).statistic),
        "within_patients": float(np.corrcoef(_centered(a, patients), _centered(b, patients))[0, 1]),
        "mean_measured": float(a.mean()),
        "mean_exact": float(b.mean()),
        "target": TARGETS[name],
    }


def _centered(values: Values, groups: NDArray[np.object_]) -> Values:
    _, index = np.unique(groups, return_inverse=True)
    return np.asarray(values - (np.bincount(index, values) / np.bincount(index))[index])


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--segmenter", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    truth = whole_cells(arguments.cohort)
    segmenter = Segmenter.from_onnx(arguments.segmenter) if arguments.segmenter else None
    keys = ["patient_id", "field", "shape_index"]
    wanted: dict[tuple[str, str], set[int]] = {}
    for patient_id, field, shape_index in truth.select(keys).iter_rows():
        wanted.setdefault((patient_id, field), set()).add(shape_index)
    measurer = Measurer()
    rows: list[dict[str, Any]] = []
    for field in track(read_cohort(arguments.cohort, vocabulary=load_vocabulary()).fields, "measuring"):
        rows += measure_field(field, wanted.get((field.patient_id, field.path.stem), set()), segmenter, measurer)
    joined = pl.DataFrame(rows).join(truth, on=keys)
    result: dict[str, Any] = {
        kind: [agreement(joined.filter(pl.col("contour") == kind), name) for name in COLUMNS]
        for kind in ("expert", "predicted")
        if kind in joined["contour"]
    }
    per_cell_ms = 1e3 * measurer.seconds / max(1, measurer.n_cells)
    if arguments.json:
        print(json.dumps(result | {"ms_per_cell": per_cell_ms}, indent=2))
        return
    for kind, table in result.items():
        print(
            f"\n{kind} contours\n\n| column | n | missing | r | rho | r within patients | measured | exact | target |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for row in table:
            print(
                f"| {row['column']} | {row['n']} | {row['missing']:.3f} | {row['pearson']:.3f} | {row['spearman']:.3f} "
                f"| {row['within_patients']:.3f} | {row['mean_measured']:.3f} | {row['mean_exact']:.3f} "
                f"| {row['target']} {'met' if row['pearson'] >= row['target'] else 'missed'} |"
            )
    print(f"\n{per_cell_ms:.2f} ms of CPU time per cell, {measurer.n_cells} cells")


if __name__ == "__main__":
    main()
