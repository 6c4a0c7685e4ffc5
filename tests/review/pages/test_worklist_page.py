"""The worklist in a real browser, and axe-core on every page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from marrowscope.review.accounts import add_account
from marrowscope.review.decisions import Decision
from tests.required import AXE, module_of
from tests.review.pages.conftest import Served, expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page


def test_the_worklist_counts_filters_and_opens_by_keyboard(opened: Callable[..., Page], served: Served) -> None:
    cell = next(iter(served.station.state("P2").cells))
    served.station.decide("P2", "Ben", [Decision("relabel", cell, "N1")], served.station.store.head().sequence)
    served.station.progress.is_here("P2", "Ben")
    page = opened("/")
    row = page.locator("tr[data-patient=P2]")
    expect(row).to_contain_text("1 of 11")
    expect(row).to_contain_text("in review")
    expect(row).to_contain_text("Ben")
    expect(page.locator("tbody tr a").first).to_be_focused()
    page.select_option("#status", "new")
    expect(row).to_have_count(0)
    page.select_option("#status", "")
    page.keyboard.press("/")
    page.locator("#find").fill("p2")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.station[data-ready]")
    assert page.url.endswith("/patients/P2")


def test_whoever_entered_with_a_password_leaves_by_a_button(opened: Callable[..., Page], served: Served) -> None:
    page = opened("/")
    expect(page.locator("#leave")).to_have_count(0)  # a lone reader's address works once
    words = "four plain words here"
    add_account(served.station.store.engine, "ada", ["reader"], password=words)
    served.station.lone_reader = None
    page.goto(f"{served.address}/login")
    page.fill("input[name=name]", "ada")
    page.fill("input[name=password]", words)
    page.click("button.primary")
    page.wait_for_selector("body[data-ready]")
    page.click("#leave")
    page.wait_for_url("**/login")
    assert page.request.get(f"{served.address}/api/session").status == 401


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_axe_finds_no_serious_or_critical_barrier(opened: Callable[..., Page], lang: str) -> None:
    axe = module_of(AXE, "axe_playwright_python.sync_playwright")

    def grave(page: Page) -> list[tuple[str, str]]:
        violations = axe.Axe().run(page).response["violations"]
        serious = [item for item in violations if item["impact"] in {"serious", "critical"}]
        return [(item["id"], node["html"]) for item in serious for node in item["nodes"][:3]]

    page = opened("/", lang=lang, bypass_csp=True)  # the station's own policy would stop axe
    assert grave(page) == []
    page.goto(page.url.replace("/?", "/patients/P1?"))
    page.wait_for_selector("body[data-ready]")
    page.keyboard.type("n1")
    page.keyboard.type("x")
    page.keyboard.press("Shift+ArrowRight")
    assert grave(page) == []
    for key in ("?", "h", "c"):
        page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        assert grave(page) == []
        page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector(".field-canvas")
    assert grave(page) == []
    page.goto(page.url.split("/patients")[0] + "/login")
    assert grave(page) == []
