"""Simulate a whole cohort into a folder, patient by patient, in any number of processes.

    OUT/patients.csv                      what a laboratory would know
    OUT/<patient_id>/field_001.jpg/.json  images and LabelMe polygons
    OUT/truth_cells.parquet               every drawn cell, annotated or not
    OUT/truth_patients.parquet            the drawn CBLC share and the resulting cells
    OUT/simulation.json                   seed, configuration, hashes of the parameter files

Every patient and field has its own SeedSequence, so nothing depends on the number of workers or on the order. A patient
is finished when its truth rows are written, which is last; an interrupted cohort goes on after its finished patients.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import polars as pl

from marrowscope.cohort.formats.labelme import write_labelme
from marrowscope.config import config_hash
from marrowscope.disk import (
    UnfinishedFolder,
    read_marker,
    refuse_foreign_folder,
    resumed_folder,
    write_text,
    written_whole,
)
from marrowscope.errors import RunError
from marrowscope.imaging import write_image
from marrowscope.machine import process_pool
from marrowscope.records import Annotation
from marrowscope.runs.manifest import installed_versions
from marrowscope.runs.parquet import UNREADABLE_TABLE
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
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_SIMULATOR_VERSION = "1"
COHORT_KIND = "simulated cohort"
_RECORD_NAME = "simulation.json"
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


def _simulate_patient(task: tuple[SimulationConfig, UnfinishedFolder, int]) -> None:
    """Render and write one patient, its truth rows last. Runs in a worker process."""
    config, unfinished, index = task
    if config.workers > 1:
        cv2.setNumThreads(1)
    parameters = load_parameters()
    plan = plan_patient(config, index, parameters)
    folder = unfinished.path / plan.patient_id
    if folder.exists():  # of an interrupted call
        shutil.rmtree(folder)
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    for number, field in iterate_fields(config, plan, parameters):
        name = f"field_{number:03d}.jpg"
        write_image(folder / name, field.image, plan.style.center.jpeg_quality)
        height_px, width_px = field.image.shape[:2]
        write_labelme((folder / name).with_suffix(".json"), name, width_px, height_px, _annotations(field))
        rows.extend(_truth_rows(plan, number, field))
    with written_whole(_notes_of(unfinished, plan)) as temporary:
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(temporary)


def _notes_of(unfinished: UnfinishedFolder, plan: PatientPlan) -> Path:
    """Return where a patient's truth rows are kept until the end."""
    return unfinished.notes / f"{plan.patient_id}.parquet"


def _is_finished(unfinished: UnfinishedFolder, plan: PatientPlan) -> bool:
    """Tell whether an earlier call finished this patient."""
    try:
        pl.read_parquet_metadata(_notes_of(unfinished, plan))
    except UNREADABLE_TABLE:
        return False
    return True


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
) -> int:
    """Simulate a cohort into the new or empty folder ``out``; ``progress(done, total)`` counts patients.

    Only ``patients`` (from 0) are drawn, the same as in the whole cohort; patient i has center i mod
    ``config.centers``. ``overwrite`` allows ``out`` to be an earlier simulated cohort, which is replaced when the new
    one is complete. An interrupted call resumes when it is repeated; returns how many patients it kept. Raises RunError
    when ``out`` has anything else.
    """
    parameters = load_parameters()
    chosen = range(config.patients) if patients is None else patients
    record = _record(config, parameters) | ({} if patients is None else {"patients": list(chosen)})
    plans = [plan_patient(config, index, parameters) for index in chosen]
    with resumed_folder(
        out, COHORT_KIND, record | {"versions": installed_versions()}, overwrite=overwrite
    ) as unfinished:
        n_kept = _simulate_patients(unfinished, config, plans, progress)
        rows = [pl.read_parquet(_notes_of(unfinished, plan)).to_dicts() for plan in plans]
        _write_truth(unfinished.path, plans, rows, record)
    return n_kept


def is_simulated(folder: Path, config: SimulationConfig) -> bool:
    """Tell whether ``folder`` is the whole cohort of ``config``, with no file of ours missing and none of others."""
    try:
        made = json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8"))
        refuse_foreign_folder(folder, COHORT_KIND, overwrite=True)
    except (OSError, ValueError, RunError):
        return False
    marker = read_marker(folder)
    is_whole = marker is not None and all((folder / name).is_file() for name in marker.files)
    wanted = _record(config, load_parameters())
    return is_whole and "patients" not in made and {name: made.get(name) for name in wanted} == wanted


def _record(config: SimulationConfig, parameters: Parameters) -> dict[str, Any]:
    """Return how a cohort is made, for its record."""
    return {
        "simulator_version": _SIMULATOR_VERSION,
        "seed": config.seed,
        "config": config.model_dump(mode="json", exclude={"workers"}),
        "config_sha256": config_hash(config.model_copy(update={"workers": 1})),
        "parameters_sha256": parameters.sha256,
    }


def _simulate_patients(
    unfinished: UnfinishedFolder,
    config: SimulationConfig,
    plans: Sequence[PatientPlan],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Simulate the patients that are not finished; returns the number of those that are."""
    tasks = [(config, unfinished, plan.index) for plan in plans if not _is_finished(unfinished, plan)]
    n_kept = len(plans) - len(tasks)
    with ExitStack() as stack:
        done: Iterable[None] = map(_simulate_patient, tasks)
        if config.workers > 1 and tasks:
            pool = stack.enter_context(process_pool(min(config.workers, len(tasks))))
            done = pool.map(_simulate_patient, tasks)
        for n_done, _ in enumerate(done, start=n_kept + 1):
            if progress:
                progress(n_done, len(plans))
    return n_kept


def _write_truth(out: Path, plans: list[PatientPlan], rows: list[list[dict[str, Any]]], record: dict[str, Any]) -> None:
    """Write the tables of the whole cohort, and the record of how it was made."""
    flat = [row for patient in rows for row in patient]
    with written_whole(out / "truth_cells.parquet") as temporary:
        pl.DataFrame(flat, infer_schema_length=None).write_parquet(temporary)
    _write_patients(out, plans, rows)
    n_annotated = sum(row["shape_index"] is not None for row in flat)
    counts = {"n_cells_drawn": len(flat), "n_cells_annotated": n_annotated}
    write_text(out / _RECORD_NAME, json.dumps(record | counts, indent=2) + "\n")
