"""Images to a run: the stream of ``engine``, written in parts, joined to three tables and a manifest.

Steps: list the images; refuse what cannot work before a network is opened; stream them, a part of the tables on disk
every few images; assess each patient; join the parts; publish the folder. A call that was stopped leaves its parts
beside the folder, and the same call goes on after the last one.

Invariant: every input image has a row in `fields` (a failed one with its error), every contour a row in `cells` (a
rejected one with its reason), and the manifest's counts reconcile. Nothing held in memory grows with the number of
cells.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.bundle import load_bundle, open_quantification
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.config import config_hash
from marrowscope.errors import ConfigError
from marrowscope.imaging import sha256_bytes
from marrowscope.patient.assess import assess_parts
from marrowscope.runs.folder import new_run_folder, refuse_run_folder, staging_folder
from marrowscope.runs.manifest import Failure, Manifest, RunCounts, UsedBundle, installed_versions, write_manifest
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.parts import IMAGES_A_PART, RunParts
from marrowscope.slides import is_slide
from marrowscope.streaming.pool import EnginePool, open_engine
from marrowscope.streaming.rows import STATUS_FAILED
from marrowscope.streaming.source import FieldSource, refuse_missing_scale
from marrowscope.streaming.worker import CellEngine, PredictConfig, slide_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.cohort.inputs import Inputs

__all__ = ["PredictConfig", "Prediction", "predict"]


@dataclass(frozen=True)
class Prediction:
    """A finished run: its folder and manifest; the three tables are read when they are asked for."""

    folder: Path
    manifest: Manifest

    @cached_property
    def fields(self) -> pl.DataFrame:
        """The fields table: a row an image."""
        return read_table(self.folder / "fields.parquet", "fields")

    @cached_property
    def cells(self) -> pl.DataFrame:
        """The cells table: a row a contour."""
        return read_table(self.folder / "cells.parquet", "cells")

    @cached_property
    def patients(self) -> pl.DataFrame:
        """The patients table."""
        return read_table(self.folder / "patients.parquet", "patients")


def predict(
    paths: Sequence[Path],
    bundle: Bundle | Path,
    out: Path,
    *,
    config: PredictConfig | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    engine: CellEngine | EnginePool | None = None,
) -> Prediction:
    """Predict every image behind ``paths`` with ``bundle`` and write the run to ``out``.

    ``paths`` are cohorts, patient folders, image files or slides; a slide is predicted in regions, each of which is a
    field. An image that cannot be read is recorded and the rest is predicted; what is wrong with the folders
    themselves stands in the manifest's ``faults``. ``progress`` gets (images done, images in all). A call that was
    stopped is gone on with where the same one is made again: equal images, bundle, settings and versions. ``engine``,
    made from the same bundle and settings, saves opening the networks again where there are several runs.

    Raises InputError and RunError before any network is opened when the input, the bundle or ``out`` cannot be used,
    and ScaleError when an image has no scale.
    """
    config = config or PredictConfig()
    started = time.monotonic()
    inputs = collect_inputs(paths)
    refuse_missing_scale(inputs.images, config)
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    quantification = open_quantification(opened)
    refuse_run_folder(out, overwrite=overwrite)
    if engine is not None and engine.bundle_sha256 != opened.spec_sha256:
        message = f"found an engine of another bundle than {opened.folder}, expected one opened from it; open it again"
        raise ConfigError(message)
    staging = staging_folder(out)
    with ExitStack() as stack:
        if engine is None:
            n_apart = 0 if any(is_slide(image.path) for image in inputs.images) else len(inputs.images)
            engine = stack.enter_context(open_engine(opened, config, n_apart))
        parts = RunParts(staging, _fingerprint(inputs, opened, config, engine))
        source = FieldSource(
            inputs.images,
            engine.slides,
            parts,
            config=config,
            slide_config=slide_config(opened),
            flag_rules=engine.flag_rules,
        )
        n_resumed = source.n_done
        try:  # a patient is assessed as soon as the last of the images is there, while others are predicted
            with closing(_all_parts(engine, source, inputs, parts, progress)) as stream:
                patients = assess_parts(
                    inputs.patients,
                    stream,
                    opened.vocabulary,
                    quantification=quantification,
                    flag_rules=engine.flag_rules,
                )
        except BaseException:
            if not parts.n_whole:  # nothing to go on with
                shutil.rmtree(staging, ignore_errors=True)
            raise
        finally:
            engine.slides.close()
    with new_run_folder(staging, out) as folder:
        parts.join(folder)
        write_table(folder / "patients.parquet", patients, "patients")
        fields = read_table(folder / "fields.parquet", "fields")
        failed = fields.filter(pl.col("status") == STATUS_FAILED).select("field_id", "error")
        manifest = Manifest(
            command=tuple(command),
            versions=installed_versions(),
            bundle=UsedBundle.model_validate(
                opened.provenance() | ({"error_rates": quantification.sentence()} if quantification else {})
            ),
            backend=engine.backend,
            device=engine.device,
            precision=engine.precision,
            config=config.model_dump(mode="json"),
            config_sha256=config_hash(config),
            input_sha256=_hash_inputs(fields),
            counts=_count(fields, patients, inputs.n_left_out),
            faults=tuple(fault.sentence() for fault in inputs.faults),
            failures=tuple(Failure(field_id=field_id, error=error) for field_id, error in failed.iter_rows()),
            seconds=round(time.monotonic() - started, 3),
            images_resumed=n_resumed,
        )
        write_manifest(folder, manifest)
    return Prediction(folder=out, manifest=manifest)


def _all_parts(
    engine: CellEngine | EnginePool,
    source: FieldSource,
    inputs: Inputs,
    parts: RunParts,
    progress: Callable[[int, int], None] | None,
) -> Generator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Give the parts that are there already, then predict the images that none of them holds, part by part."""
    yield from parts.read()
    center_of = {patient.patient_id: patient.center for patient in inputs.patients}
    fields: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for found in engine.run(source):
        if not source.accept(found):
            continue
        fields.append(found.row | {"center": center_of[found.row["patient_id"]]})
        cells += found.cells
        if len(fields) == IMAGES_A_PART:
            yield parts.write(fields, cells)
            fields, cells = [], []
        if progress:
            progress(source.n_done, source.n_expected)
    if fields:
        yield parts.write(fields, cells)


def _fingerprint(
    inputs: Inputs, bundle: Bundle, config: PredictConfig, engine: CellEngine | EnginePool
) -> dict[str, Any]:
    """Give whatever decides the rows of a run: two calls of one fingerprint may share their parts.

    Images are told apart by path, size and time of change: their content is read once, where they are predicted.
    """
    images = [
        (image.field_id, str(image.path), image.um_per_px, *_size_and_time(image.path)) for image in inputs.images
    ]
    centers = {patient.patient_id: patient.center for patient in inputs.patients}
    return {
        "versions": installed_versions() | {"marrowscope": Manifest.model_fields["marrowscope_version"].default},
        "bundle_sha256": bundle.spec_sha256,
        "engine": [engine.backend, engine.device, engine.precision],
        "config": config.computed(),
        "images": images,
        "centers": centers,
    }


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def _count(fields: pl.DataFrame, patients: pl.DataFrame, n_left_out: int) -> RunCounts:
    n_failed = fields.filter(pl.col("status") == STATUS_FAILED).height
    return RunCounts(
        patients=patients.height,
        images=fields.height,
        images_read=fields.height - n_failed,
        images_failed=n_failed,
        contours=int(fields["n_contours"].sum()),
        rejected={reason: int(fields[f"n_rejected_{reason}"].sum()) for reason in REJECT_REASONS},
        cells=int(patients["n_cells"].sum()),
        countable=int(patients["n_countable"].sum()),
        cblc=int(patients["n_cblc"].sum()),
        contradictions=int(patients["n_contradictions"].sum()),
        left_out=n_left_out,
    )


def _hash_inputs(fields: pl.DataFrame) -> str:
    lines = sorted(f"{field_id} {digest}" for field_id, digest in fields.select("field_id", "sha256").iter_rows())
    return sha256_bytes("\n".join(lines).encode())
