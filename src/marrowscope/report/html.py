"""Write the report of a run: ``index.html`` for the cohort, ``patients/<id>.html`` for every patient.

Each page is self-contained: style, script, pictures and figures are inside it, and its security policy forbids every
request and every script but its own. The templates escape all text from tables and manifest. A report is written to a
temporary folder and moved into place when it is complete.

Patients are read, rendered and written one by one, so that memory does not grow with their number; with ``workers``,
processes share them.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2

from marrowscope.disk import new_folder, write_text
from marrowscope.errors import RunError
from marrowscope.machine import process_pool
from marrowscope.report.cohort_page import cohort_page
from marrowscope.report.environment import asset, page_environment
from marrowscope.report.field_pixels import FieldPixels
from marrowscope.report.mark_words import words_by_cell
from marrowscope.report.pages import PatientPage, page_names, patient_page
from marrowscope.report.patient_tables import PatientTables
from marrowscope.report.pictures import FieldPicture, field_picture, shrink_factors
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.strings import load_strings
from marrowscope.report.words import Words, load_words
from marrowscope.runs.folder import MADE_FROM_A_RUN
from marrowscope.runs.older import older_run_remarks
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import jinja2

    from marrowscope.runs.tables import PatientRow

__all__ = ["RESEARCH_USE", "asset", "write_report"]

RESEARCH_USE = load_strings()("research_use")
_REPORT_KIND = "report"
_PICTURE_THREADS = 2
_FEWEST_FOR_WORKERS = 6
"""Fewer patients are finished before a second process has started."""


def write_report(
    run_dir: Path,
    out: Path | None = None,
    *,
    lang: str = "en",
    images_root: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of ``run_dir`` to ``out`` (default ``run_dir/report``) and return the path of index.html.

    ``lang`` is the language of every page, ``en`` or ``zh``. ``images_root`` is where the images are now, if they have
    moved; a field whose image is gone or has changed is shown without its picture. ``workers`` processes share the
    patients; with more than 1, the calling script needs the guard ``if __name__ == "__main__"``.

    An earlier report in ``out`` is replaced. Raises RunError if ``run_dir`` is not a finished run or if ``out`` has
    files that do not belong to a report, and ConfigError for an unknown language.
    """
    job = _Job(run_dir, lang, images_root)
    job.environment.get_template("index.html.j2")  # a folder without a manifest is refused before anything is written
    rows = job.tables.rows
    out = out or run_dir / "report"
    with new_folder(out, _REPORT_KIND, overwrite=True, within=MADE_FROM_A_RUN) as staging:
        (staging / "patients").mkdir()
        for done, (name, text) in enumerate(_patient_pages(job, workers), start=1):
            write_text(staging / "patients" / name, text)
            if progress:
                progress(done, len(rows))
        job.pixels.close()
        write_text(staging / "index.html", job.index())
    return out / "index.html"


@dataclass(frozen=True)
class _Job:
    """What is needed to render any page of one run; each process makes its own from the three values."""

    run_dir: Path
    lang: str
    images_root: Path | None

    @cached_property
    def words(self) -> Words:
        return load_words(self.lang)

    @cached_property
    def environment(self) -> jinja2.Environment:
        return page_environment(reportable_manifest(self.run_dir), self.words)

    @cached_property
    def tables(self) -> PatientTables:
        return PatientTables(self.run_dir)

    @cached_property
    def file_of(self) -> dict[str, str]:
        return page_names([row.patient_id for row in self.tables.rows])

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return load_vocabulary().categories

    @cached_property
    def pixels(self) -> FieldPixels:
        return FieldPixels(self.images_root)

    def index(self) -> str:
        """Render the cohort page."""
        return self.environment.get_template("index.html.j2").render(
            page=cohort_page(self.tables.rows),
            file_of=self.file_of,
            failed=self.tables.failed,
            remarks=older_run_remarks(self.run_dir),
        )

    def patient(self, index: int, threads: int = _PICTURE_THREADS) -> tuple[str, str]:
        """Render the page of the patient in row ``index``; return its file name and its text."""
        rows, patient_id = self.tables.rows, self.tables.rows[index].patient_id
        page = patient_page(
            rows[index],
            self.file_of[patient_id],
            self.tables.fields(patient_id),
            self.tables.cells(patient_id),
            words=self.words,
            categories=self.categories,
        )
        neighbors = {
            "previous": rows[index - 1] if index else None,
            "following": rows[index + 1] if index + 1 < len(rows) else None,
        }
        pictures = _pictures(page, self.pixels, threads)
        return page.file_name, _render_patient(
            self.environment, self.words, page, pictures=pictures, file_of=self.file_of, neighbors=neighbors
        )


def _render_patient(
    environment: jinja2.Environment,
    words: Words,
    page: PatientPage,
    *,
    pictures: Mapping[int, FieldPicture],
    file_of: Mapping[str, str],
    neighbors: Mapping[str, PatientRow | None],
) -> str:
    """Render one patient's page; ``pictures`` are by field number, as ``_pictures`` returns them."""
    wanted = _pictured_by_field(page)
    uri_of = {
        mark.cell_id: uri
        for number, picture in pictures.items()
        for mark, uri in zip(wanted.get(number, ()), picture.cell_uris, strict=False)
    }
    return environment.get_template("patient.html.j2").render(
        page=page,
        row=page.row,
        pictures=pictures,
        uri_of=uri_of,
        said_of=words_by_cell((mark for field in page.fields for mark in (*field.kept, *field.rejected)), words),
        file_of=file_of,
        **neighbors,
    )


def _pictures(page: PatientPage, pixels: FieldPixels, threads: int) -> dict[int, FieldPicture]:
    """Read a patient's fields, a few at a time, and cut the gallery cells; only one patient is in memory at a time."""
    wanted = _pictured_by_field(page)
    readable = [field for field in page.fields if field.failed is None]
    factors = shrink_factors(readable)
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="report") as pool:
        pictures = pool.map(
            lambda field: field_picture(
                field,
                pixels,
                [mark.contour_xy for mark in wanted.get(field.number, ())],
                shrink_to=factors[field.number],
            ),
            readable,
        )
        return {field.number: picture for field, picture in zip(readable, pictures, strict=True)}


def _pictured_by_field(page: PatientPage) -> dict[int, list[Any]]:
    """Group the cells that need a picture by field number."""
    groups: dict[int, list[Any]] = {}
    for mark in page.pictured:
        groups.setdefault(mark.field_number, []).append(mark)
    return groups


def _patient_pages(job: _Job, workers: int) -> Iterator[tuple[str, str]]:
    """Render every patient's page, in order; in separate processes if that is faster."""
    indices = range(len(job.tables.rows))
    if workers <= 1 or len(indices) < _FEWEST_FOR_WORKERS:
        yield from map(job.patient, indices)
        return
    with process_pool(workers, _start_worker, (job.run_dir, job.lang, job.images_root)) as pool:
        waiting = deque(pool.submit(_work, index) for index in indices[: 2 * workers])
        for index in indices:  # only a few pages ahead of the one being written, so that finished pages do not pile up
            yield waiting.popleft().result()
            if index + 2 * workers < len(indices):
                waiting.append(pool.submit(_work, index + 2 * workers))


_worker_job: _Job | None = None


def _start_worker(run_dir: Path, lang: str, images_root: Path | None) -> None:
    global _worker_job  # noqa: PLW0603  one job per process, made once
    cv2.setNumThreads(1)
    _worker_job = _Job(run_dir, lang, images_root)


def _work(index: int) -> tuple[str, str]:
    if _worker_job is None:
        message = "found a report process without a run, expected its run before the first patient; report this"
        raise RunError(message)
    return _worker_job.patient(index, threads=1)
