"""A random audit and the sign-off in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from marrowscope.review.live_estimate import audit_view
from marrowscope.review.sign import checklist, figures_of
from tests.review.pages.conftest import Served, expect, saved, serving
from tests.review.pages.test_gallery_page import cursor, kinds, labels
from tests.review.stations import READER, open_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.fake_runs import FakeRun


@pytest.fixture
def served(fake_run: Callable[..., FakeRun], tmp_path: Path) -> Iterator[Served]:
    """Serve patients with more cells than the first look of an audit."""
    with serving(open_station(fake_run(n_fields=6).folder, tmp_path / "review" / "review.sqlite")) as served:
        yield served


def estimate_of(served: Served) -> dict[str, Any]:
    return figures_of(served.station.chart("P1"))


def test_an_audit_hides_the_calls_takes_every_name_in_order_and_gives_a_ratio(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    expect(page.locator(".figure.audit")).to_contain_text("not drawn")
    row = page.locator(".categories [data-category=N]")
    n_called = sum(cell.category == "N" for cell in served.station.patient("P1").frozen)
    expect(row.locator(".n")).to_have_text(f"0 / {n_called}")
    page.click(".figure.audit button")
    page.wait_for_selector("body.auditing")
    expect(row).to_be_hidden()  # every cell's call is hidden, and the side counts none by it
    view = audit_view(served.station.state("P1"))
    assert view is not None
    order = list(view.order[: view.audit.sizes[0]])
    assert set(labels(page).values()) == {"?"}
    page.keyboard.press("ArrowRight")
    page.keyboard.type("n2")  # none is skipped: the cursor goes back to the first
    expect(page.locator("#typed")).to_contain_text("none is skipped")
    page.keyboard.press("Enter")  # nothing to confirm where nothing is shown
    page.keyboard.press("x")
    for _ in order[1:]:
        page.keyboard.type("nn")
    expect(page.locator("body.auditing")).to_have_count(0)
    saved(page)
    answers = [event for event in served.station.store.events("P1") if event.kind == "audit_answer"]
    assert [event.cell_id for event in answers] == order
    assert [event.new for event in answers] == [None, *["N"] * (len(order) - 1)]
    expect(page.locator(".figure.audit")).to_contain_text("%")
    following = estimate_of(served)["audit"]["next"]
    said = f"cells of the next look: {view.audit.sizes[1] - view.audit.sizes[0]}; width of the interval then about "
    expect(page.locator(".figure.audit")).to_contain_text(f"{said}{100 * following['width_then']:.1f}%, now ")
    (category,) = estimate_of(served)["progress"]["categories"]
    limits = f"{100 * category['share']['lower']:.1f}%\u2013{100 * category['share']['upper']:.1f}%"
    expect(page.locator(".figure.differential")).to_have_attribute(
        "title", re.compile(f": {len(order) - 1}, {limits}$")
    )


def test_too_few_cells_for_an_audit_are_offered_as_a_full_review(opened: Callable[..., Page], served: Served) -> None:
    names = [cell.cell_id for cell in served.station.patient("P1").frozen]
    page = opened()
    expect(page.locator(".figure.audit button")).to_be_visible()
    served.station.decide("P1", "Ada", [Decision("relabel", name, "N5") for name in names[:-49]], 0)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".figure.audit")).to_contain_text("fewer than 50 cells left: name them all")
    expect(page.locator(".figure.audit button")).to_be_hidden()
    seen = served.station.store.head().sequence
    served.station.decide("P1", "Ada", [Decision("relabel", name, "N5") for name in names[-49:]], seen)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator(".figure.audit b")).to_have_text("no cell left to draw")
    (item,) = (item for item in checklist(served.station.chart("P1")) if item.key == "reviewed")
    assert (item.is_done, item.said) == (False, "reviewed.unconfirmed")
    page.set_viewport_size({"width": 900, "height": 800})  # with 148 cells it is out of sight at 1280
    done = page.locator(".figure.full button")
    expect(done).to_be_visible()
    box = done.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 900, "what ends the review is in sight, and not to be scrolled to"


def test_the_strip_shows_no_count_of_the_machine_out_of_depth(
    opened: Callable[..., Page], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = served.station.cells.rows["P1"]
    monkeypatch.setitem(served.station.cells.rows, "P1", row.model_copy(update={"state": "out_of_depth"}))
    page = opened()
    expect(page.locator(".figure.audit")).to_contain_text("not drawn")  # the figures have come
    expect(page.locator(".figure.machine")).to_be_hidden()
    page.goto(f"{served.address}/patients/P2")
    expect(page.locator(".figure.machine")).to_contain_text("CBLC of")


def test_a_patient_is_signed_once_everything_is_done_and_amended_with_a_reason(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    page.click("#sign")
    expect(page.locator("dialog .primary")).to_be_disabled()
    page.keyboard.press("Escape")
    page.focus("#grid")
    page.keyboard.press("Control+a")
    page.keyboard.type("n2")
    page.click("text=Every cell is reviewed")
    page.keyboard.press("c")
    page.select_option("dialog select", "adequacy")
    page.fill("dialog textarea", "enough cells")
    page.click("dialog .write .primary")
    for flag in page.locator("dialog label.flag").all():
        flag.locator("input").fill("seen")
        flag.locator("button").click()
    page.keyboard.press("Escape")
    page.click("#sign")  # waits for what is on its way
    expect(page.locator("dialog.sign-off .primary")).to_be_enabled()
    served.station.decide("P1", "Ada", [Decision("comment", None, {"text": "seen in another tab"})], 0)
    page.click("dialog .primary")  # what came after the page was shown is not signed
    expect(page.locator("dialog .problem")).to_contain_text("meanwhile (comment)")
    page.keyboard.press("Escape")
    page.click("#sign")
    page.click("dialog .primary")
    page.wait_for_selector("#standing:has-text('signed')")
    assert kinds(served)[-1][0] == "sign"
    page.wait_for_selector("body[data-ready]")
    page.keyboard.type("n1")
    expect(page.locator("#typed")).to_contain_text("signed")
    page.click("#sign")
    page.fill("dialog input", "a cell was named wrongly")
    page.click("dialog .primary")
    page.wait_for_selector("#standing:not(:has-text('signed'))")
    assert kinds(served)[-1][0] == "amend"


def test_an_answer_that_needs_an_adjudication_leads_there_and_the_audit_goes_back(
    opened: Callable[..., Page], served: Served
) -> None:
    station = served.station
    station.draw("P1", READER)
    view = audit_view(station.state("P1"))
    assert view is not None
    first = view.order[0]
    station.store.append([Draft(READER, "P1", "assign", None, {"readers": []}, {"readers": ["bo", "cy"]})])
    for reader, code in (("bo", "N"), ("cy", "R")):
        station.decide("P1", reader, [Decision("relabel", first, code)], 0, is_blinded=True)
    page = opened()
    page.click(".figure.audit button")
    page.wait_for_selector("body.auditing")
    assert cursor(page) == first
    page.keyboard.type("nn")
    expect(page.locator("#typed")).to_contain_text("blinded readers named")
    expect(page.locator(".tile.cursor")).to_have_attribute("data-cell", first)
    link = page.locator("#typed a")
    expect(link).to_have_text("Adjudication")
    box = link.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 1280, "the end of a long sentence is in sight as well"
    link.click()
    page.wait_for_url("**/patients/P1/adjudicate?cell=*")
    page.wait_for_selector("body[data-ready]")
    assert "audit_answer" not in {kind for kind, _ in kinds(served)}


def test_a_cell_that_blinded_readers_named_alike_is_adjudicated_and_then_answered(
    opened: Callable[..., Page], served: Served
) -> None:
    station = served.station
    station.draw("P1", READER)
    view = audit_view(station.state("P1"))
    assert view is not None
    first, second = view.order[:2]
    station.store.append([Draft(READER, "P1", "assign", None, {"readers": []}, {"readers": ["bo", "cy"]})])
    for reader in ("bo", "cy"):
        station.decide("P1", reader, [Decision("relabel", first, "N")], 0, is_blinded=True)
    page = opened()
    page.click(".figure.audit button")
    page.wait_for_selector("body.auditing")
    page.keyboard.type("nn")
    page.locator("#typed a").click()
    page.wait_for_selector("body.adjudicating[data-ready]")
    expect(page.locator("#cell-name")).to_have_text("Cell 1 of 1: its readers agree")
    expect(page.locator("#done")).to_have_text("0 of 1")
    expect(page.locator("#stands")).to_have_text("not decided yet")
    page.keyboard.type("mm")
    expect(page.locator("#done")).to_have_text("1 of 1")
    saved(page)
    page.goto(f"{served.address}/patients/P1")
    page.wait_for_selector("body[data-ready]")
    page.click(".figure.audit button")
    page.wait_for_selector("body.auditing")
    page.keyboard.type("mm")
    saved(page)
    assert cursor(page) == second
    assert station.state("P1").audit_answers == {first: "M"}
