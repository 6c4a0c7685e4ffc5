"""The state of a patient on every surface at once: none says more than another, and each says why."""

from __future__ import annotations

import csv
import json
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from marrowscope.patient.differential import BLAST_COLUMNS
from marrowscope.records import Patient
from marrowscope.report.exchange import write_csv, write_json
from marrowscope.report.fhir import write_fhir
from marrowscope.report.html import write_report
from marrowscope.report.pdf import write_pdfs
from marrowscope.report.strings import load_strings
from marrowscope.runs.parquet import read_table
from tests.fake_runs import assess_as
from tests.report.test_exchange import set_patients

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

pypdf = pytest.importorskip("pypdf", reason="no pypdf: install the group dev")
pytest.importorskip("typst", reason="no typst: install the extra pdf")

ADULT = Patient("P1", "A", "control", age_group="adult")
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
UNVALIDATED = [
    ("not_validated", reason)
    for reason in ("no_rates", "other_centers", "center_not_open", "simulated_photographs", "mixed_photographs")
]


def in_state(run: FakeRun, state: str, reason: str) -> None:
    """Give the run's patients what `predict` writes for such a state."""
    reviewed = {"center_n_reviewed": 31, "center_n_outside": 2} if reason.startswith("center") else {}
    if state == "validated":
        assess_as(run, "P1", **ASSESSED)
    else:
        patients = read_table(run.folder / "patients.parquet", "patients")
        set_patients(run.folder, **{name: pl.lit(None, patients.schema[name]) for name in BLAST_COLUMNS})
    stated = {"state": state, "state_reason": reason, **reviewed}
    set_patients(run.folder, **{name: pl.lit(value) for name, value in stated.items()})


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


@pytest.mark.parametrize(("state", "reason"), [*VALIDATED, *UNVALIDATED])
def test_every_surface_prints_the_state_and_its_sentence(
    state: str, reason: str, fake_run: Callable[..., FakeRun]
) -> None:
    run = fake_run([ADULT])
    in_state(run, state, reason)
    strings = load_strings("en")
    sentence = strings.texts[f"state.{reason}"].format(patients="31 patients", outside=2)
    for name, words in surfaces(run).items():
        assert sentence in words, name
        assert strings(f"state.word.{state}") in words, name
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
    assert "41 simulated patients" in found["fhir"]
    row, patient = tables(run)
    assert float(row["corrected_ratio"]) == patient["corrected_ratio"] == 0.4321
    assert row["call"] == patient["call"] == "above"
