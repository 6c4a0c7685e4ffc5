"""The audit over HTTP: frozen, in its order, without the calls; and the figures that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from tests.fake_runs import circle, make_run
from tests.review.stations import Browser, enter, open_station

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2 as httpx

    from marrowscope.review.station import Station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """Give a station over one patient with 66 cells, so that an audit has a second look."""
    run = make_run(tmp_path, [Patient("P1", "A", "AML"), Patient("P2", "A", "AML")], n_fields=6)
    station = open_station(run.folder, tmp_path / "review" / "review.sqlite")
    yield station
    station.close()


def truth(station: Station, cell_id: str) -> str:
    """Return what a reader would say: the model's category, whose code is the same but for two."""
    category = next(cell.category for cell in station.patient("P1").frozen if cell.cell_id == cell_id)
    return {"Other": "V", "L": "L2"}.get(category, category)


def draw(browser: Browser) -> httpx.Response:
    return browser.post("/api/patients/P1/audit", {})


def answer(browser: Browser, station: Station, n: int) -> None:
    cells = [item["cell_id"] for item in browser.json("/api/patients/P1/audit")["cells"] if not item["answered"]][:n]
    events = [{"kind": "audit_answer", "cell_id": cell_id, "new": truth(station, cell_id)} for cell_id in cells]
    response = browser.decide("P1", *events)
    assert response.status_code == 200, response.text


def test_a_drawn_audit_hides_the_calls_of_its_cells_alone(browser: Browser) -> None:
    assert browser.json("/api/patients/P1/audit")["drawn"] is False
    assert draw(browser).status_code == 200
    audit = browser.json("/api/patients/P1/audit")
    assert (audit["sizes"], len(audit["cells"]), len(audit["fields"])) == ([50, 66], 50, 3)
    assert set(audit["cells"][0]) == {"cell_id", "field_id", "answered", "answer"}
    cells = browser.json("/api/patients/P1/cells")
    hidden = [name for name, call in zip(cells["cell_id"], cells["model_category"], strict=True) if call is None]
    assert len(hidden) == 66
    assert {p for p in cells["p_cblc"] if p is not None} == set()
    contours = browser.json("/api/patients/P1/fields/P1%2Ffield_0")["cells"]
    assert {cell["model_category"] for cell in contours} == {None}


def test_cells_of_an_audit_are_named_in_its_order_and_none_is_skipped(browser: Browser, station: Station) -> None:
    draw(browser)
    first, second, *_ = [item["cell_id"] for item in browser.json("/api/patients/P1/audit")["cells"]]
    skipping = browser.decide("P1", {"kind": "audit_answer", "cell_id": second, "new": "N"})
    assert (skipping.status_code, "none is skipped" in skipping.json()["error"]) == (400, True)
    beside = browser.decide("P1", {"kind": "relabel", "cell_id": second, "new": "N"})
    assert (beside.status_code, "an answer in the audit first" in beside.json()["error"]) == (400, True)
    assert browser.decide("P1", {"kind": "audit_answer", "cell_id": first, "new": None}).status_code == 200
    assert station.state("P1").cells[first].removed == "not_a_cell"
    assert browser.decide("P1", {"kind": "audit_answer", "cell_id": first, "new": "R"}).status_code == 200
    assert station.state("P1").cells[first].removed is None
    assert browser.json("/api/patients/P1/audit")["n_answered"] == 1


def test_an_audit_is_not_drawn_again_until_it_is_answered(browser: Browser, station: Station) -> None:
    draw(browser)
    again = draw(browser)
    assert (again.status_code, "expected its answers first" in again.json()["error"]) == (400, True)
    answer(browser, station, 50)
    answer(browser, station, 16)
    assert draw(browser).status_code == 200


def test_only_a_complete_look_gives_an_estimate(browser: Browser, station: Station) -> None:
    draw(browser)
    answer(browser, station, 49)
    audit = browser.json("/api/patients/P1/estimate")["audit"]
    assert (audit["look"], audit["ratio"]) == (None, None)
    answer(browser, station, 1)
    audit = browser.json("/api/patients/P1/estimate")["audit"]
    assert (audit["look"], audit["ratio"]["n_named"], audit["ratio"]["found_cells_only"]) == (0, 50, True)
    frozen = station.patient("P1").frozen
    ratio = sum(cell.category == "N" for cell in frozen) / sum(cell.is_countable for cell in frozen)
    assert audit["ratio"]["fields"]["lower"] <= ratio <= audit["ratio"]["fields"]["upper"]
    answer(browser, station, 16)
    audit = browser.json("/api/patients/P1/estimate")["audit"]
    assert audit["advice"] == "all_named"
    assert audit["ratio"]["fields"]["estimate"] == pytest.approx(ratio)


def test_correcting_uncertain_cells_makes_no_estimate(browser: Browser, station: Station) -> None:
    cells = [cell for cell in station.patient("P1").frozen if cell.category == "N"][:5]
    browser.decide("P1", *({"kind": "relabel", "cell_id": cell.cell_id, "new": "N5"} for cell in cells))
    figures = browser.json("/api/patients/P1/estimate")
    machine = figures["machine"]
    assert (machine["corrected_x"], machine["is_estimate"]) == (machine["x"] - 5, False)
    assert (figures["full"], figures["audit"]) == (None, None)
    assert figures["progress"]["n"] == 5


def test_whole_fields_that_were_checked_add_the_missed_cells(browser: Browser, station: Station) -> None:
    draw(browser)
    answer(browser, station, 50)
    fields = browser.json("/api/patients/P1/audit")["fields"]
    outline = circle(440, 340, 12).ravel().tolist()
    browser.decide("P1", {"kind": "add", "new": {"field_id": fields[0], "contour_xy": outline, "code": "N"}})
    before = browser.json("/api/patients/P1/estimate")["audit"]["ratio"]
    assert before["found_cells_only"] is True
    browser.decide("P1", *({"kind": "field_checked", "new": {"field_id": name}} for name in fields))
    after = browser.json("/api/patients/P1/estimate")["audit"]["ratio"]
    assert after["found_cells_only"] is False
    assert after["fields"]["estimate"] > before["fields"]["estimate"]


def test_a_full_review_gives_x_of_n_without_the_machine(browser: Browser, station: Station) -> None:
    frozen = station.patient("P1").frozen
    events = [{"kind": "relabel", "cell_id": cell.cell_id, "new": truth(station, cell.cell_id)} for cell in frozen]
    browser.decide("P1", *events[1:], {"kind": "full_review"})
    full = browser.json("/api/patients/P1/estimate")["full"]
    assert (full["n_unnamed"], full["ratio"]) == (1, None)
    browser.decide("P1", events[0])
    full = browser.json("/api/patients/P1/estimate")["full"]
    assert (full["confirmed_by"], full["ratio"]["x"]) == ("Ada", sum(cell.category == "N" for cell in frozen))
    assert full["ratio"]["found_cells_only"] is True


def test_an_audited_patient_is_signed_on_its_last_complete_look(browser: Browser, station: Station) -> None:
    draw(browser)
    answer(browser, station, 50)
    browser.decide("P1", {"kind": "comment", "new": {"text": "enough", "about": "adequacy"}})
    for flag in station.cells.rows["P1"].flags:
        browser.decide("P1", {"kind": "flag_answered", "new": {"flag": flag.flag, "answer": "seen"}})
    seen = browser.json("/api/patients/P1/cells")["sequence"]
    assert browser.post("/api/patients/P1/sign", {"base": seen}).status_code == 200
    page = browser.get("/api/patients/P1/signed/1.html").text
    assert "Random audit: 50 of 66 cells were named by eye without seeing the machine" in page
    assert "98.3% intervals" in page
    assert "16 were only predicted" in page


def test_two_stations_draw_different_audits(browser: Browser, station: Station, tmp_path: Path) -> None:
    draw(browser)
    other = open_station(station.cells.runs[0].folder, tmp_path / "other" / "review.sqlite")
    others = enter(other)
    others.decide("P1", {"kind": "open"})
    draw(others)
    orders = [seen.json("/api/patients/P1/audit")["cells"] for seen in (browser, others)]
    assert orders[0] != orders[1]
    other.close()
