"""The state of a patient on every surface at once: none says more than another, and each says why."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pytest

from marrowscope.cli.predicted_patients import _counted_and_ratio, patient_figures
from marrowscope.patient.assess import without_shares
from marrowscope.patient.depth.depth_scores import SCORE_NAMES
from marrowscope.patient.depth.domain import ERYTHROCYTES
from marrowscope.patient.differential import BLAST_COLUMNS
from marrowscope.records import Patient
from marrowscope.report.exchange import write_csv, write_json
from marrowscope.report.fhir import write_fhir
from marrowscope.report.html import write_report
from marrowscope.report.pdf import write_pdfs
from marrowscope.report.strings import LANGUAGES, load_strings
from marrowscope.report.verdict import standing_sentence
from marrowscope.report.words import load_words
from marrowscope.runs.parquet import read_table
from marrowscope.runs.schemas import patient_row
from tests.fake_runs import EMPTY_PATIENT, assess_as
from tests.report.test_exchange import set_patients

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

pypdf = pytest.importorskip("pypdf", reason="no pypdf: install the group dev")
pytest.importorskip("typst", reason="no typst: install the extra pdf")

ADULT = Patient("P1", "A", "control", specimen="marrow", age_group="adult")
ASSESSED: dict[str, Any] = {
    "corrected_ratio": 0.4321,
    "corrected_lower": 0.3456,
    "corrected_upper": 0.5678,
    "correction": "adjusted count",
    "design_effect": 1.5,
    "threshold": 0.2109,
    "threshold_n_patients": 41,
    "threshold_simulated": True,
    "confidence_above": 0.987,
    "call": "above",
}
VALIDATED = [("validated", "simulated"), ("validated", "center_measured")]
DEPTH = [
    ("out_of_depth", f"depth_{name}")
    for name in (*(name for name in SCORE_NAMES if name != ERYTHROCYTES), ERYTHROCYTES, "not_measured")
]
UNVALIDATED = [
    ("not_validated", reason)
    for reason in (
        *("no_rates", "other_centers", "center_not_open", "simulated_photographs", "mixed_photographs"),
        *("center_unknown", "other_specimen", "simulated_specimen"),
    )
]


def in_state(run: FakeRun, state: str, reason: str) -> None:
    """Give the run's patients what `predict` writes for such a state."""
    reviewed = {"center_n_reviewed": 31, "center_n_outside": 2} if reason.startswith("center") else {}
    if state == "validated":
        assess_as(run, "P1", **ASSESSED)
    elif state == "out_of_depth":
        (row,) = read_table(run.folder / "patients.parquet", "patients").to_dicts()
        assess_as(run, "P1", **without_shares(row), **out_of_depth(reason))
    else:
        patients = read_table(run.folder / "patients.parquet", "patients")
        set_patients(run.folder, **{name: pl.lit(None, patients.schema[name]) for name in BLAST_COLUMNS})
    stated = {"state": state, "state_reason": reason, **reviewed}
    set_patients(run.folder, **{name: pl.lit(value) for name, value in stated.items()})


def out_of_depth(reason: str) -> dict[str, Any]:
    """Return the scores of a patient far beyond every limit, as `predict` writes them."""
    usual = dict.fromkeys(SCORE_NAMES, 0.0123) | {ERYTHROCYTES: None}
    limits = dict.fromkeys(SCORE_NAMES, (None, 0.0456)) | {ERYTHROCYTES: (5.5, 9.5)}
    checks = [
        {"score": name, "value": 0.0789, "usual": usual[name], "lower_limit": low, "upper_limit": high}
        for name, (low, high) in limits.items()
    ]
    total = {"score": "distance", "value": 12.34, "usual": None, "lower_limit": None, "upper_limit": 6.78}
    return {"depth": [*checks, total], "fitting_um_per_px": 0.2468 if ERYTHROCYTES in reason else None}


def surfaces(run: FakeRun) -> dict[str, str]:
    """Return the words of every surface of the run's first patient."""
    out = run.folder / "report"
    write_report(run.folder, out)
    (pdf,) = write_pdfs(run.folder, run.folder / "pdf")
    (fhir,) = write_fhir(run.folder)
    page = unescape((out / "patients" / "P1.html").read_text(encoding="utf-8"))
    return {
        "html": " ".join(page.split()),
        "pdf": " ".join("".join(sheet.extract_text() for sheet in pypdf.PdfReader(pdf).pages).split()),
        "fhir": Path(fhir).read_text(encoding="utf-8"),
    }


def tables(run: FakeRun) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the patient as it stands in the CSV and in the JSON export."""
    folder = run.folder / "exchange"
    write_csv(run.folder, folder)
    write_json(run.folder, folder)
    with (folder / "patients.csv").open(encoding="utf-8-sig", newline="") as stream:
        (row,) = csv.DictReader(stream)
    (patient,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["patients"]
    return row, patient


def sentence_of(reason: str, language: str = "en") -> str:
    """Return the sentence of a state with the figures of ``in_state``."""
    name = reason.removeprefix("depth_")
    shown = ["7.9%", "1.2%"] if name in {"contradictions", "middling"} else ["0.0789", "0.0123"]
    specimens = {"measured": "marrow", "specimen": "marrow"} if reason.endswith("_specimen") else {}
    return load_strings(language).texts[f"state.{reason}"].format(
        **specimens,
        patients="31 patients", outside=2, value=shown[0], usual=shown[1], low="5.5", high="9.5", distance="12.3",
        limit="6.8", scale="0.247",
    )  # fmt: skip


@pytest.mark.parametrize(("state", "reason"), [*VALIDATED, *UNVALIDATED, *DEPTH])
def test_every_surface_prints_the_state_and_its_sentence(
    state: str, reason: str, fake_run: Callable[..., FakeRun]
) -> None:
    run = fake_run([ADULT])
    in_state(run, state, reason)
    strings = load_strings("en")
    sentence = sentence_of(reason)
    for name, words in surfaces(run).items():
        assert sentence in words, name
        assert strings(f"state.word.{state}") in words, name
    (fhir,) = write_fhir(run.folder)
    standing = next(
        entry["resource"]
        for entry in json.loads(fhir.read_text(encoding="utf-8"))["entry"]
        if entry["resource"]["code"]["text"] == strings("state.heading")
    )
    assert standing["valueString"] == sentence
    assert [item["valueString"] for item in standing["component"]] == [strings(f"state.word.{state}")]
    row, patient = tables(run)
    assert (row["state"], row["state_reason"]) == (patient["state"], patient["state_reason"]) == (state, reason)


@pytest.mark.parametrize(("state", "reason"), UNVALIDATED)
def test_no_surface_corrects_calls_or_estimates_where_nothing_was_validated(
    state: str, reason: str, fake_run: Callable[..., FakeRun]
) -> None:
    run = fake_run([ADULT])
    in_state(run, state, reason)
    strings = load_strings("en")
    for name, words in surfaces(run).items():
        assert strings("ratio.machine") in words, name
        assert strings("blasts.not_validated") in words or name == "fhir", name
        for forbidden in ("Above study", "Below study", "Confidence that", strings("blasts.codes")):
            assert forbidden not in words, (name, forbidden)
    (fhir,) = write_fhir(run.folder)
    report, *others = [entry["resource"] for entry in json.loads(fhir.read_text(encoding="utf-8"))["entry"]]
    assert report["status"] == "preliminary"
    assert "conclusion" not in report
    named = {other["code"]["text"]: other for other in others}
    for key in ("ratio.corrected", "call.heading", "blasts.heading"):
        assert "dataAbsentReason" in named[strings(key)], key
    row, patient = tables(run)
    for column in ("corrected_ratio", "call", "confidence_above", "threshold", "who_least", "who_most"):
        assert row[column] == "", column
        assert patient[column] is None, column


@pytest.mark.parametrize(("state", "reason"), VALIDATED)
def test_every_surface_has_the_same_figures_where_the_center_is_validated(
    state: str, reason: str, fake_run: Callable[..., FakeRun]
) -> None:
    run = fake_run([ADULT])
    in_state(run, state, reason)
    found = surfaces(run)
    for name in ("html", "pdf"):
        learned = "The threshold was learned on 41 simulated patients"
        for words in ("43.2%", "Above study threshold 21.1%", "98.7%", learned):
            assert words in found[name].replace("<strong>", "").replace("</strong>", ""), (name, words)
    assert "Above study threshold 21.1%" in found["fhir"]
    learned = load_strings("en")("call.learned_on", patients="41 simulated patients")
    (fhir,) = write_fhir(run.folder)
    report = json.loads(fhir.read_text(encoding="utf-8"))["entry"][0]["resource"]
    assert learned in report["conclusion"]  # and not only in a note of the call, which a reader may not open
    index = " ".join(unescape((run.folder / "report" / "index.html").read_text(encoding="utf-8")).split())
    assert learned in index
    (shown,) = patient_figures(
        [patient_row(read_table(run.folder / "patients.parquet", "patients").row(0, named=True))]
    )
    stated = {name: shown[name] for name in ("threshold", "threshold_n_patients", "threshold_simulated")}
    assert stated == {"threshold": ASSESSED["threshold"], "threshold_n_patients": 41, "threshold_simulated": True}
    row, patient = tables(run)
    assert float(row["corrected_ratio"]) == patient["corrected_ratio"] == 0.4321
    assert row["call"] == patient["call"] == "above"


@pytest.mark.parametrize("corrected", [True, False])
def test_no_surface_prints_a_ratio_whose_interval_is_wider_than_half_the_scale(
    corrected: bool,  # noqa: FBT001 - a parameter of the test
    fake_run: Callable[..., FakeRun],
) -> None:
    run = fake_run([ADULT])
    wide = {"lower": 0.1234, "upper": 0.7654}
    if corrected:
        in_state(run, "validated", "center_measured")
        assess_as(
            run, "P1", **ASSESSED | {f"corrected_{end}": value for end, value in wide.items()}, interval_wide=True
        )
    else:
        in_state(run, "not_validated", "no_rates")
        limits = {f"cblc_ratio_{end}": value for end, value in wide.items()}
        set_patients(
            run.folder, **{k: pl.lit(v) for k, v in ({"cblc_ratio": 0.4321, "interval_wide": True} | limits).items()}
        )
    sentence = load_strings("en")("ratio.too_wide")
    found = surfaces(run)
    index = unescape((run.folder / "report" / "index.html").read_text(encoding="utf-8"))
    (values,) = read_table(run.folder / "patients.parquet", "patients").to_dicts()
    shown = patient_row(values)
    terminal = _counted_and_ratio(shown)[1]
    for name, words in {**found, "index": index.partition("<main")[2], "terminal": terminal}.items():
        told = re.sub(r"<(style|script|svg)\b.*?</\1>", "", words, flags=re.DOTALL)
        assert "43.2" not in told, name
        assert sentence in told or name in {"index", "terminal"}, name
    for name in ("html", "pdf"):
        assert load_strings("en")("ratio.no_headline") in found[name]
        assert load_words().interval(0.1234, 0.7654) in found[name].replace("<strong>", "").replace("</strong>", "")
    assert "12.3% to 76.5%" in terminal
    assert load_strings("en")("cohort.wide_note", patients="1 patient") in index
    (figures,) = patient_figures([shown])
    assert (figures["ratio"], figures["interval_is_wide"]) == (None, True)
    row, patient = tables(run)
    assert (row["interval_wide"], patient["interval_wide"]) == ("true", True)


@pytest.mark.parametrize("specimen", ["marrow", "blood", "unknown"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_surface_speaks_of_the_marrow_where_the_specimen_is_another(
    specimen: str, language: Literal["en", "zh"], fake_run: Callable[..., FakeRun]
) -> None:
    run, strings = fake_run([Patient("P1", "A", "control", specimen)]), load_strings(language)
    in_state(run, "not_validated", "no_rates")
    write_report(run.folder, lang=language)
    (fhir,) = write_fhir(run.folder, lang=language)
    pages = [run.folder / "report" / name for name in ("index.html", "patients/P1.html")]
    for path in (*pages, fhir):
        words = " ".join(unescape(Path(path).read_text(encoding="utf-8")).split())
        for other in ("marrow", "blood", "unknown"):
            assert (strings(f"ratio.scope.{other}") in words) == (other == specimen), (path, other)
    if language == "en":
        (pdf,) = write_pdfs(run.folder, run.folder / "pdf")
        words = " ".join("".join(sheet.extract_text() for sheet in pypdf.PdfReader(pdf).pages).split())
        assert strings(f"ratio.scope.{specimen}") in words


def test_a_cohort_of_both_specimens_has_the_scope_of_neither(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient(name, "A", "control", name) for name in ("marrow", "blood")])
    write_report(run.folder)
    index = " ".join(unescape((run.folder / "report" / "index.html").read_text(encoding="utf-8")).split())
    assert load_strings("en")("ratio.scope.unknown") in index


def test_the_threshold_is_drawn_beside_no_patient_whom_it_does_not_hold_for(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([Patient("P1", "A", "control", "marrow"), Patient("P2", "B", "AML", "marrow")])
    assess_as(run, "P1", **ASSESSED)
    write_report(run.folder)
    index = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    lines = {
        name: index.partition(f'<a href="patients/{name}.html">')[2].partition("</tr>")[0] for name in ("P1", "P2")
    }
    assert 'class="limit"' in lines["P1"]
    assert 'class="limit"' not in lines["P2"]
    strips = index.partition('id="ratios"')[2].partition("</section>")[0].split('<span class="strip-name">')[1:]
    drawn = {strip.partition(" ")[0]: 'class="limit"' in strip for strip in strips}
    assert drawn == {"control": True, "AML": False, "A": True, "B": False}


def test_a_threshold_of_an_earlier_method_is_said_on_every_surface(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    in_state(run, "validated", "center_measured")
    assess_as(run, "P1", **ASSESSED | {"correction": "posterior", "threshold_method": "adjusted count"})
    sentence = load_strings("en")("call.earlier_method", method="adjusted count")
    for name, words in surfaces(run).items():
        assert sentence in words, name
    assess_as(run, "P1", **ASSESSED | {"correction": "posterior", "threshold_method": "posterior"})
    for name, words in surfaces(run).items():
        assert "earlier method" not in words, name


def test_no_surface_gives_a_share_where_the_patient_is_out_of_depth(fake_run: Callable[..., FakeRun]) -> None:
    run, words = fake_run([ADULT]), load_words()
    (before,) = read_table(run.folder / "patients.parquet", "patients").to_dicts()
    in_state(run, "out_of_depth", "depth_middling")
    phrases = ("ratio.scope.marrow", "ratio.machine", "ratio.raw", "blasts.codes", "differential.lead")
    forbidden = [
        words.percent(before["cblc_ratio"]),
        words.percent(before["ratio_all_unclassified_cblc"]),
        words.interval(before["cblc_ratio_lower"], before["cblc_ratio_upper"]),
        f"{before['n_cblc']} of {before['n_countable']}",
        *(words.compact(item["lower"], item["upper"]) for item in before["differential"]),
        *(words.strings.texts[key].partition("{")[0] for key in phrases),
    ]
    for name, said in surfaces(run).items():
        told = re.sub(r"<(style|script|svg)\b.*?</\1>", "", said).replace("<strong>", "").replace("</strong>", "")
        for word in forbidden:
            assert word not in told, (name, word)
        assert '<tr class="cblc">' not in told, name
        assert words.strings("blasts.out_of_depth") in told or name == "fhir", name
        assert "(CBLC) = N + N1 + M + M1 + R + R1 + J/J1" in told or name == "fhir", name
        assert not re.search(r"\d CBLC", said), name  # as each field has it
        assert not re.search(r"\d called CBLC", said), name
    row, patient = tables(run)
    for column in ("cblc_ratio", "cblc_ratio_upper", "corrected_ratio", "call", "who_most", "me_ratio"):
        assert row[column] == "", column
        assert patient[column] is None, column
    assert not [name for name, value in row.items() if name.startswith(("share_", "n_cblc")) and value]
    assert patient["n_cblc"] is None
    assert [(item["codes"], item["n"]) for item in patient["cblc_by_category"]] == [
        (list(item["codes"]), None) for item in before["cblc_by_category"]
    ]
    (figures,) = patient_figures(
        [patient_row(read_table(run.folder / "patients.parquet", "patients").row(0, named=True))]
    )
    assert (figures["n_cblc"], figures["ratio"]) == (None, None)
    index = unescape((run.folder / "report" / "index.html").read_text(encoding="utf-8"))
    line = index.partition('<tr data-center="A"')[2].partition("</tr>")[0]
    assert words.strings("call.word.out_of_depth") in line
    assert "%" not in line
    assert words.strings("cohort.x_of_n_cell", x=before["n_cblc"], n=before["n_countable"]) not in line


def test_every_surface_has_the_same_counts_where_the_patient_is_out_of_depth(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    in_state(run, "out_of_depth", "depth_contradictions")
    found = surfaces(run)
    row, patient = tables(run)
    counts = {item["category"]: item["n_nucleated"] for item in patient["differential"]}
    assert sum(counts.values()) == patient["n_nucleated"] > 0
    resources = [entry["resource"] for entry in json.loads(found["fhir"])["entry"]]
    in_fhir = {item["code"]["text"].split(":")[0]: item["component"][0] for item in resources if "component" in item}
    for category, n in counts.items():
        assert row[f"n_nucleated_{category}"] == str(n), category
        assert in_fhir[category]["valueInteger"] == n, category
        name = load_words().category(category)
        assert f'<th scope="row">{name}</th><td class="n">{n}</td></tr>' in found["html"], category
        assert f"{category} {name} {n} " in found["pdf"], category
    report = resources[0]
    assert report["status"] == "preliminary"
    assert "conclusion" not in report
    ratio = next(item for item in resources if item["code"]["text"] == load_strings("en")("ratio.heading"))
    assert "component" not in ratio
    assert "dataAbsentReason" in ratio


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sentence_has_the_figures_in_every_language(language: str, fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run([ADULT])
    in_state(run, "out_of_depth", "depth_middling")
    write_report(run.folder, run.folder / "report", lang=language)
    page = unescape((run.folder / "report" / "patients" / "P1.html").read_text(encoding="utf-8"))
    assert sentence_of("depth_middling", language) in page
    assert "{" not in sentence_of("depth_middling", language)


def test_no_distance_or_size_is_printed_as_the_limit_that_it_is_beyond() -> None:
    checks = [
        {"score": "distance", "value": 8.64, "usual": None, "lower_limit": None, "upper_limit": 8.62},
        {"score": ERYTHROCYTES, "value": 5.4968, "usual": None, "lower_limit": 5.5, "upper_limit": 9.5},
    ]
    row = EMPTY_PATIENT | {"depth": checks, "state": "out_of_depth"}
    stained = standing_sentence(patient_row(row | {"state_reason": "depth_stain"}), load_words())
    assert "distance 8.64, limit 8.62" in str(stained)
    small = standing_sentence(patient_row(row | {"state_reason": f"depth_{ERYTHROCYTES}"}), load_words())
    assert "measure 5.497 um, expected 5.5 to 9.5 um" in str(small)
