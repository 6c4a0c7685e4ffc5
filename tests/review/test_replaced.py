"""What must not meet: a decision and another prediction, two readers' answers, a review and a later decision."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from marrowscope.errors import ReviewError
from marrowscope.review.accounts import add_account, utc_now
from marrowscope.review.database import EVENTS, HEAD, writing
from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.run_cells import RunCells
from marrowscope.review.station import Station
from marrowscope.review.store import ChangedError, ConflictError, ReplacedError, Store, TamperedError
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import write_run
from tests.review.stations import Browser, enter, enter_as
from tests.review.test_sign import answer_flags, make_ready, name_all, sign

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fake_runs import FakeRun


def as_reader(station: Station, name: str) -> Browser:
    return enter_as(station, name)


@pytest.fixture
def three(station: Station) -> tuple[Browser, Browser, Browser]:
    """Give two readers and a signer of one station."""
    station.lone_reader = None
    for name, role in (("ada", "reader"), ("bo", "reader"), ("cy", "signer")):
        add_account(station.store.engine, name, [role])
    return as_reader(station, "ada"), as_reader(station, "bo"), as_reader(station, "cy")


def predicted_again(run: FakeRun) -> None:
    run.cells = [
        {
            **cell,
            "cell_id": f"new-{cell['cell_id']}",
            "contour_xy": (np.asarray(cell["contour_xy"]) + 1.0).tolist(),
        }
        for cell in run.cells
    ]
    write_run(run, list(TWO_PATIENTS))


def test_a_station_whose_run_was_replaced_records_nothing_more(
    fake_run: Callable[..., FakeRun], tmp_path: Path, database_url: str
) -> None:
    run = fake_run()
    old_folder = tmp_path / "old"
    shutil.copytree(run.folder, old_folder)
    before = Station(RunCells([old_folder]), Store(database_url), lone_reader="Ada")
    cell_id = next(iter(before.state("P1").cells))
    before.decide("P1", "Ada", [Decision("relabel", cell_id, "N1")], 1)
    checked = before.state("P1").sequence
    predicted_again(run)
    after = Station(RunCells([run.folder]), Store(database_url), lone_reader="Ada")
    head = after.store.head()
    late = Decision("relabel", next(iter(before.patient("P2").frozen)).cell_id, "R")
    with pytest.raises(ReplacedError, match="'P2': the run under review was replaced; open the page again"):
        before.decide("P2", "Ada", [late], head.sequence)
    for attempt in (
        lambda: before.state("P1"),
        lambda: before.decide("P1", "Ada", [Decision("relabel", cell_id, "R")], head.sequence),
        lambda: before.draw("P1", "Ada"),
    ):
        with pytest.raises(ReplacedError, match="open the page again"):
            attempt()
    with pytest.raises(ReplacedError):  # checked before the other station began, recorded after
        before.store.append([Draft("Ada", "P1", "relabel", cell_id, None, "R")], bound={"P1": checked - 1})
    assert enter(before).get("/api/patients/P1/cells").status_code == 409
    assert after.store.head() == head
    assert after.state("P1").cells[f"new-{cell_id}"].code == "N1"
    before.close()
    after.close()


def test_a_log_that_holds_a_decision_about_another_run_stays_readable(station: Station, browser: Browser) -> None:
    first, second = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    station.store.append([Draft("Ada", "P1", "relabel", "gone", None, "N", {"category": "N"})])
    assert browser.decide("P1", {"kind": "relabel", "cell_id": first, "new": "R"}).status_code == 200
    shown = browser.json("/api/patients/P1/cells")
    assert shown["code"][:2] == ["R", None]
    (misplaced,) = shown["misplaced"]
    assert (misplaced["kind"], misplaced["reader"], misplaced["cell_id"]) == ("relabel", "Ada", "gone")
    assert browser.decide("P1", {"kind": "relabel", "cell_id": second, "new": "R"}).status_code == 200
    assert station.store.verify() == []


def test_who_decided_after_a_full_review_withdraws_it_and_is_named(
    three: tuple[Browser, Browser, Browser], station: Station
) -> None:
    ada, bo, cy = three
    name_all(ada)
    comment = {"kind": "comment", "new": {"text": "enough", "about": "adequacy"}}
    assert ada.decide("P1", {"kind": "full_review"}, comment).status_code == 200
    answer_flags(ada, station)
    cells = ada.json("/api/patients/P1/cells")["cell_id"]
    assert bo.decide("P1", *({"kind": "relabel", "cell_id": name, "new": "L"} for name in cells)).status_code == 200
    shown = bo.json("/api/patients/P1/cells")
    assert (shown["full_review_by"], shown["full_review_withdrawn"]) == (None, ["ada", "bo"])
    refused = sign(cy)
    assert (refused.status_code, "the full review by ada no longer stands: bo decided" in refused.text) == (400, True)
    assert bo.decide("P1", {"kind": "full_review"}).status_code == 200
    assert sign(cy).status_code == 200
    day = utc_now().date().isoformat()
    text = cy.get("/api/patients/P1/signed/1.html").text
    assert f"confirmed by bo on {day}" in text
    n = len(cells)
    assert f"Who decided about cells by eye: ada ({n} cells, {day}); bo ({n} cells, {day})." in text


def test_a_cell_without_a_name_keeps_a_full_review_from_standing(browser: Browser, station: Station) -> None:
    station.store.append([Draft("Ada", "P1", "full_review", new=True)])
    assert station.state("P1").full_review_by is None
    assert browser.decide("P1", {"kind": "full_review"}).status_code == 400
    name_all(browser)
    assert browser.decide("P1", {"kind": "full_review"}).status_code == 200
    assert station.state("P1").full_review_by == "Ada"


def test_two_readers_do_not_overwrite_what_is_no_cell(
    three: tuple[Browser, Browser, Browser], station: Station
) -> None:
    ada, bo, _ = three
    flag = station.cells.rows["P1"].flags[0].flag
    base = ada.json("/api/patients/P1/cells")["sequence"]
    said = [{"kind": "flag_answered", "new": {"flag": flag, "answer": text}} for text in ("bad smear", "fine")]
    assert ada.decide("P1", said[0], base=base).status_code == 200
    late = bo.decide("P1", said[1], base=base)
    assert (late.status_code, "ada recorded something" in late.json()["error"]) == (409, True)
    assert station.state("P1").flags_answered[flag] == "bad smear"
    assert bo.decide("P1", said[1]).status_code == 200, "who saw it may answer otherwise"
    field = {"kind": "field_checked", "new": {"field_id": "P1/field_0"}}
    base = station.store.head().sequence
    assert (ada.decide("P1", field, base=base).status_code, bo.decide("P1", field, base=base).status_code) == (200, 409)
    name_all(ada)
    base = station.store.head().sequence
    assert ada.decide("P1", {"kind": "full_review"}, base=base).status_code == 200
    assert bo.decide("P1", {"kind": "full_review", "new": False}, base=base).status_code == 409
    cell_id = station.patient("P1").frozen[0].cell_id
    relabel = {"kind": "relabel", "cell_id": cell_id, "new": "L"}
    assert bo.decide("P1", relabel, base=base).status_code == 409, "it would withdraw what bo has not seen"
    assert station.state("P1").full_review_by == "ada"
    assert bo.decide("P1", relabel).status_code == 200
    assert ada.decide("P1", {"kind": "full_review"}, base=station.store.head().sequence - 1).status_code == 409


def test_one_cell_is_split_once_also_by_requests_at_once(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = station.patient("P1").frozen[0]
    x, y = np.reshape(cell.contour_xy, (-1, 2)).mean(axis=0)
    seen = station.store.head().sequence
    stale = station.state("P1")
    append = station.store.append

    def parts(shift: float) -> dict[str, Any]:
        return {"parts": [{"contour_xy": [x + dx, y, x + dx + 4, y, x + dx, y + 4 + shift]} for dx in (0.0, 5.0)]}

    def late(drafts: Any, base: Any, **more: Any) -> Any:  # noqa: ANN401
        return append(drafts, base, **{**more, "unsigned_after": stale.sequence})

    monkeypatch.setattr(station.store, "append", late)  # as if each was checked before any was recorded
    monkeypatch.setattr(station, "_unlocked", lambda _: station_state())

    def station_state() -> Any:  # noqa: ANN401
        from dataclasses import replace

        return replace(stale, cells=dict(stale.cells))

    def split(number: int) -> str:
        try:
            station.decide("P1", "Ada", [Decision("split", cell.cell_id, parts(number / 10))], seen)
        except ChangedError as error:
            return str(error)
        return "recorded"

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(split, range(8)))
    assert answers.count("recorded") == 1
    assert {answer for answer in answers if answer != "recorded"} == {
        "Ada recorded something about this patient meanwhile (split); look at it, then try again"
    }
    assert [event.kind for event in station.store.read("P1")].count("split") == 1


def test_a_base_that_nobody_can_have_seen_is_refused(browser: Browser, station: Station) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    answer = browser.decide("P1", {"kind": "relabel", "cell_id": cell_id, "new": "R"}, base=10**9)
    assert (answer.status_code, "found base 1000000000, expected at most" in answer.json()["error"]) == (400, True)
    make_ready(browser, station)
    assert "found base 1000000000" in sign(browser, base=10**9).json()["error"]
    with pytest.raises(ReviewError, match="expected at most"):
        station.store.append([Draft("Ada", "P1", "open")], alone_after=10**9)


def test_values_that_break_a_check_are_refused_with_a_sentence(browser: Browser, station: Station) -> None:
    far = {"field_id": "P1/field_0", "contour_xy": [10**400, 0, 9, 0, 9, 9], "code": None}
    for event in (
        {"kind": "flag_answered", "new": {"flag": ["x"], "answer": "y"}},
        {"kind": "merge", "new": {"cells": [["a"], ["b"]]}},
        {"kind": "add", "new": far},
    ):
        answer = browser.decide("P1", event)
        assert (answer.status_code, "nothing was recorded" in answer.json()["error"]) == (400, True), event
    station.runs_root = station.cells.runs[0].folder.parent
    answer = browser.post("/api/runs", {"path": "a\0b"})
    assert (answer.status_code, "no path has" in answer.json()["error"]) == (400, True), answer.text


def edit(store: Store, *statements: Any) -> None:  # noqa: ANN401
    with writing(store.engine) as connection:
        for trigger in connection.execute(sa.text("select name from sqlite_master where type='trigger'")).all():
            connection.execute(sa.text(f"drop trigger {trigger.name}"))
        for statement in statements:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)


COPIED = (
    "insert into events select {}, time_utc, reader, patient_id, cell_id, kind, old, new, model_value, previous_hash, "
    "hash from events where sequence = 1"
)
EDITS = {
    "number_0": (COPIED.format("0"), "a row has the number 0"),
    "number_text": (COPIED.format("'abc'"), "a row has the number 'abc'"),
    "number_part": (COPIED.format("1.5"), "a row has the number 1.5"),
    "two_heads": ("insert into head select 2, sequence, hash from head", "the log has 2 heads of the chain"),
    "no_head": ("delete from head", "the log has 0 heads of the chain"),
    "head_set_back": ("update head set sequence = 1", "stand after the head of the chain"),
    "nan": ("update events set new = 'NaN' where sequence = 2", "event 2 (relabel by Ada"),
    "blob": ("update events set new = x'ff00' where sequence = 2", "event 2 (relabel by Ada"),
    "deep": (EVENTS.update().where(EVENTS.c.sequence == 2).values(new="[" * 100_000), "event 2 (relabel by Ada"),
    "spaces": ("update events set new = ' \"R\" ' where sequence = 2", "event 2 has no text that the station writes"),
    "reader": ("update events set reader = x'616461' where sequence = 2", "event 2 (relabel"),
    "head_of_nothing": (HEAD.update().values(sequence=0, hash="a" * 64), "stand after the head"),
}


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_of_the_tables_is_a_fault_that_names_its_row(station: Station, name: str) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    station.decide("P1", "Ada", [Decision("relabel", cell_id, "R")], 1)
    assert station.store.verify() == []
    statement, sentence = EDITS[name]
    edit(station.store, statement)
    found = station.store.verify()
    assert [fault for fault in found if sentence in fault.sentence], found


def test_an_edited_signature_is_not_served(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    sequence = sign(browser).json()["sequence"]
    served = browser.get("/api/patients/P1/signed/1.html")
    assert served.status_code == 200
    assert browser.decide("P2", {"kind": "open"}).status_code == 200
    value = next(event for event in station.store.read("P1") if event.kind == "sign").new
    value["figures"]["full"]["ratio"]["x"] = 140
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    edit(station.store, EVENTS.update().where(EVENTS.c.sequence == sequence).values(new=text))
    for kind in ("html", "json", "hl7", "pdf"):
        answer = browser.get(f"/api/patients/P1/signed/1.{kind}")
        assert (answer.status_code, "the signed result is not shown: event" in answer.json()["error"]) == (409, True)


def test_a_signature_is_not_served_where_the_chain_after_it_was_changed(browser: Browser, station: Station) -> None:
    make_ready(browser, station)
    sequence = sign(browser).json()["sequence"]
    assert browser.decide("P2", {"kind": "open"}).status_code == 200
    edit(station.store, EVENTS.update().where(EVENTS.c.sequence == sequence + 1).values(reader="Bo"))
    with pytest.raises(TamperedError, match=f"event {sequence + 1} "):
        station.signed_version("P1", 1)


def test_another_readers_decision_about_a_cell_is_still_a_conflict(station: Station) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    base = station.store.head().sequence
    station.decide("P1", "ada", [Decision("relabel", cell_id, "R")], base)
    with pytest.raises(ConflictError):
        station.decide("P1", "bo", [Decision("not_a_cell", cell_id)], base)
