"""What was learned from simulated cells only, in the station and in its documents, as in a run's own report."""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from pypdf import PdfReader

from marrowscope.report.words import load_words
from marrowscope.review.accounts import add_account
from tests.report.test_exchange import set_patients
from tests.review.stations import Browser, enter, enter_as, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.review.station import Station
    from tests.fake_runs import FakeRun

SAID = "† The bundle learned these from simulated cells only: N, R2, plasma cells, J."
ONLY: dict[str, Any] = {"simulated_only": ["N", "R2", "plasma"], "simulated_only_codes": ["N", "J"]}


@pytest.fixture(params=[True, False], ids=["learned", "not stated"])
def learned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def run(fake_run: Callable[..., FakeRun], *, learned: bool) -> FakeRun:
    made = fake_run()
    if learned:
        set_patients(made.folder, **{name: pl.lit(value) for name, value in ONLY.items()})
    return made


@pytest.fixture
def station(run: FakeRun, tmp_path: Path) -> Iterator[Station]:
    station = open_station(run.folder, tmp_path / "review" / "review.sqlite")
    yield station
    station.close()


def page_data(browser: Browser) -> dict[str, Any]:
    """Return what the server wrote into the patient's page."""
    text = browser.get("/patients/P1").text
    found = re.search(r'<script[^>]*id="page-data"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_the_page_gets_the_marks_and_their_sentence(station: Station, *, learned: bool) -> None:
    patient = page_data(enter(station))["patient"]
    assert patient["simulated_only"] == (ONLY["simulated_only"] if learned else [])
    assert patient["learned"] == (SAID if learned else None)
    browser = enter(station)
    assert browser.get("/patients/P1?lang=zh").status_code == 200  # remembered
    assert ("N, R2, 浆细胞, J" in str(page_data(browser)["patient"]["learned"])) == learned


def test_a_blinded_reader_gets_none(run: FakeRun, tmp_path: Path) -> None:
    station = open_station(run.folder, tmp_path / "review" / "review.sqlite", reader=None)
    for name, role in (("ada", "reader"), ("dee", "signer")):
        add_account(station.store.engine, name, [role])

    def entered(name: str) -> Browser:
        return enter_as(station, name)

    assigned = entered("dee").post("/api/assign", {"patients": ["P1"], "readers": ["ada"]})
    assert assigned.status_code == 200, assigned.text
    patient = page_data(entered("ada"))["patient"]
    assert (patient["simulated_only"], patient["learned"]) == ([], None)
    station.close()


def test_every_document_marks_what_only_the_machine_called(station: Station, *, learned: bool) -> None:
    """Cells of N are named by eye, so that R2 alone is marked; the sentence stands in all four."""
    browser = enter(station)
    cells = browser.json("/api/patients/P1/cells")
    columns = list(zip(cells["cell_id"], cells["model_category"], strict=True))
    assert {"N", "R2"} <= {category for _, category in columns}
    named = [{"kind": "relabel", "cell_id": cell, "new": "N"} for cell, category in columns if category == "N"]
    assert browser.decide("P1", *named).status_code == 200

    def document(suffix: str) -> Any:  # noqa: ANN401 - a response of any kind
        return browser.get(f"/api/patients/P1/preliminary.{suffix}")

    words, page = load_words("en"), document("html").text
    sheets = PdfReader(BytesIO(document("pdf").content)).pages
    pdf = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    for text in (page, pdf, document("hl7").text):
        assert (SAID in text) == learned
    for text in (page, pdf):
        assert (f"R2: {words.category('R2')} †" in text) == learned
        assert f"N: {words.category('N')}" in text
        assert f"N: {words.category('N')} †" not in text
    entries = [entry["resource"] for entry in document("json").json()["entry"]]
    marked = [
        item["code"]["text"].partition(":")[0]
        for item in entries
        if SAID in [note["text"] for note in item.get("note", ())]
    ]
    assert marked == (["R2"] if learned else [])
