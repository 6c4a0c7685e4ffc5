"""Images to tables: decode, segment, quality rules, field measures, crop, classify, assess.

The stages run as one stream. A reader thread decodes a few images ahead, each image's contours are cut and
measured at once, and the classifier takes crops in batches that fill across images. No image outlives its crops,
so memory does not grow with their number; what stays is a row per contour. The order of the rows is the order of
the input, whatever the batch size.

Invariant: every input image has a row in `fields` (a failed one with its error), every contour a row in `cells` (a
rejected one with its reason), and the manifest's counts reconcile.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field as Setting

from marrowscope import geometry
from marrowscope.aggregate import decode_calls
from marrowscope.assess import assess_patients
from marrowscope.bundle import load_bundle
from marrowscope.cohort.images import metadata_scale
from marrowscope.cohort.inputs import collect_inputs
from marrowscope.config import StageConfig, config_hash, validate_config
from marrowscope.crop import CropSpec, cut_crop
from marrowscope.errors import ImageError, ScaleError
from marrowscope.flags import FlagRules, StainReference, field_flags, measure_field, stain_distance
from marrowscope.imaging import decode_image, sha256_bytes
from marrowscope.morphology import measure
from marrowscope.quality import QualityRules, apply_quality_rules
from marrowscope.quantify.model import open_quantification
from marrowscope.runs import (
    Manifest,
    RunCounts,
    installed_versions,
    staged_run_folder,
    write_manifest,
)
from marrowscope.segment.segmenter import Segmenter
from marrowscope.tables import CELLS, FIELDS, REJECT_REASONS, conform, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from marrowscope.bundle import Bundle
    from marrowscope.cohort.inputs import InputImage
    from marrowscope.networks import Network
    from marrowscope.records import Detection, ImageArray

_DECODED_AHEAD = 3
STATUS_OK, STATUS_FAILED = "ok", "failed"


class PredictConfig(StageConfig):
    """How a prediction is run; nothing here changes which model is used."""

    um_per_px: float | None = Setting(
        default=None, gt=0, allow_inf_nan=False, description="scale of images that state none"
    )
    backend: str = Setting(default="auto", description="auto, openvino or onnxruntime")
    device: str = Setting(default="auto", description="auto, or a device the backend names")
    precision: str = Setting(default="f32", description="f32, or a lower precision the backend offers, opt-in")
    batch_size: int = Setting(default=32, ge=1, description="crops classified at once")
    threads: int | None = Setting(default=None, ge=1, description="threads of a network; None leaves it to the runtime")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A finished run: its folder, the three tables and the manifest."""

    folder: Path
    fields: pl.DataFrame
    cells: pl.DataFrame
    patients: pl.DataFrame
    manifest: Manifest


@dataclass(slots=True)
class _Rows:
    """Rows in input order; ``kept`` holds the positions of the rows that wait for, or have, a classification."""

    fields: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


def predict(
    paths: Sequence[Path],
    bundle: Bundle | Path,
    out: Path,
    *,
    config: PredictConfig | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict every image behind ``paths`` with ``bundle`` and write the run to ``out``.

    ``paths`` are cohorts, patient folders or image files. An image that cannot be read is recorded and the rest is
    predicted; what is wrong with the folders themselves stands in the manifest's ``faults``. ``progress`` gets (images
    done, images in all). Raises InputError and RunError before any network is opened when the input, the bundle or
    ``out`` cannot be used, and ScaleError when an image has no scale.
    """
    config = config or PredictConfig()
    started = time.monotonic()
    inputs = collect_inputs(paths)
    _refuse_missing_scale(inputs.images, config)
    opened = load_bundle(bundle) if isinstance(bundle, Path) else bundle
    quantification = open_quantification(opened)
    with staged_run_folder(out, overwrite=overwrite) as staging:
        engine = CellEngine(opened, config)
        rows = engine.run(inputs.images, progress)
        center_of = {patient.patient_id: patient.center for patient in inputs.patients}
        for row in rows.fields:
            row["center"] = center_of[row["patient_id"]]
        fields = conform(pl.DataFrame(rows.fields, schema_overrides=FIELDS, infer_schema_length=None), "fields")
        cells = conform(pl.DataFrame(rows.cells, schema_overrides=CELLS, infer_schema_length=None), "cells")
        patients = assess_patients(
            inputs.patients,
            fields,
            cells,
            opened.vocabulary,
            quantification=quantification,
            flag_rules=engine.flag_rules,
        )
        manifest = Manifest(
            command=tuple(command),
            versions=installed_versions(),
            bundle=opened.provenance() | ({"error_rates": quantification.sentence()} if quantification else {}),
            backend=engine.backend,
            device=engine.device,
            precision=engine.precision,
            config=config.model_dump(mode="json"),
            config_sha256=config_hash(config),
            input_sha256=_hash_inputs(fields),
            counts=_count(fields, cells, patients, inputs.n_left_out),
            faults=tuple(fault.sentence() for fault in inputs.faults),
            failures=tuple(
                {"field_id": row["field_id"], "error": row["error"]}
                for row in rows.fields
                if row["status"] == STATUS_FAILED
            ),
            seconds=round(time.monotonic() - started, 3),
        )
        write_table(staging / "fields.parquet", fields, "fields")
        write_table(staging / "cells.parquet", cells, "cells")
        write_table(staging / "patients.parquet", patients, "patients")
        write_manifest(staging, manifest)
    return Prediction(folder=out, fields=fields, cells=cells, patients=patients, manifest=manifest)


class CellEngine:
    """The networks of one bundle, opened once, and the stream of images through them."""

    def __init__(self, bundle: Bundle, config: PredictConfig) -> None:
        self._config = config
        self._vocabulary = bundle.vocabulary
        self._crop_spec = validate_config(CropSpec, bundle.spec.crop, where="bundle.toml [crop]")
        self._rules = validate_config(QualityRules, bundle.spec.quality_rules, where="bundle.toml [quality_rules]")
        self.flag_rules = validate_config(FlagRules, bundle.spec.flags, where="bundle.toml [flags]")
        self._stain = (
            validate_config(StainReference, bundle.spec.stain_reference, where="bundle.toml [stain_reference]")
            if bundle.spec.stain_reference
            else None
        )
        options = (config.backend, config.device, config.precision)
        network = bundle.open_segmenter(*options, threads=config.threads)
        self._segmenter = Segmenter.from_bundle(bundle, network)
        self._members: list[Network] = bundle.open_classifiers(*options, threads=config.threads)
        self.backend, self.device, self.precision = network.backend, network.device, network.precision

    def run(self, images: Sequence[InputImage], progress: Callable[[int, int], None] | None = None) -> _Rows:
        """Predict ``images`` in order; gives the rows of the fields and cells tables."""
        rows = _Rows()
        pending: list[ImageArray] = []
        n_classified = 0
        for n_done, decoded in enumerate(_decode_ahead(images), start=1):
            pending += self._segment_field(rows, decoded)
            while len(pending) >= self._config.batch_size:
                batch, pending = pending[: self._config.batch_size], pending[self._config.batch_size :]
                n_classified += self._classify(rows, batch, n_classified)
            if progress:
                progress(n_done, len(images))
        if pending:
            self._classify(rows, pending, n_classified)
        return rows

    def _segment_field(self, rows: _Rows, decoded: _Decoded) -> list[ImageArray]:
        """Add the rows of one image; gives the crops of the contours that pass the quality rules."""
        item, image = decoded.item, decoded.image
        if isinstance(image, ImageError):
            rows.fields.append(_field_row(decoded, None, [], []) | {"status": STATUS_FAILED, "error": str(image)})
            return []
        scale = _scale_of(item, decoded.metadata_um_per_px, self._config)
        try:
            detections = self._segmenter.detect(image, scale)
        except ScaleError as error:  # too coarse for this network: one image's fault, not the run's
            message = f"{item.path}: {error}"
            rows.fields.append(_field_row(decoded, scale, [], []) | {"status": STATUS_FAILED, "error": message})
            return []
        height, width = image.shape[:2]
        reasons = apply_quality_rules(detections, self._rules, width, height, scale)
        row = _field_row(decoded, scale, detections, reasons)
        measures = measure_field(image, scale)
        row |= _nan_to_none(measures | {"stain_distance": stain_distance(measures, self._stain)})
        rows.fields.append(row | {"flags": field_flags(row, self.flag_rules)})
        crops = []
        for detection, reason in zip(detections, reasons, strict=True):
            row = _cell_row(decoded, detection, reason, scale)
            if reason is None:
                crop = cut_crop(image, detection.contour_xy, scale, self._crop_spec)
                row |= _nan_to_none(measure(crop, detection.contour_xy, scale, self._crop_spec.um_per_px))
                crops.append(crop.image)
                rows.kept.append(len(rows.cells))
            rows.cells.append(row)
        return crops

    def _classify(self, rows: _Rows, crops: list[ImageArray], first: int) -> int:
        """Fill the rows of the kept cells ``first``, ``first + 1``, ... from their crops; gives how many."""
        batch = np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
        outputs = [member.run({"image": batch}) for member in self._members]
        p_cblc, p_countable, p_category = (
            _member_mean(outputs, name) for name in ("p_cblc", "p_countable", "p_category")
        )
        spread = np.std([output["p_cblc"][:, 1] for output in outputs], axis=0) if len(outputs) > 1 else None
        calls = decode_calls(p_category, p_cblc[:, 1], p_countable[:, 1], self._vocabulary)
        for index in range(len(crops)):
            rows.cells[rows.kept[first + index]] |= {
                "p_cblc": float(p_cblc[index, 1]),
                "p_countable": float(p_countable[index, 1]),
                "p_category": p_category[index].astype(np.float64).tolist(),
                "category": self._vocabulary.categories[calls.category_index[index]],
                "is_cblc": bool(calls.is_cblc[index]),
                "is_countable": bool(calls.is_countable[index]),
                "contradiction": bool(calls.contradiction[index]),
                "member_spread": None if spread is None else float(spread[index]),
            }
        return len(crops)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A file as read: its hash, the scale its own metadata states, and its pixels or why there are none."""

    item: InputImage
    digest: str
    metadata_um_per_px: float | None
    image: ImageArray | ImageError


def _decode_ahead(images: Sequence[InputImage]) -> Iterator[_Decoded]:
    """Read and decode a few images ahead of the networks, in order; an unreadable one comes as its error."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        waiting = deque(pool.submit(_read, item) for item in images[:_DECODED_AHEAD])
        for index in range(len(images)):
            decoded = waiting.popleft().result()
            if index + _DECODED_AHEAD < len(images):
                waiting.append(pool.submit(_read, images[index + _DECODED_AHEAD]))
            yield decoded


def _read(item: InputImage) -> _Decoded:
    """Hash and decode one file; the hash is empty when the file cannot even be opened."""
    try:
        data = item.path.read_bytes()
    except OSError as error:
        message = f"{item.path}: cannot be read ({error.strerror}); check the file's permissions"
        return _Decoded(item, "", None, ImageError(message))
    try:
        image: ImageArray | ImageError = decode_image(data, str(item.path))
    except ImageError as error:
        image = error
    return _Decoded(item, sha256_bytes(data), metadata_scale(data), image)


def _member_mean(outputs: Sequence[dict[str, NDArray[np.float32]]], name: str) -> NDArray[np.float64]:
    return np.asarray(np.mean([output[name] for output in outputs], axis=0), dtype=np.float64)


def _field_row(
    decoded: _Decoded, scale: float | None, detections: Sequence[Detection], reasons: Sequence[str | None]
) -> dict[str, Any]:
    item, digest = decoded.item, decoded.digest
    image = None if isinstance(decoded.image, ImageError) else decoded.image
    counted = Counter(reasons)
    return {
        "field_id": item.field_id,
        "patient_id": item.patient_id,
        "path": str(item.path),
        "sha256": digest,
        "width_px": None if image is None else image.shape[1],
        "height_px": None if image is None else image.shape[0],
        "um_per_px": scale,
        "status": STATUS_OK,
        "error": None,
        "n_contours": len(reasons),
        **{f"n_rejected_{reason}": counted[reason] for reason in REJECT_REASONS},
        "n_split": sum(detection.n_parts > 1 for detection in detections),
        "n_cells": counted[None],
    }


def _cell_row(decoded: _Decoded, detection: Detection, reason: str | None, um_per_px: float) -> dict[str, Any]:
    item, digest, contour = decoded.item, decoded.digest, detection.contour_xy
    return {
        "cell_id": hashlib.sha256(digest.encode() + contour.tobytes()).hexdigest()[:20],
        "field_id": item.field_id,
        "patient_id": item.patient_id,
        "contour_xy": contour.ravel().tolist(),
        "score": detection.score,
        "area_um2": geometry.area(contour) * um_per_px**2,
        "circularity": geometry.circularity(contour),
        "reject_reason": reason,
    }


def _count(fields: pl.DataFrame, cells: pl.DataFrame, patients: pl.DataFrame, n_left_out: int) -> RunCounts:
    kept = cells.filter(pl.col("reject_reason").is_null())
    n_failed = fields.filter(pl.col("status") == STATUS_FAILED).height
    return RunCounts(
        patients=patients.height,
        images=fields.height,
        images_read=fields.height - n_failed,
        images_failed=n_failed,
        contours=int(fields["n_contours"].sum()),
        rejected={reason: int(fields[f"n_rejected_{reason}"].sum()) for reason in REJECT_REASONS},
        cells=kept.height,
        countable=int(patients["n_countable"].sum()),
        cblc=int(patients["n_cblc"].sum()),
        contradictions=int(kept["contradiction"].sum()),
        left_out=n_left_out,
    )


def _hash_inputs(fields: pl.DataFrame) -> str:
    lines = sorted(f"{field_id} {digest}" for field_id, digest in fields.select("field_id", "sha256").iter_rows())
    return sha256_bytes("\n".join(lines).encode())


def _refuse_missing_scale(images: Sequence[InputImage], config: PredictConfig) -> None:
    """Refuse an image without any scale before a network is opened; file metadata is read only where it decides."""
    if config.um_per_px is not None:
        return
    for item in images:
        if item.um_per_px is None:
            try:
                data = item.path.read_bytes()
            except OSError:
                continue  # recorded as failed where it is read
            _scale_of(item, metadata_scale(data), config)


def _scale_of(item: InputImage, metadata_um_per_px: float | None, config: PredictConfig) -> float:
    """Scale of an image: its own metadata, else patients.csv, else the configuration's default."""
    scale = metadata_um_per_px or item.um_per_px or config.um_per_px
    if scale is None:
        message = (
            f"{item.path}: found no scale, expected micrometres per pixel; add a um_per_px column to patients.csv or "
            "set --um-per-px"
        )
        raise ScaleError(message)
    return scale


def _nan_to_none(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}
