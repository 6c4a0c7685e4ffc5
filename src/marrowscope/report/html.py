"""Write the report of a run: ``index.html`` for the cohort, ``patients/<id>.html`` for every patient.

Each page stands alone: style, script, pictures and figures are inside it, and its security policy forbids every
request. All text from tables and manifest is escaped by the templates. A report is written beside its place and
moved there when it is complete.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import polars as pl
from markupsafe import Markup

from marrowscope.aggregate import INTERVAL_SCOPE
from marrowscope.errors import RunError
from marrowscope.report.pages import UNCERTAIN_BELOW, PatientPage, file_names, patient_page, reason_words
from marrowscope.report.palette import LINEAGE_COLORS, category_names
from marrowscope.report.pictures import CELL_SPEC, FieldPicture, field_picture
from marrowscope.runs import Manifest, read_manifest
from marrowscope.tables import read_table
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESEARCH_USE = "For research use only. marrowscope supports a qualified person; it does not diagnose."
GENERATOR = '<meta name="generator" content="marrowscope'
_PICTURE_THREADS = 2


def write_report(
    run_dir: Path,
    out: Path | None = None,
    *,
    images_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of ``run_dir`` to ``out`` (default ``run_dir/report``); gives the path of index.html.

    ``images_root`` is where the images are now, when they have moved. A field whose image is gone or has changed is
    shown without its picture. Raises RunError when ``run_dir`` is no finished run, or ``out`` holds something that
    is no report.
    """
    manifest = read_manifest(run_dir)
    fields = read_table(run_dir / "fields.parquet", "fields")
    cells = read_table(run_dir / "cells.parquet", "cells")
    patients = read_table(run_dir / "patients.parquet", "patients")
    out = out or run_dir / "report"
    staging = _staging_folder(out)
    environment = _environment(manifest)
    file_of = file_names(patients["patient_id"].to_list())
    names = category_names(load_vocabulary())
    rows = list(patients.iter_rows(named=True))
    (staging / "patients").mkdir()
    for index, row in enumerate(rows):
        of_patient = pl.col("patient_id") == row["patient_id"]
        page = patient_page(row, file_of[row["patient_id"]], fields.filter(of_patient), cells.filter(of_patient), names)
        neighbours = {
            "previous": rows[index - 1] if index else None,
            "following": rows[index + 1] if index + 1 < len(rows) else None,
        }
        text = render_patient(environment, page, _pictures(page, images_root), file_of, neighbours)
        (staging / "patients" / page.file_name).write_text(text, encoding="utf-8")
        if progress:
            progress(index + 1, len(rows))
    failed = fields.filter(pl.col("status") != "ok").to_dicts()
    index_text = environment.get_template("index.html.j2").render(rows=rows, file_of=file_of, failed=failed)
    (staging / "index.html").write_text(index_text, encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    staging.replace(out)
    return out / "index.html"


def render_patient(
    environment: jinja2.Environment,
    page: PatientPage,
    pictures: Mapping[int, FieldPicture],
    file_of: Mapping[str, str],
    neighbours: Mapping[str, Any],
) -> str:
    """Render one patient's page; ``pictures`` by field number, as ``_pictures`` gives them."""
    wanted = _gallery_by_field(page)
    uri_of = {
        mark.cell_id: uri
        for number, picture in pictures.items()
        for mark, uri in zip(wanted.get(number, ()), picture.cell_uris, strict=False)
    }
    return environment.get_template("patient.html.j2").render(
        page=page, row=page.row, pictures=pictures, uri_of=uri_of, file_of=file_of, **neighbours
    )


def _pictures(page: PatientPage, images_root: Path | None) -> dict[int, FieldPicture]:
    """Read a patient's fields, a few at a time, and cut the gallery's cells; one patient is in memory at once."""
    wanted = _gallery_by_field(page)
    readable = [field for field in page.fields if field.failed is None]
    with ThreadPoolExecutor(max_workers=_PICTURE_THREADS, thread_name_prefix="report") as pool:
        pictures = pool.map(
            lambda field: field_picture(
                Path(field.path),
                field.sha256,
                field.um_per_px,
                [mark.contour_xy for mark in wanted.get(field.number, ())],
                images_root,
            ),
            readable,
        )
        return {field.number: picture for field, picture in zip(readable, pictures, strict=True)}


def _gallery_by_field(page: PatientPage) -> dict[int, list[Any]]:
    """Group the gallery's cells by field number, in gallery order."""
    groups: dict[int, list[Any]] = {}
    for mark in page.gallery:
        groups.setdefault(mark.field_number, []).append(mark)
    return groups


def _environment(manifest: Manifest) -> jinja2.Environment:
    """Templates of the package, every value escaped, with what all pages share."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("marrowscope.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda value, digits=1: "none" if value is None else f"{100 * value:.{digits}f}%"
    environment.filters["reason_words"] = reason_words
    environment.globals.update(
        manifest=manifest,
        research_use=RESEARCH_USE,
        interval_scope=INTERVAL_SCOPE,
        uncertain_below=UNCERTAIN_BELOW,
        crop_um=CELL_SPEC.side_um,
        lineage_colors=LINEAGE_COLORS,
        style=asset("report.css"),
        script=asset("sort.js"),
    )
    return environment


def asset(name: str) -> Markup:
    """Give a file of the package as trusted text."""
    text = (files("marrowscope.report") / "templates" / name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  our own file


def _staging_folder(out: Path) -> Path:
    """Give an empty folder beside ``out``; RunError when ``out`` holds anything but an earlier report."""
    if out.exists():
        index = out / "index.html"
        is_report = index.is_file() and GENERATOR in index.read_text(encoding="utf-8", errors="replace")[:2000]
        if not out.is_dir() or (any(out.iterdir()) and not is_report):
            message = f"{out}: found something that is no report, expected a new or empty folder; choose another folder"
            raise RunError(message)
    staging = out.with_name(out.name + ".part")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging
