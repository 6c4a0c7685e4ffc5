from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from marrowscope.disk import name_files
from marrowscope.errors import RunError
from marrowscope.imaging import decode_image, encode_image, read_image, sha256_file, write_image
from marrowscope.records import Patient
from marrowscope.report import html, write_report
from marrowscope.report.html import RESEARCH_USE
from marrowscope.report.strings import load_strings
from marrowscope.runs.parquet import read_table, write_table
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import ASSESSED, assess_as, state_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun

VOID = {"meta", "img", "input", "br", "link", "image", "line", "path", "rect", "circle", "use"}
MINUS = "\N{MINUS SIGN}"
HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """A page's ids, targets of links, tag balance and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.images_without_alt = 0
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, its id, target and source."""
        values = dict(attrs)
        self.text += " " if tag in {"td", "th", "p", "li", "dt", "dd", "h1", "h2", "h3"} else ""
        self.tags.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag == "a":
            self.links.append(values.get("href") or "")
        self.sources += [value for key, value in attrs if key in {"src", "href"} and tag not in {"a", "use"} and value]
        self.images_without_alt += tag == "img" and not values.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself, as SVG has them."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Refuse an end that closes another tag."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text a reader sees."""
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += data


def pages(report: Path) -> dict[str, Page]:
    return {path.name: Page(path.read_text(encoding="utf-8")) for path in report.rglob("*.html")}


def test_report_has_an_index_and_a_page_for_every_patient(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    seen: list[tuple[int, int]] = []
    index = write_report(run.folder, progress=lambda done, total: seen.append((done, total)))
    assert index == run.folder / "report" / "index.html"
    assert sorted(pages(index.parent)) == ["P1.html", "P2.html", "index.html"]
    assert seen == [(1, 2), (2, 2)]
    assert not (run.folder / "report.part").exists()


def test_every_page_is_self_contained_balanced_and_says_research_use(fake_run: Callable[..., FakeRun]) -> None:
    report = write_report(fake_run().folder).parent
    for name, page in pages(report).items():
        assert page.text.count(RESEARCH_USE) >= 2, name
        assert all(
            source.startswith(("data:image/webp;base64,", "data:image/jpeg;base64,")) for source in page.sources
        ), name
        assert page.images_without_alt == 0
        assert len(page.ids) == len(set(page.ids)), name
        raw = (report / name if name == "index.html" else report / "patients" / name).read_text(encoding="utf-8")
        assert "http://" not in raw.replace("http-equiv", "")
        assert "https://" not in raw
        assert "default-src 'none'" in raw


def test_every_link_leads_somewhere(fake_run: Callable[..., FakeRun]) -> None:
    report = write_report(fake_run().folder).parent
    for path in report.rglob("*.html"):
        page = Page(path.read_text(encoding="utf-8"))
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids
            else:
                assert (path.parent / link).is_file()


def test_patient_page_shows_the_ratio_as_x_of_n_with_interval_and_exclusions(
    fake_run: Callable[..., FakeRun],
) -> None:
    run = fake_run()
    row = read_table(run.folder / "patients.parquet", "patients").row(0, named=True)
    write_report(run.folder)
    page = Page((run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert f"{row['n_cblc']} of {row['n_countable']} countable cells are called CBLC" in text
    assert f"{100 * row['cblc_ratio']:.1f}%" in text
    assert f"{100 * row['cblc_ratio_lower']:.1f}% to {100 * row['cblc_ratio_upper']:.1f}%" in text
    assert "Not corrected: the bundle has no error rates" in text
    assert "treats the cells as independent" in text
    assert "describes the photographed fields, not the marrow" in text
    assert re.search(rf"Contours found {row['n_contours']} ", text)
    assert re.search(rf"not countable: .*? {MINUS}{row['n_not_countable']} ", text)
    for reason in row["rejected"]:
        assert re.search(rf"{MINUS}{reason['n']} ", text)
    assert "No call: no study threshold is known." in text


def test_corrected_ratio_is_the_large_figure_and_the_counted_one_stands_beside(
    fake_run: Callable[..., FakeRun],
) -> None:
    run = fake_run()
    assess_as(run, "P1")
    row = read_table(run.folder / "patients.parquet", "patients").row(0, named=True)
    write_report(run.folder)
    raw = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    text = " ".join(Page(raw).text.split())
    assert '<p class="big">31.0%</p>' in raw
    assert "95% interval 22.0% to 41.0%" in text
    assert f"{row['n_cblc']} of {row['n_countable']} countable cells are called CBLC; as counted" in text
    assert "Above study threshold 21.0%. Not a diagnosis" in text
    assert "Confidence that the ratio exceeds the threshold: 98.2%." in text
    assert "The call changes within the threshold's own interval (17.0% to 26.0%)." in text
    assert load_strings()("flag.blurred_fields") in text
    assert "measured 50.0%, limit 20.0%" in text
    assert "measured 18, limit 100" in text
    assert "method: adjusted count" in text
    assert "treats the cells as independent" not in text
    index = " ".join(pages(run.folder / "report")["index.html"].text.split())
    assert "31.0% 22.0\N{EN DASH}41.0%" in index
    assert re.search(r"▲\s+above", index)


def test_marks_of_the_blast_thresholds_stand_in_their_own_section_alone(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    assess_as(run, "P1")
    write_report(run.folder)
    raw = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    sections = re.split(r"<section ", raw)
    with_marks = [part for part in sections if 'class="limit dashed"' in part]
    assert len(with_marks) == 1
    assert with_marks[0].startswith('class="figure-section" aria-labelledby="blasts"')
    assert "AML with defining genetics: no minimum by WHO" in with_marks[0]
    assert "WHO 2022" not in raw.replace(with_marks[0], "")


def test_gallery_is_sorted_by_certainty_and_leads_to_the_cell_in_its_field(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run(n_cells=20)
    write_report(run.folder)
    text = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    cells = read_table(run.folder / "cells.parquet", "cells").filter(pl.col("patient_id") == "P1")
    index = load_vocabulary().categories.index("N")
    called = cells.filter(pl.col("category") == "N").with_columns(pl.col("p_category").list.get(index).alias("p"))
    called = called.sort("p", descending=True)
    section = text.split("myeloblast <span>")[1].split("</section>")[0]
    assert re.findall(r'href="#c-(\w+)"', section) == called["cell_id"].to_list()
    assert [float(p) for p in re.findall(r"([\d.]+)</span></span>\n", section)] == [round(p, 2) for p in called["p"]]
    for cell in called.iter_rows(named=True):
        assert f'<a id="c-{cell["cell_id"]}"' in text
        center = np.reshape(cell["contour_xy"], (-1, 2)).mean(axis=0).round().astype(int)
        place = rf"{cell['cell_id'][:8]}<br>F\d · {center[0]}, {center[1]}<"
        assert re.search(place, section), "a cell is traced by its id and its place"


def test_cells_that_came_nearest_to_a_call_have_a_gallery_of_their_own(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run(n_cells=20)
    write_report(run.folder)
    text = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    kept = read_table(run.folder / "cells.parquet", "cells").filter(
        (pl.col("patient_id") == "P1") & pl.col("reject_reason").is_null() & ~pl.col("is_cblc")
    )
    section = text.split('id="near"')[1].split("</section>")[0]
    expected = kept.sort("p_cblc", descending=True)["cell_id"].to_list()[:24]
    assert re.findall(r'href="#c-(\w+)"', section) == expected


def test_hostile_text_is_escaped_everywhere(fake_run: Callable[..., FakeRun]) -> None:
    patients = [Patient(HOSTILE, HOSTILE, HOSTILE, HOSTILE), Patient("../../etc/passwd", "B", "AML")]
    run = fake_run(patients)
    report = write_report(run.folder).parent
    paths = list(report.rglob("*"))
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in paths)
    for path in report.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "fake <bundle>" not in text
        assert "expected an image <b>" not in text
        page = Page(text)
        assert page.tags.count("script") == 1
        script = text.split("<script>")[1].split("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in text, "the page's own script is the only one that may run"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (report / "index.html").read_text(encoding="utf-8")


def test_images_that_could_not_be_read_are_named(fake_run: Callable[..., FakeRun]) -> None:
    report = write_report(fake_run().folder).parent
    read = pages(report)
    assert "1 image could not be used" in read["index.html"].text
    assert "P2/field_1" in read["index.html"].text
    assert "found an empty file" in read["P2.html"].text
    assert "could not be used" not in read["P1.html"].text


def test_no_countable_cell_prints_no_ratio(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P1", "A", "control")], n_fields=1)  # its only image could not be read
    report = write_report(run.folder).parent
    page = pages(report)["P1.html"]
    assert "No ratio" in page.text
    without_flag = re.sub(r"measured \S+, limit \S+", "", page.text)  # the worst one stands on the first screen
    assert not re.search(r"\d%", without_flag.split("Flags")[0])
    assert "no countable cell" in pages(report)["index.html"].text


def test_embedded_field_has_the_pixels_and_nothing_of_the_exif(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    path = run.images / "folder-0" / "field_0.png"
    original = read_image(path)
    jpeg = encode_image(original, ".jpg", 95)
    # An APP1 segment right after the start of the image, as a camera writes it: an empty IFD and a name.
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00" + b"Dr. Secret, room 7"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    fields = read_table(run.folder / "fields.parquet", "fields")
    digest = pl.when(pl.col("path") == str(path)).then(pl.lit(sha256_file(path))).otherwise("sha256").alias("sha256")
    write_table(run.folder / "fields.parquet", fields.with_columns(digest), "fields")
    state_tables(run.folder)
    write_report(run.folder)
    text = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    uris = [base64.b64decode(data) for data in re.findall(r'data:image/(?:webp|jpeg);base64,([^"]+)"', text)]
    assert len(uris) > 2
    assert not any(word in data for data in uris for word in (b"EXIF", b"Exif", b"Secret"))
    shown = decode_image(uris_of_fields(text)[0], "field")
    assert shown.shape == original.shape
    assert np.abs(shown.astype(int) - original.astype(int)).mean() < 4


def uris_of_fields(text: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r'<image href="data:image/webp;base64,([^"]+)"', text)]


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_contours_are_never_drawn_on_another_image(fake_run: Callable[..., FakeRun], change: str) -> None:
    run = fake_run()
    path = run.images / "folder-0" / "field_0.png"
    if change == "gone":
        path.unlink()
    else:
        write_image(path, np.zeros((360, 480, 3), np.uint8))
    write_report(run.folder)
    page = Page((run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8"))
    expected = "was not found" if change == "gone" else "has changed since it was predicted"
    assert expected in page.text
    assert page.tags.count("image") == 1  # the other field still has its picture
    assert "no picture" in page.text


def test_moved_images_are_found_under_the_folder_given(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run()
    run.images.rename(tmp_path / "elsewhere")
    write_report(run.folder, images_root=tmp_path / "elsewhere")
    page = Page((run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8"))
    assert page.tags.count("image") == 2


def test_report_is_the_same_when_written_again(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run()
    first, second = write_report(run.folder).parent, write_report(run.folder, tmp_path / "again").parent
    for path in first.rglob("*.html"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_earlier_report_is_replaced_and_nothing_else(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run()
    write_report(run.folder)
    gone = run.folder / "report" / "patients" / "gone.html"
    gone.write_text("of an earlier report")
    name_files(run.folder / "report", "report", ["patients/gone.html"])
    write_report(run.folder)
    assert not gone.exists()
    gone.write_text("somebody's")
    with pytest.raises(RunError, match=r"nothing is removed. It contains patients/gone\.html; move them away"):
        write_report(run.folder)
    assert gone.is_file()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("dear")
    with pytest.raises(RunError, match="found files that are not a marrowscope report"):
        write_report(run.folder, other)
    assert (other / "chapter.txt").read_text() == "dear"
    beside = tmp_path / "new.part"
    beside.mkdir()
    (beside / "chapter.txt").write_text("dear")
    with pytest.raises(
        RunError, match="other than an unfinished marrowscope report, expected none; nothing is removed"
    ):
        write_report(run.folder, tmp_path / "new")
    assert (beside / "chapter.txt").read_text() == "dear"


def test_a_report_that_fails_leaves_the_earlier_one(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run()
    index = write_report(run.folder)
    before = index.read_bytes()

    def fail(_rows: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("marrowscope.report.html.cohort_page", fail)
    with pytest.raises(ZeroDivisionError):
        write_report(run.folder)
    assert index.read_bytes() == before
    assert sorted(path.name for path in run.folder.glob("report*")) == ["report"]


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no manifest\.json"):
        write_report(tmp_path)


def test_huge_gallery_shows_both_ends_and_says_what_is_left_out(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marrowscope.report.gallery.CBLC_LIMITS", (2, 1))
    run = fake_run(n_cells=20)
    write_report(run.folder)
    text = (run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8")
    n_called = read_table(run.folder / "patients.parquet", "patients")["n_cblc"][0]
    assert f"{n_called - 3} cells between the most and the least certain" in Page(text).text
    section = text.split("myeloblast <span>")[1].split("</section>")[0]
    assert section.count('<li class="cell') == 3
    page = Page(text)
    called = read_table(run.folder / "cells.parquet", "cells").filter(
        (pl.col("patient_id") == "P1") & (pl.col("category") == "N") & pl.col("reject_reason").is_null()
    )
    assert len(called) > 3
    for cell_id in called["cell_id"]:
        assert f'<a id="g-{cell_id}" href="#c-{cell_id}"' in section, "each cell is reached from its category"
        assert f"c-{cell_id}" in page.ids
    assert len(page.ids) == len(set(page.ids))


def test_processes_write_the_same_pages(
    fake_run: Callable[..., FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "_FEWEST_CELLS_FOR_WORKERS", 0)
    run = fake_run([Patient(f"P{k}", "A", "control") for k in range(6)], n_fields=1, n_cells=4)
    alone = write_report(run.folder).parent
    shared = write_report(run.folder, tmp_path / "shared", workers=2).parent
    for path in alone.rglob("*.html"):
        assert path.read_bytes() == (shared / path.relative_to(alone)).read_bytes()


def test_a_page_in_a_process_of_its_own_makes_no_threads_and_is_the_same(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that a thread's allocations took stays with the process after the thread's end."""
    job = html._Job(fake_run().folder, "en", None)
    with_threads = job.patient(0, threads=2)
    monkeypatch.setattr(html, "ThreadPoolExecutor", lambda **_: pytest.fail("a thread was made"))
    assert job.patient(0, threads=1) == with_threads


def test_run_without_patients_has_an_index(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    for kind in ("fields", "cells", "patients"):
        path = run.folder / f"{kind}.parquet"
        write_table(path, read_table(path, kind).clear(), kind)
    state_tables(run.folder)
    assert "No patient in this run" in write_report(run.folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("limit", [None, 0.21])
def test_threshold_that_was_given_is_drawn_without_an_interval(
    fake_run: Callable[..., FakeRun], limit: float | None
) -> None:
    run = fake_run()
    for patient_id in ("P1", "P2"):
        assess_as(run, patient_id, **(ASSESSED | {"threshold_lower": limit, "threshold_upper": limit}))
    report = write_report(run.folder).parent
    for path in report.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert 'class="band"' not in text, path.name
        assert "Shaded" not in text
        assert "own interval" not in text
        assert "threshold 21.0%" in text
    page = (report / "patients" / "P1.html").read_text(encoding="utf-8")
    assert (load_strings()("scale.threshold_given") in page) == (limit is None)
    assert 'study threshold 21.0%"' in page


def test_bounds_are_said_to_be_of_the_ratio_as_counted(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    assess_as(run, "P1")
    text = (write_report(run.folder).parent / "patients" / "P1.html").read_text(encoding="utf-8")
    assert "The ratio as counted if all cells that are not countable were CBLC:" in text


def test_no_users_text_reorders_the_page(fake_run: Callable[..., FakeRun]) -> None:
    controls = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    run = fake_run([Patient(f"P{controls}1", f"A{controls}", f"AML{controls}D"), Patient("P2", "B", "AML")])
    report = write_report(run.folder).parent
    for path in report.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not set(controls) & set(text), path.name
    assert "AML[U+202A][U+202B]" in (report / "index.html").read_text(encoding="utf-8")
