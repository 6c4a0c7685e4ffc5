"""A patient's PDF: two pages that say everything, in either language, whatever the values are."""

from __future__ import annotations

import io
import re
import shutil
import sys
import unicodedata
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from marrowscope.cli.main import main
from marrowscope.errors import DependencyError, InputError
from marrowscope.records import Patient
from marrowscope.report import fonts as font_search
from marrowscope.report.fonts import CHINESE, catalog_characters, families_for, missing_characters, open_fonts
from marrowscope.report.patient_tables import PatientTables
from marrowscope.report.pdf import TILE_SPEC, write_pdfs
from marrowscope.report.pdf_gallery import N_CERTAIN, TILE_MM, choose_cells
from marrowscope.report.pdf_text import BIDI_CONTROLS, one_line, plain, readable
from marrowscope.report.strings import load_strings
from marrowscope.runs.manifest import read_manifest, write_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import ALL_MADE, ASSESSED, assess_as

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun

pypdf = pytest.importorskip("pypdf", reason="no pypdf: install the group dev")
typst = pytest.importorskip("typst", reason="no typst: install the extra pdf")

ADULT = Patient("P1", "A", "control", specimen="marrow", age_group="adult")
MARKUP = r"#strong[x] *b* _i_ $y$ @ref `c` // d /* e */ \ = <l> ~ -- 'q' #panic()"
MM_PER_INCH = 25.4
HIGHEST = "ratio_all_unclassified_cblc"
EVERY_CATEGORY = tuple((name, name in {"N", "N1", "M", "M1", "R", "R1"}, True) for name in load_vocabulary().categories)
FLAGS = [
    {"flag": name, "value": 0.4321, "limit": 0.15, "n_fields": 12}
    for name in (
        "blurred_fields",
        "exposure_fields",
        "stain_far_fields",
        "failed_fields",
        "few_cells",
        "many_not_countable",
        "many_rejected",
        "members_disagree",
        "correction_large",
        "lymphoid_high",
    )
]


@pytest.fixture
def chinese_font() -> str:
    """Name a family with the Chinese characters of the catalog; skips where there is none."""
    try:
        return families_for("zh", open_fonts())[0]
    except DependencyError as error:
        pytest.skip(str(error))


def pages_of(path: Path) -> list[str]:
    """Give the text of each page, its white space as single spaces."""
    return [squeezed(page.extract_text()) for page in pypdf.PdfReader(path).pages]


def squeezed(text: str) -> str:
    return " ".join(text.replace("\u200b", "").split())


def without_space(text: str) -> str:
    return re.sub(r"\s|\u200b", "", text)


def one_pdf(run: FakeRun, out: Path | None = None, lang: str = "en") -> Path:
    (path,) = write_pdfs(run.folder, out, lang=lang)
    return path


def decoded(data: bytes) -> np.ndarray:
    """Decode a picture to gray levels (height, width)."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))


def test_blast_estimate_claims_no_more_than_the_calls(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    for n, told in ((1, "1 cell is called as codes that count, 3 may be."), (2, "2 cells are called as codes")):
        assess_as(run, "P1", who_n_least=n, who_n_most=3)
        first, _ = pages_of(one_pdf(run))
        assert told in first
        assert "do not allow for the classifier's errors" in first


def test_two_pages_say_every_figure_of_a_filled_row(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT], n_fields=6)
    assess_as(run, "P1", **(ASSESSED | {"flags": FLAGS[:2]}))
    row = read_table(run.folder / "patients.parquet", "patients").row(0, named=True)
    first, second = pages_of(one_pdf(run))
    strings = load_strings()
    for told in (
        "P1",
        "Center A",
        "Diagnosis given control",
        "fake <bundle> 1",
        "2026-03-01",
        strings("ratio.corrected"),
        "31.0%",
        "95% interval 22.0% to 41.0%",
        f"{row['n_cblc']} of {row['n_countable']} countable cells are called CBLC",
        "threshold 21.0%",
        f"● corrected ○ as counted {strings('scale.threshold_band', interval='17.0% to 26.0%')}",
        strings("call.above", t="21.0%"),
        f"The ratio as counted if all cells that are not countable were CBLC: {100 * row[HIGHEST]:.1f}%; if",
        "Confidence that the ratio exceeds the threshold: 98.2%.",
        "The call changes within the threshold's own interval (17.0% to 26.0%).",
        strings("ratio.scope.marrow"),
        "measured 43.2%, limit 15.0%",
        f"/ erythroid = {row['me_numerator']} / {row['me_denominator']} = {row['me_ratio']:.1f}",
        strings("blasts.marks.marrow"),
        strings("blasts.marks.limits"),
        "Composite Blast-like Cells (CBLC) = N ",
        strings("differential.marks"),
        str(row["reference_source"]),
        "below the minimum of 300",
    ):
        assert without_space(told) in without_space(first), told
    for item in row["differential"]:
        name = strings(f"category.{item['category']}")
        assert f"{item['category']} {name} {item['n_nucleated']}" in first
        assert f"{100 * item['share_nucleated']:.1f}%" in first
        if item["reference_low"] is not None:
            assert f"{100 * item['reference_low']:.1f}–{100 * item['reference_high']:.1f}" in first  # noqa: RUF001
    for item in row["rejected"]:
        reason = strings(f"reason.{item['reason']}")
        assert f"{reason} −{item['n']}" in first  # noqa: RUF001
    manifest = read_manifest(run.folder)
    for told in (manifest.input_sha256, manifest.config_sha256, manifest.bundle.sha256, "numpy 2.3", "sampled ratios"):
        assert told in second
    for page, number in ((first, 1), (second, 2)):
        assert strings("research_use") in page
        assert f"P1 · fake <bundle> 1 · marrowscope {manifest.marrowscope_version} {number}/2" in page


@pytest.mark.parametrize("limit", [None, 0.21])
def test_threshold_that_was_given_has_no_interval(fake_run: Callable[..., FakeRun], limit: float | None) -> None:
    run = fake_run([ADULT])
    assess_as(run, "P1", **(ASSESSED | {"threshold_lower": limit, "threshold_upper": limit}))
    first, _ = pages_of(one_pdf(run))
    assert "threshold 21.0%" in first
    assert "Shaded" not in first
    assert "own interval" not in first
    assert (load_strings()("scale.threshold_given") in first) == (limit is None)


def test_row_without_correction_and_threshold_says_so(fake_run: Callable[..., FakeRun]) -> None:
    first, second = pages_of(one_pdf(fake_run([ADULT])))
    assert load_strings()("ratio.not_corrected.no_rates") in first
    assert "No call: no study threshold is known." in first
    assert "threshold 2" not in first
    assert "CBLC" in second
    assert "sampled ratios" not in second


def test_demonstration_models_are_named_at_the_top(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    manifest = read_manifest(run.folder)
    shown = manifest.model_copy(update={"bundle": manifest.bundle.model_copy(update={"demonstration": True})})
    write_manifest(run.folder, shown)
    first, _ = pages_of(one_pdf(run))
    assert load_strings()("page.demonstration") in first.split("CBLC ratio")[1]
    write_manifest(run.folder, manifest)
    assert load_strings()("page.demonstration") not in pages_of(one_pdf(run))[0]


def test_patient_without_a_flag_is_told_so(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    assess_as(run, "P1", flags=[])
    assert load_strings()("flags.none_unchecked") in pages_of(one_pdf(run))[0]
    assess_as(run, "P1", depth=ALL_MADE)
    assert load_strings()("flags.none") in pages_of(one_pdf(run))[0]


@pytest.mark.parametrize("specimen", ["blood", "marrow"])
def test_blood_and_marrow_of_unknown_age_have_no_reference_range(
    fake_run: Callable[..., FakeRun], specimen: str
) -> None:
    first, _ = pages_of(one_pdf(fake_run([Patient("P1", "A", "AML", specimen=specimen)])))
    assert load_strings()("differential.no_reference") in first
    assert "Wintrobe" not in first
    assert ("/ erythroid =" in first) == (specimen == "marrow")  # M:E at any age, its range for adults
    assert (load_strings()("differential.no_me") in first) == (specimen == "blood")


@pytest.mark.parametrize(
    "patient",
    [Patient("none", "A", "AML", "marrow"), Patient("none", "A", "AML", specimen="marrow", age_group="adult")],
)
def test_patient_without_a_cell_has_two_pages_too(fake_run: Callable[..., FakeRun], patient: Patient) -> None:
    first, second = pages_of(one_pdf(fake_run([patient], n_cells=0)))
    assert load_strings()("ratio.no_ratio_why") in first
    assert load_strings()("blasts.none") in first
    assert "none" in second


def test_no_called_cell_is_told_as_0_of_n_up_to_u(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    none = {"corrected_ratio": 0.0, "corrected_lower": 0.0, "corrected_upper": 0.083, "call": "below", "n_cblc": 0}
    assess_as(run, "P1", **(ASSESSED | none), correction_note="none_called")
    first, _ = pages_of(one_pdf(run))
    assert re.search(r"0 of \d+, up to 8\.3%", first)
    assert squeezed(load_strings()("call.below", t="21.0%")) in first


@pytest.mark.parametrize(("lang", "letter"), [("en", "W"), ("en", "W "), ("zh", "@中")])
def test_long_names_and_large_counts_stay_on_two_pages_inside_the_margins(
    fake_run: Callable[..., FakeRun], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, lang: str,
    letter: str,
) -> None:  # fmt: skip
    if lang == "zh":
        request.getfixturevalue("chinese_font")
    long = (letter * 60)[:60].strip()
    monkeypatch.setattr("tests.fake_runs.CALLS", EVERY_CATEGORY)
    run = fake_run(
        [Patient(long, f"{long}C", f"{long}D" * 2, specimen="marrow", age_group="adult")], n_fields=16, n_cells=20
    )
    row = read_table(run.folder / "patients.parquet", "patients").row(0, named=True)
    many = {
        "n": 1234,
        "n_countable": 1234,
        "n_nucleated": 1234,
        "share_nucleated": 0.9876,
        "lower": 0.9012,
        "upper": 0.9999,
    }
    counts = ("n_nucleated", "n_countable", "n_cells", "n_contours", "n_cblc", "n_contradictions")
    assess_as(
        run,
        long,
        **(ASSESSED | {"flags": FLAGS}),
        **dict.fromkeys(counts, 98765),
        differential=[item | many for item in row["differential"]],
        rejected=[{"reason": reason, "n": 4321} for reason in ("edge", "not_round", "too_large", "too_small")],
    )
    pixels: list[np.ndarray] = []

    def compile_and_look(source: Path, *, pdf_standards: list[str], **options: object) -> bytes:
        """Compile as asked, and as pictures too."""
        pixels.extend(decoded(png) for png in original(source, format="png", ppi=60, **options))
        content: bytes = original(source, pdf_standards=pdf_standards, **options)
        return content

    original = typst.compile
    monkeypatch.setattr(typst, "compile", compile_and_look)
    pages = pages_of(one_pdf(run, lang=lang))
    assert len(pages) == 2
    told = without_space(" ".join(pages))
    for text in (long, f"{long}C", f"{long}D" * 2, "1,234", "4,321", "98,765", "98.8%", "90.1–100.0"):  # noqa: RUF001
        assert without_space(text) in told
    strings = load_strings(lang)
    for flag in FLAGS:
        assert without_space(strings.choose("flag", str(flag["flag"])).replace("_", " ")) in told.replace("_", ""), flag
    for page in pixels:
        margin = round(10 / MM_PER_INCH * 60)
        frame = np.concatenate([page[:, :margin].ravel(), page[:, -margin:].ravel(), page[:margin].ravel()])
        assert frame.min() > 250, "something is printed in a margin"
        assert page[-round(5 / MM_PER_INCH * 60) :].min() > 250


@pytest.mark.parametrize("sizes", [(14.0, 12.0, 9.0, 6.0), (30.0, 20.0)])
def test_page_that_is_too_full_is_set_smaller_or_scaled(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch, sizes: tuple[float, ...]
) -> None:
    run = fake_run([ADULT], n_fields=6)
    expected = [sorted(without_space(page)) for page in pages_of(one_pdf(run))]
    monkeypatch.setattr("marrowscope.report.pdf.SIZES_PT", sizes)
    pages = pages_of(one_pdf(run))
    assert len(pages) == 2
    for page, signs in zip(pages, expected, strict=True):
        assert sorted(without_space(page)) == signs


def test_markup_in_a_users_text_prints_as_it_is(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient(MARKUP, MARKUP + "C", MARKUP + "D")])
    first, second = pages_of(one_pdf(run))
    for suffix in ("", "C", "D"):
        assert squeezed(MARKUP + suffix) in first
    assert squeezed(MARKUP) in second


def test_values_never_stand_in_the_source_and_no_package_is_fetched() -> None:
    source = (files("marrowscope.report") / "templates" / "patient.typ").read_text(encoding="utf-8")
    assert "@preview" not in source
    assert "eval(" not in source
    assert source.count("json(") == 1


def test_pictures_have_300_dpi_where_they_are_printed(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run([ADULT])
    # Ultralytics, where another test has loaded it, replaces Image.open by a function whose arguments have other names.
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda fp, mode="r", formats=None: opened(fp, mode, formats))
    page = pypdf.PdfReader(one_pdf(run)).pages[1]
    assert len(page.images) > 5
    for image in page.images:
        assert decoded(image.data).shape == (TILE_SPEC.size_px, TILE_SPEC.size_px)
    assert TILE_SPEC.size_px / (TILE_MM / MM_PER_INCH) >= 300
    drawn = [
        float(width)
        for width in re.findall(rb"([\d.]+) 0 0 -?[\d.]+ [\d.]+ [\d.]+ cm\s*/\S+ Do", page.get_contents().get_data())
    ]
    assert drawn
    assert max(drawn) <= TILE_MM / MM_PER_INCH * 72 + 0.1


def test_pages_are_tagged_and_made_for_the_archive(fake_run: Callable[..., FakeRun]) -> None:
    reader = pypdf.PdfReader(one_pdf(fake_run([ADULT])))
    metadata = reader.xmp_metadata.stream.get_data()
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert reader.metadata.title == "P1 – marrowscope report"  # noqa: RUF001
    assert b"pdfaid" in metadata
    assert b"pdfuaid" in metadata


def test_same_run_gives_the_same_bytes(fake_run: Callable[..., FakeRun], tmp_path: Path) -> None:
    run = fake_run([ADULT])
    assert one_pdf(run, out=tmp_path / "a").read_bytes() == one_pdf(run, out=tmp_path / "b").read_bytes()


def test_cell_whose_image_has_changed_is_shown_without_picture(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    for path in run.images.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"changed")
    path = one_pdf(run)
    assert not pypdf.PdfReader(path).pages[1].images
    assert load_strings()("gallery.no_picture") in pages_of(path)[1]


def test_chosen_cells_are_the_most_certain_the_least_certain_and_the_nearest(
    fake_run: Callable[..., FakeRun],
) -> None:
    run = fake_run([ADULT], n_fields=30)
    cells = PatientTables(run.folder).cells("P1")
    chosen = choose_cells(cells, ["N", "M"])
    kept = [cell for cell in cells if cell.reject_reason is None]
    called = sorted((cell.p_cblc for cell in kept if cell.is_cblc), reverse=True)
    assert len(called) > N_CERTAIN
    assert [cell.p_cblc for cell in chosen.certain] == called[:N_CERTAIN]
    assert [cell.p_cblc for cell in chosen.least_certain] == called[N_CERTAIN:][-len(chosen.least_certain) :]
    assert chosen.near_misses[0].p_cblc == max(cell.p_cblc for cell in kept if not cell.is_cblc)
    assert len(chosen.by_category["N"]) == 3
    assert chosen.by_category["M"] == ()


def test_chinese_pages_hold_the_chinese_sentences(fake_run: Callable[..., FakeRun], chinese_font: str) -> None:
    run = fake_run([Patient("患者一", "北京 A", "急性髓系白血病", specimen="marrow", age_group="adult")], n_fields=6)
    assess_as(run, "患者一")
    path = one_pdf(run, lang="zh")
    first, second = (without_space(page) for page in pages_of(path))
    strings = load_strings("zh")
    for told in (
        "患者一",
        "北京 A",
        "急性髓系白血病",
        strings("call.above", t="21.0%"),
        strings("blasts.marks.marrow"),
    ):
        assert without_space(told) in first
    for item in ("N", "R3", "Other"):
        assert strings(f"category.{item}") in first
    for page in (first, second):
        assert without_space(strings("research_use")) in page
    assert "\x00" not in first + second
    resources = [page["/Resources"]["/Font"].values() for page in pypdf.PdfReader(path).pages]
    used = {str(font.get_object()["/BaseFont"]) for group in resources for font in group}
    assert any(chinese_font.replace(" ", "")[:8] in name for name in used), used


def test_chosen_chinese_font_has_every_character_of_the_catalog(chinese_font: str) -> None:
    wanted = catalog_characters("zh")
    assert len(wanted) > 300
    faces = [info for info in open_fonts().fonts() if info.family == chinese_font and info.weight in {400, 700}]
    assert faces
    for info in faces:
        assert missing_characters(info, wanted) == set(), info.path


def test_font_that_lacks_characters_is_not_taken() -> None:
    latin = [info for info in open_fonts().fonts() if info.path is not None and "DejaVu" in info.family]
    if not latin:
        pytest.skip("no DejaVu font file on this system")
    assert "髓" in missing_characters(latin[0], {"髓", "A"})
    assert "A" not in missing_characters(latin[0], {"髓", "A"})


def test_font_of_the_users_folder_is_taken_whatever_its_name(
    chinese_font: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(info.path for info in open_fonts().fonts() if info.family == chinese_font and info.path)
    (tmp_path / "fonts").mkdir()
    shutil.copyfile(path, tmp_path / "fonts" / f"own{path[-4:]}")
    fonts = open_fonts(tmp_path / "fonts")
    assert families_for("zh", fonts, tmp_path / "fonts")[0] == chinese_font
    monkeypatch.setattr(font_search, "CHINESE", ())
    assert families_for("zh", fonts, tmp_path / "fonts")[0] in {info.family for info in fonts.fonts() if info.path}
    with pytest.raises(DependencyError):
        families_for("zh", fonts)


@pytest.mark.parametrize("name", CHINESE)
def test_family_names_are_plain(name: str) -> None:
    assert name == one_line(name)


def test_chinese_without_a_font_is_refused_before_anything_is_written(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run()
    before = sorted(run.folder.rglob("*"))
    monkeypatch.setattr("marrowscope.report.typeset.open_fonts", lambda _path: typst.Fonts(include_system_fonts=False))
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(run.folder), "--format", "html", "--format", "pdf", "--lang", "zh"])
    assert stopped.value.code == 2
    told = squeezed(capsys.readouterr().err)
    assert "no font with the" in told
    assert "apt install fonts-noto-cjk" in told
    assert "--font-path" in told
    assert sorted(run.folder.rglob("*")) == before


def test_missing_typst_is_told_in_a_sentence(fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run()
    monkeypatch.setattr("marrowscope.report.typeset.open_fonts", open_fonts)  # which the tests keep otherwise
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(DependencyError, match=r"pip install '\.\[pdf\]'"):
        write_pdfs(run.folder)
    assert not (run.folder / "pdf").exists()


def test_report_imports_no_typst_until_a_pdf_is_written() -> None:
    import subprocess

    code = "import sys, marrowscope.report.pdf, marrowscope.report.fonts; sys.exit('typst' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603  our own code


NO_GLYPH = {
    "\ue000": "[U+E000]",  # private: the archive forbids it
    "\U0001f9a0": "[U+1F9A0]",
    "\U0001f469\u200d\U0001f52c": "[U+1F469]\u200d[U+1F52C]",
    "\ufeff": "[U+FEFF]",
    "\uffff": "[U+FFFF]",
    "b\u20e3": "b[U+20E3]",  # the compiler names the letter, not the mark
    "".join(map(chr, range(0x12000, 0x12014))): "[U+12013]",
}
"""Signs that no font has, and how they are printed."""


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_character_without_a_glyph_is_printed_as_its_code_point(
    fake_run: Callable[..., FakeRun], request: pytest.FixtureRequest, lang: str
) -> None:
    if lang == "zh":
        request.getfixturevalue("chinese_font")
    patients = [Patient(f"P{sign}", f"A{sign}", f"AML {sign}") for sign in NO_GLYPH]
    run = fake_run([*patients, Patient("Z2", "A", "AML")], n_fields=1, n_cells=3)
    shown = [[without_space(page) for page in pages_of(path)] for path in write_pdfs(run.folder, lang=lang)]
    *marked, plain = sorted(shown, key=lambda pages: "[U+" not in pages[0])
    assert len(marked) == len(NO_GLYPH)
    assert "[U+" not in "".join(plain)
    for printed in NO_GLYPH.values():
        code_points = re.findall(r"\[U\+[0-9A-F]+\]", printed)
        assert sum(all(sign in page for sign in code_points for page in pages) for pages in marked) == 1, printed
    sentence = without_space(load_strings(lang)("research_use"))
    assert all(sentence in pages[0] for pages in [*marked, plain])  # the catalog's texts stay


def test_font_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no folder"):
        open_fonts(tmp_path / "absent")


def test_font_package_is_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / font_search.FONT_PACKAGE
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[dict[str, list[str]]] = []
    monkeypatch.setattr(typst, "Fonts", lambda **options: seen.append(options))
    open_fonts()
    assert seen == [{"font_paths": [str(package)]}]


def test_every_patient_has_a_file_of_its_own(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P/1", "A", "AML"), Patient("P-1", "A", "AML")])
    paths = write_pdfs(run.folder)
    assert len({path.name.casefold() for path in paths}) == 2
    assert all(len(pypdf.PdfReader(io.BytesIO(path.read_bytes())).pages) == 2 for path in paths)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a\tb\nc\x00", "a b c[U+0000]"),
        (" W " * 60, ("W  " * 60).strip()),
        (None, ""),
        ("a\u202eb\u2066c\u2069", "a[U+202E]b[U+2066]c[U+2069]"),
        ("\ud800\u200f", "[U+D800][U+200F]"),
    ],
)
def test_users_text_is_put_on_one_line(text: str | None, printed: str) -> None:
    assert one_line(text) == printed


def test_what_cannot_be_shown_is_known_by_its_category() -> None:
    for sign in map(chr, range(sys.maxunicode + 1)):
        hidden = unicodedata.category(sign) in {"Cc", "Cs"} and sign not in "\t\n\v\f\r\x85"
        assert (readable(sign) != sign) == (hidden or sign in BIDI_CONTROLS), hex(ord(sign))


def test_catalogs_markup_is_taken_away() -> None:
    assert plain("<strong>3</strong> of 4 &lt;b&gt;") == "3 of 4 <b>"


@pytest.mark.parametrize("call", ["above", "below", "neutral"])
def test_no_call_is_printed_in_green_as_if_it_were_good(call: str) -> None:
    template = files("marrowscope").joinpath("report/templates/patient.typ").read_text(encoding="utf-8")
    line = re.search(rf'^ *{call}: \(rgb\("#(\w{{6}})"\)', template, re.MULTILINE)
    assert line is not None
    red, green, blue = (int(line[1][start : start + 2], 16) for start in (0, 2, 4))
    assert green <= max(red, blue)


def test_marks_are_printed_beside_an_estimate_alone(fake_run: Callable[..., FakeRun]) -> None:
    first, _ = pages_of(one_pdf(fake_run([ADULT])))
    assert "Marks:" in first
    run = fake_run([replace(ADULT, specimen="unknown")])
    first, _ = pages_of(one_pdf(run))
    assert "Marks:" not in first
    assert "the specimen is unknown" in first
