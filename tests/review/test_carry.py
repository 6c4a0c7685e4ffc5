"""A run that is predicted again: decisions go along, what cannot is listed, and nothing is signed by itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from marrowscope.cli.review import _tell_rebound
from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.left_behind import LeftBehind
from marrowscope.review.live_estimate import audit_view
from marrowscope.wording import count_of
from tests.conftest import TWO_PATIENTS
from tests.fake_runs import FakeRun, circle, write_run
from tests.review.stations import Browser, enter, open_station

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from marrowscope.review.patient_state import ReviewedCell
    from marrowscope.review.station import Station


class Case:
    """A fake run, predicted again at will, and the station over it, started anew at will."""

    def __init__(self, run: FakeRun, database: Path) -> None:
        self.run = run
        self.database = database
        self.station: Station = open_station(run.folder, database)
        self.browser: Browser = enter(self.station)
        self.cells = [cell for cell in self.station.patient("P1").frozen if cell.field_id == "P1/field_0"]

    def again(self, shift_px: float = 1.0, *, drop: set[str] | None = None, prefix: str = "new") -> None:
        """Predict again: every contour a little elsewhere, every cell under a new name, ``drop`` not found."""
        self.station.close()
        kept = []
        for cell in self.run.cells:
            if cell["cell_id"] in (drop or ()):
                continue
            contour = np.asarray(cell["contour_xy"]) + shift_px
            kept.append({**cell, "cell_id": f"{prefix}-{cell['cell_id']}", "contour_xy": contour.tolist()})
        self.run.cells = kept
        write_run(self.run, list(TWO_PATIENTS))
        self.start()

    def start(self) -> None:
        self.station = open_station(self.run.folder, self.database)
        self.browser = enter(self.station)

    def decide(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = self.browser.decide("P1", *events)
        assert answer.status_code == 200, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded

    def name_all(self, code: str = "N") -> list[dict[str, Any]]:
        """Return the decisions that name every cell that has no name."""
        return [
            {"kind": "relabel", "cell_id": cell.cell_id, "new": code}
            for cell in self.station.state("P1").present
            if cell.code is None
        ]

    def cell(self, cell_id: str) -> ReviewedCell:
        return self.station.state("P1").cells[cell_id]


@pytest.fixture
def case(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Case:
    return Case(fake_run(), tmp_path / "review" / "review.sqlite")


def test_decisions_go_along_to_the_cells_that_have_their_place(case: Case) -> None:
    first, second, third, *_ = case.cells
    case.decide(
        {"kind": "relabel", "cell_id": first.cell_id, "new": "N2"},
        {"kind": "not_a_cell", "cell_id": second.cell_id},
        {"kind": "relabel", "cell_id": third.cell_id, "new": "R"},
        {"kind": "relabel", "cell_id": third.cell_id, "new": None},
    )
    case.again()
    carried = case.cell(f"new-{first.cell_id}")
    assert (carried.code, carried.decided_by, carried.model_category) == ("N2", "Ada", first.category)
    assert case.cell(f"new-{second.cell_id}").removed == "not_a_cell"
    assert not case.cell(f"new-{third.cell_id}").is_seen, "what was taken back is not carried"
    assert case.station.state("P1").n_reviewed == 2
    assert [(item.patient_id, item.n_carried, item.n_not_carried) for item in case.station.rebound] == [
        ("P1", 2, 0),
        ("P2", 0, 0),
    ]
    assert case.browser.json("/api/worklist")[0]["n_reviewed"] == 2
    assert case.station.store.verify() == []


def test_redrawn_outlines_go_along_again_and_again(case: Case) -> None:
    first, second, third, *_ = case.cells
    outlines = {}
    for cell, side_px in ((first, 2.0), (second, 25.0), (third, 2.0)):  # the second one covers no cell of the model
        x, y = np.reshape(cell.contour_xy, (-1, 2)).mean(axis=0)
        outlines[cell.cell_id] = circle(x + side_px, y, 14).ravel().tolist()
        new = {"contour_xy": outlines[cell.cell_id]}
        case.decide({"kind": "redraw", "cell_id": cell.cell_id, "new": new})
    case.decide({"kind": "relabel", "cell_id": second.cell_id, "new": "N2"})
    areas = {name: case.cell(name).area_um2 for name in outlines}
    rows = list(case.run.cells)
    case.again(drop={third.cell_id})
    (pending,) = case.station.state("P1").not_carried
    assert (pending.cell_id, pending.old["contour_xy"]) == (third.cell_id, outlines[third.cell_id])
    for cell in (first, second):
        carried = case.cell(f"new-{cell.cell_id}")
        assert carried.contour_xy == tuple(outlines[cell.cell_id])
        assert (carried.area_um2, carried.decided_by) == (areas[cell.cell_id], "Ada")
    assert case.cell(f"new-{second.cell_id}").code == "N2"
    case.run.cells = rows
    case.again(2.0, prefix="third")
    for name, outline in outlines.items():
        carried = case.cell(f"third-{name}")
        assert carried.contour_xy == tuple(outline)
        assert carried.area_um2 == areas[name]
    unchanged = case.cell(f"third-{case.cells[3].cell_id}")
    assert unchanged.contour_xy != case.cells[3].contour_xy, "the new prediction's own"
    assert case.station.state("P1").not_carried == ()
    assert case.station.store.verify() == []


def test_the_same_prediction_changes_nothing(case: Case) -> None:
    case.decide({"kind": "relabel", "cell_id": case.cells[0].cell_id, "new": "N2"})
    head = case.station.store.head()
    case.station.close()
    case.start()
    assert case.station.rebound == ()
    assert case.station.store.head() == head
    assert case.cell(case.cells[0].cell_id).code == "N2"


def test_what_cannot_be_carried_is_listed_and_tried_again_later(case: Case) -> None:
    first, second, *_ = case.cells
    case.decide(
        {"kind": "relabel", "cell_id": first.cell_id, "new": "N2"},
        {"kind": "relabel", "cell_id": second.cell_id, "new": "R"},
    )
    rows = list(case.run.cells)
    case.again(drop={first.cell_id})
    state = case.station.state("P1")
    assert [(event.cell_id, event.old["code"], event.new) for event in state.not_carried] == [
        (first.cell_id, "N2", {"reason": "no_cell"})
    ]
    assert state.n_reviewed == 1
    case.run.cells = rows
    case.again(2.0, prefix="third")
    assert case.cell(f"third-{first.cell_id}").code == "N2"
    assert case.cell(f"third-{second.cell_id}").code == "R"
    assert case.station.state("P1").not_carried == ()


def test_a_cell_elsewhere_takes_no_decision(case: Case) -> None:
    case.decide({"kind": "relabel", "cell_id": case.cells[0].cell_id, "new": "N2"})
    case.again(45.0)
    state = case.station.state("P1")
    assert state.n_reviewed == 0
    assert len(state.not_carried) == 1


def test_an_image_that_is_gone_is_the_reason(case: Case) -> None:
    case.decide({"kind": "relabel", "cell_id": case.cells[0].cell_id, "new": "N2"})
    for field in case.run.fields:
        if field["field_id"] == "P1/field_0":
            field["sha256"] = "ab" * 32
    case.again()
    assert [event.new for event in case.station.state("P1").not_carried] == [{"reason": "no_image"}]


def test_drawn_cells_stay_or_become_the_cell_that_is_found_now(case: Case) -> None:
    hidden = case.cells[0]
    outline = circle(400, 300, 20).ravel().tolist()
    answer = case.decide({"kind": "add", "new": {"field_id": "P1/field_0", "contour_xy": outline, "code": "J"}})
    added = answer["cell_ids"][0]
    half = circle(hidden.contour_xy[0] - 20, hidden.contour_xy[1], 8).ravel().tolist()
    whole = list(hidden.contour_xy)
    split = {"parts": [{"contour_xy": whole, "code": "N1"}, {"contour_xy": half, "code": "V"}]}
    case.decide({"kind": "split", "cell_id": hidden.cell_id, "new": split})
    case.again()
    assert case.cell(added).code == "J"
    assert case.cell(added).contour_xy == tuple(outline)
    found = case.cell(f"new-{hidden.cell_id}")
    assert (found.code, found.removed) == ("N1", None), "the part that the new cell covers, not the whole before it"
    assert [cell.code for cell in case.station.state("P1").present if cell.origin == "split"] == ["V"]
    case.again(2.0, prefix="third")
    assert case.cell(added).code == "J"
    assert case.station.store.verify() == []


def test_merged_cells_go_along_as_one(case: Case) -> None:
    first, second, *_ = case.cells
    case.decide({"kind": "merge", "new": {"cells": [first.cell_id, second.cell_id], "code": "J2"}})
    case.again()
    state = case.station.state("P1")
    assert [cell.code for cell in state.present if cell.is_seen] == ["J2"]
    assert state.not_carried == ()
    assert {cell.cell_id for cell in state.cells.values() if cell.removed} == {
        f"new-{first.cell_id}",
        f"new-{second.cell_id}",
    }


def told(capsys: pytest.CaptureFixture[str], case: Case) -> str:
    _tell_rebound(case.station)
    return capsys.readouterr().err


def test_nothing_is_signed_or_reviewed_in_full_again_by_itself(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.decide(
        *case.name_all(),
        {"kind": "full_review"},
        {"kind": "comment", "new": {"text": "enough cells", "about": "adequacy"}},
    )
    case.station.store.append([Draft("Ada", "P1", "sign", None, None, {"version": 1})])
    assert case.browser.json("/api/worklist")[0]["status"] == "signed"
    case.again()
    state = case.station.state("P1")
    assert (state.is_locked, state.full_review_by, len(state.signatures)) == (True, None, 1)
    assert [comment.text for comment in state.comments] == ["enough cells"]
    assert case.browser.json("/api/worklist")[0]["status"] == "signed", "a prediction amends nothing"
    assert [item.was_signed for item in case.station.rebound] == [True, False]
    assert LeftBehind("signature", ("Ada",), 1) in state.left_behind
    assert "stays signed and locked until it is amended" in told(capsys, case)
    refused = case.browser.decide("P1", {"kind": "relabel", "cell_id": next(iter(state.cells)), "new": "N5"})
    assert (refused.status_code, "amend the result first" in refused.json()["error"]) == (409, True)
    case.again(2.0, prefix="third")
    assert case.station.state("P1").is_locked, "nor does a second one"
    assert [item.was_signed for item in case.station.rebound] == [True, False]
    assert case.browser.post("/api/patients/P1/amend", {"reason": "predicted again"}).status_code == 200
    state = case.station.state("P1")
    assert (state.is_locked, state.amend_reason) == (False, "predicted again")
    assert case.browser.json("/api/worklist")[0]["status"] == "amending"


def test_blinded_decisions_go_along_as_their_readers_own(case: Case) -> None:
    names = [cell.cell_id for cell in case.cells[:3]]
    case.station.store.append([Draft("Dee", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    outline = circle(400, 300, 20).ravel().tolist()
    drawn = {"kind": "add", "new": {"field_id": "P1/field_0", "contour_xy": outline, "code": "J"}}

    def relabels(*codes: str) -> list[Decision]:
        return [Decision("relabel", name, code) for name, code in zip(names, codes, strict=True)]

    added = case.decide(drawn)["cell_ids"][0]
    station = case.station
    station.decide("P1", "Ada", relabels("N", "R", "E"), 0, is_blinded=True)
    station.decide("P1", "Bo", relabels("N1", "R", "N2"), 0, is_blinded=True)
    station.decide(
        "P1", "Dee", [Decision("adjudicate", name, "N5") for name in (names[2], added)], station.store.head().sequence
    )
    assert station.state("P1").disputed == {names[0]}
    for prefix, shift in (("new", 1.0), ("third", 2.0)):
        case.again(shift, prefix=prefix)
        state = case.station.state("P1")
        names = [f"{prefix}-{name}" for name in names]
        assert state.disputed == {names[0]}
        assert state.opinions[names[0]] == {"Ada": "N", "Bo": "N1"}
        assert [state.cells[name].code for name in (*names, added)] == [None, "R", "N5", "N5"]
        for reader, codes in (("Ada", ["N", "R", "E"]), ("Bo", ["N1", "R", "N2"])):
            own = case.station.state("P1", reader).cells
            assert [own[name].code for name in names] == codes, "neither the other's decisions nor the adjudication"
            assert (added in own) == (reader == "Ada")


def test_an_adjudication_that_was_taken_back_is_not_carried(case: Case) -> None:
    first, second, third = (cell.cell_id for cell in case.cells[:3])
    case.station.store.append([Draft("Dee", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    outline = circle(400, 300, 20).ravel().tolist()
    added = case.decide({"kind": "add", "new": {"field_id": "P1/field_0", "contour_xy": outline, "code": "J"}})
    names = [first, second, third, added["cell_ids"][0]]
    for reader, code in (("Ada", "N"), ("Bo", "R")):
        named = [Decision("relabel", name, code) for name in names[:3]]
        case.station.decide("P1", reader, named, 0, is_blinded=True)

    def dee(kind: str, *cells: str) -> None:
        new = "N5" if kind == "adjudicate" else None
        case.station.decide(
            "P1", "Dee", [Decision(kind, name, new) for name in cells], case.station.store.head().sequence
        )

    dee("adjudicate", *names)
    dee("withdraw", first, names[3])
    case.again()
    names = [*(f"new-{name}" for name in names[:3]), names[3]]
    state = case.station.state("P1")
    assert state.disputed == {names[0], names[3]}
    assert [state.cells[name].code for name in names] == [None, "N5", "N5", None]
    dee("withdraw", names[1])
    dee("adjudicate", names[3])
    case.again(2.0, prefix="third")
    names = [*(f"third-{name}" for name in names[:3]), names[3]]
    state = case.station.state("P1")
    assert state.disputed == {names[0], names[1]}
    assert [state.cells[name].code for name in names] == [None, None, "N5", "N5"]
    dee("withdraw", names[3])
    state = case.station.state("P1")
    assert state.disputed == {names[0], names[1], names[3]}, "the drawn cell is its reader's again"
    assert case.station.store.verify() == []


def test_audits_reviews_and_checks_stay_with_their_prediction_and_are_listed(
    fake_run: Callable[..., FakeRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(fake_run(n_fields=6), tmp_path / "review" / "review.sqlite")
    first = case.cells[0].cell_id
    flags = [flag.flag for flag in case.station.cells.rows["P1"].flags]
    assert case.browser.post("/api/patients/P1/audit", {}).status_code == 200
    view = audit_view(case.station.state("P1"))
    assert view is not None
    order = view.order[:2]
    case.decide(*({"kind": "audit_answer", "cell_id": name, "new": "N"} for name in order))
    case.station.store.append([Draft("Ada", "P1", "full_review", new=True)])  # of a version that took it so
    case.decide(
        {"kind": "field_checked", "new": {"field_id": "P1/field_0"}},
        *({"kind": "flag_answered", "new": {"flag": flag, "answer": "seen"}} for flag in flags),
    )
    case.again(drop={order[0]})
    state = case.station.state("P1")
    assert (state.audit, state.full_review_by, state.fields_checked, state.flags_answered) == (None, None, {}, {})
    expected = [
        LeftBehind("audit", ("Ada",), 2, view.audit.sizes[-1]),
        LeftBehind("full_review", ("Ada",), 1),
        LeftBehind("fields_checked", ("Ada",), 1),
        LeftBehind("flags_answered", ("Ada",), len(flags)),
    ]
    assert list(state.left_behind) == expected
    shown = case.browser.json("/api/patients/P1/cells")
    assert shown["left_behind"] == [{**asdict(item), "readers": list(item.readers)} for item in expected]
    (pending,) = shown["not_carried"]
    assert (pending["code"], pending["decided_by"], pending["reason"]) == ("N", "Ada", "no_cell")
    assert set(pending) == {"field_id", "code", "removed", "decided_by", "reason"}, "nothing of a call"
    _tell_rebound(case.station)
    said = capsys.readouterr().err
    assert (
        f"not carried: 1 decision, a random audit (2 of {view.audit.sizes[-1]} cells named), a full review by Ada, "
        in said
    )
    assert f"1 checked field by Ada, {count_of(len(flags), 'answered flag')} by Ada" in said
    assert "P2, 0 decisions carried to its new cells." in said
    case.decide(*case.name_all(), {"kind": "full_review"}, {"kind": "full_review", "new": False})
    case.decide({"kind": "full_review"}, {"kind": "relabel", "cell_id": next(iter(state.cells)), "new": "R"})
    case.again(2.0, prefix="third")
    state = case.station.state("P1")
    assert list(state.left_behind) == expected, "what was taken back is not listed, and what was listed stays"
    assert case.cells[0].cell_id == first


def test_a_blinded_reader_is_told_only_what_is_the_own_of_what_stayed(case: Case) -> None:
    case.station.store.append([Draft("Dee", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    lost = case.cells[0].cell_id
    for reader, code in (("Ada", "N"), ("Bo", "R")):
        cells = case.station.state("P1", reader).cells
        decisions = [*(Decision("relabel", name, code) for name in cells), Decision("full_review")]
        case.station.decide("P1", reader, decisions, 0, is_blinded=True)
    case.again(drop={lost})
    for reader in ("Ada", "Bo"):
        own = case.station.state("P1", reader)
        assert [item.readers for item in own.left_behind] == [(reader,)]
        assert [event.old["decided_by"] for event in own.not_carried] == [reader]
    assert [item.readers for item in case.station.state("P1").left_behind] == [("Ada", "Bo")]
    assert len(case.station.state("P1").not_carried) == 2


def test_a_name_from_before_an_adjudication_that_was_taken_back_settles_nothing(case: Case) -> None:
    name = case.cells[0].cell_id
    case.station.store.append([Draft("Dee", "P1", "assign", None, None, {"readers": ["Ada", "Bo"]})])
    case.station.decide("P1", "Dee", [Decision("relabel", name, "N2")], case.station.store.head().sequence)
    for reader, code in (("Ada", "N"), ("Bo", "R")):
        case.station.decide("P1", reader, [Decision("relabel", name, code)], 0, is_blinded=True)
    for kind in ("adjudicate", "withdraw"):
        new = "N5" if kind == "adjudicate" else None
        case.station.decide("P1", "Dee", [Decision(kind, name, new)], case.station.store.head().sequence)
    assert case.station.state("P1").disputed == {name}
    case.again()
    assert case.station.state("P1").disputed == {f"new-{name}"}
