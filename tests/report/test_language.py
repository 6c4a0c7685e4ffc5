"""No sentence stands in a template or in the code: a page in Chinese holds none in English."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from marrowscope.errors import ConfigError
from marrowscope.records import Patient
from marrowscope.report import write_report
from marrowscope.report.palette import OTHER
from marrowscope.report.patient_tables import PatientTables
from marrowscope.report.pdf_document import patient_document
from marrowscope.report.pdf_gallery import choose_cells
from marrowscope.report.strings import LANGUAGES, Strings, load_strings
from marrowscope.report.words import Words, load_words
from marrowscope.runs.manifest import read_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import patient_row
from marrowscope.vocabulary import load_vocabulary
from tests.fake_runs import ASSESSED, assess_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.fake_runs import FakeRun

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
VOID = {"meta", "img", "input", "br", "link", "image", "path", "rect", "use"}
SPOKEN = {"title", "alt", "aria-label", "placeholder", "data-text"}
NAMES = {
    "marrowscope",
    "quantify",
    "CBLC",
    "WHO",
    "ICC",
    "AML",
    "MDS",
    "IB1",
    "IB2",
    "EB",
    "BCR",
    "ABL1",
    "CEBPA",
    "TP53",
    "CML",
    "CSF",
    "Wilson",
    "Enter",
    "Esc",
    "SHA",
    "Python",
    "UTC",
}
"""Names and abbreviations that a Chinese page writes in Latin letters too."""

FROM_THE_RUN = {
    "P1",
    "P2",
    "A",
    "B",
    "control",
    "fake",
    "bundle",
    "none",
    "field",
    "cells",
    "parquet",
    "f32",
    "patients",
    "csv",
}
"""What the small run itself is called, and names of tables."""


class Spoken(HTMLParser):
    """Every text a reader sees or hears, but for what is marked as of another language or as no words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.quiet: list[bool] = [False]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes that are read out, and whether the element's words count."""
        values = dict(attrs)
        apart = self.quiet[-1] or tag in {"style", "script"} or "translate" in values
        apart = apart or (tag != "html" and values.get("lang") == "en")
        if not apart:
            self.texts += [value for key, value in attrs if key in SPOKEN and value]
        if tag not in VOID:
            self.quiet.append(apart)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself, as SVG has them."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.quiet.pop()

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        if tag not in VOID:
            self.quiet.pop()

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if not self.quiet[-1]:
            self.texts.append(data)


def english_words(page: str) -> set[str]:
    return latin_words(Spoken(page).texts)


def latin_words(texts: Iterable[str]) -> set[str]:
    codes = {*load_vocabulary().categories, *load_vocabulary().codes} - {OTHER}
    found = {word for text in texts for word in re.findall(r"(?<![0-9])\b[A-Za-z][A-Za-z0-9]*", text)}
    return {
        word
        for word in found - NAMES - FROM_THE_RUN - codes
        if len(word) > 1 and not re.fullmatch(r"F\d+|px|um|[0-9a-f]{6,}", word)
    }


def test_pages_in_chinese_hold_no_english_word(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    assess_as(run, "P1")
    report = write_report(run.folder, lang="zh").parent
    for path in report.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert '<html lang="zh-Hans">' in text
        assert english_words(text) == set(), path.name
    english = (write_report(run.folder).parent / "patients" / "P1.html").read_text(encoding="utf-8")
    assert len(english_words(english)) > 100, "the search finds English where it is"


NOT_PRINTED = {"fonts", "language", "region", "path", "color", "tone", "provenance"}
"""Parts of a PDF's document that name fonts, files and colors; provenance holds names of programs and hashes."""


def printed(part: object) -> Iterator[str]:
    """Give every text of a PDF's document that is set as a text."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict):
        for key, value in part.items():
            if key not in NOT_PRINTED:
                yield from printed(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from printed(value)


@pytest.mark.parametrize("age_group", ["Adult", None])
def test_a_pdf_in_chinese_holds_no_english_word(fake_run: Callable[..., FakeRun], age_group: str | None) -> None:
    run = fake_run([Patient("P1", "A", "control", specimen="Marrow", age_group=age_group)])
    assess_as(run, "P1")
    row = patient_row(read_table(run.folder / "patients.parquet", "patients").row(0, named=True))
    chosen = choose_cells(PatientTables(run.folder).cells("P1"), [item.category for item in row.differential])
    for lang in LANGUAGES:
        document = patient_document(row, chosen, read_manifest(run.folder), load_words(lang), ["any"])
        texts = [text.replace(row.reference_source or "\0", "") for text in printed(document)]
        labels = [label for label, _ in document["provenance"]["rows"] if ".onnx" not in label]
        if lang == "zh":
            assert latin_words([*texts, *labels]) == set()
        else:
            assert len(latin_words(texts)) > 100, "the search finds English where it is"


NOBODY = Patient("P1", "unknown", "unknown", specimen="unknown")
ODD = Patient("P2", "B", "AML", specimen="blood", age_group="child", extra={"sex": "female"})
STATES: dict[str, dict[str, object]] = {
    "older run": {},
    "not validated": {"state": "not_validated", "state_reason": "other_centers"},
    "validated": {"state": "validated", "state_reason": "center_measured", **ASSESSED},
    "withheld": {
        "state": "validated",
        "state_reason": "simulated",
        **ASSESSED,
        "call": "withheld",
        "lymphoid_share": 0.4,
    },
    "no call": {"state": "validated", "state_reason": "simulated", **ASSESSED, "call": "no_call"},
}


@pytest.mark.parametrize("state", STATES)
def test_every_page_in_chinese_holds_no_english_word(
    fake_run: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr("marrowscope.report.gallery.CBLC_LIMITS", (1, 1))
    run = fake_run([NOBODY, ODD], n_cells=20)
    names = [key.removeprefix("flag.") for key in load_strings().texts if key.startswith("flag.")]
    flags = [{"flag": name, "value": 0.5, "limit": 0.1, "n_fields": 1} for name in names]
    for patient in ("P1", "P2"):
        assess_as(run, patient, **STATES[state] | {"flags": flags, "simulated_only": ["Other", "M", "plasma"]})
    seen = {}
    for path in write_report(run.folder, lang="zh").parent.rglob("*.html"):
        text = seen[path.stem] = path.read_text(encoding="utf-8")
        assert english_words(text) == set(), path.name
    assert {"index", "P1", "P2"} <= set(seen)
    assert "未知" in seen["P1"]
    assert "其他" in seen["P1"]
    assert "女" in seen["P2"]


def test_no_text_of_the_catalog_in_chinese_holds_an_english_word() -> None:
    for key, text in load_strings("zh").texts.items():
        spoken = re.sub(
            r"marrowscope (predict|review( verify( DB --head)?)?)|--[a-z-]+|"
            r"\b(Ctrl|Shift|Enter|Esc|Home|End)\b|<[^>]*>|\{[^}]*\}",
            " ",
            text,
        )
        assert latin_words([spoken]) == set(), key


def test_the_glossary_is_that_of_the_docs() -> None:
    page = " ".join(GLOSSARY.read_text(encoding="utf-8").split())
    terms = load_words().glossary()
    assert len(terms) == len(load_words("zh").glossary()) >= 8
    for term, text in terms:
        assert f"| **{term}** | {text} |" in page


def test_a_page_in_chinese_names_adult_and_marrow_in_either_case(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P1", "A", "control", specimen="Blood", age_group="Adult")])
    report = write_report(run.folder, lang="zh").parent
    for path in report.rglob("*.html"):
        assert english_words(path.read_text(encoding="utf-8")) == set(), path.name


def test_a_printed_sheet_says_research_use_in_its_language(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run()
    for lang in LANGUAGES:
        text = (write_report(run.folder, lang=lang).parent / "patients" / "P1.html").read_text(encoding="utf-8")
        assert f'@bottom-left {{ content: "{load_strings(lang)("research_use")}"; }}' in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_category_and_lineage_has_a_name(language: str) -> None:
    words, vocabulary = load_words(language), load_vocabulary()
    names = [words.category(category) for category in vocabulary.categories]
    assert len(set(names)) == len(names)
    assert all(name.isascii() == (language == "en") for name in names)
    assert words.category("X9") == "X9"
    assert words.name("reason", "touches_seam") == "touches seam"


def test_counts_are_in_words_and_values_are_escaped() -> None:
    words = load_words()
    assert (words.count("cell", 1), words.count("cell", 1204)) == ("1 cell", "1,204 cells")
    assert words.text("page.title_patient", patient="<b>") == "&lt;b&gt; – marrowscope report"  # noqa: RUF001
    assert words.percent(None) == "none"
    assert words.numbers(2.0, None) == "2.0 or more"
    with pytest.raises(KeyError):
        words.text("no.such.key")


def test_catalog_is_complete_and_an_unknown_language_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {language: load_strings(language).texts for language in LANGUAGES}
    assert texts["en"].keys() == texts["zh"].keys()
    assert all(text.strip() for language in LANGUAGES for text in texts[language].values())
    with pytest.raises(ConfigError, match="found 'fr', expected one of en, zh"):
        load_strings("fr")
    broken = tmp_path / "strings.toml"
    monkeypatch.setattr("marrowscope.report.strings.CATALOG", broken)
    load_strings.cache_clear()
    try:
        broken.write_text('["a"]\nen = "{n} cells"\n', encoding="utf-8")
        with pytest.raises(ConfigError, match=r"'a' has \['en'\].*add the translation"):
            load_strings("en")
        broken.write_text('["a"]\nen = "{n} cells"\nzh = "{m}"\n', encoding="utf-8")
        with pytest.raises(ConfigError, match="expected the same in every language"):
            load_strings("en")
    finally:
        load_strings.cache_clear()


def test_words_without_a_text_fall_back_to_the_key() -> None:
    words = Words(Strings("en", {}), {"X9": "own cell"})
    assert words.category("X9") == "own cell"
    assert words.name("flag", "new_flag") == "new flag"
