"""From images to a run: find and classify cells, write the rows in parts, join them to tables and a manifest.

Steps: list the images; refuse what cannot work before opening a network; find and classify the cells of each field,
writing each at once and a part of the tables every few fields; assess each patient; join the parts; publish the folder.
An interrupted call leaves these next to the folder, and the same call finds no field again.

Invariant: every input image has a row in `fields` (a failed one with its error), every contour a row in `cells` (a
rejected one with its reason), and the manifest's counts add up. Memory use does not grow with the number of cells.

Longer than 400 lines: one machine, a shard and a node of a cluster take the same steps from here, in the same order.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.cells.quality import REJECT_REASONS
from marrowscope.cohort.copies import equal_files, near_copy_fault, scale_faults, without_copies
from marrowscope.cohort.duplicates import SeenPhotographs
from marrowscope.cohort.inputs import Inputs, collect_inputs
from marrowscope.cohort.shards import Block, take_shard
from marrowscope.cohort.stated import NOTHING_STATED, Stated
from marrowscope.config import config_hash
from marrowscope.errors import ConfigError, InputError
from marrowscope.imaging import sha256_bytes
from marrowscope.machine import processor_features
from marrowscope.patient.assess import PatientAssessor
from marrowscope.patient.flags import judge_field
from marrowscope.runs.finished_fields import FinishedFields
from marrowscope.runs.folder import new_run_folder, refuse_run_folder, staging_folder
from marrowscope.runs.manifest import Failure, Manifest, RunCounts, installed_versions, write_manifest
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.runs.parts import IMAGES_A_PART, RunParts
from marrowscope.runs.rows import STATUS_FAILED, cell_rows, field_row
from marrowscope.runs.shard_record import ShardFile, ShardPatient, ShardRecord, write_shard_record
from marrowscope.runs.table_hashes import hash_tables
from marrowscope.slides import SlideConfig, is_slide
from marrowscope.streaming.config import PredictConfig
from marrowscope.streaming.pool import open_worker
from marrowscope.streaming.slide_reading import SlidePlans, read_slide, refuse_missing_scale
from marrowscope.vocabulary import find_reference_ranges
from marrowscope.vocabulary.ranges import DEFAULT_COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.bundle import Bundle, BundleSpec
    from marrowscope.cohort.shards import Shard
    from marrowscope.records import Fault, FoundField, InputImage, Patient
    from marrowscope.streaming.pool import WorkerPool
    from marrowscope.streaming.worker import Worker
    from marrowscope.vocabulary import ReferenceRanges

__all__ = ["PredictConfig", "Prediction", "predict"]

_REGIONS_A_THREAD = 3
"""Regions of a slide predicted at a time per thread; those beyond the wanted number of cells are wasted."""


@dataclass(frozen=True)
class Prediction:
    """A finished run: its folder and manifest; the three tables are read on demand."""

    folder: Path
    manifest: Manifest

    @cached_property
    def fields(self) -> pl.DataFrame:
        """The fields table: a row per image."""
        return read_table(self.folder / "fields.parquet", "fields")

    @cached_property
    def cells(self) -> pl.DataFrame:
        """The cells table: a row per contour."""
        return read_table(self.folder / "cells.parquet", "cells")

    @cached_property
    def patients(self) -> pl.DataFrame:
        """The patients table."""
        return read_table(self.folder / "patients.parquet", "patients")


def predict(
    paths: Sequence[Path] | Inputs | Block,
    bundle: Bundle | Path,
    out: Path,
    *,
    config: PredictConfig | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    worker: Worker | WorkerPool | None = None,
    finish: Callable[[Path], object] | None = None,
    keep_copies: bool = False,
    stated: Stated = NOTHING_STATED,
    shard: Shard | None = None,
) -> Prediction:
    """Predict all images in ``paths`` with ``bundle`` and write the run to ``out``.

    ``paths`` are cohorts, patient folders, image files or slides; a slide is predicted in regions, each of which is a
    field. An image that cannot be read is recorded, and the rest is predicted; problems with the folders themselves are
    in the manifest's ``faults``. ``progress`` gets (images done, total images). An interrupted call resumes when it is
    repeated with the same images, bundle, settings and versions. ``worker``, made from the same bundle and settings,
    saves opening the networks again for several runs. ``finish`` gets the complete run before it is moved to ``out``,
    for example to add its report; a call killed there resumes too.

    A photograph is counted once: copies by content and near-copies are left out, each with a fault (``cohort.copies``);
    ``keep_copies`` predicts each of them, for example to compare encodings of one picture.

    ``stated`` is what is known of patients that no patients.csv describes. A specimen that is unknown has no reference
    range, M:E ratio, adequacy or blast estimate.

    ``shard`` predicts one block of the patients, for ``cluster.merge`` to put together with the others. Copies between
    patients stay in it, since not all of them are seen; merging leaves them out. A driver that has listed the
    input gives what it listed, or the block of it, in place of ``paths``.

    Raises InputError or RunError before opening a network if the input, the bundle or ``out`` cannot be used, and
    ScaleError if an image has no scale.
    """
    config = config or PredictConfig()
    started = time.monotonic()
    block, inputs = _inputs(paths, stated, shard)
    groups = [] if keep_copies else _copies_to_leave_out(inputs, block)
    inputs = without_copies(inputs, groups)
    refuse_missing_scale(inputs.images, config.um_per_px)
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    refuse_run_folder(out, overwrite=overwrite)
    if worker is not None and worker.bundle_sha256 != opened.spec_sha256:
        message = f"found a worker of another bundle, expected one opened from {opened.folder}; open it again"
        raise ConfigError(message)
    staging = staging_folder(out)
    assessor = new_assessor(inputs.patients, opened, config)
    with ExitStack() as stack:
        if worker is None:
            n_apart = 0 if any(is_slide(image.path) for image in inputs.images) else len(inputs.images)
            worker = stack.enter_context(open_worker(opened, config, n_apart))
        drawn = {"keep_copies": keep_copies} | ({} if block is None else {"shard": str(block.shard)})
        parts = RunParts(staging, _fingerprint(inputs, opened, config, worker) | drawn)
        keeps_near = keep_copies or block is not None
        fields = _FieldWriter(parts, assessor, inputs, opened.spec, progress, keep_copies=keeps_near)
        n_resumed = fields.n_done
        try:
            _find_fields(worker, inputs, fields, config, slide_config(opened))
            fields.close()
            patients = assessor.finish()
        except BaseException:
            fields.finished.close()
            if not parts.n_whole and fields.finished.is_empty:  # nothing to resume
                shutil.rmtree(staging, ignore_errors=True)
            raise
        finally:
            worker.slides.close()
    with new_run_folder(staging, out, finish) as folder:
        parts.join(folder)
        write_table(folder / "patients.parquet", patients, "patients")
        table = read_table(folder / "fields.parquet", "fields")
        used = dict(table.filter(pl.col("um_per_px").is_not_null()).select("path", "um_per_px").iter_rows())
        of_images = (*fields.near_copies, *scale_faults(inputs.images, used, config.um_per_px))
        if block is not None:
            record = _shard_record(block, inputs, groups, of_images, fields.fingerprints)
            write_shard_record(folder, record.model_copy(update={"keep_copies": keep_copies}))
        failed = table.filter(pl.col("status") == STATUS_FAILED).select("field_id", "error")
        manifest = Manifest(
            command=tuple(command),
            versions=installed_versions(),
            bundle=opened.provenance(),
            backend=worker.backend,
            device=worker.device,
            precision=worker.precision,
            config=config.model_dump(mode="json"),
            config_sha256=config_hash(config),
            input_sha256=hash_inputs(table),
            tables=hash_tables(folder),
            counts=count_run(table, patients, inputs.n_left_out + len(fields.near_copies)),
            faults=tuple(fault.sentence() for fault in (*inputs.faults, *of_images)),
            failures=tuple(Failure(field_id=field_id, error=error) for field_id, error in failed.iter_rows()),
            seconds=round(time.monotonic() - started, 3),
            images_resumed=n_resumed + fields.finished.n_read,
        )
        write_manifest(folder, manifest)
    return Prediction(folder=out, manifest=manifest)


def _inputs(paths: Sequence[Path] | Inputs | Block, stated: Stated, shard: Shard | None) -> tuple[Block | None, Inputs]:
    """List what is to be predicted, and the block that it is of a whole input, None where it is the whole."""
    if isinstance(paths, Block):
        return paths, paths.inputs
    whole = paths if isinstance(paths, Inputs) else collect_inputs(paths, stated=stated)
    if shard is None:
        return None, whole
    block = take_shard(whole, shard)
    return block, block.inputs


def _copies_to_leave_out(inputs: Inputs, block: Block | None) -> list[list[InputImage]]:
    """Return groups of files of equal content; in a block those of one patient, since it does not hold all others."""
    groups = equal_files(inputs.images)
    return [group for group in groups if block is None or len({image.patient_id for image in group}) == 1]


def new_assessor(patients: Sequence[Patient], bundle: Bundle, config: PredictConfig) -> PatientAssessor:
    """Return the assessor of a run's patients; InputError for reference ranges that do not fit the bundle."""
    return PatientAssessor(
        patients,
        bundle.vocabulary,
        measured=bundle.measured,
        domain=bundle.spec.domain,
        learned=bundle.learned,
        flag_rules=bundle.spec.flags,
        ranges=_ranges(config, bundle),
    )


def _shard_record(
    block: Block,
    inputs: Inputs,
    groups: Sequence[Sequence[InputImage]],
    of_images: Sequence[Fault],
    fingerprints: Mapping[str, str],
) -> ShardRecord:
    """Describe a shard for the merged run."""
    predicted = {image.field_id for image in inputs.images}
    return ShardRecord(
        index=block.shard.index,
        of=block.shard.of,
        inputs_sha256=block.whole_sha256,
        processor=processor_features(),
        patients=tuple(ShardPatient.of(patient) for patient in inputs.patients),
        fingerprints=dict(fingerprints),
        input_faults=block.whole_faults,
        left_out_of_input=block.whole_left_out,
        faults=tuple(fault.sentence() for fault in of_images),
        copies=tuple(
            tuple(
                ShardFile(
                    field_id=image.field_id,
                    patient_id=image.patient_id,
                    path=image.place,
                    is_predicted=image.field_id in predicted,
                )
                for image in group
            )
            for group in groups
        ),
    )


def _ranges(config: PredictConfig, bundle: Bundle) -> ReferenceRanges:
    """Read the reference ranges; InputError for a file of another vocabulary than the bundle's."""
    found = find_reference_ranges(config.reference_ranges)
    if found.vocabulary != bundle.vocabulary.name and config.reference_ranges != DEFAULT_COLUMN:
        message = (
            f"{config.reference_ranges}: found reference ranges for vocabulary {found.vocabulary!r}, expected "
            f"{bundle.vocabulary.name!r}, that of the bundle; correct the file"
        )
        raise InputError(message)
    return found


def _find_fields(
    worker: Worker | WorkerPool,
    inputs: Inputs,
    fields: _FieldWriter,
    config: PredictConfig,
    slides: SlideConfig,
) -> None:
    """Find the fields that are in no part yet, in image order: photographs together, slides one by one."""
    plans = SlidePlans(fields.parts, worker.slides, slides, config.cells, config.um_per_px)
    series: set[tuple[str, str]] = set()
    for of_slides, images in groupby(enumerate(inputs.images), key=lambda item: is_slide(item[1].path)):
        if not of_slides:
            wanted = [image for _, image in images if fields.wants(image)]
            with closing(worker.find(fields.finished.not_found(wanted), fields.finished)) as others:
                for image in wanted:
                    fields.add(fields.finished.take(image) or next(others))
            continue
        for index, image in images:
            if not fields.wants(image):  # recorded as unreadable by an earlier call
                continue
            slide = read_slide(index, image, plans, series)
            fields.n_expected += (slide.n_fields if slide else 0) - 1
            if slide is None:
                continue
            slide.resume(fields.done, fields.parts)
            while regions := slide.next_fields(_REGIONS_A_THREAD * worker.n_threads):
                with closing(worker.find(fields.finished.not_found(regions), fields.finished)) as others:
                    for region in regions:
                        found = fields.finished.take(region) or next(others)
                        if (taken := slide.take(found)) is not None:
                            fields.add(taken)
            fields.n_expected -= slide.n_left


class _FieldWriter:
    """Takes fields in order: writes rows to the run's parts, and passes complete parts to the assessor."""

    def __init__(
        self,
        parts: RunParts,
        assessor: PatientAssessor,
        inputs: Inputs,
        spec: BundleSpec,
        progress: Callable[[int, int], None] | None,
        *,
        keep_copies: bool,
    ) -> None:
        self._keep_copies = keep_copies
        self.parts, self._assessor, self._progress = parts, assessor, progress
        self._flag_rules, self._stain = spec.flags, spec.stain_reference
        self._center_of = {patient.patient_id: patient.center for patient in inputs.patients}
        self._fields: list[dict[str, Any]] = []
        self._cells: list[dict[str, Any]] = []
        self._image_of = {image.field_id: image for image in inputs.images}
        self._prints: dict[str, str] = {}
        self.fingerprints: dict[str, str] = {}
        self._seen = SeenPhotographs()
        self.near_copies: list[Fault] = []
        self._left_out: set[str] = set()
        self.done = parts.n_cells_by_field()
        self.n_done, self.n_expected = len(self.done), len(inputs.images)
        for field_id, fingerprint in parts.read_fingerprints().items():
            if field_id in self.done:
                self._keep_print(field_id, fingerprint)
            elif field_id in self._image_of:
                self._is_near_copy(self._image_of[field_id], fingerprint)
        for fields, cells in parts.read():
            assessor.add(fields, cells)
        self.finished = FinishedFields(parts.run_folder, self.done.keys() | self._left_out)

    def wants(self, image: InputImage) -> bool:
        """Say whether an image is in no part, nor left out there."""
        return image.field_id not in self.done and image.field_id not in self._left_out

    def add(self, found: FoundField) -> None:
        """Take one field; one that shows the photograph of an earlier one is left out, with a fault."""
        field_id = found.source.field_id
        if self._is_near_copy(found.source, found.fingerprint):
            self._prints[field_id] = found.fingerprint  # by which the next call knows it again
            return
        self._keep_print(field_id, found.fingerprint)
        self._prints[field_id] = found.fingerprint
        distance, flags = judge_field(found, self._stain, self._flag_rules)
        center = self._center_of[found.source.patient_id]
        self._fields.append(field_row(found, center, distance, flags))
        self._cells += cell_rows(found)
        self.n_done += 1
        if len(self._fields) == IMAGES_A_PART:
            self.close()
        if self._progress:
            self._progress(self.n_done, self.n_expected)

    def close(self) -> None:
        """Write the remaining rows as a part."""
        if self._fields:
            self._assessor.add(*self.parts.write(self._fields, self._cells, self._prints))
            self._fields, self._cells, self._prints = [], [], {}
            self.finished.settle()
        self.finished.close()

    def _keep_print(self, field_id: str, fingerprint: str) -> None:
        self._seen.add(field_id, fingerprint)
        self.fingerprints[field_id] = fingerprint

    def _is_near_copy(self, image: InputImage, fingerprint: str) -> bool:
        """Say whether an image shows the photograph of an earlier one; if so, it is left out, with a fault."""
        earlier = None if self._keep_copies else self._seen.find(fingerprint)
        if earlier is None:
            return False
        self.near_copies.append(near_copy_fault(image, self._image_of[earlier[0]], earlier[1]))
        self._left_out.add(image.field_id)
        self.n_expected -= 1
        return True


def slide_config(bundle: Bundle) -> SlideConfig:
    """Return the settings that cut slides into regions on the grid of the bundle's segmenter."""
    segmenter = bundle.spec.segmenter
    return SlideConfig(grid_um=segmenter.stride * segmenter.um_per_px)


def _fingerprint(inputs: Inputs, bundle: Bundle, config: PredictConfig, worker: Worker | WorkerPool) -> dict[str, Any]:
    """Return everything that determines the rows of a run: calls with the same fingerprint may share their parts.

    Images are identified by path, size and modification time, because their content is read only once, for prediction.
    """
    images = [(image.field_id, image.place, image.um_per_px, *size_and_time(image.path)) for image in inputs.images]
    centers = {patient.patient_id: patient.center for patient in inputs.patients}
    return {
        "versions": installed_versions() | {"marrowscope": Manifest.model_fields["marrowscope_version"].default},
        "bundle_sha256": bundle.spec_sha256,
        "engine": [worker.backend, worker.device, worker.precision, processor_features()],
        "config": config.computed(),
        "images": images,
        "centers": centers,
    }


def size_and_time(path: Path) -> tuple[int, int]:
    """Return a file's bytes and its time of modification in ns, by which an image is told from a later one."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def count_run(fields: pl.DataFrame, patients: pl.DataFrame, n_left_out: int) -> RunCounts:
    """Count what went in and what came out; what does not add up is refused."""
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


def hash_inputs(fields: pl.DataFrame) -> str:
    """Return the SHA-256 over the sorted (field_id, image hash) pairs."""
    lines = sorted(f"{field_id} {digest}" for field_id, digest in fields.select("field_id", "sha256").iter_rows())
    return sha256_bytes("\n".join(lines).encode())
