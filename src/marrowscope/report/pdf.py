"""A patient's report as a PDF of two A4 pages: ``write_pdfs(run)`` writes one for every patient of a run.

What a page says is made in ``pdf_document.py``, how it looks in ``templates/patient.typ``, and ``typeset.py`` runs
typst; here cells are cut from their fields. Files are written beside their place and moved there when all of them are
complete.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marrowscope.cells.crop import CropSpec, cut_crop
from marrowscope.disk import new_files, write_bytes
from marrowscope.imaging import encode_image
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.report.pages import page_names
from marrowscope.report.patient_tables import PatientTables
from marrowscope.report.pdf_document import patient_document
from marrowscope.report.pdf_gallery import choose_cells
from marrowscope.report.problems import PatientProblem, attempt, leave_out, tell
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.typeset import FullPageError, find_pdf_fonts, typesetting
from marrowscope.report.words import load_words
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from marrowscope.report.shown_rows import ShownCell, ShownField
    from marrowscope.report.typeset import PdfFonts
    from marrowscope.runs.schemas import PatientRow

TILE_SPEC = CropSpec(side_um=28.8, size_px=192)
"""Size of a gallery picture; 192 px over 13.6 mm is 358 dpi."""

SIZES_PT = (9.0, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0)
"""Text sizes, tried in this order until everything fits on the page."""

_UNSCALED_SIDE_PX = 192
_QUALITY = 90


def write_pdfs(
    run_dir: Path,
    out: Path | None = None,
    *,
    lang: str = "en",
    font_path: Path | None = None,
    images_root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Callable[[PatientProblem], None] | None = None,
) -> list[Path]:
    """Write ``<patient>.pdf`` for every patient to ``out`` (default ``run_dir/pdf``) and return the paths.

    ``images_root`` is where the images are now, when they have moved; a cell whose image is gone or has changed is
    shown without its picture. A character that no font has is printed as its code point. A patient whose data cannot
    be shown has no file, all others are written; such problems, and cells without a picture, go to ``on_problem``;
    without it, ReportError is raised at the end where a patient is missing. Raises DependencyError where typst or a
    font is missing, RunError where ``run_dir`` is no finished run or ``out`` holds a file of that name that is not
    ours; nothing is written then.
    """
    words, fonts = load_words(lang), find_pdf_fonts(lang, font_path)
    manifest = reportable_manifest(run_dir)
    tables = PatientTables(run_dir)
    name_of = page_names(tables.patient_ids, ".pdf")
    pixels = FieldPixels(images_root)
    problems = list(tables.problems)

    def pdf_of(row: PatientRow) -> bytes:
        chosen = choose_cells(tables.cells(row.patient_id), [item.category for item in row.differential])
        document = patient_document(row, chosen, manifest, words, fonts.families)
        tiles = cut_tiles(chosen.every, tables.fields(row.patient_id), pixels)
        if n := len(chosen.every) - len(tiles):
            problems.append(PatientProblem(row.patient_id, "without_pictures", _without_tiles(n, len(chosen.every))))
        return _render_pdf(document, tiles, fonts, manifest.created_utc)

    out = out or run_dir / "pdf"
    names = list(name_of.values())
    with new_files(out, "pdf", names) as staging:
        for problem in tables.problems:
            leave_out(names, name_of[problem.patient_id], out)
        for index, row in enumerate(tables.rows):
            content = attempt(row.patient_id, partial(pdf_of, row))
            name = name_of[row.patient_id]
            if isinstance(content, PatientProblem):
                problems.append(content)
                leave_out(names, name, out)
            else:
                write_bytes(staging / name, content)
            if progress:
                progress(index + 1, len(tables.rows))
        pixels.close()
    tell(problems, on_problem)
    return [out / name for name in names]


def _without_tiles(n: int, total: int) -> str:
    return (
        f"found no picture of {n} of the {count_of(total, 'cell')} in its PDF, expected the images as predicted; name "
        "the "
        "folder of the images with --fields-from"
    )


def _render_pdf(document: Mapping[str, Any], tiles: Mapping[str, bytes], fonts: PdfFonts, created_utc: str) -> bytes:
    """Typeset one patient's document with its pictures (JPEG, by cell id); equal input gives equal bytes.

    A page that is too full is typeset again with smaller text; at the smallest size the whole page is scaled.
    """
    template = files("marrowscope.report") / "templates" / "patient.typ"
    with typesetting(template, fonts, datetime.fromisoformat(created_utc)) as setting:
        names = {cell_id: f"{index}.jpg" for index, cell_id in enumerate(sorted(tiles))}
        for cell_id, name in names.items():
            setting.add_picture(name, tiles[cell_id])
        placed = _with_paths(document, names)
        steps = {1: 0, 2: 0}
        while True:
            sizes = [(SIZES_PT[step], step == len(SIZES_PT) - 1) for step in steps.values()]
            try:
                return setting.pdf(placed | {"sizes": sizes})
            except FullPageError as full:
                steps[full.page] += 1


def cut_tiles(cells: Sequence[ShownCell], fields: Sequence[ShownField], pixels: FieldPixels) -> dict[str, bytes]:
    """Cut the pictures of ``cells`` from their fields, one field in memory at a time; return JPEG bytes by cell id.

    A field whose image is gone, unreadable or changed since it was predicted gives no pictures.
    """
    tiles: dict[str, bytes] = {}
    for field in fields:
        wanted = [cell for cell in cells if cell.field_id == field.field_id]
        image = pixels.read(Path(field.path), field.sha256 or "", field.region) if wanted else "not_found"
        if isinstance(image, str):
            continue
        scale = field.um_per_px
        spec = TILE_SPEC if scale else CropSpec(side_um=_UNSCALED_SIDE_PX, size_px=TILE_SPEC.size_px)
        for cell in wanted:
            crop = cut_crop(image, cell.contour_xy, scale or 1.0, spec)
            tiles[cell.cell_id] = encode_image(crop.image, ".jpg", _QUALITY)
    return tiles


def _with_paths(document: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Replace each cell id by the file name of its picture, or by null if there is no picture."""

    def placed(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**cell, "path": names.get(cell["path"])} for cell in cells]

    galleries = [{**gallery, "cells": placed(gallery["cells"])} for gallery in document["galleries"]]
    groups = [{**group, "cells": placed(group["cells"])} for group in document["categories"]["groups"]]
    return {**document, "galleries": galleries, "categories": {**document["categories"], "groups": groups}}
