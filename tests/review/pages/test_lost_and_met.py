"""Connections that are lost, answers that never come, and readers who meet at one cell."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from marrowscope.review.decisions import Decision
from tests.review.pages.conftest import Served, expect, saved
from tests.review.pages.test_gallery_page import codes, cursor, kinds, labels

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from playwright.sync_api import Page, Route

EVENTS = "**/api/patients/P1/events"


def test_decisions_wait_in_the_browser_while_the_connection_is_lost(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    first = cursor(page)
    page.context.set_offline(True)
    page.keyboard.type("n1")
    second = cursor(page)
    page.keyboard.type("n2")
    expect(page.locator("#saved")).to_have_attribute("data-state", "offline")
    expect(page.locator("#saved")).to_have_text("Not saved: 2")
    expect(page.locator("#problem")).to_contain_text("No connection")
    assert page.locator(".tile.waiting").count() == 2
    assert (labels(page)[first], labels(page)[second]) == ("N1", "N2")
    assert kinds(served) == []
    page.context.set_offline(False)
    saved(page)
    assert (codes(served)[first], codes(served)[second]) == ("N1", "N2")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_page_that_is_closed_before_it_could_send_does_so_when_it_is_opened_again(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    cell = cursor(page)
    page.route(EVENTS, lambda route: route.abort())
    page.keyboard.type("n1")
    expect(page.locator("#saved")).to_have_attribute("data-state", "offline")
    again = page.context.new_page()
    page.close()
    again.goto(f"{served.address}/patients/P1")
    again.wait_for_selector("body[data-ready]")
    expect(again.locator(f"[data-cell='{cell}'] .label")).to_have_text("N1")
    saved(again)
    assert codes(served)[cell] == "N1"


def test_decisions_wait_while_the_database_is_down_and_are_sent_when_it_is_back(
    opened: Callable[..., Page], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened()
    cell = cursor(page)
    monkeypatch.setattr("marrowscope.review.database.BUSY_S", 0.1)
    served.station.store.engine.dispose()
    with sqlite3.connect(served.station.store.engine.url.database or "", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        page.keyboard.type("n1")
        expect(page.locator("#saved")).to_have_attribute("data-state", "offline")
        expect(page.locator("#problem")).to_contain_text(
            "cannot reach its database. Decisions kept in this browser: 1."
        )
        assert labels(page)[cell] == "N1"
        assert kinds(served) == []
        other.execute("ROLLBACK")
    other.close()
    saved(page)
    assert kinds(served) == [("relabel", "N1")]
    expect(page.locator("#problem")).to_be_hidden()


def test_a_station_that_keeps_failing_is_left_alone_and_nothing_is_lost(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    cell = cursor(page)
    page.clock.install()
    asked: list[str] = []

    def fail(route: Route) -> None:
        asked.append(route.request.method)
        route.fulfill(status=500, json={"error": "the disk is full"})

    page.route(EVENTS, fail)
    page.route("**/api/patients/P1/cells", fail)  # what it asks to know whether a lost answer was recorded
    page.keyboard.type("n1")
    waits = []
    for _ in range(60):
        if page.locator("#saved").get_attribute("data-state") == "stopped":
            break
        before = len(asked)
        waited = 0
        while len(asked) == before and waited < 200_000:
            page.clock.run_for(500)
            waited += 500
        waits.append(waited)
    expect(page.locator("#saved")).to_have_attribute("data-state", "stopped")
    expect(page.locator("#problem")).to_contain_text(
        "failed again and again (the disk is full). Decisions kept in this browser"
    )
    assert len(asked) == 11
    assert max(waits) >= 60_000  # ever longer pauses
    n_asked = len(asked)
    page.clock.run_for(600_000)
    assert len(asked) == n_asked
    page.unroute(EVENTS)
    page.unroute("**/api/patients/P1/cells")
    assert kinds(served) == []
    page.locator("#problem button").click()
    saved(page)
    assert codes(served)[cell] == "N1"
    expect(page.locator("#problem")).to_be_hidden()


def test_two_pages_of_one_browser_keep_what_each_decided(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    other = page.context.new_page()
    other.goto(f"{served.address}/patients/P1")
    other.wait_for_selector("body[data-ready]")
    page.context.set_offline(True)
    first = cursor(page)
    page.keyboard.type("n1")
    other.keyboard.press("ArrowRight")
    second = cursor(other)
    other.keyboard.type("n2")
    for each in (page, other):
        expect(each.locator("#saved")).to_have_text("Not saved: 1")
    page.close()
    expect(other.locator("#saved")).to_have_text("Not saved: 2")
    again = other.context.new_page()
    other.close()
    again.context.set_offline(False)
    again.goto(f"{served.address}/patients/P1")
    expect(again.locator(f"[data-cell='{first}'] .label")).to_have_text("N1")
    expect(again.locator(f"[data-cell='{second}'] .label")).to_have_text("N2")
    saved(again)
    assert first != second
    assert (codes(served)[first], codes(served)[second]) == ("N1", "N2")
    assert sorted(kinds(served)) == [("relabel", "N1"), ("relabel", "N2")]
    assert again.evaluate("Object.keys(localStorage).filter((key) => key.includes('outbox'))") == []


def test_an_answer_that_never_came_is_not_recorded_twice(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    lost: list[str] = []

    def lose_the_answer(route: Route) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().text())
        route.abort()

    page.route(EVENTS, lose_the_answer)
    page.keyboard.type("n1")
    saved(page)
    assert "sequence" in lost[0]
    assert kinds(served) == [("relabel", "N1")]


def test_another_readers_decision_stands_until_the_reader_says_otherwise(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    cell = cursor(page)
    head = served.station.store.head().sequence
    served.station.decide("P1", "Ben", [Decision("relabel", cell, "N3")], head)
    page.keyboard.type("n1")
    expect(page.locator("dialog.conflict")).to_contain_text("Ben")
    expect(page.locator("dialog.conflict")).to_contain_text("N3")
    expect(page.locator("#saved")).to_have_attribute("data-state", "asking")
    page.keyboard.press("Enter")  # keep theirs
    saved(page)
    assert codes(served)[cell] == "N3"
    assert labels(page)[cell] == "N3"
    served.station.decide("P1", "Ben", [Decision("relabel", cell, "N4")], head)
    page.keyboard.press("ArrowLeft")
    page.keyboard.type("n1")
    page.click("dialog.conflict button:has-text('Record mine')")
    saved(page)
    assert kinds(served)[-2:] == [("relabel", "N4"), ("relabel", "N1")]


def test_taking_back_a_decision_asks_before_it_undoes_another_readers_later_one(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    cell = cursor(page)
    page.keyboard.type("n1")
    saved(page)
    served.station.decide("P1", "Ben", [Decision("relabel", cell, "N3")], served.station.store.head().sequence)
    page.reload()
    expect(page.locator(f"[data-cell='{cell}'] .label")).to_have_text("N3")  # the page shows it already
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("u")
    expect(page.locator("dialog.conflict")).to_contain_text("Ben")
    page.keyboard.press("Enter")  # keep theirs
    saved(page)
    assert (codes(served)[cell], labels(page)[cell]) == ("N3", "N3")
    page.keyboard.press("u")  # nothing of mine about the cell is left to take back
    page.keyboard.press("y")
    saved(page)
    assert kinds(served) == [("relabel", "N1"), ("relabel", "N3")]


def test_a_decision_taken_back_before_its_answer_came_asks_nothing(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    cell = cursor(page)
    page.context.set_offline(True)
    page.keyboard.type("n1")
    page.keyboard.press("u")
    expect(page.locator("#saved")).to_have_text("Not saved: 2")
    page.context.set_offline(False)
    saved(page)
    page.keyboard.press("y")
    saved(page)
    assert kinds(served) == [("relabel", "N1"), ("relabel", None), ("relabel", "N1")]
    assert codes(served)[cell] == "N1"


def test_what_the_station_refuses_is_taken_back_and_said(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    cell = cursor(page)
    sentence = '{"error": "found a decision that cannot be"}'
    page.route(EVENTS, lambda route: route.fulfill(status=400, body=sentence, content_type="application/json"))
    page.keyboard.type("n1")
    expect(page.locator("#typed")).to_contain_text("found a decision that cannot be")
    expect(page.locator(f"[data-cell='{cell}'] .label")).not_to_have_text("N1")
    assert kinds(served) == []
