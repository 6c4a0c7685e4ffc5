"""A slide in deep zoom in a real browser: it is drawn, its regions lead to the field view, and the policy holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.fake_slide_runs import HEIGHT, UM_PER_PX, WIDTH, SlideRun, make_slide_run
from tests.review.pages.conftest import Served, expect, serving
from tests.review.stations import open_station

pytest.importorskip("openslide", reason="needs the extra wsi and tifffile", exc_type=ImportError)
pytest.importorskip("tifffile", reason="needs the extra wsi and tifffile")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

DRAWN = """() => {
  const canvas = document.querySelector("#deep .openseadragon-canvas canvas");
  const { data } = canvas.getContext("2d").getImageData(canvas.width / 2 - 20, canvas.height / 2 - 20, 40, 40);
  return [...data];
}"""


@pytest.fixture
def slide_run(tmp_path: Path) -> SlideRun:
    image = np.full((HEIGHT, WIDTH, 3), 230, dtype=np.uint8)
    image[:, : WIDTH // 2] = (180, 90, 160)
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


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_axe_finds_no_serious_barrier_on_a_slide(opened: Callable[..., Page], lang: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened("/slides/P1", lang=lang, bypass_csp=True)
    violations = axe.Axe().run(page).response["violations"]
    serious = [item for item in violations if item["impact"] in {"serious", "critical"}]
    assert [(item["id"], node["html"]) for item in serious for node in item["nodes"][:3]] == []
