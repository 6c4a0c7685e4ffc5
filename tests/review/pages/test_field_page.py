"""The field view in a real browser: outlines are added, cut, joined, drawn again and removed."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely

from marrowscope.review.clicked_outline import ClickedOutline
from tests.fake_runs import HEIGHT, UM_PER_PX, WIDTH, circle
from tests.review.pages.conftest import Served, expect, saved, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Route

    from marrowscope.review.events import Event

FIELD = "P1/field_0"
ZOOM = 1.4
"""What + enlarges the field by."""


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the whole field lies on the screen."""
    box = page.locator(".field-canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    return (
        box["x"] + box["width"] / 2 + (x - WIDTH / 2) * scale,
        box["y"] + box["height"] / 2 + (y - HEIGHT / 2) * scale,
    )


def click(page: Page, x: float, y: float, *keys: str) -> None:
    for key in keys:
        page.keyboard.down(key)
    page.mouse.click(*at(page, x, y))
    for key in keys:
        page.keyboard.up(key)


def last(served: Served) -> Event:
    return list(served.station.store.events("P1"))[-1]


def test_cells_are_added_split_merged_redrawn_and_removed_and_all_of_it_is_undone(  # noqa: PLR0915 - one after another
    opened: Callable[..., Page], served: Served
) -> None:
    page = opened()
    page.focus("#field")  # its fields are listed while it is used
    page.select_option("#field", FIELD)
    page.focus("#grid")
    page.keyboard.press("g")
    expect(page.locator(".field-canvas")).to_be_focused()
    page.keyboard.press("w")

    page.keyboard.press("i")
    click(page, 150, 150)  # the contour there was refused by a quality rule
    expect(page.locator("#typed")).to_contain_text("models are not where they were")
    saved(page)
    refused = next(cell for cell in served.station.patient("P1").refused if cell.field_id == FIELD)
    assert last(served).kind == "add"
    assert last(served).new["contour_xy"] == refused.contour_xy.ravel().tolist()
    page.keyboard.type("l2")
    saved(page)
    added = last(served).cell_id
    assert served.station.state("P1").cells[str(added)].code == "L2"

    click(page, 60, 60)
    page.keyboard.press("k")
    click(page, 12, 60)
    click(page, 106, 62)
    saved(page)
    parts = last(served).new["parts"]
    old = next(cell for cell in served.station.patient("P1").frozen if cell.cell_id == last(served).cell_id)
    areas = [shapely.Polygon(np.reshape(part["contour_xy"], (-1, 2))).area for part in parts]
    assert len(areas) == 2
    assert sum(areas) == pytest.approx(shapely.Polygon(np.reshape(old.contour_xy, (-1, 2))).area, rel=1e-3)
    assert min(areas) > 0.4 * sum(areas)

    click(page, 240, 60)
    click(page, 330, 60, "Shift")
    page.keyboard.press("t")
    saved(page)
    assert last(served).kind == "merge"
    assert len(last(served).new["cells"]) == 2

    click(page, 420, 60)
    page.keyboard.press("d")
    points = [at(page, 420 + 30 * math.cos(a), 60 + 30 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 24)]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()
    saved(page)
    assert last(served).kind == "redraw"
    drawn = shapely.Polygon(np.reshape(last(served).new["contour_xy"], (-1, 2)))
    assert drawn.area == pytest.approx(math.pi * 30**2, rel=0.05)

    page.keyboard.press("x")
    saved(page)
    assert last(served).kind == "not_a_cell"
    page.keyboard.press("Shift+Enter")
    saved(page)
    assert served.station.state("P1").fields_checked == {FIELD: "Ada"}

    for _ in range(6):
        page.keyboard.press("u")
    saved(page)
    state = served.station.state("P1")
    frozen = {cell.cell_id: cell for cell in served.station.patient("P1").frozen}
    assert {cell.cell_id for cell in state.present} == set(frozen)
    for name, cell in frozen.items():
        assert state.cells[name].code is None
        assert np.allclose(state.cells[name].contour_xy, cell.contour_xy, atol=0.01)


def test_a_click_takes_what_the_segmenter_finds_there_or_begins_an_outline(
    opened: Callable[..., Page], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        ClickedOutline("cell", circle(240, 240, 20)), ClickedOutline("none"), ClickedOutline("known"),
        ClickedOutline("no_model"),
    ]  # fmt: skip
    places: list[tuple[float, float]] = []

    def outline(_manifest: object, _pixels: object, _um: float, place: tuple[float, float], _known: object) -> object:
        places.append(place)
        return found.pop(0)

    monkeypatch.setattr(served.station.finders, "outline", outline)
    page = opened()
    page.focus("#field")
    page.select_option("#field", FIELD)
    page.focus("#grid")
    page.keyboard.press("g")
    expect(page.locator(".field-canvas")).to_be_focused()
    page.keyboard.press("w")

    page.keyboard.press("i")
    click(page, 240, 240)
    expect(page.locator("#typed")).to_contain_text("type its code")
    saved(page)
    assert last(served).kind == "add"
    assert last(served).new["outlined_by"] == "segmenter"
    assert np.allclose(np.reshape(last(served).new["contour_xy"], (-1, 2)), circle(240, 240, 20), atol=0.01)
    assert places[0] == pytest.approx((240, 240), abs=1.5)

    n_events = served.station.store.head().sequence
    page.keyboard.press("i")
    click(page, 300, 300)
    expect(page.locator("#typed")).to_contain_text("No cell was found there")
    for x, y in [(340, 300), (340, 340), (300, 340)]:  # the click was the first point of an outline
        click(page, x, y)
    page.keyboard.press("Enter")
    saved(page)
    assert served.station.store.head().sequence == n_events + 1
    assert last(served).kind == "add"
    assert "outlined_by" not in last(served).new
    corners = [(300, 300), (340, 300), (340, 340), (300, 340)]
    assert np.allclose(np.reshape(last(served).new["contour_xy"], (-1, 2)), corners, atol=1.5)

    page.keyboard.press("i")
    click(page, 430, 300)
    expect(page.locator("#typed")).to_contain_text("outlined already")
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    click(page, 150, 150)  # the contour there was refused by a quality rule
    expect(page.locator("#typed")).to_contain_text("models are not where they were")
    saved(page)
    refused = next(cell for cell in served.station.patient("P1").refused if cell.field_id == FIELD)
    assert last(served).new["contour_xy"] == refused.contour_xy.ravel().tolist()


def in_field(page: Page) -> None:
    """Show the whole of FIELD."""
    page.focus("#field")
    page.select_option("#field", FIELD)
    page.focus("#grid")
    page.keyboard.press("g")
    expect(page.locator(".field-canvas")).to_be_focused()
    page.keyboard.press("w")


def test_what_is_typed_after_a_click_names_the_cell_that_it_brings_and_no_other(
    opened: Callable[..., Page], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = threading.Event()
    found = [ClickedOutline("none"), ClickedOutline("cell", circle(240, 240, 20)), ClickedOutline("none")]

    def outline(*_asked: object) -> ClickedOutline:
        assert may_answer.wait(30)
        return found.pop(0)

    monkeypatch.setattr(served.station.finders, "outline", outline)
    page = opened()
    in_field(page)
    before = served.station.store.head().sequence
    name = page.locator("#panel .cell-name")
    chosen = name.inner_text()

    page.keyboard.press("i")
    click(page, 300, 300)
    page.keyboard.type("n1")  # before the answer, which brings no cell
    may_answer.set()
    expect(page.locator("#typed")).to_contain_text("No cell was found there")
    page.keyboard.type("n2")  # and after it
    expect(page.locator("#typed")).to_have_text("Choose a cell first")
    expect(name).not_to_have_text(chosen)
    page.keyboard.press("Escape")
    expect(name).to_have_text(chosen)
    saved(page)
    assert served.station.store.head().sequence == before

    may_answer.clear()
    page.keyboard.press("i")
    page.mouse.dblclick(*at(page, 240, 240))  # as one click
    page.keyboard.type("n1")
    may_answer.set()
    expect(page.locator("#typed")).to_contain_text("N1")
    saved(page)
    (added,) = (cell for cell in served.station.state("P1").present if cell.origin == "added")
    assert (added.code, added.outlined_by) == ("N1", "segmenter")
    assert served.station.store.head().sequence == before + 2

    may_answer.clear()
    page.keyboard.press("i")
    for x, y in [(300, 300), (340, 300), (340, 340), (300, 340)]:  # an outline needs no answer, and nor do its keys
        click(page, x, y)
    page.keyboard.press("Enter")
    saved(page)
    assert last(served).kind == "add"
    assert "outlined_by" not in last(served).new
    may_answer.set()


def test_a_cell_out_of_sight_has_no_label_beside_those_in_sight(opened: Callable[..., Page]) -> None:
    page = opened()
    in_field(page)
    page.evaluate(
        """() => {
          window.labels = [];
          const fill = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
            window.labels.push(text);
            return fill.call(this, text, ...place);
          };
        }"""
    )

    drawn = """async (key) => {
      document.querySelector('.field-canvas').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
      window.labels = [];
      await new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); });
      return window.labels.filter((text) => !text.endsWith('µm')).length;
    }"""
    of_all = page.evaluate(drawn, "w")
    for _ in range(6):
        page.evaluate(drawn, "+")
    assert of_all >= 9
    assert 1 <= page.evaluate(drawn, "+") < of_all / 2


@pytest.mark.parametrize("kind", ["merge", "add", "split"])
def test_a_name_typed_for_a_drawn_cell_reaches_it_although_the_answer_to_the_drawing_was_lost(
    opened: Callable[..., Page], served: Served, kind: str
) -> None:
    page = opened()
    lost: list[str] = []

    def lose_the_answer(route: Route) -> None:
        if lost or f'"{kind}"' not in (route.request.post_data or ""):
            route.continue_()
            return
        lost.append(route.fetch().text())
        route.abort()

    page.route("**/api/patients/P1/events", lose_the_answer)
    page.focus("#field")
    page.select_option("#field", FIELD)
    page.focus("#grid")
    page.keyboard.press("g")
    expect(page.locator(".field-canvas")).to_be_focused()
    page.keyboard.press("w")
    if kind == "merge":
        click(page, 240, 60)
        click(page, 330, 60, "Shift")
        page.keyboard.press("t")
    elif kind == "add":
        page.keyboard.press("i")
        click(page, 150, 150)
    else:
        click(page, 60, 60)
        page.keyboard.press("k")
        click(page, 12, 60)
        click(page, 106, 62)
    page.keyboard.type("n1")
    until(page, lambda: bool(lost))  # a click asks for an outline first, and only then is there something to save
    saved(page)
    assert "sequence" in lost[0]
    events = list(served.station.store.events("P1"))
    assert [event.kind for event in events if event.kind not in {"open", "bind"}] == [kind, "relabel"]
    drawn = [cell for cell in served.station.state("P1").present if cell.origin in {"merged", "added", "split"}]
    assert [cell.code for cell in drawn if cell.code is not None] == ["N1"]


def test_outlines_are_cut_and_compared_as_shapely_does(opened: Callable[..., Page]) -> None:
    page = opened()
    one, other = circle(100, 100, 40), circle(130, 110, 25)
    shares = page.evaluate(
        """async ([one, other]) => {
          const { overlap } = await import('/static/outlines.js');
          const { box } = await import('/static/cells.js');
          return overlap(one, other, box(one), box(other));
        }""",
        [one.ravel().tolist(), other.ravel().tolist()],
    )
    common = shapely.intersection(shapely.Polygon(one), shapely.Polygon(other)).area
    assert shares == pytest.approx(common / shapely.Polygon(other).area, abs=0.03)
    for line in ([40, 90, 160, 115], [110, 20, 95, 100, 120, 180], [160, 60, 60, 140]):
        parts = page.evaluate(
            "async ([one, line]) => (await import('/static/outlines.js')).cut(one, line)", [one.ravel().tolist(), line]
        )
        polygons = [shapely.Polygon(np.reshape(part, (-1, 2))) for part in parts]
        assert all(polygon.is_valid for polygon in polygons)
        assert sum(polygon.area for polygon in polygons) == pytest.approx(shapely.Polygon(one).area, rel=1e-3)
        assert shapely.intersection(polygons[0], polygons[1]).area == pytest.approx(0, abs=1)
    assert (
        page.evaluate(
            "async one => (await import('/static/outlines.js')).cut(one, [0, 0, 20, 0])", one.ravel().tolist()
        )
        is None
    )


def test_the_scale_bar_is_as_long_as_it_says(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate(
        """() => {
          const draw = CanvasRenderingContext2D.prototype.fillText;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
            if (text.endsWith(" µm")) window.rule = Number.parseFloat(text);
            return draw.call(this, text, ...place);
          };
        }"""
    )
    page.keyboard.press("g")
    expect(page.locator(".field-canvas")).to_be_focused()
    page.keyboard.press("w")
    page.wait_for_function("window.rule > 0")
    box = page.locator(".field-canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    told = set()
    for zoom in (1.0, ZOOM, ZOOM**2):
        if zoom > 1:
            page.keyboard.press("+")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        um, px = page.evaluate(
            """() => {
              const canvas = document.querySelector(".field-canvas");
              const ratio = canvas.width / canvas.clientWidth;
              const y = Math.round((canvas.clientHeight - 16.5) * ratio);
              const row = pixelsOf(canvas, 0, y, canvas.width, 1);
              const isRule = (x) => row[4 * x] === 29 && row[4 * x + 1] === 36 && row[4 * x + 2] === 41;
              let x = Math.round(17 * ratio);
              const from = Math.round(16 * ratio);
              while (isRule(x)) x += 1;
              return [window.rule, (x - from) / ratio];
            }"""
        )
        assert px == pytest.approx(um / UM_PER_PX * scale * zoom, abs=1.5)
        told.add(um)
    assert len(told) > 1, "a bar that grew too long states less"


def test_every_button_of_a_field_has_a_name_before_it_is_painted(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate("window.requestAnimationFrame = () => 1")  # a busy computer paints late
    page.keyboard.press("g")
    page.wait_for_selector(".field-canvas")
    nameless = "(b) => b.checkVisibility() && !b.innerText.trim() && !b.ariaLabel"
    assert page.evaluate(f"[...document.querySelectorAll('button')].filter({nameless}).map((b) => b.outerHTML)") == []
