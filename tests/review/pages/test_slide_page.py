"""A slide in deep zoom in a real browser: it is drawn, its regions lead to the field view, and the policy holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.review.decisions import Decision
from marrowscope.review.events import Draft
from tests.fake_slide_runs import HEIGHT, RADIUS_PX, UM_PER_PX, WIDTH, SlideRun, make_slide_run
from tests.required import AXE, module_of
from tests.review.pages.conftest import Served, expect, serving
from tests.review.stations import READER, open_station

pytest.importorskip("openslide", reason="needs the extra wsi and tifffile", exc_type=ImportError)
pytest.importorskip("tifffile", reason="needs the extra wsi and tifffile")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

REGION, SEEN_XY = "P1/slide/x433_y0", (583.0, 200.0)
"""The second region of the slide, whose pixels do not begin at its corner, and the place of its one N5."""

SEEN = """(side) => {
  const drawn = document.querySelector("#deep .openseadragon-canvas canvas");
  const over = document.querySelector(".outlines");
  const bounds = (canvas, fits) => { // the middle and the radius of what fits, in pixels of the screen
    const ratio = canvas.width / canvas.getBoundingClientRect().width;
    const data = pixelsOf(canvas);
    let [left, right, top, bottom, n] = [Infinity, -Infinity, Infinity, -Infinity, 0];
    for (let k = 0; k < data.length; k += 4) {
      const x = (k / 4) % canvas.width, y = Math.floor(k / 4 / canvas.width);
      if (!fits(data.subarray(k, k + 4), x / ratio, y / ratio)) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
      n += 1;
    }
    const [x, y] = [(left + right) / 2 / ratio, (top + bottom) / 2 / ratio];
    return { x, y, radius: (right - left + bottom - top) / 4 / ratio, n };
  };
  const cell = bounds(drawn, ([r, g, b]) => g > 150 && r < 90 && b < 90);
  const { colors } = JSON.parse(document.querySelector("#page-data").textContent);
  const color = colors.N5.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  const isIt = ([r, g, b, a]) => a > 200 && Math.hypot(r - color[0], g - color[1], b - color[2]) < 35;
  const isHere = (x, y) => Math.hypot(x - cell.x, y - cell.y) < 2 * cell.radius; // not the outline of another cell
  const outline = bounds(over, (pixel, x, y) => isIt(pixel) && isHere(x, y));
  const { left, top } = drawn.getBoundingClientRect();
  const scale = document.querySelector(".deep .region").getBoundingClientRect().width / side;
  return [{ ...cell, page_x: left + cell.x, page_y: top + cell.y }, outline, scale];
}"""
IN_PIECES = """async () => {
  const { SlideCells } = await import("/static/slide_cells.js");
  const box = (k) => [500 * k, 0, 500 * k + 500, 500];
  const region = (k) => ({ field_id: `r${k}`, box_xyxy: box(k), origin_xy: [500 * k, 0], n_cells: 1 });
  const regions = Array.from({ length: 50 }, (_, k) => region(k));
  let asked = [], open = 0, most = 0, fails = false;
  window.fetch = async (address) => {
    const name = address.split("/").at(-1);
    asked.push(name);
    most = Math.max(most, ++open);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    open -= 1;
    if (fails) throw new TypeError("no connection");
    const contour_xy = [200, 200, 240, 200, 240, 240, 200, 240];
    const cell = { cell_id: name, contour_xy, model_category: "N", code: null, removed: null };
    return new Response(JSON.stringify({ cells: [cell] }));
  };
  const cells = new SlideCells({ um_per_px: 0.25, regions }, { codes: [] }, { redraw: () => cells.draw(view) });
  let view = { left: 0, top: 0, width: 900, height: 500, scale: 0.2 };
  const look = async (now) => {
    view = { ...view, ...now };
    cells.draw(view);
    await new Promise((resolve) => { setTimeout(resolve, 250); });
    return [...asked].sort((a, b) => a.slice(1) - b.slice(1));
  };
  const found = { far: await look({}) };
  found.first = await look({ scale: 1 });
  const drawn = [Number(cells.canvas.dataset.drawn)];
  found.again = await look({ left: 10 });
  found.moved = await look({ left: 10050 });
  drawn.push(Number(cells.canvas.dataset.drawn));
  cells.forget();
  await look({});
  found.stale = [...asked];
  fails = true;
  await look({ left: 20100, width: 300 });
  await look({});
  found.failed = [...asked];
  return { ...found, most, drawn };
}"""
COLORS = """() => {
  const canvas = document.querySelector(".outlines");
  const data = pixelsOf(canvas);
  const found = new Map();
  for (let k = 0; k < data.length; k += 4) {
    const pixel = [...data.subarray(k, k + 3)];
    if (data[k + 3] === 255) found.set(pixel.join(), pixel);
  }
  return [...found.values()];
}"""
DRAWN = """() => {
  const canvas = document.querySelector("#deep .openseadragon-canvas canvas");
  return [...pixelsOf(canvas, canvas.width / 2 - 20, canvas.height / 2 - 20, 40, 40)];
}"""


@pytest.fixture
def slide_run(tmp_path: Path) -> SlideRun:
    image = np.full((HEIGHT, WIDTH, 3), 230, dtype=np.uint8)
    image[:, : WIDTH // 2] = (180, 90, 160)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5  # pixel 0 reaches from 0 to 1
    image[np.hypot(x - SEEN_XY[0], y - SEEN_XY[1]) <= RADIUS_PX] = (40, 200, 40)
    return make_slide_run(tmp_path, image=image)


@pytest.fixture
def served(slide_run: SlideRun, tmp_path: Path) -> Iterator[Served]:
    with serving(open_station(slide_run.run, tmp_path / "review" / "review.sqlite")) as served:
        yield served


def test_a_slide_is_drawn_and_its_regions_lead_to_the_field_view(
    opened: Callable[..., Page], served: Served, slide_run: SlideRun
) -> None:
    page = opened("/")
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if said.type in {"error", "warning"} else None)
    page.click(".patients a:text-is('Slide')")
    page.wait_for_selector("body[data-ready]")
    n_read = len(slide_run.regions) - 1
    expect(page.locator(".deep .region")).to_have_count(n_read)
    expect(page.locator("#regions tr")).to_have_count(n_read)
    expect(page.locator("#regions tr").nth(1)).to_contain_text("3")
    page.wait_for_function(f"() => {{ const d = ({DRAWN})(); return d[0] > 150 && d[0] < 210 && d.at(-4) > 220; }}")
    width = page.locator("#rule span").bounding_box()
    frame = page.locator(".deep .region").first.bounding_box()
    assert width is not None
    assert frame is not None
    core = slide_run.regions[0]
    um_of_frame = (core.x1 - core.x0) * UM_PER_PX
    um_of_rule = float(page.inner_text("#rule span").split()[0])
    assert width["width"] / um_of_rule == pytest.approx(frame["width"] / um_of_frame, rel=0.03)

    page.click("#closer")
    page.wait_for_function(
        "before => document.querySelector('.deep .region').getBoundingClientRect().width > 1.4 * before",
        arg=frame["width"],
    )
    page.click("#whole")
    page.wait_for_function(
        "before => Math.abs(document.querySelector('.deep .region').getBoundingClientRect().width - before) < 1",
        arg=frame["width"],
    )
    page.mouse.click(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.wait_for_url(re.compile(r"/patients/P1\?field="))
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#field-view select")).to_have_value(f"P1/slide/x{core.x0}_y{core.y0}")
    page.click("#view-slide")
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#regions tr.pointed")).to_have_count(1)
    page.keyboard.press("Tab")
    assert refused == [], "the policy refused something, or a tile was not found"
    assert not served.station.state("P1").n_reviewed, "looking at a slide decides nothing"


def test_a_slide_that_is_gone_leaves_one_sentence(opened: Callable[..., Page], slide_run: SlideRun) -> None:
    (slide_run.cohort / "P1" / "slide.tif").unlink()
    page = opened("/slides/P1")
    expect(page.locator("#instead")).to_contain_text("The slide slide.tif was not found where the run read it.")
    expect(page.locator("#deep")).to_be_hidden()
    expect(page.locator("#read")).to_be_hidden()


def look_near(page: Page, served: Served) -> None:
    """Open the slide at its second region, where its cells are outlined."""
    page.goto(f"{served.address}/slides/P1#{REGION}")
    page.wait_for_function("() => Number(document.querySelector('.outlines')?.dataset.drawn) >= 2")


def the_seen(served: Served) -> str:
    """Return the cell at ``SEEN_XY``."""
    cells = served.station.patient("P1").frozen
    (found,) = (cell for cell in cells if cell.field_id == REGION and cell.category == "N5")
    return found.cell_id


def test_cells_are_outlined_near_by_within_a_pixel_of_the_slide(
    opened: Callable[..., Page], served: Served, slide_run: SlideRun
) -> None:
    asked: list[str] = []
    page = opened("/slides/P1", width=560)
    page.on("request", lambda request: asked.append(request.url) if "/fields/" in request.url else None)
    expect(page.locator(".outlines")).to_have_attribute("data-drawn", "0")
    page.wait_for_timeout(500)
    assert asked == [], "cells are too small to be outlined, and none is asked for"
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("about:blank")  # the wider page may have asked already
    asked.clear()
    look_near(page, served)
    assert sorted(set(asked)) == sorted(asked), "no region is asked for twice"
    page.click("#closer")
    page.wait_for_timeout(1500)  # the zoom is animated, and sharper tiles come
    core = slide_run.regions[1]
    assert (f"P1/slide/x{core.x0}_y{core.y0}", core.x0 + 150) == (REGION, SEEN_XY[0])
    assert core.x_px > 0
    picture, outline, scale = page.evaluate(SEEN, core.x1 - core.x0)
    assert scale > 1, "screen pixels to one of the slide"
    assert outline["n"] > 100
    assert abs(outline["x"] - picture["x"]) / scale < 1
    assert abs(outline["y"] - picture["y"]) / scale < 1
    assert picture["radius"] / scale == pytest.approx(RADIUS_PX, abs=1)
    assert outline["radius"] / scale == pytest.approx(RADIUS_PX, abs=1)


def test_outlines_are_asked_for_where_one_looks_and_a_few_regions_at_a_time(opened: Callable[..., Page]) -> None:
    page = opened("/slides/P1")
    asked = page.evaluate(IN_PIECES)
    assert asked["far"] == [], "cells of 10 px on the screen"
    assert asked["first"] == ["r0", "r1"]
    assert asked["most"] <= 2
    assert asked["again"] == asked["first"], "what is known is not asked for again"
    assert asked["moved"] == ["r0", "r1", "r20", "r21"], "nothing of what lies between"
    assert asked["drawn"] == [2, 2]
    assert asked["stale"] == [*asked["moved"], "r20", "r21"]
    assert asked["failed"] == [*asked["stale"], "r40"]


def test_a_click_and_the_keys_lead_from_a_slide_to_the_cell(opened: Callable[..., Page], served: Served) -> None:
    page = opened("/slides/P1")
    look_near(page, served)
    page.locator("#deep .openseadragon-canvas").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.outlines').dataset.current")
    expect(page.locator("#chosen")).to_contain_text("?")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("q")
    expect(page.locator("#outlines")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".outlines")).to_have_attribute("data-drawn", "0")
    page.click("#outlines")
    page.wait_for_function("() => Number(document.querySelector('.outlines')?.dataset.drawn) >= 2")
    page.locator("#deep .openseadragon-canvas").first.focus()
    chosen = page.locator(".outlines").get_attribute("data-current")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"/patients/P1\?cell={chosen}"))
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#view-field")).to_have_attribute("aria-pressed", "true")
    assert served.station.state("P1").cells[str(chosen)].field_id == page.locator("#field-view select").input_value()
    page.go_back()
    page.wait_for_function("() => Number(document.querySelector('.outlines')?.dataset.drawn) >= 2")
    at = page.evaluate(SEEN, 1)[0]
    page.mouse.move(at["page_x"], at["page_y"])
    page.mouse.click(at["page_x"], at["page_y"])
    page.wait_for_url(re.compile(rf"/patients/P1\?cell={the_seen(served)}"))


def test_a_blinded_reader_sees_outlines_without_the_color_of_a_call(
    opened: Callable[..., Page], served: Served
) -> None:
    station = served.station
    station.store.append([Draft("dee", "P1", "assign", None, None, {"readers": [READER, "bo"]})])
    page = opened("/slides/P1")
    look_near(page, served)
    expect(page.locator("#read")).to_contain_text("The machine's calls are not shown")
    colors = {tuple(color) for color in page.evaluate(COLORS)}
    assert all(max(color) - min(color) < 16 for color in colors), f"an outline has a color: {colors}"
    station.decide("P1", READER, [Decision("relabel", the_seen(served), "N")], 0, is_blinded=True)
    page.reload()
    page.wait_for_function("() => Number(document.querySelector('.outlines')?.dataset.drawn) >= 2")
    colors = {tuple(color) for color in page.evaluate(COLORS)}
    assert any(max(color) - min(color) > 60 for color in colors), "the own name has its color"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_axe_finds_no_serious_barrier_on_a_slide(opened: Callable[..., Page], lang: str) -> None:
    axe = module_of(AXE, "axe_playwright_python.sync_playwright")
    page = opened("/slides/P1", lang=lang, bypass_csp=True)
    violations = axe.Axe().run(page).response["violations"]
    serious = [item for item in violations if item["impact"] in {"serious", "critical"}]
    assert [(item["id"], node["html"]) for item in serious for node in item["nodes"][:3]] == []
