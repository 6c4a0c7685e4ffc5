"""Two readers who must not see each other: calls, decisions and conflicts are hidden, until somebody adjudicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.review.accounts import add_account, change_account, utc_now
from marrowscope.review.database import ACCOUNTS, writing
from marrowscope.review.events import Draft
from marrowscope.review.live_estimate import audit_view
from marrowscope.review.sessions import begin_session, find_session
from tests.fake_runs import circle
from tests.review.stations import Browser, enter_as, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from marrowscope.review.station import Station
    from marrowscope.review.store import Appended
    from tests.fake_runs import FakeRun


@pytest.fixture
def station(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Station]:
    station = open_station(fake_run(n_fields=6).folder, tmp_path / "review" / "review.sqlite", reader=None)
    for name, role in (("ada", "reader"), ("bo", "reader"), ("cy", "reader"), ("dee", "signer"), ("eve", "auditor")):
        add_account(station.store.engine, name, [role] if name != "bo" else ["reader", "signer", "auditor"])
    yield station
    station.close()


@pytest.fixture
def as_reader(station: Station) -> Callable[[str], Browser]:
    def entered(name: str) -> Browser:
        return enter_as(station, name)

    return entered


@pytest.fixture
def assigned(as_reader: Callable[[str], Browser]) -> Callable[[str], Browser]:
    answer = as_reader("dee").post("/api/assign", {"patients": ["P1"], "readers": ["ada", "bo"]})
    assert answer.status_code == 200, answer.text
    return as_reader


def relabel(cell_id: str, code: str) -> dict[str, str]:
    return {"kind": "relabel", "cell_id": cell_id, "new": code}


def name_all(browser: Browser, code: str = "N") -> None:
    """Name every cell of P1 that has no name in this reader's sight."""
    seen = browser.json("/api/patients/P1/cells")
    columns = zip(seen["cell_id"], seen["code"], seen["removed"], strict=True)
    events = [relabel(cell_id, code) for cell_id, named, removed in columns if named is None and removed is None]
    assert not events or browser.decide("P1", *events).status_code == 200


def drawn(station: Station, radius: float, code: str | None = "J") -> dict[str, Any]:
    """Return the decision that adds a cell to an empty place of P1's first field."""
    field_id = station.patient("P1").frozen[0].field_id
    new = {"field_id": field_id, "contour_xy": circle(440, 340, radius).ravel().tolist(), "code": code}
    return {"kind": "add", "new": new}


def adjudicate(cell_id: str, code: str | None) -> dict[str, Any]:
    return {"kind": "adjudicate", "cell_id": cell_id, "new": code}


def test_blinded_readers_see_no_call_and_no_decision_of_each_other(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, bo = assigned("ada"), assigned("bo")
    cell_id = station.patient("P1").frozen[0].cell_id
    assert ada.decide("P1", relabel(cell_id, "N")).status_code == 200
    cells = bo.json("/api/patients/P1/cells")
    assert cells["blinded"] is True
    assert (
        set(cells["code"]) == set(cells["decided_by"]) == set(cells["model_category"]) == set(cells["p_cblc"]) == {None}
    )
    contours = bo.json("/api/patients/P1/fields/P1%2Ffield_0")["cells"]
    assert {(cell["model_category"], cell["code"]) for cell in contours} == {(None, None)}
    for part in ("estimate", "audit", "checklist", "signed/1.html"):
        assert bo.get(f"/api/patients/P1/{part}").status_code == 403
    assert bo.decide("P1", drawn(station, 20)).status_code == 200
    assert assigned("cy").get("/api/patients/P1/fields").status_code == 403
    assert {tuple(field["flags"]) for field in ada.json("/api/patients/P1/fields")} == {()}
    log = [event for event in bo.json("/api/log")["events"] if event["kind"] in {"relabel", "add"}]
    assert {(event["new"], event["model_value"], event["withheld"]) for event in log} == {(None, None, True)}
    assert "withheld" not in assigned("eve").json("/api/log")["events"][-1]
    assert ada.json("/api/worklist")[0]["n_cells"] == station.cells.rows["P1"].n_cells, "not those that bo drew"
    line = bo.json("/api/worklist")[0]
    assert (line["flags"], line["state"]) == ([], None)
    assert (line["n_reviewed"], line["readers"], line["assigned"]) == (1, ["bo"], ["bo"])
    assert ada.json("/api/worklist")[0]["n_reviewed"] == 1


def test_a_blinded_reader_is_not_told_of_the_others_decision_by_a_conflict(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    cell_id = station.patient("P1").frozen[0].cell_id
    seen = station.store.head().sequence
    for name, code in (("ada", "N"), ("bo", "R")):
        assert assigned(name).decide("P1", relabel(cell_id, code), base=seen).status_code == 200
    assert assigned("ada").json("/api/patients/P1/cells")["code"][0] == "N"
    assert assigned("bo").json("/api/patients/P1/cells")["code"][0] == "R"


def test_a_blinded_reader_does_not_see_by_any_number_that_others_decide(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, bo, dee = assigned("ada"), assigned("bo"), assigned("dee")
    cell_ids = [cell.cell_id for cell in station.patient("P1").frozen]

    def answered(*busy: int) -> list[dict[str, Any]]:
        """Name a cell and comment as Ada, after others decided ``busy`` times; gives all that Ada is told."""
        told = []
        for n, name in zip(busy, cell_ids, strict=False):
            for cell_id in cell_ids[:n]:
                assert bo.decide("P1", relabel(cell_id, "N5")).status_code == 200
                assert dee.decide("P2", {"kind": "comment", "new": {"text": "elsewhere"}}).status_code == 200
            comment = {"kind": "comment", "new": {"text": "mine"}}
            answer = ada.decide("P1", relabel(name, "N"), comment)
            assert answer.status_code == 200
            told += [answer.json(), ada.json("/api/patients/P1/cells")]
        for state in told:
            for item in state.get("comments", []):
                del item["time_utc"]
        return [{key: state.get(key) for key in ("sequence", "head", "comments")} for state in told]

    first = answered(0, 3)
    assert [item["sequence"] for item in first[::2]] == [2, 4]  # two of her own each time
    assert {item["head"] for item in first} == {None}
    before = ada.json("/api/patients/P1/cells")
    bo.decide("P1", relabel(cell_ids[5], "R"))
    assert dee.post("/api/assign", {"patients": ["P2"], "readers": ["cy"]}).status_code == 200
    assert ada.json("/api/patients/P1/cells") == before
    far = ada.decide("P1", relabel(cell_ids[6], "N"), base=10**6)  # nor by what is refused
    assert far.status_code == 200


def test_a_blinded_reader_hears_of_the_signature_and_of_nothing_in_it(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    readers = [assigned("ada"), assigned("bo")]
    for reader in readers:
        name_all(reader)
        assert reader.decide("P1", {"kind": "full_review", "new": True}).status_code == 200
    ada, dee = readers[0], assigned("dee")
    comment = {"kind": "comment", "new": {"text": "Cellular", "about": "adequacy"}}
    flags = [flag.flag for flag in station.cells.rows["P1"].flags]
    answers = [{"kind": "flag_answered", "new": {"flag": flag, "answer": "seen"}} for flag in flags]
    assert dee.decide("P1", comment, *answers).status_code == 200
    address = "/api/patients/P1/cells"
    before = ada.json(address)
    base = dee.json(address)["sequence"]
    assert dee.post("/api/patients/P1/sign", {"base": base}).status_code == 200
    after = ada.json(address)
    assert (before["is_locked"], after["is_locked"]) == (False, True)
    assert after["sequence"] == before["sequence"] + 1, "the page takes a state whose number is another"
    assert after["signatures"] == []
    assert after == {**before, "is_locked": True, "sequence": after["sequence"]}
    assert dee.post("/api/patients/P1/amend", {"reason": "A cell was missed"}).status_code == 200
    assert ada.json(address) == {**before, "sequence": before["sequence"] + 2}


def test_nobody_else_takes_part(assigned: Callable[[str], Browser], station: Station) -> None:
    cy, cell_id = assigned("cy"), station.patient("P1").frozen[0].cell_id
    assert [line["patient_id"] for line in cy.json("/api/worklist")] == ["P2"]
    assert cy.get("/api/patients/P1/cells").status_code == 403
    assert cy.get(f"/crops/P1/{cell_id}.webp").status_code == 403
    assert cy.decide("P1", relabel(cell_id, "N"), base=0).status_code == 403
    assert assigned("eve").get("/api/patients/P1/cells").status_code == 200
    assert cy.get("/api/patients/P2/cells").status_code == 200


def test_a_signer_sees_both_settles_the_dispute_and_then_may_sign(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first, second = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    assigned("ada").decide("P1", relabel(first, "N"), relabel(second, "R"))
    assigned("bo").decide("P1", relabel(first, "N1"), relabel(second, "R"))
    dee = assigned("dee")
    readings = dee.json("/api/patients/P1/readings")
    assert [(item["cell_id"], item["status"], item["names"]) for item in readings["cells"]] == [
        (first, "disputed", {"ada": "N", "bo": "N1"}),
        (second, "confirmed", {"ada": "R", "bo": "R"}),
    ]

    def disputes() -> str:
        items = dee.json("/api/patients/P1/checklist")["items"]
        return str(next(item["sentence"] for item in items if item["key"] == "disputes"))

    assert disputes() == "1 cell that readers dispute"
    assert dee.decide("P1", {"kind": "adjudicate", "cell_id": first, "new": "N1"}).status_code == 200
    assert disputes() == "no cell is disputed"
    assert dee.json("/api/patients/P1/cells")["code"][0] == "N1"


def test_no_reader_overwrites_another_or_what_was_adjudicated(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first, second, third = (cell.cell_id for cell in station.patient("P1").frozen[:3])
    ada, bo, dee = (assigned(name) for name in ("ada", "bo", "dee"))
    ada.decide("P1", relabel(first, "N"), relabel(second, "R"))
    bo.decide("P1", relabel(first, "N1"), relabel(second, "R"), relabel(third, "N"))
    for reader in (ada, bo):
        name_all(reader)
    assert ada.decide("P1", {"kind": "full_review"}).status_code == 200
    state = station.state("P1")
    assert [state.cells[name].code for name in (first, second)] == [None, "R"], "who came last has not won"
    assert state.disputed == {first}
    assert state.cells[second].decided_by == "ada, bo"
    assert state.full_review_by is None, "bo has not seen every cell"
    for name in (first, second):
        beside = dee.decide("P1", relabel(name, "N1"))
        assert (beside.status_code, "'adjudicate', by a signer" in beside.json()["error"]) == (400, True)
    assert dee.decide("P1", adjudicate(first, None)).status_code == 200
    bo.decide("P1", relabel(first, "N2"), {"kind": "full_review"})
    assert dee.decide("P1", adjudicate(first, None)).status_code == 200
    state = station.state("P1")
    assert not state.disputed
    assert state.cells[first].removed == "not_a_cell"
    assert state.full_review_by == "ada, bo"
    assert {item.reader for item in state.decided} == {"ada", "bo", "dee"}, "who adjudicates confirms as well"
    assert ada.json("/api/patients/P1/cells")["code"][:2] == ["N", "R"]
    bo.decide("P1", relabel(second, "N5"))
    assert station.state("P1").full_review_by is None, "bo decided after saying that all was seen"
    assert bo.decide("P1", {"kind": "full_review"}).status_code == 200
    assert station.state("P1").full_review_by == "ada, bo", "ada's word stood"


def test_a_cell_that_one_reader_alone_drew_is_disputed(assigned: Callable[[str], Browser], station: Station) -> None:
    ada, bo, dee = (assigned(name) for name in ("ada", "bo", "dee"))
    name = ada.decide("P1", drawn(station, 20)).json()["cell_ids"][0]
    assert station.state("P1").opinions[name] == {"ada": "J", "bo": "not drawn"}
    assert station.state("P1").disputed == {name}
    bo.decide("P1", drawn(station, 18))
    state = station.state("P1")
    assert not state.disputed, "outlines that match are one cell"
    assert state.cells[name].code == "J"
    assert sum(cell.origin == "added" for cell in state.present) == 1
    bo.decide("P1", relabel(next(cell for cell in station.state("P1", "bo").cells if cell.startswith("drawn")), "N"))
    assert station.state("P1").disputed == {name}
    assert dee.decide("P1", adjudicate(name, "N")).status_code == 200
    state = station.state("P1")
    assert not state.disputed
    assert state.cells[name].code == "N"


def test_two_numbers_of_smears_are_disputed_until_a_signer_states_one(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, bo, cy, dee = (assigned(name) for name in ("ada", "bo", "cy", "dee"))

    def say(browser: Browser, n: int | None) -> int:
        return browser.decide("P1", {"kind": "smears_stated", "new": {"n": n}}).status_code

    def seen() -> tuple[int | None, list[int]]:
        progress = dee.json("/api/patients/P1/estimate")["progress"]
        found: tuple[int | None, list[int]] = (progress["n_smears"], progress["disputed_smears"])
        cells = dee.json("/api/patients/P1/cells")
        assert (cells["n_smears"], cells["disputed_smears"]) == found
        return found

    assert say(ada, 2) == 200
    assert seen() == (2, [])
    assert say(bo, 3) == 200
    assert seen() == (None, [2, 3]), "neither stands because it came later"
    own = ada.json("/api/patients/P1/cells")
    assert (own["n_smears"], own["disputed_smears"]) == (2, []), "they do not see each other"
    assert say(bo, 2) == 200
    assert seen() == (2, []), "they agree now"
    assert say(bo, 3) == 200
    assert dee.post("/api/assign", {"patients": ["P1"], "readers": []}).status_code == 200
    assert say(cy, 3) == 403, "that is for a signer"
    assert say(dee, 1) == 200
    assert seen() == (1, [])
    assert say(ada, 3) == 200
    assert seen() == (1, []), "what a signer stated stands, whatever a reader says later"
    assert station.store.verify() == []


def withdraw(cell_id: str) -> dict[str, Any]:
    return {"kind": "withdraw", "cell_id": cell_id, "new": None}


def test_an_adjudication_is_taken_back_and_the_cell_is_disputed_again(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first, second, third = (cell.cell_id for cell in station.patient("P1").frozen[:3])
    ada, bo, dee = (assigned(name) for name in ("ada", "bo", "dee"))
    added = ada.decide("P1", drawn(station, 20), relabel(first, "N"), relabel(second, "R")).json()["cell_ids"][0]
    bo.decide("P1", relabel(first, "N1"), relabel(second, "R1"))
    before = station.state("P1")
    assert before.disputed == {first, second, added}
    assert dee.decide("P1", *(adjudicate(name, "N5") for name in (first, second, added))).status_code == 200
    assert dee.decide("P1", adjudicate(first, None)).status_code == 200, "decided again"
    assert dee.json("/api/disputes")["P1"] == {"disputed": 0, "settled": 3}
    for name in ("ada", "bo"):
        answer = assigned(name).decide("P1", withdraw(first))
        assert answer.status_code == 403, answer.text
    own = {reader: station.state("P1", reader).cells for reader in ("ada", "bo")}
    assert dee.decide("P1", withdraw(first), withdraw(added)).status_code == 200
    state = station.state("P1")
    assert state.disputed == {first, added}
    assert state.settled == {second}
    assert {name: state.cells[name] for name in (first, added)} == {name: before.cells[name] for name in (first, added)}
    assert state.opinions == before.opinions
    assert {reader: station.state("P1", reader).cells for reader in own} == own
    assert dee.json("/api/disputes")["P1"] == {"disputed": 2, "settled": 1}
    kinds = [event.kind for event in station.store.read("P1")]
    assert (kinds.count("adjudicate"), kinds.count("withdraw")) == (4, 2), "nothing is deleted"
    assert station.store.verify() == []
    for said, events in (
        ("nobody has adjudicated", [withdraw(first)]),
        ("nobody has adjudicated", [withdraw(third)]),
        ("nobody has adjudicated", [withdraw(second), withdraw(second)]),
        ("'adjudicate', by a signer", [withdraw(second), relabel(second, "N")]),
    ):
        answer = dee.decide("P1", *events)
        assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    assert dee.decide("P1", adjudicate(first, "N2"), adjudicate(added, None)).status_code == 200
    state = station.state("P1")
    assert (state.cells[first].code, state.cells[added].removed, state.disputed) == ("N2", "not_a_cell", frozenset())
    bo.decide("P1", relabel(second, "R"))
    assert station.state("P1").cells[second].code == "N5", "what was adjudicated stands"
    assert dee.decide("P1", withdraw(second)).status_code == 200
    state = station.state("P1")
    assert (state.cells[second].code, state.disputed) == ("R", frozenset()), "its readers agree by now"


def test_an_adjudicated_cell_that_was_split_since_is_not_given_back(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first = station.patient("P1").frozen[0]
    assigned("ada").decide("P1", relabel(first.cell_id, "N"))
    assigned("bo").decide("P1", relabel(first.cell_id, "R"))
    dee, half = assigned("dee"), len(first.contour_xy) // 4 * 2
    parts = [list(first.contour_xy[: half + 2]), [*first.contour_xy[half:], *first.contour_xy[:2]]]
    dee.decide("P1", adjudicate(first.cell_id, "N"))
    split = {"parts": [{"contour_xy": part} for part in parts]}
    assert dee.decide("P1", {"kind": "split", "cell_id": first.cell_id, "new": split}).status_code == 200
    answer = dee.decide("P1", withdraw(first.cell_id))
    assert (answer.status_code, "others replaced since (split)" in answer.json()["error"]) == (400, True)
    station.store.append([Draft("dee", "P1", "sign", None, None, {"version": 1})])
    assert dee.decide("P1", withdraw(first.cell_id)).status_code == 409


def test_what_is_taken_back_counts_as_decided_while_its_readers_named_it(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first, second = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    assigned("ada").decide("P1", relabel(first, "N"))
    dee = assigned("dee")
    dee.decide("P1", adjudicate(first, "N"), adjudicate(second, "N"))
    assert station.progress.patients()["P1"].n_decided == 2
    dee.decide("P1", withdraw(first), withdraw(second))
    assert station.progress.patients()["P1"].n_decided == 1
    assert not station.state("P1").cells[second].is_seen


def test_who_read_blinded_never_adjudicates(assigned: Callable[[str], Browser], station: Station) -> None:
    bo, cell_id = assigned("bo"), station.patient("P1").frozen[0].cell_id
    for answer in (
        bo.decide("P1", adjudicate(cell_id, "N")),
        bo.decide("P1", {"kind": "withdraw", "cell_id": cell_id}),
        bo.post("/api/assign", {"patients": ["P1"], "readers": []}),
        bo.get("/api/patients/P1/readings"),
    ):
        assert answer.status_code == 403, answer.text
    assert assigned("dee").post("/api/assign", {"patients": ["P1"], "readers": []}).status_code == 200
    after = bo.decide("P1", adjudicate(cell_id, "N"))
    assert (after.status_code, "never adjudicates it" in after.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    ("readers", "words"),
    [(["ada", "nobody"], "no reader 'nobody'"), (["ada", "eve"], "no reader 'eve'")],
)
def test_an_assignment_that_cannot_be_is_refused(
    as_reader: Callable[[str], Browser], readers: list[str], words: str
) -> None:
    answer = as_reader("dee").post("/api/assign", {"patients": ["P1"], "readers": readers})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True)


def test_an_account_that_is_closed_is_given_no_patient_and_its_session_ends_for_good(
    as_reader: Callable[[str], Browser], station: Station
) -> None:
    ada, engine = as_reader("ada"), station.store.engine
    add_account(engine, "head", ["admin"])
    change_account(engine, "ada", is_active=False)
    assert ada.get("/api/worklist").status_code == 401
    answer = as_reader("dee").post("/api/assign", {"patients": ["P1"], "readers": ["ada", "bo"]})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "found no reader 'ada', expected active accounts that may decide",
    )
    token = begin_session(engine, "ada", utc_now())  # the password was right just before the account was closed
    assert find_session(engine, token, station.who, utc_now()) is None
    with writing(engine) as connection:  # opened again by another program, which ends no session
        connection.execute(ACCOUNTS.update().values(active=True))
    assert find_session(engine, token, station.who, utc_now()) is None


def test_what_was_recorded_while_a_patient_was_assigned_is_not_overlooked(
    as_reader: Callable[[str], Browser], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, dee = as_reader("ada"), as_reader("dee")
    cell_id = station.patient("P1").frozen[0].cell_id
    assignment = {"patients": ["P1", "P1"], "readers": ["ada", "bo"]}
    append = station.store.append

    def meanwhile(*events: Draft) -> None:
        def late(*sent: Any, **conditions: Any) -> Appended:  # noqa: ANN401 - as append takes them
            monkeypatch.setattr(station.store, "append", append)
            append(events)
            return append(*sent, **conditions)

        monkeypatch.setattr(station.store, "append", late)

    meanwhile(Draft("cy", "P1", "comment", None, None, {"text": "seen"}))
    answer = dee.post("/api/assign", assignment)
    assert (answer.status_code, "cy recorded something" in answer.json()["error"]) == (409, True)
    meanwhile(Draft("dee", "P1", "assign", None, None, {"readers": ["bo", "cy"]}))
    answer = ada.decide("P1", relabel(cell_id, "N"), base=station.store.head().sequence)
    assert (answer.status_code, "meanwhile (readers assigned)" in answer.json()["error"]) == (409, True)
    assert station.state("P1").n_reviewed == 0
    assert [event.kind for event in station.store.read("P1")] == ["comment", "assign"]


def test_a_patient_that_was_decided_about_is_not_given_to_blinded_readers(
    as_reader: Callable[[str], Browser], station: Station
) -> None:
    as_reader("ada").decide("P1", relabel(station.patient("P1").frozen[0].cell_id, "N"))
    answer = as_reader("dee").post("/api/assign", {"patients": ["P1"], "readers": ["ada", "bo"]})
    assert (answer.status_code, "expected none before blinded readers begin" in answer.json()["error"]) == (400, True)


def test_an_assignment_ends_when_it_names_nobody(assigned: Callable[[str], Browser]) -> None:
    assert assigned("dee").post("/api/assign", {"patients": ["P1"], "readers": []}).status_code == 200
    assert assigned("ada").json("/api/patients/P1/cells")["blinded"] is False


def test_the_worklist_says_who_is_assigned_and_who_has_finished(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first = station.patient("P1").frozen[0].cell_id
    n = station.cells.rows["P1"].n_cells
    name_all(assigned("ada"))
    assert assigned("ada").decide("P1", {"kind": "full_review"}).status_code == 200

    def readings(name: str) -> list[tuple[str, int, bool]]:
        line = next(line for line in assigned(name).json("/api/worklist") if line["patient_id"] == "P1")
        assert all(reading["n_cells"] == n for reading in line["readings"])
        return [(item["reader"], item["n_reviewed"], item["finished"]) for item in line["readings"]]

    assert readings("dee") == [("ada", n, True), ("bo", 0, False)]
    assert readings("bo") == [("bo", 0, False)], "a blinded reader is not told how far the other one is"
    assigned("ada").decide("P1", {"kind": "full_review", "new": False})
    assert readings("dee")[0] == ("ada", n, False)
    assigned("ada").decide("P1", {"kind": "full_review"})
    assert readings("dee")[0] == ("ada", n, True)
    assigned("ada").decide("P1", relabel(first, "R"))
    assert readings("dee")[0] == ("ada", n, False), "a later decision takes it back"
    assert [item["name"] for item in assigned("dee").json("/api/readers")] == ["ada", "bo", "cy", "dee"]
    assigned("bo").get("/api/patients/P1/cells")
    assert assigned("ada").json("/api/worklist")[0]["opened_by"] == ["ada"], "nor that bo looks at it now"


def test_one_blinded_reader_alone_sees_no_call_and_disputes_nothing(
    as_reader: Callable[[str], Browser], station: Station
) -> None:
    dee = as_reader("dee")
    assert dee.post("/api/assign", {"patients": ["P1"], "readers": ["ada"]}).status_code == 200
    ada, cell_id = as_reader("ada"), station.patient("P1").frozen[0].cell_id
    assert set(ada.json("/api/patients/P1/cells")["model_category"]) == {None}
    name_all(ada)
    assert ada.decide("P1", {"kind": "full_review"}).status_code == 200
    state = station.state("P1")
    assert (state.cells[cell_id].code, state.full_review_by, state.disputed) == ("N", "ada", frozenset())


def test_the_disputes_of_a_patient_are_shown_under_letters_to_who_did_not_read_it(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    first, second = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    assigned("ada").decide("P1", relabel(first, "N"), relabel(second, "R"))
    assigned("bo").decide("P1", relabel(first, "N1"), relabel(second, "R"))
    dee = assigned("dee")
    answer = dee.get("/api/patients/P1/disputes")
    assert not {"ada", "bo"} & set(answer.text.split('"')), "who said what is not told"
    cells = answer.json()["cells"]
    assert [(item["cell_id"], item["settled"]) for item in cells] == [(first, False)]
    assert {item["code"] for item in cells[0]["answers"]} == {"N", "N1"}
    assert [item["letter"] for item in cells[0]["answers"]] == ["A", "B"]
    assert dee.json("/api/disputes") == {"P1": {"disputed": 1, "settled": 0}}
    dee.decide("P1", adjudicate(first, "N1"))
    assert dee.json("/api/disputes") == {"P1": {"disputed": 0, "settled": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(station, "state", None)  # a worklist that asks again folds nothing that has not changed
        assert dee.json("/api/disputes") == {"P1": {"disputed": 0, "settled": 1}}
    assert dee.json("/api/patients/P1/disputes")["cells"][0]["settled"] is True
    bo = assigned("bo")
    assert bo.json("/api/disputes") == {}
    for _ in range(2):  # while bo is assigned, and after the assignment has ended
        for place in ("/api/patients/P1/disputes", "/patients/P1/adjudicate"):
            assert bo.get(place).status_code == 403, place
        dee.post("/api/assign", {"patients": ["P1"], "readers": []})


def test_neither_the_page_nor_measures_tell_a_blinded_reader_what_the_machine_says(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, eve = assigned("ada"), assigned("eve")
    cell_id = station.patient("P1").frozen[0].cell_id
    for what in ("measures", "similar"):
        assert ada.client.get(f"/api/patients/P1/cells/{cell_id}/{what}").status_code == 403
    page, open_page = (reader.client.get("/patients/P1").text for reader in (ada, eve))
    assert '"machine": null' in page
    assert '"flags": []' in page
    assert '"machine": {"n": ' in open_page


def log_of(browser: Browser, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in browser.json("/api/log")["events"] if event["kind"] in kinds]


def test_the_log_tells_a_blinded_reader_nothing_of_the_others_but_that_they_are_there(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, bo = assigned("ada"), assigned("bo")
    flag = {"flag": "few_cells", "answer": "few indeed"}
    said = {"kind": "comment", "new": {"text": "a blast, surely"}}
    for browser in (ada, bo):
        assert browser.decide("P1", said).status_code == 200
    station.store.append(
        [
            Draft("ada", "P1", "full_review"),
            Draft("bo", "P1", "full_review"),
            Draft("dee", "P1", "flag_answered", None, None, flag),
            Draft("bo", "P1", "not_carried", "c", {"code": "N", "category": "N"}, {"reason": "no_cell"}),
        ]
    )
    shown = {(event["kind"], event["reader"]): event for event in bo.json("/api/log")["events"]}
    hidden = {key for key, event in shown.items() if event.get("withheld")}
    assert hidden == {("comment", "ada"), ("full_review", "ada"), ("flag_answered", "dee"), ("not_carried", "bo")}
    assert {(event["old"], event["new"], event["model_value"]) for key, event in shown.items() if key in hidden} == {
        (None, None, None)
    }
    assert shown["comment", "bo"]["new"]["text"] == "a blast, surely"
    assert shown["assign", "dee"]["new"] == {"readers": ["ada", "bo"]}
    assert not [event for event in assigned("eve").json("/api/log")["events"] if event.get("withheld")]


def test_the_log_keeps_the_strata_and_the_seed_of_an_audit_until_its_looks_are_closed(
    as_reader: Callable[[str], Browser], station: Station
) -> None:
    add_account(station.store.engine, "flo", ["reader", "auditor"])
    flo, eve = as_reader("flo"), as_reader("eve")
    assert flo.post("/api/patients/P1/audit", {}).status_code == 200
    view = audit_view(station.state("P1"))
    assert view is not None
    for name in view.order:
        (event,) = log_of(flo, "audit_drawn")
        assert (event["new"], event["withheld"]) == (None, True)
        assert log_of(eve, "audit_drawn")[0]["new"]["audit"]["strata"]
        assert flo.decide("P1", {"kind": "audit_answer", "cell_id": name, "new": "N"}).status_code == 200
    (event,) = log_of(flo, "audit_drawn")
    assert event["new"]["audit"]["strata"]
    assert "withheld" not in event


def test_an_audit_answer_about_what_blinded_readers_named_needs_an_adjudication_first(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    ada, dee = assigned("ada"), assigned("dee")
    assert dee.post("/api/patients/P1/audit", {}).status_code == 200
    view = audit_view(station.state("P1"))
    assert view is not None
    first, second, third = view.order[:3]
    assert ada.decide("P1", relabel(first, "M"), relabel(third, "M")).status_code == 200
    assert assigned("bo").decide("P1", relabel(third, "R")).status_code == 200
    answer = {"kind": "audit_answer", "cell_id": first, "new": "L"}
    refused = dee.decide("P1", answer)
    assert (refused.status_code, "'adjudicate', by a signer" in refused.json()["error"]) == (400, True)
    assert dee.decide("P1", adjudicate(second, "L")).status_code == 400, "nobody named it: it is answered"
    listed = {item["cell_id"]: item["agreed"] for item in dee.json("/api/patients/P1/disputes")["cells"]}
    assert listed == {first: True, third: False}, "what the audit asks for next stands there, named alike or not"
    assert dee.decide("P1", adjudicate(first, "L")).status_code == 200
    assert dee.decide("P1", answer, {**answer, "cell_id": second}).status_code == 200
    state = station.state("P1")
    assert (state.cells[first].code, state.audit_answers) == ("L", {first: "L", second: "L"})
    assert state.disputed == {third}


def test_a_signer_decides_otherwise_than_readers_who_agree(
    assigned: Callable[[str], Browser], station: Station
) -> None:
    cell_id, other = (cell.cell_id for cell in station.patient("P1").frozen[:2])
    for name in ("ada", "bo"):
        assert assigned(name).decide("P1", relabel(cell_id, "M"), relabel(other, "N")).status_code == 200
    dee = assigned("dee")
    assert dee.decide("P1", relabel(cell_id, "L")).json()["adjudicate"] is True
    address = "/api/patients/P1/disputes"
    assert dee.json(address)["cells"] == []
    (item,) = dee.json(f"{address}?cell={cell_id}&cell=unknown")["cells"]
    assert (item["cell_id"], item["agreed"], {said["code"] for said in item["answers"]}) == (cell_id, True, {"M"})
    assert dee.json("/api/disputes") == {"P1": {"disputed": 0, "settled": 0}}
    assert dee.decide("P1", adjudicate(cell_id, "L")).status_code == 200
    (item,) = dee.json(address)["cells"]
    assert (item["settled"], item["agreed"]) == (True, False)
    assert station.state("P1").cells[cell_id].code == "L"
    assert dee.get(f"{address}?{'cell=x&' * 201}").status_code == 400


def test_who_saw_the_calls_or_drew_an_audit_is_given_no_patient_to_read_blinded(
    as_reader: Callable[[str], Browser],
) -> None:
    ada, dee = as_reader("ada"), as_reader("dee")

    def assign(patient_id: str, *readers: str) -> str:
        answer = dee.post("/api/assign", {"patients": [patient_id], "readers": readers})
        return "" if answer.status_code == 200 else answer.json()["error"]

    assert ada.post("/api/patients/P1/audit", {}).status_code == 200
    assert "found a drawn audit" in assign("P1", "bo")
    assert ada.decide("P2", {"kind": "open"}, base=0).status_code == 200
    as_reader("cy").json("/api/patients/P2/cells")  # the calls, and nothing recorded
    for name in ("ada", "cy"):
        assert f"{name} opened it with the calls in sight" in assign("P2", "bo", name)
    assert assign("P2", "bo") == ""
    bo = as_reader("bo")
    bo.decide("P2", {"kind": "comment", "new": {"text": "read blinded"}})
    assert assign("P2") == ""
    assert assign("P2", "bo") == "", "who read it blinded may go on"


@pytest.mark.parametrize("flag", ["zzz", "unchecked", ["x"]])
def test_a_refused_answer_does_not_tell_a_blinded_reader_the_flags(
    assigned: Callable[[str], Browser], station: Station, flag: object
) -> None:
    event = {"kind": "flag_answered", "new": {"flag": flag, "answer": "seen"}}
    refused = assigned("ada").decide("P1", event)
    assert (refused.status_code, "does not see the calls" in refused.json()["error"]) == (400, True)
    names = [flag.flag for flag in station.cells.rows["P1"].flags]
    assert names
    assert not [name for name in names if name in refused.json()["error"]]
    assert assigned("dee").decide("P1", {**event, "new": {"flag": ["x"], "answer": "seen"}}).status_code == 400
