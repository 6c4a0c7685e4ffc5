"""Export a run's predicted contours as annotation files that experts can correct in their own tool.

An image is a photograph, or a slide, whose regions are put together: one annotation, in pixels of the whole slide.

The result is a cohort folder: patients.csv, a folder per patient with the images, and annotations next to them or in
one file, depending on the format. A category may have several raw codes. If the call leaves several and none may be
assumed, the label is the category with a question mark, and `marrowscope cohort check` counts a cell without a code.

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

from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.cohort.annotations import SCORE, AnnotatedImage
from marrowscope.cohort.formats import format_named
from marrowscope.cohort.patients import PATIENTS_NAME
from marrowscope.disk import new_folder, write_text
from marrowscope.errors import InputError, RunError
from marrowscope.imaging import sha256_file
from marrowscope.imaging.names import file_names
from marrowscope.records import UNKNOWN, Annotation
from marrowscope.runs.checked_rows import read_rows
from marrowscope.runs.parquet import read_table
from marrowscope.runs.table_hashes import read_checked_manifest
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from marrowscope.vocabulary import Vocabulary

_KIND = "annotated cohort"
_FILE_STEM = "annotations"
"""Name, without suffix, of the file for all images."""

_SLIDES_IN_PARTS = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})

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
    does not exist, ``out`` has anything else, or an image is missing or was changed; RunError if ``run`` is not a
    finished run or its tables were changed.
    """
    with new_folder(out, _KIND, overwrite=None, error=InputError) as folder:
        done = _export_into(run, folder, file_format, vocabulary, copy_images=copy_images)
    return replace(done, folder=out)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image of a run: its rows of the table of fields, one of a photograph, one per region of a slide."""

    path: Path
    patient_id: str
    sha256: str
    width_px: int
    height_px: int
    fields: tuple[dict[str, Any], ...]
    is_slide: bool
    exhaustive: bool


def _export_into(run: Path, out: Path, file_format: str, vocabulary: Vocabulary, *, copy_images: bool) -> Exported:
    read_checked_manifest(run)
    cells = read_rows(run, "cells")
    kept = cells.filter(pl.col("reject_reason").is_null())
    of_field = {str(key[0]): frame for key, frame in kept.group_by("field_id", maintain_order=True)}
    done = write_annotated(
        run, out, file_format, lambda source: _annotate(source, of_field, vocabulary), copy_images=copy_images
    )
    return replace(done, n_rejected=cells.height - done.n_cells)


def write_annotated(
    run: Path,
    out: Path,
    file_format: str,
    annotate: Callable[[ImageSource], AnnotatedImage | None],
    *,
    wanted: Collection[str] | None = None,
    copy_images: bool = True,
) -> Exported:
    """Write the images of a run into the empty folder ``out``, with the shapes that ``annotate`` gives each.

    None leaves an image out. ``wanted`` are the patients to write, all by default. Raises as ``export_run``.
    """
    annotation_format = format_named(file_format)
    model = read_checked_manifest(run).bundle.label or "marrowscope"
    fields = read_rows(run, "fields").filter(pl.col("error").is_null())
    patients = read_rows(run, "patients")
    if wanted is not None:
        fields, patients = (frame.filter(pl.col("patient_id").is_in([*wanted])) for frame in (fields, patients))
    annotated = [(source, annotate(source)) for source in _sources(run, fields)]
    sources = [source for source, image in annotated if image is not None]
    folders = file_names([*patients["patient_id"], *fields["patient_id"]])
    names = _image_names(fields)
    if copy_images:
        _refuse_missing([source.path for source in sources])
        _refuse_slides_in_parts(sources)
        _refuse_changed(fields.filter(pl.col("path").is_in([str(source.path) for source in sources])))
    images: list[AnnotatedImage] = []
    labels: Counter[str] = Counter()
    for source, shown in annotated:
        if shown is None:
            continue
        target = out / folders[source.patient_id] / names[source.patient_id][source.path.name]
        target.parent.mkdir(exist_ok=True)
        if copy_images:
            shutil.copyfile(source.path, target)
        name = target.relative_to(out).as_posix()
        image = replace(shown, image_path=name, model=model)
        labels.update(shape.code for shape in image.shapes)
        if annotation_format.beside:
            annotation_format.write(target.with_suffix(annotation_format.beside[0]), [image])
        else:
            images.append(image)
    if not annotation_format.beside:
        annotation_format.write(out / f"{_FILE_STEM}{annotation_format.in_root[0]}", images)
    _write_patients(out, patients, fields, folders)
    return Exported(
        folder=out,
        n_images=len(sources),
        n_cells=labels.total(),
        n_rejected=0,
        n_to_name=sum(n for label, n in labels.items() if label.endswith("?")),
    )


def _sources(run: Path, fields: pl.DataFrame) -> list[ImageSource]:
    """Return the images of a run in the order of its fields; the size of a slide is that of its plan."""
    plan_of: dict[tuple[str, str], pl.DataFrame] = {}
    if fields["region_x_px"].count():
        plans = read_table(run / "regions.parquet", "regions").group_by("patient_id", "path")
        plan_of = {(str(key[0]), str(key[1])): frame for key, frame in plans}
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in fields.iter_rows(named=True):
        rows.setdefault((row["patient_id"], row["path"]), []).append(row)
    sources = []
    for (patient_id, path), of_image in rows.items():
        first = of_image[0]
        is_slide = first["region_x_px"] is not None
        plan = plan_of.get((patient_id, path))
        if is_slide and plan is None:
            message = f"{run}: found no plan of {path}, expected it in regions.parquet; run `marrowscope predict` again"
            raise RunError(message)
        size = first["width_px"], first["height_px"]
        whole = True
        if plan is not None:
            size = int(plan["core_x1_px"].to_numpy().max()), int(plan["core_y1_px"].to_numpy().max())
            whole = plan.height == len(of_image)
        sources.append(
            ImageSource(Path(path), patient_id, first["sha256"], *size, tuple(of_image), is_slide, exhaustive=whole)
        )
    return sources


def _annotate(source: ImageSource, of_field: Mapping[str, pl.DataFrame], vocabulary: Vocabulary) -> AnnotatedImage:
    """Return the kept contours of an image, in its own pixels, with what was measured and predicted for each."""
    shapes: list[Annotation] = []
    descriptions: list[str] = []
    frames: list[pl.DataFrame] = []
    for field in source.fields:
        frame = of_field.get(field["field_id"])
        if frame is None:
            continue
        corner = np.array([field["region_x_px"] or 0, field["region_y_px"] or 0], dtype=np.float64)
        frames.append(frame.drop("contour_xy"))
        for points, row in zip(frame["contour_xy"], frames[-1].iter_rows(named=True), strict=True):
            contour = points.to_numpy().reshape(-1, 2) + corner
            shapes.append(Annotation(_label(row, vocabulary), contour, len(shapes), row["cell_id"]))
            descriptions.append(_describe(row))
    return AnnotatedImage(
        image_path="",
        width_px=source.width_px,
        height_px=source.height_px,
        shapes=tuple(shapes),
        exhaustive=source.exhaustive,
        descriptions=tuple(descriptions),
        measures=_measures(pl.concat(frames), vocabulary) if frames else {},
    )


def _measures(cells: pl.DataFrame, vocabulary: Vocabulary) -> dict[str, NDArray[np.float64]]:
    """Return what was measured and predicted, by name: one value per cell, NaN where there is none."""
    columns = {SCORE: "score", "Probability: CBLC": "p_cblc", "Probability: countable": "p_countable"}
    columns |= {name: name for name in ("area_um2", "circularity", *MORPHOLOGY_COLUMNS)}
    measures = {name: _numbers(cells[column]) for name, column in columns.items()}
    for position, category in enumerate(vocabulary.categories):
        share = cells["p_category"].list.get(position, null_on_oob=True)
        measures[f"Probability: {category}"] = _numbers(share)
    return {name: values for name, values in measures.items() if np.isfinite(values).any()}


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    return np.asarray(column.cast(pl.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)


def _label(row: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    is_cblc, is_countable = bool(row["is_cblc"]), bool(row["is_countable"])
    return label_of_call(row["category"], is_cblc=is_cblc, is_countable=is_countable, vocabulary=vocabulary)


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


def _refuse_slides_in_parts(sources: Sequence[ImageSource]) -> None:
    """Raise InputError for a slide of several files: one of them alone is no slide."""
    for source in sources:
        if source.is_slide and source.path.suffix.lower() in _SLIDES_IN_PARTS:
            message = (
                f"{source.path}: found a slide of several files, expected one file to copy; export without images "
                "(--no-images) and put the annotation beside the slide"
            )
            raise InputError(message)


def _refuse_missing(paths: Sequence[Path]) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 - too long a path is none
    if missing:
        message = (
            f"{missing[0]}: not found ({len(missing)} of {count_of(len(paths), 'image')} missing), "
            "expected the "
            "images of the run; put them back or export without images"
        )
        raise InputError(message)
