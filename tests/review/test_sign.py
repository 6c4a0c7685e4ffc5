"""Sign-off: what must be done first, what locks, what an amendment keeps, and what the documents say."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from pypdf import PdfReader

from marrowscope.report.words import load_words
from marrowscope.review.accounts import add_account, utc_now
from marrowscope.review.audit import draw_audit
from marrowscope.review.events import Draft
from marrowscope.review.guard import COOKIE
from marrowscope.review.live_estimate import audit_view, frame_of, hidden_cells
from marrowscope.review.sessions import begin_session
from marrowscope.review.sign import preliminary_value
from marrowscope.review.signed_documents import (
    escaped,
    page_policy,
    ratio_sentences,
    signed_fhir,
    signed_hl7,
    signed_html,
)
from marrowscope.review.signed_pdf import signed_pdf
from tests.review.stations import READER, Browser, enter, new_client

if TYPE_CHECKING:
    import httpx2 as httpx

    from marrowscope.review.patient_state import Signature
    from marrowscope.review.station import Station

CODE_OF = {"Other": "V", "E": "E", "M": "M", "L": "L2"}


def name_all(browser: Browser, patient_id: str = "P1") -> None:
    """Name every cell as the model called it."""
    cells = browser.json(f"/api/patients/{patient_id}/cells")
    events = [
        {"kind": "relabel", "cell_id": cell_id, "new": CODE_OF.get(category, category)}
        for cell_id, category in zip(cells["cell_id"], cells["model_category"], strict=True)
    ]
    assert browser.decide(patient_id, *events).status_code == 200


def answer_flags(browser: Browser, station: Station, patient_id: str = "P1") -> None:
    for flag in station.cells.rows[patient_id].flags:
        event = {"kind": "flag_answered", "new": {"flag": flag.flag, "answer": "looked at; harmless"}}
        assert browser.decide(patient_id, event).status_code == 200


def make_ready(browser: Browser, station: Station) -> None:
    name_all(browser)
    comment = {"kind": "comment", "new": {"text": "Cells & fields <enough>|^", "about": "adequacy"}}
    assert browser.decide("P1", {"kind": "full_review"}, comment).status_code == 200
    answer_flags(browser, station)


def lacking(browser: Browser) -> list[str]:
    return [item["key"] for item in browser.json("/api/patients/P1/checklist")["items"] if not item["done"]]


def sign(browser: Browser, base: int | None = None) -> httpx.Response:
    seen = browser.json("/api/patients/P1/cells")["sequence"] if base is None else base
    return browser.post("/api/patients/P1/sign", {"base": seen})


def amend(browser: Browser, reason: str = "a cell was named wrongly") -> httpx.Response:
    return browser.post("/api/patients/P1/amend", {"reason": reason})


def test_the_checklist_names_what_is_lacking_until_all_is_done(browser: Browser, station: Station) -> None:
    first = ["reviewed", "adequacy", *(["flags"] if station.cells.rows["P1"].flags else [])]
    assert lacking(browser) == first
    answer = sign(browser)
    assert answer.status_code == 400
    assert "no full review is confirmed; fewer than 50 cells are left for chance" in answer.json()["error"]
    refused = browser.decide("P1", {"kind": "full_review"})
    assert (refused.status_code, "a name for every cell first" in refused.json()["error"]) == (400, True)
    name_all(browser)
    assert browser.decide("P1", {"kind": "full_review"}).status_code == 200
    browser.decide("P1", {"kind": "comment", "new": {"text": "fine", "about": "adequacy"}})
    answer_flags(browser, station)
    assert lacking(browser) == []
    assert sign(browser).status_code == 200


def test_the_checklist_speaks_the_language_of_the_page(large_station: Station) -> None:
    station, browser = large_station, enter(large_station)

    def said(lang: str) -> dict[str, str]:
        items = browser.json(f"/api/patients/P1/checklist?lang={lang}")["items"]
        return {item["key"]: item["sentence"] for item in items}

    assert "(none was drawn)" in said("en")["reviewed"]
    assert browser.post("/api/patients/P1/audit", {}).status_code == 200
    view = audit_view(station.state("P1"))
    assert view is not None
    n = view.audit.sizes[0]
    english, chinese = said("en"), said("zh")
    assert english["named"] == "every cell that readers added has a name"
    assert english["reviewed"] == f"neither a full review nor a random audit is done (0 of {n} cells named)"
    words = load_words("zh")
    assert chinese["reviewed"] == words.plain("checklist.reviewed.begun", named=0, cell=words.count("cell", n))
    flags = [words.name("flag", flag.flag) for flag in station.cells.rows["P1"].flags]
    assert flags
    assert all(flag in chinese["flags"] for flag in flags)
    assert not [text for text in chinese.values() if any("a" <= sign <= "z" for sign in text)]


def test_an_auditor_opens_what_was_signed_and_cannot_sign(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    assert sign(browser).status_code == 200
    station.lone_reader = None
    add_account(station.store.engine, "eve", ["auditor"])
    client = new_client(station)
    client.cookies.set(COOKIE, begin_session(station.store.engine, "eve", utc_now()))
    eve = Browser(client)
    eve.csrf = eve.json("/api/session")["csrf"]
    for kind in ("html", "json", "hl7", "pdf"):
        assert eve.get(f"/api/patients/P1/signed/1.{kind}").status_code in {200, 501}, kind
    head = station.store.head()
    assert (sign(eve).status_code, amend(eve).status_code, station.store.head()) == (403, 403, head)


def test_a_signed_patient_takes_no_decision(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    signed = sign(browser)
    head = station.store.head()
    assert signed.json() == {"sequence": head.sequence, "head": head.hash, "version": 1}
    cell_id = station.patient("P1").frozen[0].cell_id
    for event in ({"kind": "relabel", "cell_id": cell_id, "new": "R"}, {"kind": "comment", "new": {"text": "x"}}):
        answer = browser.decide("P1", event)
        assert (answer.status_code, "amend the result first" in answer.json()["error"]) == (409, True)
    assert sign(browser).status_code == 409
    assert browser.post("/api/patients/P1/audit", {}).status_code == 409
    assert station.store.head() == head
    assert browser.decide("P2", {"kind": "open"}).status_code == 200, "another patient is not locked"


def test_nobody_signs_what_changed_since_it_was_seen(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    seen = browser.json("/api/patients/P1/cells")["sequence"]
    browser.decide("P1", {"kind": "comment", "new": {"text": "wait"}})
    answer = sign(browser, base=seen)
    assert (answer.status_code, "meanwhile (comment)" in answer.json()["error"]) == (409, True)
    assert sign(browser).status_code == 200


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1b", "\x7f", "\ufffe"])
def test_a_character_that_no_document_can_hold_is_refused(browser: Browser, station: Station, character: str) -> None:
    make_ready(browser, station)
    text = f"Cellular{character}marrow"
    said = [
        browser.decide("P1", {"kind": "comment", "new": {"text": text, "about": "adequacy"}}),
        browser.decide("P1", {"kind": "comment", "new": {"text": "Cellular\tmarrow,\r\n\u9aa8\u9ad3 \U0001f9b4"}}),
    ]
    sign(browser)
    said += [amend(browser, text), amend(browser)]
    assert [answer.status_code for answer in said] == [400, 200, 400, 200]
    assert all("that no document can hold, expected" in answer.json()["error"] for answer in said[::2])


def test_an_amendment_needs_a_reason_and_keeps_the_signed_version(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    assert amend(browser).status_code == 400, "nothing is signed yet"
    sign(browser)
    first = browser.get("/api/patients/P1/signed/1.json").text
    assert amend(browser, "  ").status_code == 400
    assert amend(browser).status_code == 200
    assert browser.json("/api/worklist")[0]["status"] == "amending"
    cell = next(cell for cell in station.patient("P1").frozen if cell.category == "N")
    browser.decide("P1", {"kind": "relabel", "cell_id": cell.cell_id, "new": "N5"})
    assert "the full review by Ada no longer stands: Ada decided" in sign(browser).json()["error"]
    browser.decide("P1", {"kind": "full_review"})
    assert sign(browser).json()["version"] == 2
    assert browser.get("/api/patients/P1/signed/1.json").text == first
    second = station.state("P1").signatures[1].value
    assert (second["status"], second["reason"]) == ("amended", "a cell was named wrongly")
    assert second["cells"]["changed_by_eye"] == 1
    before = station.state("P1").signatures[0].value
    x = [value["figures"]["full"]["ratio"]["x"] for value in (before, second)]
    assert x[1] == x[0] - 1
    assert "Reason for the amendment: a cell was named wrongly" in browser.get("/api/patients/P1/signed/2.html").text
    assert browser.get("/api/patients/P1/signed/3.html").status_code == 404
    assert browser.get("/api/patients/P1/signed/1.doc").status_code == 404


@pytest.fixture
def signature(browser: Browser, station: Station) -> Signature:
    make_ready(browser, station)
    sign(browser)
    return station.state("P1").signatures[0]


def test_the_signature_counts_what_was_named_and_what_was_predicted(signature: Signature, station: Station) -> None:
    frozen, value = station.patient("P1").frozen, signature.value
    assert value["cells"]["named_by_eye"] == value["cells"]["present"] == len(frozen)
    assert value["cells"]["predicted_only"] == value["cells"]["changed_by_eye"] == 0
    ratio = value["figures"]["full"]["ratio"]
    assert (ratio["x"], ratio["n"]) == (
        sum(cell.category == "N" for cell in frozen),
        sum(cell.category != "Other" for cell in frozen),
    )
    assert value["head_before"]["sequence"] == signature.sequence - 1


def test_the_page_names_reader_time_ratio_and_head(signature: Signature, browser: Browser) -> None:
    answer = browser.get("/api/patients/P1/signed/1.html")
    assert answer.headers["content-security-policy"] == page_policy()
    assert answer.headers["x-frame-options"] == "DENY"
    ratio = signature.value["figures"]["full"]["ratio"]
    for words in (
        f"Signed by {READER} on {signature.time_utc[:10]}",
        f"{ratio['x']} of {ratio['n']} countable cells",
        f"confirmed by {READER}",
        signature.head_hash,
        "does not diagnose",
        "Cells &amp; fields &lt;enough&gt;|^",
        "Final, version 1",
    ):
        assert words in answer.text, words
    assert "<script" not in answer.text
    assert "http" not in answer.text


def test_the_page_is_there_in_chinese(signature: Signature) -> None:
    page = signed_html(signature, "zh")
    assert 'lang="zh-Hans"' in page
    assert load_words("zh").strings("signed.status.final", version=1) in page


def test_the_fhir_document_is_valid_and_final(signature: Signature) -> None:
    text = signed_fhir(signature)
    bundle = Bundle.model_validate_json(text)
    report = json.loads(text)["entry"][0]["resource"]
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "final")
    assert report["performer"][0]["display"] == READER
    ids = {entry["fullUrl"] for entry in json.loads(text)["entry"]}
    assert {item["reference"] for item in report["result"]} <= ids
    assert signature.head_hash in text
    assert "loinc" not in text.casefold()
    assert len(bundle.entry or []) > 5


def test_the_pdf_says_what_the_page_says(signature: Signature, browser: Browser) -> None:
    answer = browser.get("/api/patients/P1/signed/1.pdf")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    text = "".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(answer.content)).pages).split())
    words = load_words()
    said = [*ratio_sentences(signature, words), f"Signed by {READER}", signature.head_hash, "Final, version 1"]
    for sentence in [*said, "Cells & fields <enough>|^", words.strings("research_use")]:
        assert "".join(sentence.split()) in text.replace("\u200b", ""), sentence
    assert signed_pdf(signature) == answer.content, "the same version gives the same bytes"


def test_before_a_signature_the_documents_are_preliminary_and_conclude_nothing(
    browser: Browser, station: Station
) -> None:
    def report() -> dict[str, Any]:
        text = browser.get("/api/patients/P1/preliminary.json").text
        Bundle.model_validate_json(text)
        entries = [entry["resource"] for entry in json.loads(text)["entry"]]
        assert entries[0]["status"] == "preliminary"
        assert "conclusion" not in entries[0]
        return {entry["code"]["text"]: entry for entry in entries}

    ratio = load_words().strings("signed.ratio")
    before = report()
    assert "valueQuantity" not in before[ratio], "no audit and no full review"
    assert "No ratio is stated" in json.dumps(before[ratio]["note"])
    page = browser.get("/api/patients/P1/preliminary.html").text
    assert "Preliminary result, not signed" in page
    assert "Signed by" not in page
    message = browser.get("/api/patients/P1/preliminary.hl7").text
    assert {part.split("|")[11] for part in message.split("\r") if part.startswith("OBX")} == {"P"}
    assert browser.get("/api/patients/P1/preliminary.pdf").content.startswith(b"%PDF")
    assert browser.get("/api/patients/P1/preliminary.doc").status_code == 404
    make_ready(browser, station)
    assert "valueQuantity" in report()[ratio], "reviewed in full, and not signed yet"
    other = json.loads(browser.get("/api/patients/P2/preliminary.json").text)
    mine = json.loads(browser.get("/api/patients/P1/preliminary.json").text)
    assert not {item["fullUrl"] for item in other["entry"]} & {item["fullUrl"] for item in mine["entry"]}
    sign(browser)
    answer = browser.get("/api/patients/P1/preliminary.html")
    assert (answer.status_code, "found a signed result" in answer.json()["error"]) == (409, True)


def test_no_count_of_a_preliminary_document_moves_with_an_answer_of_an_open_look(large_station: Station) -> None:
    """Whoever prints before and after naming a drawn cell must not read from it what the machine had called."""
    station, browser = large_station, enter(large_station)
    assert browser.post("/api/patients/P1/audit", {}).status_code == 200
    counts = ("codes", "categories")

    def stated() -> dict[str, Any]:
        value = preliminary_value(station.chart("P1"), READER, station.store.head())
        return {name: value[name] for name in counts} | {"changed": value["cells"]["changed_by_eye"]}

    before = stated()
    view = audit_view(station.state("P1"))
    assert view is not None
    drawn = browser.decide("P1", {"kind": "audit_answer", "cell_id": view.next_cell, "new": "R"})
    assert drawn.status_code == 200, drawn.text
    assert stated() == before
    n_hidden = len(hidden_cells(station.state("P1")))
    assert n_hidden
    assert f"none of the counts by category: {n_hidden}." in browser.get("/api/patients/P1/preliminary.html").text


def test_the_hl7_message_has_its_segments_and_ends_them_where_they_end(signature: Signature) -> None:
    message = signed_hl7(signature)
    segments = message.split("\r")
    assert segments[-1] == ""
    assert {segment[:4] for segment in segments[:-1]} == {"MSH|", "PID|", "OBR|", "OBX|"}
    header = segments[0].split("|")
    assert (header[1], header[8], header[11], header[17]) == ("^~\\&", "ORU^R01^ORU_R01", "2.5.1", "UNICODE UTF-8")
    assert segments[1].split("|")[3] == "P1"
    assert segments[2].split("|")[25] == "F"
    observed = [segment.split("|") for segment in segments[3:-1]]
    assert [int(fields[1]) for fields in observed] == list(range(1, len(observed) + 1))
    assert {fields[11] for fields in observed} == {"F"}
    assert {fields[2] for fields in observed} == {"NM", "ST", "TX"}
    assert "\n" not in message
    assert r"Cells \T\ fields <enough>\F\\S\ "[:-1] in message
    assert signature.head_hash in message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a|b^c&d~e\\f", r"a\F\b\S\c\T\d\R\e\E\f"), ("a\nb\r\nc\rd", r"a\.br\b\.br\c\.br\d"), ("", ""), ("浆", "浆")],
)
def test_delimiters_of_hl7_are_escaped(text: str, wanted: str) -> None:
    assert escaped(text) == wanted


def test_a_comment_cannot_reorder_the_signed_page(browser: Browser, station: Station) -> None:
    """A mark that writes from right to left could turn a figure around for the eye."""
    make_ready(browser, station)
    comment = {"kind": "comment", "new": {"text": "enough \u202e0.2 fo 8.0", "about": "adequacy"}}
    assert browser.decide("P1", comment).status_code == 200
    assert sign(browser).status_code == 200
    page = browser.client.get("/api/patients/P1/signed/1.html").text
    assert "enough" in page
    assert "\u202e" not in page


def test_out_of_depth_the_machine_has_no_count_until_a_review_gives_a_ratio(
    browser: Browser, station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = station.cells.rows["P1"]
    monkeypatch.setitem(station.cells.rows, "P1", row.model_copy(update={"state": "out_of_depth"}))

    def printed() -> str:
        return browser.get("/api/patients/P1/preliminary.html").text

    assert browser.json("/api/patients/P1/estimate")["machine"] is None
    assert "The machine alone called" not in printed()
    assert "The machine alone called" in browser.get("/api/patients/P2/preliminary.html").text
    make_ready(browser, station)
    machine = browser.json("/api/patients/P1/estimate")["machine"]
    assert f"The machine alone called {machine['x']} of {machine['n']}." in printed()


@pytest.mark.parametrize("n_left", [0, 49])
def test_fewer_cells_than_a_look_are_named_in_full_and_no_audit(large_station: Station, n_left: int) -> None:
    """An audit of what a reader left over says nothing, refused now or drawn by an earlier version."""
    station, browser = large_station, enter(large_station)
    state = station.state("P1")
    named = [cell.cell_id for cell in state.present][: len(state.present) - n_left]
    browser.decide("P1", *({"kind": "relabel", "cell_id": name, "new": "L2"} for name in named))
    refused = browser.post("/api/patients/P1/audit", {})
    assert refused.status_code == 400
    assert "expected 50 or more to draw from; name them all and confirm a full review" in refused.json()["error"]
    few = "fewer than 50 cells are left for chance to draw from, so name them all"
    none = "no cell is left to draw for an audit, so confirm that every cell is reviewed"
    said = browser.json("/api/patients/P1/checklist")["items"][1]["sentence"]
    assert (few if n_left else none) in said
    frame, sizes = frame_of(station.state("P1")), (50, 100, 200)
    drawn = {
        "audit": draw_audit(frame, "s", sizes).model_dump(mode="json"),
        "fields": [],
        "named": dict.fromkeys(named),
    }
    station.store.append([Draft(READER, "P1", "audit_drawn", None, None, drawn)])
    view = audit_view(station.state("P1"))
    assert view is not None
    assert view.audit.sizes == (n_left,)
    for name in view.order:
        assert browser.decide("P1", {"kind": "audit_answer", "cell_id": name, "new": "L2"}).status_code == 200
    assert browser.json("/api/patients/P1/estimate")["audit"]["ratio"] is None
    assert none in browser.json("/api/patients/P1/checklist")["items"][1]["sentence"]
    assert "reviewed" in lacking(browser)


def test_an_audit_that_ended_with_every_cell_does_not_say_that_others_are_estimated(large_station: Station) -> None:
    station, browser = large_station, enter(large_station)
    named = station.patient("P1").frozen[0].cell_id
    browser.decide("P1", {"kind": "relabel", "cell_id": named, "new": "L2"})
    browser.post("/api/patients/P1/audit", {})
    view = audit_view(station.state("P1"))
    assert view is not None
    said = []
    for name in view.order:
        browser.decide("P1", {"kind": "audit_answer", "cell_id": name, "new": "L2"})
        said.append("the others are estimated" in browser.get("/api/patients/P1/preliminary.html").text)
    assert said.index(True) == 49
    assert said.index(False, 49) == len(view.order) - 1
    text = browser.get("/api/patients/P1/preliminary.html").text
    assert f"ended with every cell named by eye, {len(view.order)} of {len(view.order) + 1} without" in text
