"""What was learned from simulated cells only: every surface marks the same, and none estimates blasts with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from marrowscope.patient.differential import BLAST_COLUMNS
from marrowscope.report.fhir import write_fhir
from marrowscope.report.strings import load_strings
from marrowscope.runs.parquet import read_table
from tests.report.test_exchange import set_patients
from tests.report.test_standing import ADULT, in_state, surfaces, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fake_runs import FakeRun

pytest.importorskip("pypdf", reason="no pypdf: install the group dev")
pytest.importorskip("typst", reason="no typst: install the extra pdf")

ONLY, CODES, MISSING = ["M", "R1"], ["M", "R1", "J"], ["M", "J"]


def learned_so(run: FakeRun) -> None:
    """State what the run's bundle learned from simulated cells only, as `predict` does."""
    patients = read_table(run.folder / "patients.parquet", "patients")
    nothing: dict[str, Any] = {name: pl.lit(None, patients.schema[name]) for name in BLAST_COLUMNS}
    stated = {"simulated_only": ONLY, "simulated_only_codes": CODES, "who_not_learned": MISSING}
    set_patients(run.folder, **nothing, **{name: pl.lit(value) for name, value in stated.items()})


@pytest.mark.parametrize("learned", [True, False])
def test_every_surface_marks_it_and_says_why_there_is_no_estimate(
    fake_run: Callable[..., FakeRun], *, learned: bool
) -> None:
    run, strings = fake_run([ADULT]), load_strings("en")
    in_state(run, "validated", "center_measured")
    set_patients(run.folder, who_lower=pl.lit(0.1), who_upper=pl.lit(0.3))  # the few cells of the run give no figure
    if learned:
        learned_so(run)
    why = strings("blasts.not_learned", codes="M, J")
    said = surfaces(run)
    for name, words in said.items():
        assert (strings("learned.footnote") in words) == learned, name
        assert (strings("learned.codes", codes="J") in words) == learned, name
        assert (why in words) == learned, name
        assert (strings("blasts.codes") in words) != learned, name
    page = said["html"]
    assert page.count("<sup>†</sup>") == (2 if learned else 0)
    for name in ("monoblast", "basophilic erythroblast"):
        assert (f"{name} <sup>†</sup>" in page) == learned
        assert (f"{name} †" in said["pdf"]) == learned
    row, patient = tables(run)
    assert row["simulated_only"] == ("M R1" if learned else "")
    assert patient["simulated_only"] == (ONLY if learned else None)
    assert (row["who_not_learned"], row["who_least"] == "") == (("M J", True) if learned else ("", False))
    index = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert (strings("learned.cohort", names="M, R1, J") in index) == learned
    (fhir,) = write_fhir(run.folder)
    entries = [entry["resource"] for entry in json.loads(fhir.read_text(encoding="utf-8"))["entry"]]
    marked = [
        item["code"]["text"].split(":")[0] for item in entries if item.get("note") and ":" in item["code"]["text"]
    ]
    assert marked == (ONLY if learned else [])
    (estimate,) = [item for item in entries if item["code"]["text"] == strings("blasts.heading")]
    assert ("dataAbsentReason" in estimate) == learned
    assert (why in [note["text"] for note in estimate["note"]]) == learned
