"""The gallery in a real browser, by keyboard alone."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from marrowscope.report.strings import load_strings
from marrowscope.review.decisions import Decision
from marrowscope.review.hotkeys import default_hotkeys
from marrowscope.review.measured_cells import distances, read_measures
from marrowscope.vocabulary import load_vocabulary
from tests.review.pages.conftest import Served, expect, saved
from tests.review.stations import READER

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

N_REFERENCES = 6


def codes(served: Served, patient_id: str = "P1") -> dict[str, str | None]:
    return {name: cell.code for name, cell in served.station.state(patient_id).cells.items()}


def cursor(page: Page) -> str:
    return str(page.locator(".tile.cursor").get_attribute("data-cell"))


def labels(page: Page) -> dict[str, str]:
    read = (
        "tiles => Object.fromEntries(tiles.map(tile => [tile.dataset.cell, tile.querySelector('.label').textContent]))"
    )
    return dict(page.locator(".tile:not([hidden])").evaluate_all(read))


def test_two_keys_name_a_cell_and_the_name_survives_a_reload(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    cell = cursor(page)
    page.keyboard.type("n1")
    saved(page)
    assert codes(served)[cell] == "N1"
    assert labels(page)[cell] == "N1"
    assert cursor(page) != cell, "the next cell follows"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert labels(page)[cell] == "N1"


def kinds(served: Served, patient_id: str = "P1") -> list[tuple[str, object]]:
    return [(event.kind, event.new) for event in served.station.store.events(patient_id)]


def test_every_code_is_typed_in_at_most_two_keys(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    page.uncheck("#go-on")
    page.focus("#grid")
    for code, keys in default_hotkeys(load_vocabulary()).items():
        assert len(keys) <= 2
        page.keyboard.type(keys)
        expect(page.locator(".tile.cursor .label")).to_have_text(code)
    saved(page)
    assert [new for _, new in kinds(served)] == list(load_vocabulary().codes)


def test_a_range_is_named_together_and_undone_and_done_again(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    chosen = set(page.locator(".tile.chosen").evaluate_all("tiles => tiles.map(tile => tile.dataset.cell)"))
    assert len(chosen) == 5
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.type("r2")
    saved(page)
    named = {name for name, code in codes(served).items() if code == "R2"}
    assert len(named) == 6
    assert chosen < named
    page.keyboard.press("Escape")
    page.keyboard.type("x")
    saved(page)
    page.keyboard.press("u")
    page.keyboard.press("u")
    saved(page)
    assert set(codes(served).values()) == {None}
    assert all(cell.removed is None and not cell.is_seen for cell in served.station.state("P1").cells.values())
    page.keyboard.press("y")
    saved(page)
    assert {name for name, code in codes(served).items() if code == "R2"} == named
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.locator("#typed")).to_have_text("Nothing to undo")


def test_the_least_certain_cell_comes_first_and_filters_and_likeness_order_the_rest(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    cells = served.station.state("P1").cells
    least = min(cells.values(), key=lambda cell: round(cell.certainty or 0.0, 4))  # as the page gets it
    assert cursor(page) == least.cell_id
    page.keyboard.type("v")  # the cell moves on; nothing is sorted under the reader's hands
    expect(page.locator("#shown")).to_have_text(f"{len(cells)} of {len(cells)} cells")
    page.click("[data-kind=open]")
    expect(page.locator("#shown")).to_have_text(f"{len(cells) - 1} of {len(cells)} cells")
    page.click("[data-category=N5]")
    shown = labels(page)
    assert set(shown.values()) == {"N5?"}
    assert set(shown) == {cell.cell_id for cell in cells.values() if cell.model_category == "N5"} - {least.cell_id}
    page.click("text=Show all cells")
    page.focus("#grid")
    page.keyboard.press("Home")
    page.keyboard.press("s")
    expect(page.locator(".like")).to_be_visible()
    chosen = cursor(page)
    ranked = served.station.cells.run_of("P1")
    measured = read_measures(ranked.folder, "P1")
    nearest = np.argsort(distances(measured, measured.cell_ids.index(chosen)), kind="stable")
    order = page.locator(".tile:not([hidden])").evaluate_all(
        "tiles => tiles.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet).map(tile => tile.dataset.cell)"
    )
    assert order[0] == chosen
    assert set(order[:4]) == {measured.cell_ids[i] for i in nearest[:4]}


def test_enter_confirms_a_category_of_one_code_and_asks_where_there_are_several(
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    page.click("[data-category=R2]")
    page.focus("#grid")
    cell = cursor(page)
    page.keyboard.press("Enter")
    saved(page)
    assert codes(served)[cell] == "R2"
    page.click("[data-category=L]")
    page.focus("#grid")
    page.keyboard.press("Enter")
    expect(page.locator("#typed")).to_contain_text("L1 (l1)")
    saved(page)
    assert [new for _, new in kinds(served)] == ["R2"]


def test_keys_are_remapped_and_collisions_are_refused(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    page.keyboard.press("h")
    keys = page.locator("dialog input")
    codes_shown = list(load_vocabulary().codes)
    myeloblast = keys.nth(codes_shown.index("N"))
    myeloblast.fill("n1")
    expect(page.locator("dialog .problem")).to_contain_text("N1")
    expect(page.locator("dialog .primary")).to_be_disabled()
    myeloblast.fill("gg")
    expect(page.locator("dialog .problem")).to_contain_text("command")
    myeloblast.fill("9")
    page.click("dialog .primary")
    cell = cursor(page)
    page.keyboard.type("9")
    saved(page)
    assert codes(served)[cell] == "N"
    page.reload()
    page.wait_for_selector("body[data-ready]")
    cell = cursor(page)
    page.keyboard.type("9")
    saved(page)
    assert codes(served)[cell] == "N", "the keys are kept"


def test_the_pages_in_chinese_say_chinese(opened: Callable[..., Page]) -> None:
    page = opened(lang="zh")
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    said = page.locator("body").inner_text()
    words = set(re.findall(r"[A-Za-z]{4,}", said)) - {"marrowscope", "CBLC", "Other", "field", "English"}
    assert words == set()
    page.keyboard.press("?")
    said = page.locator("dialog").inner_text()
    assert set(re.findall(r"[A-Za-z]{4,}", said)) - {"CBLC", "Shift", "Ctrl", "Space", "Home", "Enter"} == set()


def test_every_word_that_a_page_asks_for_stands_in_the_catalog_and_is_used() -> None:
    static = files("marrowscope.review")
    texts = [path.read_text("utf-8") for path in (static / "static").iterdir() if path.name.endswith(".js")]
    texts += [path.read_text("utf-8") for path in (static / "templates").iterdir()]
    asked = {key for text in texts for key in re.findall(r"[\"'`](review\.[a-z0-9_.]*[a-z0-9_])[\"'`]", text)}
    begun = {key for text in texts for key in re.findall(r"[\"'`](review\.[a-z_.]+[._])(?:\$\{|[\"'`] ~)", text)}
    known = {key for key in load_strings("en").texts if key.startswith("review.")}
    assert asked - known == set()
    assert {key for key in known - asked if not key.startswith(tuple(begun))} == set()


def test_a_reader_says_of_how_many_smears_the_fields_are(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    figure = page.locator(".figure.differential")
    expect(figure).to_contain_text("smears: unknown")
    figure.locator("button").click()
    page.locator("dialog.choose button", has_text="2").click()
    expect(figure).to_contain_text("smears: 2 of 2 wanted")
    assert served.station.state("P1").n_smears == 2


def test_reference_cells_of_the_category_stand_beside(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    frozen = {cell.cell_id: cell for cell in served.station.patient("P1").frozen}
    names = page.evaluate("fetch('/api/patients/P1/cells').then((answer) => answer.json())")["cell_id"]
    here = cursor(page)
    alike = {name for name, cell in frozen.items() if cell.category == frozen[here].category} - {here}
    buttons = page.locator("#panel .references button")

    def shown() -> list[str]:
        return [names[int(at)] for at in buttons.evaluate_all("all => all.map(button => button.dataset.at)")]

    expect(buttons.first).to_be_visible()
    before = shown()
    assert set(before) <= alike
    assert len(before) == min(len(alike), N_REFERENCES)
    certainty = {name: round(frozen[name].certainty, 4) for name in alike}  # as the page is told it
    most = sorted(certainty.values(), reverse=True)[: len(before)]
    assert [certainty[name] for name in before] == most, "unconfirmed ones by the machine's certainty"
    page.wait_for_function("document.querySelector('#panel .references img').naturalWidth > 0")
    confirmed = before[-1]
    code = next(code.code for code in load_vocabulary().codes.values() if code.category == frozen[here].category)
    served.station.decide("P1", READER, [Decision("relabel", confirmed, code)], 0)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    while cursor(page) != here:
        page.keyboard.press("ArrowRight")
    expect(buttons.first).to_have_class("given")
    assert shown() == [confirmed, *before[:-1]], "what a reader confirmed stands first"
    buttons.first.click()
    expect(page.locator(".tile.cursor")).to_have_attribute("data-cell", confirmed)
