"""The audit over HTTP: frozen, in its order, without the calls; and the figures that follow from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from marrowscope.records import Patient
from marrowscope.review.audit import CBLC, Audit
from marrowscope.review.events import Draft
from marrowscope.review.full_review import full_review_interval
from marrowscope.review.live_estimate import audit_sides, drawn_audit
from marrowscope.review.store import ChangedError
from tests.fake_runs import circle, make_run
from tests.review.stations import Browser, open_station

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
    again = browser.decide("P1", {"kind": "audit_answer", "cell_id": first, "new": "R"})
    assert (again.status_code, "the first counts; relabel the cell instead" in again.json()["error"]) == (400, True)
    assert browser.decide("P1", {"kind": "relabel", "cell_id": first, "new": "R"}).status_code == 200
    assert station.state("P1").cells[first].code == "R"
    audit = browser.json("/api/patients/P1/audit")
    assert (audit["n_answered"], audit["cells"][0]["answer"]) == (1, None)


def test_a_patient_has_one_audit_of_three_looks(browser: Browser, station: Station) -> None:
    before = station.state("P1")
    draw(browser)
    answer(browser, station, 50)
    answer(browser, station, 16)
    again = draw(browser)
    assert (again.status_code, "one audit of three looks in all" in again.json()["error"]) == (400, True)
    predicted_again = replace(before, looks_spent=2)
    assert Audit.model_validate(drawn_audit(predicted_again, [], "s")["audit"]).sizes == (50,)


def test_the_calls_stay_hidden_until_every_cell_of_a_look_is_named(browser: Browser, station: Station) -> None:
    draw(browser)
    answer(browser, station, 49)
    before = browser.json("/api/patients/P1/estimate")["machine"]
    first, second = [item["cell_id"] for item in browser.json("/api/patients/P1/audit")["cells"]][:2]
    known = next(cell.cell_id for cell in station.patient("P1").frozen)
    assert set(browser.json("/api/patients/P1/cells")["model_category"]) == {None}
    for what in ("measures", "similar"):
        assert browser.get(f"/api/patients/P1/cells/{first}/{what}").status_code == 403
    log = [event for event in browser.json("/api/log")["events"] if event["kind"] == "audit_answer"]
    assert {event["model_value"] for event in log} == {None}
    assert (before["corrected_x"], before["n_reviewed"]) == (before["x"], 0), "a count that moves tells the call"
    answer(browser, station, 1)
    shown = browser.json("/api/patients/P1/cells")
    assert sum(category is not None for category in shown["model_category"]) == 50
    assert browser.get(f"/api/patients/P1/cells/{first}/measures").status_code == 200
    like = browser.json(f"/api/patients/P1/cells/{first}/similar")["cell_ids"]
    hidden = {name for name, call in zip(shown["cell_id"], shown["model_category"], strict=True) if call is None}
    assert set(like[-16:]) == hidden
    assert {first, second, known} <= set(shown["cell_id"])


def test_what_is_done_to_cells_after_the_draw_changes_them_and_not_the_audit(
    browser: Browser, station: Station
) -> None:
    named, redrawn = station.patient("P1").frozen[:2]
    outline = {"contour_xy": list(redrawn.contour_xy)}
    browser.decide(
        "P1",
        {"kind": "relabel", "cell_id": named.cell_id, "new": "N"},
        {"kind": "redraw", "cell_id": redrawn.cell_id, "new": outline},
    )
    draw(browser)
    stored = station.state("P1").audit or {}
    assert stored["named"] == {named.cell_id: "N"}, "a redrawn cell has no name"
    answer(browser, station, 50)
    wanted = browser.json("/api/patients/P1/estimate")["audit"]["ratio"]
    assert wanted["n_named"] == 51
    former = replace(station.state("P1"), audit={key: value for key, value in stored.items() if key != "named"})
    assert audit_sides(former, Audit.model_validate(stored["audit"]), station.vocabulary)[named.cell_id] == CBLC
    order = [item["cell_id"] for item in browser.json("/api/patients/P1/audit")["cells"]]
    cells = station.state("P1").cells
    gone, split = (cells[name] for name in order[:2])
    half = circle(split.contour_xy[0] - 20, split.contour_xy[1], 5).ravel().tolist()
    parts = {"parts": [{"contour_xy": list(split.contour_xy), "code": "N"}, {"contour_xy": half, "code": "V"}]}
    changes: list[dict[str, object]] = [
        {"kind": "relabel", "cell_id": named.cell_id, "new": None},
        {"kind": "delete", "cell_id": gone.cell_id},
        {"kind": "split", "cell_id": split.cell_id, "new": parts},
        *({"kind": "relabel", "cell_id": name, "new": "V"} for name in order[2:50]),
    ]
    changed = browser.decide("P1", *changes)
    assert changed.status_code == 200, changed.text
    assert browser.json("/api/patients/P1/estimate")["audit"]["ratio"]["fields"] == wanted["fields"]
    answer(browser, station, 15)
    assert browser.json("/api/patients/P1/estimate")["audit"]["ratio"]["n_named"] == 66


def test_an_answer_about_a_cell_that_others_replaced_is_the_audits_alone(browser: Browser, station: Station) -> None:
    """Two servers can record a split and a draw at the same moment."""
    draw(browser)
    first = browser.json("/api/patients/P1/audit")["next"]
    cell = station.state("P1").cells[first]
    part = {"field_id": cell.field_id, "contour_xy": list(cell.contour_xy), "code": None, "area_um2": None}
    parts = [{**part, "cell_id": name} for name in ("drawn-a", "drawn-b")]
    station.store.append([Draft("Bo", "P1", "split", first, None, {"parts": parts})])
    answer(browser, station, 1)
    state = station.state("P1")
    assert (state.cells[first].removed, state.audit_answers[first]) == ("split", truth(station, first))


def test_a_decision_that_an_audit_overtook_is_refused(browser: Browser, station: Station) -> None:
    seen = station.state("P1").sequence
    draw(browser)
    draft = Draft("Bo", "P1", "relabel", station.patient("P1").frozen[0].cell_id, None, "N")
    with pytest.raises(ChangedError, match=r"Ada recorded something about this patient meanwhile \(audit_drawn\)"):
        station.store.append([draft], unsigned_after=seen)


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
    x, n = audit["ratio"]["x"], audit["ratio"]["n"]
    census = full_review_interval(x, n, level=audit["level"]).fields
    assert x / n == pytest.approx(ratio)
    assert [audit["ratio"]["fields"][end] for end in ("lower", "upper")] == [census.lower, census.upper]
    browser.decide("P1", {"kind": "full_review"})
    figures = browser.json("/api/patients/P1/estimate")
    assert (figures["audit"]["ratio"], figures["full"]["ratio"]["x"]) == (None, x), "one ratio a patient"


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
    refused = browser.decide("P1", *events[1:], {"kind": "full_review"})
    assert (refused.status_code, "1 cell without a name" in refused.json()["error"]) == (400, True)
    assert browser.json("/api/patients/P1/estimate")["full"] is None
    browser.decide("P1", *events, {"kind": "full_review"})
    full = browser.json("/api/patients/P1/estimate")["full"]
    assert (full["confirmed_by"], full["ratio"]["x"]) == ("Ada", sum(cell.category == "N" for cell in frozen))
    assert full["ratio"]["found_cells_only"] is True


def test_an_audited_patient_is_signed_on_its_last_complete_look(browser: Browser, station: Station) -> None:
    earlier = station.patient("P1").frozen[:2]
    browser.decide("P1", *({"kind": "relabel", "cell_id": cell.cell_id, "new": "N"} for cell in earlier))
    draw(browser)
    answer(browser, station, 50)
    browser.decide("P1", {"kind": "comment", "new": {"text": "enough", "about": "adequacy"}})
    for flag in station.cells.rows["P1"].flags:
        browser.decide("P1", {"kind": "flag_answered", "new": {"flag": flag.flag, "answer": "seen"}})
    seen = browser.json("/api/patients/P1/cells")["sequence"]
    assert browser.post("/api/patients/P1/sign", {"base": seen}).status_code == 200
    page = browser.get("/api/patients/P1/signed/1.html").text
    assert "Random audit: 50 of 66 cells were named by eye without seeing the machine" in page
    assert "Cells named before the audit was drawn, with the machine&#39;s call in sight: 2." in page
    assert "98.3% intervals" in page
    assert "14 were only predicted" in page


def test_the_seed_of_an_audit_is_the_servers_chance_and_stands_in_its_event(
    browser: Browser, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: f"{n} bytes of chance")
    before = station.state("P1")
    draw(browser)
    stored = station.state("P1").audit
    assert stored is not None
    assert stored["audit"]["seed"] == "32 bytes of chance"
    fields = [field.field_id for field in station.patient("P1").fields.values()]
    assert drawn_audit(before, fields, "32 bytes of chance") == stored, "anyone can draw it again"
