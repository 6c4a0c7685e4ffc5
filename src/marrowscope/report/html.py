"""Write the report of a run: ``index.html`` for the cohort, ``patients/<id>.html`` for every patient.

Each page is self-contained: style, script, pictures and figures are inside it, and its security policy forbids every
request and every script but its own. The templates escape all text from tables and manifest. A report is written to a
temporary folder and moved into place when it is complete.

Patients are read, rendered and written one by one, so that memory does not grow with their number; with ``workers``,
processes share them.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, partial
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
from marrowscope.report.problems import PatientProblem, attempt, tell
from marrowscope.report.run_manifest import reportable_manifest
from marrowscope.report.strings import load_strings
from marrowscope.report.verdict import scope_sentence, threshold_origin
from marrowscope.report.words import Words, load_words
from marrowscope.runs.folder import MADE_FROM_A_RUN
from marrowscope.runs.older import older_run_remarks
from marrowscope.vocabulary import load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import ProcessPoolExecutor
    from contextlib import AbstractContextManager
    from pathlib import Path

    import jinja2

    from marrowscope.report.field_pixels import PictureProblem
    from marrowscope.report.marks import FieldPage
    from marrowscope.report.problems import ProblemKind
    from marrowscope.runs.schemas import PatientRow

__all__ = ["RESEARCH_USE", "asset", "write_report"]

RESEARCH_USE = load_strings()("research_use")
_REPORT_KIND = "report"
_PICTURE_THREADS = 2
_PICTURE_PROBLEMS: dict[PictureProblem, str] = {
    "not_found": "not found",
    "changed": "changed since",
    "unreadable": "not readable",
}
_MOST_ENDED = 3
"""Processes that end one after the other before the cause is taken to be no patient."""
_FEWEST_FOR_WORKERS = 6
_FEWEST_CELLS_FOR_WORKERS = 2000
"""Fewer patients, or patients of fewer cells in all, are finished before a second process has started.

A start costs about five seconds of processor time, a page with its pictures about 7 ms a cell.
"""


def write_report(
    run_dir: Path,
    out: Path | None = None,
    *,
    lang: str = "en",
    images_root: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Callable[[PatientProblem], None] | None = None,
) -> Path:
    """Write the report of ``run_dir`` to ``out`` (default ``run_dir/report``) and return the path of index.html.

    ``lang`` is the language of every page, ``en`` or ``zh``. ``images_root`` is where the images are now, if they have
    moved; a field whose image is gone or has changed is shown without its picture. ``workers`` processes share the
    patients; with more than 1, the calling script needs the guard ``if __name__ == "__main__"``.

    A patient whose data cannot be shown has a page that says why, and the cohort's page lists it; all others are
    written whole. Such problems, and patients without some of their pictures, go to ``on_problem``; without it,
    ReportError is raised at the end where a patient is missing.

    An earlier report in ``out`` is replaced. Raises RunError when ``run_dir`` is no finished run, or ``out`` holds
    files that are not of such a report, and ConfigError for an unknown language.
    """
    job = _Job(run_dir, lang, images_root)
    job.environment.get_template("index.html.j2")  # a folder without a manifest is refused before anything is written
    rows, problems = job.tables.rows, list(job.tables.problems)
    out = out or run_dir / "report"
    with new_folder(out, _REPORT_KIND, overwrite=True, within=MADE_FROM_A_RUN) as staging:
        (staging / "patients").mkdir()
        for done, page in enumerate(_patient_pages(job, workers), start=1):
            write_text(staging / "patients" / page.file_name, page.text)
            if page.problem is not None:
                problems.append(page.problem)
            if progress:
                progress(done, len(rows))
        job.pixels.close()
        write_text(staging / "index.html", job.index(problems))
    tell(problems, on_problem)
    return out / "index.html"


def rewrite_index(
    run_dir: Path, problems: Sequence[PatientProblem], out: Path | None = None, *, lang: str = "en"
) -> None:
    """Write the cohort's page of the report in ``out`` again, with ``problems`` that other formats met since."""
    write_text((out or run_dir / "report") / "index.html", _Job(run_dir, lang, None).index(problems))


@dataclass(frozen=True, slots=True)
class _WrittenPage:
    """One patient's page as text, and what it does not show."""

    file_name: str
    text: str
    problem: PatientProblem | None = None


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
        return page_names(self.tables.patient_ids)

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return load_vocabulary().categories

    @cached_property
    def pixels(self) -> FieldPixels:
        return FieldPixels(self.images_root)

    def index(self, problems: Sequence[PatientProblem]) -> str:
        """Render the cohort's page."""
        page_rows = self.tables.rows
        page = cohort_page(page_rows)
        return self.environment.get_template("index.html.j2").render(
            page=page,
            scope=scope_sentence(page_rows, self.words),
            learned=None if page.threshold_of is None else threshold_origin(page.threshold_of, self.words),
            file_of=self.file_of,
            failed=self.tables.failed,
            remarks=older_run_remarks(self.run_dir),
            not_written=_told(problems, "not_written"),
            without_pictures=_told(problems, "without_pictures"),
        )

    def patient(self, index: int, threads: int = _PICTURE_THREADS) -> _WrittenPage:
        """Render the page of the patient in row ``index``; where that fails, a page that says why."""
        patient_id = self.tables.rows[index].patient_id
        page = attempt(patient_id, partial(self._patient, index, threads))
        return self.not_written(index, page.reason) if isinstance(page, PatientProblem) else page

    def not_written(self, index: int, reason: str) -> _WrittenPage:
        """Render the page that says why the patient in row ``index`` has no other."""
        patient_id = self.tables.rows[index].patient_id
        text = self.environment.get_template("not_written.html.j2").render(patient_id=patient_id, reason=reason)
        return _WrittenPage(self.file_of[patient_id], text, PatientProblem(patient_id, "not_written", reason))

    def _patient(self, index: int, threads: int) -> _WrittenPage:
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
        text = _render_patient(
            self.environment, self.words, page, pictures=pictures, file_of=self.file_of, neighbors=neighbors
        )
        return _WrittenPage(page.file_name, text, _without_pictures(patient_id, pictures))


def _told(problems: Sequence[PatientProblem], kind: ProblemKind) -> list[tuple[str, str]]:
    """Return patient and reason of the problems of one kind, each once."""
    return list(dict.fromkeys((item.patient_id, item.reason) for item in problems if item.kind == kind))


def _without_pictures(patient_id: str, pictures: Mapping[int, FieldPicture]) -> PatientProblem | None:
    """Say how many fields are shown without their picture, and why; None where every field has one."""
    n_of = Counter(picture.problem for picture in pictures.values() if picture.problem is not None)
    if not n_of:
        return None
    by_problem = ", ".join(f"{n} {_PICTURE_PROBLEMS[problem]}" for problem, n in n_of.items())
    reason = (
        f"found {n_of.total()} of {count_of(len(pictures), 'field')} without their picture ({by_problem}), expected "
        "the images as "
        "predicted; the page shows their contours alone. Name the folder of the images with --fields-from"
    )
    return PatientProblem(patient_id, "without_pictures", reason)


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

    def picture(field: FieldPage) -> FieldPicture:
        contours = [mark.contour_xy for mark in wanted.get(field.number, ())]
        return field_picture(field, pixels, contours, shrink_to=factors[field.number])

    if threads == 1:  # without a thread of its own: what one allocates, the system keeps for it after its end
        return {field.number: picture(field) for field in readable}
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="report") as pool:
        return {field.number: made for field, made in zip(readable, pool.map(picture, readable), strict=True)}


def _pictured_by_field(page: PatientPage) -> dict[int, list[Any]]:
    """Group the cells that need a picture by field number."""
    groups: dict[int, list[Any]] = {}
    for mark in page.pictured:
        groups.setdefault(mark.field_number, []).append(mark)
    return groups


def _patient_pages(job: _Job, workers: int) -> Iterator[_WrittenPage]:
    """Render every patient's page, in order; in processes of their own where that pays."""
    indices = range(len(job.tables.rows))
    n_cells = sum(row.n_cells for row in job.tables.rows)
    if workers <= 1 or len(indices) < _FEWEST_FOR_WORKERS or n_cells < _FEWEST_CELLS_FOR_WORKERS:
        yield from map(job.patient, indices)
        return
    n_done = 0
    try:
        with _processes(job, workers) as pool:
            waiting = deque(pool.submit(_work, index) for index in indices[: 2 * workers])
            for index in indices:  # only a few pages ahead of the one being written, so that none pile up
                page = waiting.popleft().result()
                if index + 2 * workers < len(indices):
                    waiting.append(pool.submit(_work, index + 2 * workers))
                n_done += 1
                yield page
    except BrokenProcessPool:
        yield from _one_by_one(job, indices[n_done:])


def _one_by_one(job: _Job, indices: Sequence[int]) -> Iterator[_WrittenPage]:
    """Render the pages of ``indices`` singly, after a process was ended: only the patient who ends it is left out.

    Raises RunError if several processes in a row end without a page: then no patient is the cause.
    """
    left, n_ended = deque(indices), 0
    while left:
        with _processes(job, 1) as pool:
            try:
                while left:
                    page = pool.submit(_work, left[0]).result()
                    left.popleft()
                    n_ended = 0
                    yield page
            except BrokenProcessPool as error:
                n_ended += 1
                if n_ended == _MOST_ENDED:
                    message = (
                        f"found that the report process ended by itself {n_ended} times in a row, expected pages; "
                        "free memory, or write the report with --workers 1"
                    )
                    raise RunError(message) from error
                reason = (
                    "found that the system ended the process that rendered its page, expected enough memory for the "
                    "fields of one patient; close other programs and write the report again"
                )
                yield job.not_written(left.popleft(), reason)


def _processes(job: _Job, n: int) -> AbstractContextManager[ProcessPoolExecutor]:
    return process_pool(n, _start_worker, (job.run_dir, job.lang, job.images_root))


_worker_job: _Job | None = None


def _start_worker(run_dir: Path, lang: str, images_root: Path | None) -> None:
    global _worker_job  # noqa: PLW0603  one job per process, made once
    cv2.setNumThreads(1)
    _worker_job = _Job(run_dir, lang, images_root)


def _work(index: int) -> _WrittenPage:
    if _worker_job is None:
        message = "found a report process without a run, expected its run before the first patient; report this"
        raise RunError(message)
    return _worker_job.patient(index, threads=1)
