"""The runs of all shards of an input to the run that one machine would have written, equal to the byte.

Steps: read what the shards state and refuse what does not belong together, before anything is written; leave out the
copies that stand in several shards; give the rows to the assessor in the parts in which one call would have written
them; join the parts; publish. No network is opened and no photograph. Rows of 64 images, of one incomplete patient and
the patients table are in memory, however many cells the shards have.

Raises RunError that names the shard at fault.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from marrowscope.bundle import load_bundle
from marrowscope.cohort.copies import can_be_copy, copy_faults, near_copy_fault
from marrowscope.cohort.duplicates import SeenPhotographs
from marrowscope.errors import RunError
from marrowscope.predict import Prediction, count_run, hash_inputs, new_assessor
from marrowscope.records import InputImage
from marrowscope.runs.folder import new_run_folder, refuse_run_folder, staging_folder
from marrowscope.runs.manifest import Failure, Manifest, write_manifest
from marrowscope.runs.parquet import read_table, scan_table, write_table
from marrowscope.runs.parts import IMAGES_A_PART, RunParts
from marrowscope.runs.rows import STATUS_FAILED
from marrowscope.runs.shard_record import ShardRecord, read_shard_record
from marrowscope.runs.table_hashes import hash_tables, read_checked_manifest
from marrowscope.streaming.config import PredictConfig
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from marrowscope.bundle import Bundle
    from marrowscope.records import Fault, Patient

_MUST_AGREE = ("marrowscope_version", "versions", "bundle", "backend", "device", "precision")


@dataclass(frozen=True)
class _ShardRun:
    folder: Path
    record: ShardRecord
    manifest: Manifest


@dataclass(frozen=True)
class _Copies:
    """Images that are left out as copies, by field, and the files of equal content among them, by path.

    ``n_files`` counts all files that are left out: a slide once, whatever the number of its regions.
    """

    left_out: frozenset[str]
    files: frozenset[str]
    n_files: int
    faults: tuple[Fault, ...]


def merge(
    shards: Sequence[Path],
    bundle: Bundle | Path,
    out: Path,
    *,
    mixed: bool = False,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    finish: Callable[[Path], object] | None = None,
    resumed: Collection[int] = (),
) -> Prediction:
    """Put the runs ``shards`` of one input together and write the run ``out``.

    ``bundle`` is the one that predicted them. ``mixed`` takes shards of processors with different features, which can
    differ in the last digits. ``progress`` gets (images done, total images), ``finish`` the complete run before it is
    moved to ``out``. The images of the shards ``resumed``, by number, count as predicted by an earlier call.

    Raises RunError for a shard that is missing, given twice, of another input, or made with another bundle, version,
    setting or kind of processor.
    """
    runs = _in_order([_read(folder) for folder in shards])
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    _refuse_unlike(runs, opened, mixed=mixed)
    refuse_run_folder(out, overwrite=overwrite)
    copies = _copies(runs)
    first = runs[0]
    config = PredictConfig(**first.manifest.config)
    assessor = new_assessor(_patients(runs), opened, config)
    staging = staging_folder(out)
    parts = RunParts(staging, {"shards": [run.manifest.tables for run in runs], "left_out": sorted(copies.left_out)})
    for rows in parts.read():
        assessor.add(*rows)
    n_images = sum(run.manifest.counts.images for run in runs)
    for index, (fields, cells) in enumerate(_rows_by_part(runs, copies.left_out)):
        if index >= parts.n_whole:
            assessor.add(*parts.write_tables(fields, cells))
        if progress:
            progress(min(n_images, (index + 1) * IMAGES_A_PART), n_images)
    table = assessor.finish()
    with new_run_folder(staging, out, finish) as folder:
        parts.join(folder)
        _join_regions(runs, copies, folder)
        write_table(folder / "patients.parquet", table, "patients")
        joined = read_table(folder / "fields.parquet", "fields")
        failed = joined.filter(pl.col("status") == STATUS_FAILED).select("field_id", "error")
        said = [*first.record.input_faults, *(fault for run in runs for fault in run.record.faults)]
        said += [fault.sentence() for fault in copies.faults]
        if len(processors := {run.record.processor for run in runs}) > 1:
            said.append(
                "The shards were predicted on processors with different features "
                f"({'; '.join(sorted(processors))}): last digits of probabilities may differ from those of one"
            )
        n_left_out = first.record.left_out_of_input + copies.n_files
        manifest = Manifest(
            command=tuple(command),
            versions=first.manifest.versions,
            bundle=first.manifest.bundle,
            backend=first.manifest.backend,
            device=first.manifest.device,
            precision=first.manifest.precision,
            config=first.manifest.config,
            config_sha256=first.manifest.config_sha256,
            input_sha256=hash_inputs(joined),
            tables=hash_tables(folder),
            counts=count_run(joined, table, n_left_out),
            faults=tuple(said),
            failures=tuple(Failure(field_id=field_id, error=error) for field_id, error in failed.iter_rows()),
            seconds=round(sum(run.manifest.seconds or 0.0 for run in runs), 3),
            images_resumed=sum(
                run.manifest.counts.images if run.record.index in resumed else run.manifest.images_resumed
                for run in runs
            ),
        )
        write_manifest(folder, manifest)
    return Prediction(folder=out, manifest=manifest)


def _read(folder: Path) -> _ShardRun:
    return _ShardRun(folder, read_shard_record(folder), read_checked_manifest(folder, of_shard=True))


def _in_order(runs: Sequence[_ShardRun]) -> list[_ShardRun]:
    """Return the shards by number; RunError for one that is missing, given twice or of another division."""
    if not runs:
        message = "found no shards, expected the run folders of all shards of an input; give them"
        raise RunError(message)
    first = runs[0]
    by_number: dict[int, _ShardRun] = {}
    for run in runs:
        record = run.record
        if (record.of, record.inputs_sha256) != (first.record.of, first.record.inputs_sha256):
            what = "of another input" if record.of == first.record.of else f"one of {record.of}"
            message = (
                f"{run.folder}: found a shard {what}, expected one of {first.record.of} of the input of "
                f"{first.folder}; "
                "predict all shards of the same folders with the same n"
            )
            raise RunError(message)
        if record.index in by_number:
            message = (
                f"{run.folder}: found shard {record.index}/{record.of} again, expected it once, as in "
                f"{by_number[record.index].folder}; give each shard once"
            )
            raise RunError(message)
        by_number[record.index] = run
    if missing := [str(index) for index in range(1, first.record.of + 1) if index not in by_number]:
        message = (
            f"found {count_of(len(runs), 'shard')} of {first.record.of}, expected all; missing: {', '.join(missing)}; "
            f"predict them with --shard i/{first.record.of}"
        )
        raise RunError(message)
    return [by_number[index] for index in sorted(by_number)]


def _refuse_unlike(runs: Sequence[_ShardRun], bundle: Bundle, *, mixed: bool) -> None:
    """Raise RunError where a shard was not made as the first was, or with another bundle than ``bundle``."""
    first = runs[0]
    if first.manifest.bundle.sha256 != bundle.spec_sha256:
        message = (
            f"{bundle.folder}: found another bundle than that of {first.folder} ({first.manifest.bundle.label}), "
            "expected the same; give it with --bundle"
        )
        raise RunError(message)
    for run in runs[1:]:
        for name in _MUST_AGREE:
            found, expected = getattr(run.manifest, name), getattr(first.manifest, name)
            if found != expected:
                message = (
                    f"{run.folder}: found {_difference(name, found, expected)}, as in {first.folder}; "
                    "predict the shard again with equal versions, bundle and settings"
                )
                raise RunError(message)
        settings, expected_settings = (PredictConfig(**item.manifest.config).computed() for item in (run, first))
        if settings != expected_settings:
            message = (
                f"{run.folder}: found {_difference('settings', settings, expected_settings)}, as in {first.folder}; "
                "predict the shard again with equal settings"
            )
            raise RunError(message)
        if run.record.keep_copies != first.record.keep_copies:
            message = f"{run.folder}: found another --keep-copies than in {first.folder}; predict the shard again"
            raise RunError(message)
        if run.record.processor != first.record.processor and not mixed:
            ours, theirs = set(run.record.processor.split()), set(first.record.processor.split())
            message = (
                f"{run.folder}: found a processor that differs from that of {first.folder} in "
                f"{', '.join(sorted(ours ^ theirs))}, expected equal ones, because the last digits may differ; predict "
                "it again on one like the others, or accept it with --mixed"
            )
            raise RunError(message)


def _difference(name: str, found: object, expected: object) -> str:
    """Say in what two manifests differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        key = next(key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key))
        return f"{key} {found.get(key)}, expected {expected.get(key)}"
    if name == "bundle":
        return f"bundle {getattr(found, 'label', found)}, expected {getattr(expected, 'label', expected)}"
    return f"{name} {found}, expected {expected}"


def _copies(runs: Sequence[_ShardRun]) -> _Copies:
    """Find what one call would have left out as copies, by the same rules and in the same order.

    First files of equal content, then photographs that show an earlier one. Raises RunError where no image is left.
    """
    keep = runs[0].record.keep_copies
    images = [image for run in runs for image in _images(run.folder)]
    groups = [] if keep else _equal_files(runs, images)
    found = [item for group, kept in groups for item in copy_faults(group, kept)]
    files = {(image.patient_id, image.place) for image, _ in found}
    left_out = {image.field_id for image in images if (image.patient_id, image.place) in files}
    faults = [fault for _, fault in found]
    n_files = len(files)
    if not keep:
        prints = {name: text for run in runs for name, text in run.record.fingerprints.items()}
        seen, image_of = SeenPhotographs(), {image.field_id: image for image in images}
        for image in images:
            if image.field_id in left_out:
                continue
            fingerprint = prints.get(image.field_id, "")
            if (earlier := seen.find(fingerprint)) is not None:
                faults.append(near_copy_fault(image, image_of[earlier[0]], earlier[1]))
                left_out.add(image.field_id)
                n_files += 1
                continue
            seen.add(image.field_id, fingerprint)
    if len(left_out) == len(images):
        message = f"{faults[0].sentence()}; found no other image, expected one to predict"
        raise RunError(message)
    return _Copies(frozenset(left_out), frozenset(path for _, path in files), n_files, tuple(faults))


def _equal_files(
    runs: Sequence[_ShardRun], images: Sequence[InputImage]
) -> list[tuple[list[InputImage], InputImage | None]]:
    """Return the groups of files of equal content, with the one that is predicted of a single patient's.

    Files that a shard left out as copies have no row; they have the content of the one that was kept.
    """
    by_hash: defaultdict[str, dict[tuple[str, Path], InputImage]] = defaultdict(dict)
    hash_of: dict[tuple[str, str], str] = {}
    for image in images:
        if can_be_copy(image.path, image.sha256):
            by_hash[image.sha256].setdefault((image.patient_id, image.path), image)
            hash_of[image.patient_id, image.place] = image.sha256
    kept: dict[str, InputImage] = {}
    for group in (group for run in runs for group in run.record.copies):
        sha256 = next((hash_of.get((file.patient_id, file.path)) for file in group if file.is_predicted), None)
        if sha256 is None:
            continue
        for file in group:
            image = InputImage(file.field_id, file.patient_id, Path(file.path), None, sha256=sha256, address=file.path)
            image = by_hash[sha256].setdefault((image.patient_id, image.path), image)
            if file.is_predicted:
                kept[sha256] = image
    place = {patient.patient_id: index for index, patient in enumerate(_patients(runs))}
    return [
        (sorted(files.values(), key=lambda image: (place[image.patient_id], image.path)), kept.get(sha256))
        for sha256, files in by_hash.items()
        if len(files) > 1
    ]


def _patients(runs: Sequence[_ShardRun]) -> list[Patient]:
    return [patient.patient() for run in runs for patient in run.record.patients]


def _images(folder: Path) -> list[InputImage]:
    """Return the images of a run, in order, a region of a slide as one."""
    columns = scan_table(folder / "fields.parquet", "fields").select("field_id", "patient_id", "path", "sha256")
    return [
        InputImage(field_id, patient_id, Path(path), None, sha256=sha256 or "", address=path)
        for field_id, patient_id, path, sha256 in columns.collect().iter_rows()
    ]


def _rows_by_part(runs: Sequence[_ShardRun], left_out: frozenset[str]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield fields and cells of the images that stay, ``IMAGES_A_PART`` at a time, across the borders of shards."""
    fields: list[pl.DataFrame] = []
    cells: list[pl.DataFrame] = []
    n_fields = 0
    for own_fields, own_cells in (rows for run in runs for rows in _blocks(run.folder, left_out)):
        start = 0
        while start < own_fields.height:
            taken = own_fields[start : start + IMAGES_A_PART - n_fields]
            names = taken["field_id"].implode()
            fields.append(taken)
            cells.append(own_cells.filter(pl.col("field_id").is_in(names)))
            n_fields, start = n_fields + taken.height, start + taken.height
            if n_fields == IMAGES_A_PART:
                yield pl.concat(fields, rechunk=True), pl.concat(cells, rechunk=True)
                fields, cells, n_fields = [], [], 0
    if n_fields:
        yield pl.concat(fields, rechunk=True), pl.concat(cells, rechunk=True)


def _blocks(folder: Path, left_out: frozenset[str]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the rows of one shard, ``IMAGES_A_PART`` images at a time, without those that are left out."""
    fields = read_table(folder / "fields.parquet", "fields")
    cells = scan_table(folder / "cells.parquet", "cells")
    stays = ~pl.col("field_id").is_in(list(left_out))
    offset = 0
    for start in range(0, fields.height, IMAGES_A_PART):
        block = fields[start : start + IMAGES_A_PART]
        n_cells = int(block["n_contours"].sum())
        own = cells.slice(offset, n_cells).collect()
        offset += n_cells
        yield block.filter(stays), own.filter(stays)


def _join_regions(runs: Sequence[_ShardRun], copies: _Copies, folder: Path) -> None:
    """Write regions.parquet where a shard has one, without the slides that are left out."""
    plans = [run.folder / "regions.parquet" for run in runs if (run.folder / "regions.parquet").is_file()]
    if plans:
        regions = pl.concat([read_table(path, "regions") for path in plans])
        write_table(folder / "regions.parquet", regions.filter(~pl.col("path").is_in(list(copies.files))), "regions")
