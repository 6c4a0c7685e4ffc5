"""Export a run's predicted contours as annotation files that experts can correct in their own tool.

The result is a cohort folder: patients.csv, a folder per patient with the images, and annotations next to them or in
one file, depending on the format. A category may have several raw codes. If the call leaves several and none may be
assumed, the label is the category with a question mark, which `marrowscope cohort check` rejects until an expert has
labeled the cell.

Folders and files of patients and images are named by what the tables state, never by the paths themselves. An image is
copied only if its content is the one that was predicted.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from marrowscope.cohort.annotations import AnnotatedImage
from marrowscope.cohort.formats import format_named
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import new_folder, write_text
from marrowscope.errors import InputError, RunError
from marrowscope.imaging import sha256_file
from marrowscope.imaging.names import file_names
from marrowscope.records import UNKNOWN, Annotation
from marrowscope.runs.checked_rows import read_rows
from marrowscope.runs.table_hashes import read_checked_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marrowscope.vocabulary import Vocabulary

_KIND = "annotated cohort"
_FILE_STEM = "annotations"
"""Name, without suffix, of the file for all images."""

_ASSUMED_CODES = ("E", "L2", "V")
"""Codes that may represent their category: an eosinophil, a mature lymphocyte (never a lymphoblast), unclassifiable."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export. ``n_to_name`` cells have a question mark; ``n_rejected`` contours were left out."""

    folder: Path
    n_images: int
    n_cells: int
    n_rejected: int
    n_to_name: int


def label_of_call(category: str | None, *, is_cblc: bool, is_countable: bool, vocabulary: Vocabulary) -> str:
    """Return the only raw code that fits a call, an assumed one if that is harmless, else ``category?``."""
    if category is None:
        return "?"
    fitting = vocabulary.codes_where(category=category, cblc=is_cblc, countable=is_countable)
    if len(fitting) == 1:
        return fitting[0]
    return next((code for code in _ASSUMED_CODES if code in fitting), f"{category}?")


def export_run(run: Path, out: Path, file_format: str, vocabulary: Vocabulary, *, copy_images: bool = True) -> Exported:
    """Write the kept contours of the run at ``run`` to the new or empty folder ``out``.

    ``copy_images`` copies the images next to the annotations, as every tool expects. Raises InputError if the format
    does not exist, ``out`` is not empty, or an image is missing or was changed; RunError if ``run`` is not a finished
    run or its tables were changed.
    """
    _refuse_occupied(out)
    with new_folder(out, _KIND, overwrite=False, error=InputError) as folder:
        done = _export_into(run, folder, file_format, vocabulary, copy_images=copy_images)
    return replace(done, folder=out)


def _export_into(run: Path, out: Path, file_format: str, vocabulary: Vocabulary, *, copy_images: bool) -> Exported:
    annotation_format = format_named(file_format)
    read_checked_manifest(run)
    fields = read_rows(run, "fields").filter(pl.col("error").is_null())
    cells = read_rows(run, "cells")
    patients = read_rows(run, "patients")
    sources = {row["field_id"]: Path(row["path"]) for row in fields.iter_rows(named=True)}
    folders = file_names([*patients["patient_id"], *fields["patient_id"]])
    names = _image_names(fields)
    if copy_images:
        _refuse_missing(sources)
        _refuse_changed(fields)
    of_field: dict[str, list[dict[str, Any]]] = {}
    for row in cells.filter(pl.col("reject_reason").is_null()).iter_rows(named=True):
        of_field.setdefault(row["field_id"], []).append(row)
    images: list[AnnotatedImage] = []
    labels: Counter[str] = Counter()
    for field in fields.iter_rows(named=True):
        source = sources[field["field_id"]]
        target = out / folders[field["patient_id"]] / names[field["patient_id"]][source.name]
        target.parent.mkdir(exist_ok=True)
        if copy_images:
            shutil.copyfile(source, target)
        rows = of_field.get(field["field_id"], [])
        shapes = tuple(_to_annotation(row, number, vocabulary) for number, row in enumerate(rows))
        labels.update(shape.code for shape in shapes)
        name = target.relative_to(out).as_posix()
        descriptions = tuple(_describe(row) for row in rows)
        image = AnnotatedImage(name, field["width_px"], field["height_px"], shapes, descriptions=descriptions)
        if annotation_format.beside:
            annotation_format.write(target.with_suffix(annotation_format.beside[0]), [image])
        else:
            images.append(image)
    if not annotation_format.beside:
        annotation_format.write(out / f"{_FILE_STEM}{annotation_format.in_root[0]}", images)
    _write_patients(out, patients, fields, folders)
    return Exported(
        folder=out,
        n_images=fields.height,
        n_cells=labels.total(),
        n_rejected=cells.height - labels.total(),
        n_to_name=sum(n for label, n in labels.items() if label.endswith("?")),
    )


def _to_annotation(row: Mapping[str, Any], number: int, vocabulary: Vocabulary) -> Annotation:
    label = label_of_call(
        row["category"],
        is_cblc=bool(row["is_cblc"]),
        is_countable=bool(row["is_countable"]),
        vocabulary=vocabulary,
    )
    return Annotation(label, np.asarray(row["contour_xy"], dtype=np.float64).reshape(-1, 2), number)


def _describe(row: Mapping[str, Any]) -> str:
    """Describe the prediction, for the shape's description."""
    if row["p_cblc"] is None:
        return "predicted contour" + ("" if row["score"] is None else f", score {row['score']:.2f}")
    doubt = ", heads contradict each other" if row["contradiction"] else ""
    return f"predicted {row['category']}, p(CBLC) {row['p_cblc']:.2f}{doubt}"


def _write_patients(out: Path, patients: pl.DataFrame, fields: pl.DataFrame, folders: Mapping[str, str]) -> None:
    """Write patients.csv with the scale the run used, where a patient has one.

    A patient is named after the folder; where that is not the id of the run, a column ``run_patient_id`` has the ids.
    """
    own_column = ["run_patient_id"] if any(patient_id != name for patient_id, name in folders.items()) else []
    scale_of: dict[str, set[float]] = {}
    for patient_id, scale in fields.select("patient_id", "um_per_px").iter_rows():
        if scale is not None:
            scale_of.setdefault(patient_id, set()).add(scale)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient_id", "center", "diagnosis", "specimen", "um_per_px", *own_column])
    for row in patients.iter_rows(named=True):
        scales = scale_of.get(row["patient_id"], set())
        scale = next(iter(scales)) if len(scales) == 1 else ""
        center, diagnosis = row["center"] or UNKNOWN, row["diagnosis"] or UNKNOWN
        of_run = [row["patient_id"] for _ in own_column]
        writer.writerow([folders[row["patient_id"]], center, diagnosis, row["specimen"] or "", scale, *of_run])
    write_text(out / PATIENTS_NAME, text.getvalue())


def _refuse_occupied(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        message = f"{out}: found a file or a folder with content, expected a new or empty folder; choose another"
        raise InputError(message)


def _image_names(fields: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Return each patient's images a file name, by the name in their paths; an annotation beside them has it too.

    Raises RunError where two images of a patient have one name: one would replace the other.
    """
    paths: dict[str, dict[str, str]] = {}
    for field_id, patient_id, path in fields.select("field_id", "patient_id", "path").iter_rows():
        known = paths.setdefault(patient_id, {}).setdefault(Path(path).name, path)
        if known != path:
            message = (
                f"fields.parquet, {field_id}: found {path} beside {known}, expected each image of a patient to have "
                "its own name; rename one and run `marrowscope predict` again"
            )
            raise RunError(message)
    return {patient_id: file_names(named, own_suffix=True) for patient_id, named in paths.items()}


def _refuse_changed(fields: pl.DataFrame) -> None:
    """Raise InputError where an image is not the one that was predicted: a path in a table may name any file."""
    for field_id, path, expected in fields.select("field_id", "path", "sha256").unique("path").iter_rows():
        try:
            found = sha256_file(Path(path))
        except OSError as error:
            message = f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
            raise InputError(message) from error
        if found != expected:
            message = (
                f"{path}: found SHA-256 {found}, expected {expected} of {field_id} in fields.parquet; put the image "
                "that was predicted back or export without images"
            )
            raise InputError(message)


def _refuse_missing(sources: Mapping[str, Path]) -> None:
    missing = [path for path in sources.values() if not os.path.isfile(path)]  # noqa: PTH113 - too long a path is none
    if missing:
        message = (
            f"{missing[0]}: found no such file ({len(missing)} of {len(sources)} images are missing), expected the "
            "images of the run; put them back or export without images"
        )
        raise InputError(message)
