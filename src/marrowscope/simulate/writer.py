"""Simulate a whole cohort into a folder, patient by patient, in any number of processes.

    OUT/patients.csv                      what a laboratory would know
    OUT/<patient_id>/field_001.jpg/.json  images and LabelMe polygons
    OUT/truth_cells.parquet               every drawn cell, annotated or not
    OUT/truth_patients.parquet            the drawn CBLC share and the resulting cells
    OUT/simulation.json                   seed, configuration, hashes of the parameter files

Every patient and field has its own SeedSequence, so nothing depends on the number of workers or on the order.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl

from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.config import config_hash
from marrowscope.disk import new_folder, write_text, written_whole
from marrowscope.imaging import encode_image
from marrowscope.imaging.simulated import mark_simulated
from marrowscope.machine import process_pool
from marrowscope.records import Annotation
from marrowscope.simulate.composition import (
    Differential,
    balanced_differential,
    draw_diagnosis,
    draw_differential,
    draw_field_codes,
)
from marrowscope.simulate.field import SimulatedField, cells_per_field, render_field
from marrowscope.simulate.optics import PatientStyle, draw_center, draw_patient_style
from marrowscope.simulate.parameters import Parameters, SimulationConfig, load_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_SIMULATOR_VERSION = "1"
COHORT_KIND = "simulated cohort"
_CENTER, _PATIENT, _DIAGNOSIS, _FIELD = 1, 2, 3, 4
_AGE_GROUP = "adult"


@dataclass(frozen=True)
class PatientPlan:
    """A patient before rendering."""

    index: int
    patient_id: str
    center: str
    style: PatientStyle
    differential: Differential


def _generator(config: SimulationConfig, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


def plan_patient(config: SimulationConfig, index: int, parameters: Parameters) -> PatientPlan:
    """Draw the plan of patient ``index``: its center (in rotation), its diagnosis, differential and style."""
    center_index = index % config.centers
    center = draw_center(_generator(config, _CENTER, center_index), f"S{center_index + 1}", parameters)
    rng = _generator(config, _PATIENT, index)
    drawn = draw_diagnosis(_generator(config, _DIAGNOSIS, index), parameters)
    diagnosis = config.diagnoses[index % len(config.diagnoses)] if config.diagnoses else drawn
    style = draw_patient_style(rng, center, parameters)
    if config.composition == "balanced":
        differential = balanced_differential(parameters, diagnosis)
    else:
        differential = draw_differential(rng, diagnosis, parameters)
    return PatientPlan(index, f"{config.prefix}{index + 1:04d}", center.name, style, differential)


def simulate_field(config: SimulationConfig, plan: PatientPlan, number: int, parameters: Parameters) -> SimulatedField:
    """Render field ``number`` (from 1) of a planned patient."""
    rng = _generator(config, _FIELD, plan.index, number)
    if config.cells_per_field is None:
        n_cells = cells_per_field(rng, plan.style, parameters)
    else:
        n_cells = int(rng.integers(config.cells_per_field[0], config.cells_per_field[1] + 1))
    correlation = parameters.differentials.intra_field["correlation"]
    codes = draw_field_codes(rng, plan.differential.shares, n_cells, correlation)
    size = {"width_px": config.width_px, "height_px": config.height_px}
    return render_field(rng, codes, plan.style, parameters, neighbors=config.neighbors, **size)


def iterate_fields(
    config: SimulationConfig, plan: PatientPlan, parameters: Parameters
) -> Iterator[tuple[int, SimulatedField]]:
    """Yield a patient's fields: ``config.fields`` of them, and more until ``config.min_cells`` are annotated."""
    n_cells = 0
    for number in range(1, 2 * config.fields + 1):
        if number > config.fields and n_cells >= config.min_cells:
            return
        field = simulate_field(config, plan, number, parameters)
        n_cells += sum(cell.polygon_xy is not None for cell in field.cells)
        yield number, field


def _annotations(field: SimulatedField) -> list[Annotation]:
    """Return the field's annotated cells; the contours keep every digit."""
    drawn = [(cell.code, cell.polygon_xy) for cell in field.cells if cell.polygon_xy is not None]
    return [Annotation(code, polygon_xy, index) for index, (code, polygon_xy) in enumerate(drawn)]


def _truth_rows(plan: PatientPlan, number: int, field: SimulatedField) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    shape_index = 0
    for cell in field.cells:
        annotated = cell.polygon_xy is not None
        rows.append(
            {
                "patient_id": plan.patient_id,
                "center": plan.center,
                "diagnosis": plan.differential.diagnosis,
                "field": f"field_{number:03d}",
                "shape_index": shape_index if annotated else None,
                "code": cell.code,
                "um_per_px": field.um_per_px,
                "diameter_um": cell.diameter_um,
                "area_um2": cell.area_um2,
                "circularity": cell.circularity,
                "nc": cell.nc,
                "nucleus_area_um2": cell.nucleus_area_um2,
                "inside_fraction": cell.inside_fraction,
                "visible_fraction": cell.visible_fraction,
                "cut_by_edge": cell.cut_by_edge,
                "touching": cell.touching,
                "overlapping": cell.overlapping,
                **{name: None if math.isnan(value) else value for name, value in asdict(cell.exact).items()},
                "contour_xy": cell.contour_xy.ravel().tolist(),
            }
        )
        shape_index += annotated
    return rows


def _simulate_patient(task: tuple[SimulationConfig, Path, int]) -> list[dict[str, Any]]:
    """Render and write one patient; returns the truth rows. Runs in a worker process."""
    config, out, index = task
    if config.workers > 1:
        cv2.setNumThreads(1)
    parameters = load_parameters()
    plan = plan_patient(config, index, parameters)
    folder = out / plan.patient_id
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, field in iterate_fields(config, plan, parameters):
        name = f"field_{number:03d}.jpg"
        picture = encode_image(field.image, ".jpg", plan.style.center.jpeg_quality)
        (folder / name).write_bytes(mark_simulated(picture))
        height_px, width_px = field.image.shape[:2]
        write_labelme((folder / name).with_suffix(".json"), name, width_px, height_px, _annotations(field))
        rows.extend(_truth_rows(plan, number, field))
    return rows


def _write_patients(out: Path, plans: list[PatientPlan], rows: list[list[dict[str, Any]]]) -> None:
    diagnoses = load_parameters().differentials.diagnosis
    columns = ["patient_id", "center", "diagnosis", "subtype", "specimen", "age_group", "um_per_px"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for plan in plans:
        name = plan.differential.diagnosis
        group = "AML" if diagnoses[name].aml else name
        writer.writerow([plan.patient_id, plan.center, group, name, "marrow", _AGE_GROUP, plan.style.center.um_per_px])
    write_text(out / "patients.csv", text.getvalue())
    truth = [
        {
            "patient_id": plan.patient_id,
            "center": plan.center,
            "diagnosis": plan.differential.diagnosis,
            "drawn_cblc_share": plan.differential.cblc_share,
            "blood_like": plan.style.center.blood_like,
            "n_cells_drawn": len(cells),
            "n_cells_annotated": sum(cell["shape_index"] is not None for cell in cells),
        }
        for plan, cells in zip(plans, rows, strict=True)
    ]
    with written_whole(out / "truth_patients.parquet") as temporary:
        pl.DataFrame(truth).write_parquet(temporary)


def simulate_cohort(
    out: Path,
    config: SimulationConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    patients: Sequence[int] | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate a cohort into the new or empty folder ``out``; ``progress(done, total)`` counts patients.

    Only ``patients`` (from 0) are drawn, the same as in the whole cohort; patient i has center i mod
    ``config.centers``. ``overwrite`` allows ``out`` to be an earlier simulated cohort, which is replaced when the new
    one is complete. Raises RunError when ``out`` has anything else.
    """
    with new_folder(out, COHORT_KIND, overwrite=overwrite) as folder:
        _simulate_into(folder, config, progress, patients)


def _simulate_into(
    out: Path,
    config: SimulationConfig,
    progress: Callable[[int, int], None] | None,
    patients: Sequence[int] | None,
) -> None:
    parameters = load_parameters()
    chosen = range(config.patients) if patients is None else patients
    plans = [plan_patient(config, index, parameters) for index in chosen]
    tasks = [(config, out, index) for index in chosen]
    rows: list[list[dict[str, Any]]] = []
    if config.workers == 1:
        for task in tasks:
            rows.append(_simulate_patient(task))
            if progress:
                progress(len(rows), len(tasks))
    else:
        with process_pool(min(config.workers, len(tasks))) as pool:
            for result in pool.map(_simulate_patient, tasks):
                rows.append(result)
                if progress:
                    progress(len(rows), len(tasks))
    flat = [row for patient in rows for row in patient]
    with written_whole(out / "truth_cells.parquet") as temporary:
        pl.DataFrame(flat, infer_schema_length=None).write_parquet(temporary)
    _write_patients(out, plans, rows)
    record = {
        "simulator_version": _SIMULATOR_VERSION,
        "seed": config.seed,
        "config": config.model_dump(mode="json", exclude={"workers"}),
        "config_sha256": config_hash(config.model_copy(update={"workers": 1})),
        "parameters_sha256": parameters.sha256,
        **({} if patients is None else {"patients": list(chosen)}),
        "n_cells_drawn": len(flat),
        "n_cells_annotated": sum(row["shape_index"] is not None for row in flat),
    }
    write_text(out / "simulation.json", json.dumps(record, indent=2) + "\n")
