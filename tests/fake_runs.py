"""A small run without any network: circles drawn as cells, calls made up, written with the package's own writers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl

from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.imaging import sha256_file, write_image
from marrowscope.patient.assess import assess_patients
from marrowscope.patient.differential import BLAST_COLUMNS
from marrowscope.patient.learned import learned_from
from marrowscope.patient.quantify.quantification import Quantification
from marrowscope.patient.standing import MeasuredCenter, MeasuredRates
from marrowscope.runs.manifest import Manifest, RunCounts, UsedBundle, read_manifest, write_manifest
from marrowscope.runs.parquet import conform, read_table, write_table
from marrowscope.runs.schemas import CELLS, PATIENTS, PatientRow, required_columns
from marrowscope.runs.table_hashes import hash_tables
from marrowscope.statistics.clusters import ASSUMED_CORRELATION
from marrowscope.vocabulary import load_vocabulary
from tests.patient.quantify.patients import N5, N, make_rates

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.records import Patient

VOCABULARY = load_vocabulary()
WIDTH, HEIGHT, UM_PER_PX = 480, 360, 0.15
CALLS = (("N", True, True), ("N5", False, True), ("R2", False, True), ("Other", False, False), ("L", False, True))


@dataclass
class FakeRun:
    """Where the run lies, and the tables it was written from."""

    folder: Path
    images: Path
    fields: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)


def circle(x: float, y: float, radius: float, n: int = 40) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def draw_field(generator: np.random.Generator, path: Path, n_cells: int) -> list[np.ndarray]:
    """Draw a field with round cells on a grid; gives their contours."""
    image = np.full((HEIGHT, WIDTH, 3), (236, 214, 214), dtype=np.uint8)
    contours = []
    for index in range(n_cells):
        x, y = 60 + 90 * (index % 5), 60 + 90 * (index // 5)
        radius = float(generator.uniform(26, 40))
        cv2.circle(image, (x, y), round(radius), (176, 140, 190), -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), round(radius * 0.75), (96, 48, 130), -1, cv2.LINE_AA)
        contours.append(circle(x, y, radius))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
    return contours


def cell_row(generator: np.random.Generator, contour: np.ndarray, where: dict[str, str], index: int) -> dict[str, Any]:
    category, is_cblc, is_countable = CALLS[index % len(CALLS)]
    p = generator.dirichlet(np.full(16, 0.05))
    p[VOCABULARY.categories.index(category)] += 2
    row: dict[str, Any] = {
        "cell_id": f"{where['field_id']}-{index}".replace("/", "-").encode().hex(),
        **where,
        "contour_xy": contour.ravel().tolist(),
        "score": 0.9,
        "area_um2": 100.0,
        "circularity": 0.9,
    }
    if index % 7 == 6:
        return row | {"reject_reason": REJECT_REASONS[index % len(REJECT_REASONS)]}
    return row | {
        "p_cblc": float(generator.uniform(0.5, 1.0) if is_cblc else generator.uniform(0, 0.5)),
        "p_countable": 0.9 if is_countable else 0.1,
        "p_category": (p / p.sum()).tolist(),
        "category": category,
        "is_cblc": is_cblc,
        "is_countable": is_countable,
        "contradiction": index == 5,
    }


def write_run(run: FakeRun, patients: list[Patient]) -> None:
    """Write tables and manifest as `predict` does."""
    run.folder.mkdir(parents=True, exist_ok=True)
    fields = conform(pl.DataFrame(run.fields, infer_schema_length=None), "fields")
    cells = conform(pl.DataFrame(run.cells, schema_overrides=CELLS, infer_schema_length=None), "cells")
    table = assess_once(patients, fields, cells)
    write_table(run.folder / "fields.parquet", fields, "fields")
    write_table(run.folder / "cells.parquet", cells, "cells")
    write_table(run.folder / "patients.parquet", table, "patients")
    rejected = {reason: int((cells["reject_reason"] == reason).sum()) for reason in REJECT_REASONS}
    n_failed = int((fields["status"] != "ok").sum())
    counts = RunCounts(
        patients=len(patients),
        images=len(fields),
        images_read=len(fields) - n_failed,
        images_failed=n_failed,
        contours=len(cells),
        rejected=rejected,
        cells=len(cells) - sum(rejected.values()),
        countable=int(table["n_countable"].sum()),
        cblc=int(table["n_cblc"].sum()),
        contradictions=int(table["n_contradictions"].sum()),
    )
    manifest = Manifest(
        created_utc="2026-03-01T10:00:00+00:00",
        command=("marrowscope", "predict", "cohort", "--out", "run"),
        versions={"python": "3.11", "numpy": "2.3"},
        bundle=UsedBundle(name="fake <bundle>", version="1", sha256="ab" * 32, files={"segmenter.onnx": "cd" * 32}),
        backend="none",
        device="none",
        precision="f32",
        config={},
        config_sha256="ef" * 32,
        input_sha256="01" * 32,
        tables=hash_tables(run.folder),
        counts=counts,
        seconds=1.5,
    )
    write_manifest(run.folder, manifest)


def bare_manifest(counts: RunCounts) -> Manifest:
    """Return the manifest of a run that nothing made, with ``counts`` that reconcile."""
    return Manifest(
        command=(),
        versions={},
        bundle=UsedBundle(name="none"),
        backend="none",
        device="none",
        precision="f32",
        config={},
        config_sha256="",
        input_sha256="",
        counts=counts,
    )


_ASSESSED: dict[tuple[str, str, str], pl.DataFrame] = {}


def assess_once(patients: list[Patient], fields: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Assess as ``assess_as_before``; what was assessed before is kept: hundreds of tests make the same run."""
    key = repr(patients), fields.drop("path").write_json(), cells.write_json()
    if key not in _ASSESSED:
        _ASSESSED[key] = assess_as_before(patients, fields, cells)
    return _ASSESSED[key]


def assess_as_before(patients: list[Patient], fields: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Assess patients as versions did that knew no standing: blasts are estimated though nothing is corrected.

    A page, PDF or FHIR document of such a run prints what stands in the table; the tests of those fill in the rest.
    """
    rates = make_rates({N: 0.9, N5: 0.05}).model_copy(update={"correlation": ASSUMED_CORRELATION})
    review = MeasuredCenter(Quantification(source="a test", rates=rates), n_patients=30, n_outside=0)
    measured = MeasuredRates(centers={patient.center: review for patient in patients})
    learned = learned_from([(False, dict.fromkeys(VOCABULARY.codes, 9))], VOCABULARY)
    table = assess_patients(patients, fields, cells, VOCABULARY, measured=measured, learned=learned)
    known = assess_patients(patients, fields, cells, VOCABULARY).drop(BLAST_COLUMNS)
    unstated = {"state", "state_reason", "center_n_reviewed", "center_n_outside", "depth", "fitting_um_per_px"}
    blank = [pl.lit(None, known.schema[name]).alias(name) for name in sorted(unstated)]
    flags = pl.col("flags").list.eval(pl.element().filter(pl.element().struct.field("flag") != "unchecked"))
    return conform(known.with_columns(flags, *blank, *(table[name] for name in BLAST_COLUMNS)), "patients")


def state_tables(folder: Path) -> None:
    """State the tables of a run as they are now in its manifest: for a test that has rewritten one."""
    write_manifest(folder, read_manifest(folder).model_copy(update={"tables": hash_tables(folder)}))


def make_run(root: Path, patients: list[Patient], *, n_fields: int = 2, n_cells: int = 12, seed: int = 0) -> FakeRun:
    """Write images and a run; the last patient's last image is one that could not be read."""
    generator = np.random.default_rng(seed)
    run = FakeRun(root / "run", root / "images")
    for number, patient in enumerate(patients):
        for index in range(n_fields):
            path = run.images / f"folder-{number}" / f"field_{index}.png"
            where = {"field_id": f"{patient.patient_id}/field_{index}", "patient_id": patient.patient_id}
            row = where | {"center": patient.center, "path": str(path), "um_per_px": UM_PER_PX}
            if patient is patients[-1] and index == n_fields - 1:
                error = f"{path.name}: found an empty file, expected an image <b>"
                run.fields.append(row | {"sha256": "00", "status": "failed", "error": error})
                continue
            contours = draw_field(generator, path, n_cells)
            rows = [cell_row(generator, contour, where, i) for i, contour in enumerate(contours)]
            run.cells += rows
            run.fields.append(
                row
                | {
                    "sha256": sha256_file(path),
                    "width_px": WIDTH,
                    "height_px": HEIGHT,
                    "status": "ok",
                    "n_contours": len(rows),
                    "n_cells": sum("category" in item for item in rows),
                }
            )
    write_run(run, patients)
    return run


EMPTY_PATIENT: dict[str, Any] = (
    dict.fromkeys(PATIENTS)
    | {name: 0 for name in required_columns(PatientRow) if PATIENTS[name] == pl.Int64()}
    | {name: [] for name in required_columns(PatientRow) if isinstance(PATIENTS[name], pl.List)}
    | {"patient_id": "P1", "center": "A", "diagnosis": "AML", "specimen": "marrow"}
)
"""A patient's row without a cell."""

ALL_MADE: list[dict[str, Any]] = [
    {"score": "distance", "value": 1.0, "usual": None, "lower_limit": None, "upper_limit": 6.0}
]
"""Checks of depth of which none is missing."""

ASSESSED: dict[str, Any] = {
    "corrected_ratio": 0.31,
    "corrected_lower": 0.22,
    "corrected_upper": 0.41,
    "correction": "adjusted count",
    "design_effect": 1.6,
    "threshold": 0.21,
    "threshold_lower": 0.17,
    "threshold_upper": 0.26,
    "confidence_above": 0.982,
    "call": "above",
    "call_depends_on_threshold": True,
    "flags": [
        {"flag": "blurred_fields", "value": 0.5, "limit": 0.2, "n_fields": 1},
        {"flag": "few_cells", "value": 18.0, "limit": 100.0, "n_fields": None},
    ],
}
"""What a bundle with error rates and a threshold adds to a patient's row; whole as `predict` writes it."""


def assess_as(run: FakeRun, patient_id: str, **values: object) -> None:
    """Fill in what the run's bundle could not know: ``values`` (default ASSESSED) of one patient's row."""
    path = run.folder / "patients.parquet"
    rows = read_table(path, "patients").to_dicts()
    for row in rows:
        if row["patient_id"] == patient_id:
            row.update(values or ASSESSED)
    write_table(path, pl.DataFrame(rows, schema=PATIENTS), "patients")
    state_tables(run.folder)
