"""One patient never blocks another: hostile texts, broken rows, missing images, in every format and both languages."""

from __future__ import annotations

import csv
import errno
import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pytest

from marrowscope.cli.main import main
from marrowscope.disk import MARKER_NAME
from marrowscope.errors import DependencyError, ReportError, RunError
from marrowscope.records import Patient
from marrowscope.report import html, write_report
from marrowscope.report.pages import page_names
from marrowscope.report.patient_tables import PatientTables, read_patients
from marrowscope.report.pdf_glyphs import characters_without_glyph, printable
from marrowscope.report.problems import PatientProblem, attempt, tell
from marrowscope.report.run_json import write_json
from marrowscope.report.strings import load_strings
from marrowscope.runs.parquet import read_table, write_table
from tests.fake_runs import state_tables
from tests.report.test_html import Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.runs.schemas import TableKind
    from tests.fake_runs import FakeRun

pytest.importorskip("typst", reason="no typst: install the extra pdf")

FORMATS = ("html", "pdf", "csv", "json", "fhir")
HOSTILE = {
    "emoji": "P\U0001f600\U0001f468\u200d\U0001f52c",
    "typst": r'#panic() #eval("1") *b* $x$ @ref <l> `c` \ [ ] { }',
    "html": "<script>alert(1)</script>\"'&amp;<b>",
    "template": "{{ 7*7 }}{% raw %}{n}",
    "long": "L" * 300,
    "long words": "ab " * 100 + "c",
    "marks": "P\u200f\u200e\u061c\u202e1",
    "newline": "P\r\n1\t2",
    "hebrew": "\u05e9\u05dc\u05d5\u05dd 12",
    "path": "../../etc/passwd",
    "formula": "=1+1",
    "noncharacter": "P\uffff\ufffe\ufeff",
    "many signs": "".join(map(chr, range(0x12000, 0x12060))),
    "marks on a letter": "a" + "\u0301" * 60,
}


def report(run: FakeRun, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Write every format of ``run``; gives the exit code and what the terminal says as errors, on one line."""
    formats = [part for name in FORMATS for part in ("--format", name)]
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run.folder), *formats, "--workers", "1", *options])
    code = stopped.value.code
    assert isinstance(code, int)
    return code, " ".join(capsys.readouterr().err.split())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def change(run: FakeRun, kind: TableKind, patient_id: str, **values: object) -> None:
    """Write ``values`` into every row of a patient, as the version that made the run might have."""
    path = run.folder / f"{kind}.parquet"
    table = read_table(path, kind)
    rows = [row | values if row["patient_id"] == patient_id else row for row in table.to_dicts()]
    write_table(path, pl.DataFrame(rows, schema=table.schema), kind)
    state_tables(run.folder)


def pages_and_files(run: FakeRun, patient_id: str) -> dict[str, bool]:
    """Say for each format whether it has ``patient_id``."""
    stem = page_names([patient_id])[patient_id].removesuffix(".html")
    page = run.folder / "report" / "patients" / f"{stem}.html"
    document = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    return {
        "html": page.is_file() and 'id="ratio"' in page.read_text(encoding="utf-8"),
        "pdf": (run.folder / "pdf" / f"{stem}.pdf").is_file(),
        "csv": patient_id in {row["patient_id"] for row in rows_of(run.folder / "patients.csv")},
        "json": patient_id in {row["patient_id"] for row in document["patients"]},
        "fhir": (run.folder / "fhir" / f"{stem}.json").is_file(),
    }


def test_hostile_texts_are_written_in_every_format(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = list(HOSTILE.values())
    run = fake_run([*(Patient(text, text, text) for text in texts), Patient("P2", "A", "AML")], n_fields=1, n_cells=3)
    code, told = report(run, capsys, "--lang", "zh")
    assert "Not in full" not in told
    assert code == 0
    for text in texts:
        assert pages_and_files(run, text) == dict.fromkeys(FORMATS, True) | {"csv": text[0] != "="}, text
    pages = [run.folder / "report" / "index.html", *(run.folder / "report" / "patients").glob("*.html")]
    assert len(pages) == len(texts) + 2
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        assert page.tags.count("script") == 1
        assert not set("\u200f\u200e\u202e\u061c") & set(page.text)
    cells = [row["patient_id"] for row in rows_of(run.folder / "patients.csv")]
    assert cells == [f"'{text}" if text[0] == "=" else text for text in [*texts, "P2"]]
    subjects = {
        json.loads(path.read_text(encoding="utf-8"))["entry"][0]["resource"]["subject"]["identifier"]["value"]
        for path in (run.folder / "fhir").glob("*.json")
        if path.name != MARKER_NAME
    }
    assert subjects == {*texts, "P2"}


def test_nul_in_an_id_is_refused_by_fhir_alone(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run([Patient("P\x001", "A\x00", "AML\x00"), Patient("P2", "A", "AML"), Patient("P3", "A", "AML")])
    code, told = report(run, capsys)
    assert code == 1
    assert r"patient 'P\x001': found [U+0000] in the patient_id, expected no control character" in told
    assert pages_and_files(run, "P\x001") == dict.fromkeys(FORMATS, True) | {"fhir": False}
    assert pages_and_files(run, "P2") == dict.fromkeys(FORMATS, True)
    index = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "P[U+0000]1" in index
    assert "found [U+0000] in the patient_id" in index  # what another format met is on the cohort's page too
    assert "\x00" not in index


FAULTS: list[tuple[TableKind, dict[str, Any], str, tuple[str, ...]]] = [
    ("patients", {"cblc_ratio": float("nan")}, "cblc_ratio: found NaN or infinity", FORMATS),
    ("patients", {"me_ratio": float("inf")}, "me_ratio: found NaN or infinity", FORMATS),
    ("patients", {"cblc_ratio": 21.0}, "cblc_ratio: found 21.0", FORMATS),
    ("patients", {"call": "perhaps"}, "call: found 'perhaps'", FORMATS),
    ("patients", {"n_cells": None}, "n_cells: found None", FORMATS),  # what an older version may lack
    ("patients", {"differential": None}, "differential: found None", FORMATS),
    ("fields", {"path": None}, "path: found None", ("html", "pdf")),
    ("cells", {"contour_xy": [float("nan"), 1.0]}, "that is not finite", ("html", "pdf")),
    ("cells", {"contour_xy": [1.0, 2.0, 3.0]}, "that is not finite", ("html", "pdf")),
    ("cells", {"p_cblc": float("nan")}, "that is not finite", ("html", "pdf")),
    ("cells", {"p_category": [0.5, 0.5]}, "found 2 probabilities of categories", ("html", "pdf")),
    ("cells", {"category": None, "reject_reason": None}, "without category or probabilities", ("html", "pdf")),
    ("cells", {"field_id": "P1/other"}, "found cells of field 'P1/other'", ("html", "pdf")),
]
"""What is written into a patient's rows, what is said of it, and which formats then lack the patient."""


def test_row_that_cannot_be_shown_is_named_and_all_others_are_whole(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"F{k}" for k in range(len(FAULTS))]
    run = fake_run([Patient(name, "A", "AML") for name in (*ids, "P2")], n_fields=1, n_cells=3)
    report(run, capsys)
    whole = {path: path.read_bytes() for path in run.folder.rglob("P2.*")}
    for patient_id, (kind, values, _, _) in zip(ids, FAULTS, strict=True):
        change(run, kind, patient_id, **values)
    code, told = report(run, capsys)
    assert code == 1
    for patient_id, (_, _, said, lacking) in zip(ids, FAULTS, strict=True):
        sentences = [part for part in told.split("Incomplete: ") if part.startswith(f"patient '{patient_id}':")]
        assert len(sentences) == 1, told  # once, however many formats lack the patient
        assert said in sentences[0]
        found = pages_and_files(run, patient_id)
        assert tuple(name for name in FORMATS if not found[name]) == lacking or "path" in said
        assert not any(found[name] for name in lacking), said
    assert pages_and_files(run, "P2") == dict.fromkeys(FORMATS, True)
    assert {path: path.read_bytes() for path in whole if path.suffix != ".html"} == {
        path: content for path, content in whole.items() if path.suffix != ".html"
    }
    text = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert load_strings("en")("cohort.not_written_more") in text
    assert all(f"<strong>{patient_id}</strong>" in text for patient_id in ids)
    targets = [link for link in Page(text).links if link.startswith("patients/")]
    assert targets
    assert all((run.folder / "report" / link).is_file() for link in targets)


@pytest.mark.parametrize(
    ("how", "lang"), [("gone", "en"), ("changed", "zh"), ("unreadable", "en"), ("memory", "zh"), ("name", "en")]
)
def test_image_that_cannot_be_had_is_named_and_its_contours_are_shown(
    fake_run: Callable[..., FakeRun],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    lang: str,
) -> None:
    run = fake_run([Patient("P1", "A", "AML"), Patient("P2", "B", "AML"), Patient("P3", "B", "AML")], n_fields=1)
    path = run.images / "folder-0" / "field_0.png"
    if how == "gone":
        path.unlink()
    elif how == "changed":
        path.write_bytes(path.read_bytes() + b"x")
    elif how == "name":
        change(run, "fields", "P1", path="/x/" + "y" * 5000)
    else:
        raised = MemoryError() if how == "memory" else OSError(errno.EIO, "Input/output error")
        from marrowscope.report import field_pixels

        def read(found: Path) -> bytes:
            if found == path:
                raise raised
            return found.read_bytes()

        monkeypatch.setattr(field_pixels, "read_file", read)
    code, told = report(run, capsys, "--lang", lang)
    assert code == 1
    word = {"gone": "not found", "changed": "changed since"}.get(how, "not readable")
    assert f"patient 'P1': found 1 of 1 field without their picture (1 {word})" in told
    assert "of the" in told
    assert "cells in its PDF" in told
    assert "'P2'" not in told
    for patient_id in ("P1", "P2", "P3"):
        assert pages_and_files(run, patient_id) == dict.fromkeys(FORMATS, True)
    assert f"1 {word}" in (run.folder / "report" / "index.html").read_text(encoding="utf-8")


def test_whole_run_is_reported_with_exit_code_0(
    fake_run: Callable[..., FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = report(fake_run(n_cells=0), capsys)
    assert code == 0
    assert "Not in full" not in told


def test_page_that_cannot_be_written_says_why_and_leads_back(
    fake_run: Callable[..., FakeRun],
) -> None:
    run = fake_run([Patient("P1", "A", "AML"), Patient("P2", "B", "AML")])
    change(run, "cells", "P1", contour_xy=[1.0])
    found: list[PatientProblem] = []
    write_report(run.folder, on_problem=found.append)
    assert [(item.patient_id, item.kind) for item in found] == [("P1", "not_written")]
    page = Page((run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8"))
    assert load_strings()("patient.not_written") in page.text
    assert found[0].reason in page.text
    assert "../index.html" in page.links
    with pytest.raises(ReportError, match=r"patient 'P1': cells table.+All other patients are written"):
        write_report(run.folder)


def test_processes_give_the_same_report_as_one(
    fake_run: Callable[..., FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "_FEWEST_CELLS_FOR_WORKERS", 0)
    run = fake_run([Patient(f"P{k}", "A", "AML") for k in range(7)], n_fields=1, n_cells=3)
    change(run, "cells", "P3", contour_xy=[1.0])
    told: list[list[PatientProblem]] = [[], []]
    for workers in (1, 2):
        write_report(run.folder, tmp_path / str(workers), workers=workers, on_problem=told[workers - 1].append)
    assert told[0] == told[1] != []
    names = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.html"))
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


class EndingPool:
    """Stands for processes of which patients with the row numbers ``fatal`` end one, and with it the pool."""

    def __init__(self, job: html._Job, fatal: set[int]) -> None:
        self.job, self.fatal, self.broken = job, fatal, False

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """End nothing."""

    def submit(self, _work: object, index: int) -> Future[Any]:
        """Render at once; what comes after the end fails too."""
        future: Future[Any] = Future()
        self.broken |= index in self.fatal
        if self.broken:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(self.job.patient(index))
        return future


def test_patient_that_ends_a_process_is_left_out_alone(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "_FEWEST_CELLS_FOR_WORKERS", 0)
    run = fake_run([Patient(f"P{k}", "A", "AML") for k in range(7)], n_fields=1, n_cells=3)
    monkeypatch.setattr(html, "_processes", lambda job, _n: EndingPool(job, {2, 3}))
    told: list[PatientProblem] = []
    folder = write_report(run.folder, workers=2, on_problem=told.append).parent / "patients"
    assert [item.patient_id for item in told] == ["P2", "P3"]
    whole = [k for k in range(7) if 'id="ratio"' in (folder / f"P{k}.html").read_text(encoding="utf-8")]
    assert whole == [0, 1, 4, 5, 6]
    monkeypatch.setattr(html, "_processes", lambda job, _n: EndingPool(job, set(range(7))))
    with pytest.raises(RunError, match="the report process ended by itself 3 times in a row"):
        write_report(run.folder, workers=2)


def test_two_rows_of_one_patient_are_a_problem_told_once(fake_run: Callable[..., FakeRun]) -> None:
    path = fake_run().folder / "patients.parquet"
    table = read_table(path, "patients")
    rows, problems = read_patients(pl.concat([table, table.head(1)]))
    assert [row.patient_id for row in rows] == ["P2"]
    assert [item.sentence() for item in problems] == [
        "patient 'P1': patients table: found 2 rows of this patient, expected one; run `marrowscope predict` again"
    ]


def test_unknown_measure_of_a_field_is_null_and_no_problem(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    change(run, "fields", "P1", um_per_px=float("nan"))
    assert {field.um_per_px for field in PatientTables(run.folder).fields("P1")} == {None}


def test_border_passes_on_what_is_nobodys_data() -> None:
    def failing(error: BaseException) -> Callable[[], str]:
        def work() -> str:
            raise error

        return work

    for passed in (OSError(errno.ENOSPC, "full"), DependencyError("no typst"), KeyboardInterrupt()):
        with pytest.raises(type(passed)):
            attempt("P1", failing(passed))
    for caught in (
        OSError(errno.EIO, "broken"),
        MemoryError(),
        RunError("a row"),
        ValueError("x\ny"),
        RecursionError(),
    ):
        problem = attempt("P1", failing(caught))
        assert isinstance(problem, PatientProblem)
        assert "\n" not in problem.sentence()
    assert attempt("P1", lambda: "whole") == "whole"


def test_without_pictures_alone_raises_nothing() -> None:
    tell([PatientProblem("P1", "without_pictures", "one")], None)
    many = [PatientProblem(f"P{k}", "not_written", "why") for k in range(12)]
    with pytest.raises(ReportError, match="'P9': why; and 2 more"):
        tell(many, None)


@pytest.mark.parametrize(
    ("complaint", "known", "found"),
    [
        ('the text `"\U0001f600"` could not be displayed with font `"X"`', set(), {"\U0001f600"}),
        (r'the PDF contains the codepoint `"\u{e000}"`', set(), {"\ue000"}),
        ('the text `"b"` could not be displayed with font `"X"`', set(), {"\u20e3"}),
        ('the text `"b"` could not be displayed with font `"X"`', {"\u20e3"}, {"\U0001f600", "\ue000"}),
        ("could not be displayed", {"\u20e3", "\U0001f600", "\ue000"}, set()),
        ("file not found", set(), set()),
    ],
)
def test_what_typst_complains_of(complaint: str, known: set[str], found: set[str]) -> None:
    document = {"a": ["b\u20e3 \U0001f600"], "b": {"c": "\ue000", "n": 1}}
    assert characters_without_glyph(complaint, document, known) == found
    assert printable(document, {"\ue000"})["b"] == {"c": "[U+E000]", "n": 1}


def test_surrogates_get_a_file_name() -> None:
    names = page_names(["P\ud800", "P\ud801"])
    assert len(set(names.values())) == 2


def test_the_document_names_the_rows_that_it_lacks(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P1", "A", "AML"), Patient("P2", "B", "AML")], n_cells=2)
    assert json.loads(write_json(run.folder).read_text(encoding="utf-8"))["left_out"] == []
    change(run, "patients", "P1", cblc_ratio=21.0)
    told: list[PatientProblem] = []
    document = json.loads(write_json(run.folder, on_problem=told.append).read_text(encoding="utf-8"))
    assert [row["patient_id"] for row in document["patients"]] == ["P2"]
    assert document["left_out"] == [{"patient_id": "P1", "reason": told[0].reason}]
    assert "cblc_ratio: found 21.0, expected at most 1" in told[0].reason
